//! The endpoints of users.

use serde_json::Value as Json;

use super::json::Shape;
use super::lead::unreadable;
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, Request};
use crate::domain::listed::Listed;
use crate::domain::user::{User, UserKey};
use crate::error::{ErrorKind, Resource, Result};

/// `Users.Get`: all users, inactive ones too.
#[derive(Clone, Copy, Debug)]
pub struct GetUsers;

/// `User/Retrieve/ByUserId` or `User/Retrieve/ByEmailAddress`: one user, if active.
#[derive(Clone, Debug)]
pub struct RetrieveUser(pub UserKey);

impl Operation for GetUsers {
    type Output = Listed<User>;
    const NAME: &'static str = "Users.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        Request {
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
    const NAME: &'static str = "User/Retrieve";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        let (path, name, value) = match &self.0 {
            UserKey::Id(id) => ("UserManagement.svc/User/Retrieve/ByUserId", "userId", id),
            UserKey::Email(email) => ("UserManagement.svc/User/Retrieve/ByEmailAddress", "emailAddress", email),
        };
        Request {
            path,
            query: vec![(name, value.clone())],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<User> {
        // Never somebody else, should the parameter be ignored.
        let is_it = |user: &User| match &self.0 {
            UserKey::Id(id) => user.id.eq_ignore_ascii_case(id),
            UserKey::Email(email) => user.email_address.eq_ignore_ascii_case(email.trim()),
        };
        let users = users(response)?;
        let unread = users.unreadable.into_iter().next();
        let found = users.records.into_iter().find(is_it);
        found.ok_or_else(|| match unread {
            // It may be the one.
            Some(unread) => unreadable(&unread.path),
            None => ErrorKind::NotFound(Resource::User).into(),
        })
    }
}

/// A list of users.
const USERS: Shape = Shape {
    names: &[],
    marks: &["ID", "UserId"],
    ids: &["ID", "UserId"],
};

fn users(response: &UpstreamResponse) -> Result<Listed<User>> {
    let read = |row: Json| user(&row).map(Some).ok_or("ID");
    Ok(response.records(&USERS)?.read(&USERS, read))
}

/// A row of either endpoint: they name the id differently, and the rich one tells of active users only.
fn user(row: &Json) -> Option<User> {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let id = [text("ID"), text("UserId")].into_iter().find(|id| !id.is_empty())?;
    // 0 is active and 1 is not; a number here, a text there.
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
