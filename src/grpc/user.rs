//! The handlers of UserService.

use tonic::Request;

use super::rpc::{Rpc, RpcResult, ServerContext, StatusBuilder};
use super::violations::Violations;
use super::{convert, page, pb};
use crate::domain::email;
use crate::domain::lead::check_id;
use crate::domain::user::{User, UserKey};
use crate::error::Violation;

/// The handlers of UserService.
pub(super) struct UserHandlers {
    pub(super) server: ServerContext,
}

#[tonic::async_trait]
impl pb::user_service_server::UserService for UserHandlers {
    async fn get_user(&self, request: Request<pb::GetUserRequest>) -> RpcResult<pb::GetUserResponse> {
        let handler = |rpc: Rpc<pb::GetUserRequest>, _| async move {
            let mut violations = Violations::default();
            let key = user_key(rpc.message.key, &mut violations);
            let key = violations.finish(|| key)?;
            let found = rpc.gateway.get_user(&rpc.context, &key).await?;
            Ok(pb::GetUserResponse {
                user: Some(user(&found)),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn list_users(&self, request: Request<pb::ListUsersRequest>) -> RpcResult<pb::ListUsersResponse> {
        let handler = |rpc: Rpc<pb::ListUsersRequest>, status_builder: StatusBuilder| async move {
            let pb::ListUsersRequest {
                role,
                include_inactive,
                page_size,
                page_token,
            } = rpc.message;
            let size = page::size(page_size, 100)?;
            let roster = rpc.gateway.users(&rpc.context).await?;
            let is_requested = |user: &&User| {
                (include_inactive || user.active) && (role.is_empty() || user.role.eq_ignore_ascii_case(&role))
            };
            // One more user shows whether there is a next page.
            let users = roster.after(&page_token).filter(is_requested).take(size + 1);
            let mut users: Vec<_> = users.map(user).collect();
            let count = users.len();
            users.truncate(size);
            users.truncate(status_builder.budget().count_fitting(&users)?);
            let is_first_page = page_token.is_empty();
            let unreadable = roster.unreadable.iter().filter(|_| is_first_page);
            let last = users.last().filter(|_| users.len() < count);
            Ok(pb::ListUsersResponse {
                next_page_token: last.map(|user| user.user_id.clone()).unwrap_or_default(),
                users,
                unreadable: convert::unreadable(unreadable),
            })
        };
        self.server.respond(request, handler).await
    }
}

fn user_key(key: Option<pb::get_user_request::Key>, violations: &mut Violations) -> Option<UserKey> {
    use pb::get_user_request::Key;
    match key {
        None => {
            violations.add("key", "one of user_id and email_address is required");
            None
        }
        Some(Key::UserId(id)) => {
            let violation = check_id("user_id", &id);
            violations.check_value(UserKey::Id(id), violation)
        }
        Some(Key::EmailAddress(address)) => {
            let violation = email::violation(&address).map(|text| Violation::new("email_address", text));
            violations.check_value(UserKey::Email(address), violation)
        }
    }
}

fn user(user: &User) -> pb::User {
    let User {
        id,
        first_name,
        last_name,
        email_address,
        role,
        active,
    } = user;
    pb::User {
        user_id: id.clone(),
        first_name: first_name.clone(),
        last_name: last_name.clone(),
        email_address: email_address.clone(),
        role: role.clone(),
        active: *active,
    }
}
