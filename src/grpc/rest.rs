//! The handlers of RestService.

use tonic::Request;
use url::form_urlencoded;

use super::pb;
use super::rpc::{Rpc, RpcResult, ServerContext};
use super::violations::Violations;
use crate::domain::rest::{RestCall, RestMethod, RestPath, is_key_name};
use crate::error::{Denial, ErrorKind, Result, Violation};
use crate::gateway::{RestOptions, audited_rest_name, is_rest_read};

/// The violation of a call by a caller with rules for fields.
const HAS_FIELD_RULES: &str =
    "the caller may not make calls of the REST API: their fields are not checked (deny_fields, hide_fields)";

/// The handlers of RestService.
pub(super) struct RestHandlers {
    pub(super) server: ServerContext,
}

#[tonic::async_trait]
impl pb::rest_service_server::RestService for RestHandlers {
    async fn call(&self, request: Request<pb::CallRequest>) -> RpcResult<pb::CallResponse> {
        self.server.respond(request, |rpc, _| call(rpc)).await
    }
}

async fn call(mut rpc: Rpc<pb::CallRequest>) -> Result<pb::CallResponse> {
    let permissions = rpc.context.permissions.clone();
    if permissions.has_field_rules() {
        let denied = vec![Violation::new("path", HAS_FIELD_RULES)];
        return Err(ErrorKind::CallerNotAllowed(Denial::Fields(denied)).into());
    }
    let mut violations = Violations::default();
    let call = read(&rpc.message, &mut violations);
    let is_read = call.as_ref().is_some_and(is_rest_read);
    let request = if is_read { None } else { rpc.request_id(&mut violations) };
    let call = violations.finish(|| call)?;
    if !permissions.allows_rest(call.path.folded()) {
        return Err(ErrorKind::CallerNotAllowed(Denial::Method).into());
    }
    let Rpc {
        gateway,
        context,
        write_turn,
        ..
    } = rpc;
    context.audit.set_method(&audited_rest_name(&call));
    let entry = if is_read {
        context.audit.set_validate_only();
        // The next write does not wait for it.
        drop(write_turn);
        gateway.enter_rest(call, None)
    } else {
        write_turn.enter(&context, || gateway.enter_rest(call, request)).await?
    };
    let response = gateway.rest(&context, entry, RestOptions::default()).await?;
    let content_type = response.content_type.unwrap_or_default();
    Ok(pb::CallResponse {
        status: response.status.into(),
        content_type: String::from_utf8_lossy(&content_type).into_owned(),
        body: response.body.into(),
    })
}

/// Reads a message.
fn read(message: &pb::CallRequest, violations: &mut Violations) -> Option<RestCall> {
    let method = RestMethod::named(&message.method);
    violations.require(
        method.is_some(),
        "method",
        "must be \"GET\", \"POST\", \"PUT\" or \"DELETE\"",
    );
    let path = RestPath::parse(&message.path).map_err(|error| error.to_string());
    let path = violations.check("path", path);
    for name in message.query.keys().filter(|name| is_key_name(name.as_bytes())) {
        let text = "must not be set: leadgate adds the keys of the account";
        violations.add(format!("query[\"{}\"]", name.to_ascii_lowercase()), text);
    }
    let content_type = message.content_type.as_bytes();
    let is_value = content_type.iter().all(|b| matches!(b, b' '..=b'~'));
    violations.require(is_value, "content_type", "must be printable ASCII characters");
    let (method, path) = (method?, path?);
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(&message.query)
        .finish();
    Some(RestCall {
        method,
        path,
        query,
        content_type: (!content_type.is_empty()).then(|| content_type.to_vec()),
        accept: None,
        body: match method {
            RestMethod::Get => bytes::Bytes::new(),
            _ => message.body.clone().into(),
        },
    })
}
