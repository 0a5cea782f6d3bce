//! The endpoints of users.

use serde_json::Value as Json;

use super::json::ListShape;
use super::lead::unreadable;
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::domain::listed::Listed;
use crate::domain::user::{User, UserKey};
use crate::error::{ErrorKind, Resource, Result};

/// `Users.Get`: returns all users, also inactive ones.
#[derive(Clone, Copy, Debug)]
pub struct GetUsers;

/// `User/Retrieve/ByUserId` or `User/Retrieve/ByEmailAddress`: returns one active user.
#[derive(Clone, Debug)]
pub struct RetrieveUser(pub UserKey);

impl Operation for GetUsers {
    type Output = Listed<User>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Users.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        UpstreamRequest {
            path: "UserManagement.svc/Users.Get",
            query: vec![],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Listed<User>> {
        users(response)
    }

    fn unreadable(output: &Listed<User>) -> usize {
        output.unreadable.len()
    }
}

impl Operation for RetrieveUser {
    type Output = User;
    type Request = UpstreamRequest;
    const NAME: &'static str = "User/Retrieve";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        let (path, name, value) = match &self.0 {
            UserKey::Id(id) => ("UserManagement.svc/User/Retrieve/ByUserId", "userId", id),
            UserKey::Email(email) => ("UserManagement.svc/User/Retrieve/ByEmailAddress", "emailAddress", email),
        };
        UpstreamRequest {
            path,
            query: vec![(name, value.clone())],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<User> {
        // If LeadSquared ignores the parameter, the response has another user.
        let is_match = |user: &User| match &self.0 {
            UserKey::Id(id) => user.id.eq_ignore_ascii_case(id),
            UserKey::Email(email) => user.email_address.eq_ignore_ascii_case(email.trim()),
        };
        let users = users(response)?;
        let damaged = users.unreadable.into_iter().next();
        let found = users.records.into_iter().find(is_match);
        found.ok_or_else(|| match damaged {
            // The unreadable record may be the user.
            Some(damaged) => unreadable(&damaged.path),
            None => ErrorKind::NotFound(Resource::User).into(),
        })
    }
}

/// A list of users.
const USERS: ListShape = ListShape {
    names: &[],
    marks: &["ID", "UserId"],
    ids: &["ID", "UserId"],
};

fn users(response: &UpstreamResponse) -> Result<Listed<User>> {
    let read = |row: Json| user(&row).map(Some).ok_or("ID");
    Ok(response.records(&USERS)?.read(&USERS, read))
}

/// A user from either endpoint. The two endpoints name the id differently.
fn user(row: &Json) -> Option<User> {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let id = [text("ID"), text("UserId")].into_iter().find(|id| !id.is_empty())?;
    // 0 is active, 1 is inactive. One endpoint returns a number, the other a text.
    let is_inactive = row["StatusCode"].as_i64() == Some(1) || row["StatusCode"].as_str() == Some("1");
    Some(User {
        id,
        first_name: text("FirstName"),
        last_name: text("LastName"),
        email_address: text("EmailAddress"),
        role: text("Role"),
        active: !is_inactive,
    })
}
