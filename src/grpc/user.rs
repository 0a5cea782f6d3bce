//! UserService: reads the message, asks the gateway, puts the answer.

use tonic::Request;

use super::rpc::{Rpc, RpcResult, StatusBuilder};
use super::{ServerContext, convert, page, pb};
use crate::domain::email;
use crate::domain::lead::check_id;
use crate::domain::user::{Key, User};
use crate::error::{ErrorKind, Violation};

/// UserService.
pub(super) struct Service {
    server: ServerContext,
}

impl Service {
    pub(super) fn new(server: ServerContext) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl pb::user_service_server::UserService for Service {
    async fn get_user(&self, request: Request<pb::GetUserRequest>) -> RpcResult<pb::GetUserResponse> {
        let work = |rpc: Rpc<pb::GetUserRequest>, _| async move {
            let key = key(rpc.message.key).map_err(|fault| ErrorKind::Invalid(vec![fault]))?;
            let found = rpc.gateway.get_user(&rpc.context, &key).await?;
            Ok(pb::GetUserResponse {
                user: Some(user(&found)),
            })
        };
        self.server.respond(request, work).await
    }

    async fn list_users(&self, request: Request<pb::ListUsersRequest>) -> RpcResult<pb::ListUsersResponse> {
        let work = |rpc: Rpc<pb::ListUsersRequest>, status_builder: StatusBuilder| async move {
            let message = rpc.message;
            let size = page::size(message.page_size, 100)?;
            let roster = rpc.gateway.users(&rpc.context).await?;
            let is_asked = |user: &&User| {
                (message.include_inactive || user.active)
                    && (message.role.is_empty() || user.role.eq_ignore_ascii_case(&message.role))
            };
            let mut users: Vec<_> = roster
                .after(&message.page_token)
                .filter(is_asked)
                .take(size + 1)
                .collect();
            let count = users.len();
            users.truncate(size);
            let is_first = message.page_token.is_empty();
            let unreadable = roster.unreadable.iter().filter(|_| is_first);
            let mut users: Vec<_> = users.into_iter().map(user).collect();
            users.truncate(status_builder.room().fitting(&users)?);
            let last = users.last().filter(|_| users.len() < count);
            Ok(pb::ListUsersResponse {
                next_page_token: last.map(|user| user.user_id.clone()).unwrap_or_default(),
                users,
                unreadable: convert::unreadable(unreadable),
            })
        };
        self.server.respond(request, work).await
    }
}

fn key(key: Option<pb::get_user_request::Key>) -> Result<Key, Violation> {
    use pb::get_user_request::Key as Rpc;
    match key {
        None => Err(Violation::new("key", "one of user_id and email_address is required")),
        Some(Rpc::UserId(id)) => match check_id("user_id", &id) {
            Some(_) => Err(Violation::new("user_id", "must be a user's id")),
            None => Ok(Key::Id(id)),
        },
        Some(Rpc::EmailAddress(address)) => match email::violation(&address) {
            Some(fault) => Err(Violation::new("email_address", fault)),
            None => Ok(Key::Email(address)),
        },
    }
}

fn user(user: &User) -> pb::User {
    pb::User {
        user_id: user.id.clone(),
        first_name: user.first_name.clone(),
        last_name: user.last_name.clone(),
        email_address: user.email_address.clone(),
        role: user.role.clone(),
        active: user.active,
    }
}
