//! The endpoints of sharing. LeadSquared accepts several items and returns one id for all of them, so each call has one item.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::lead::{message_id, whole};
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::domain::lead::order_key;
use crate::domain::share::{Access, Share, SharedEntity};
use crate::error::{Error, ErrorKind, Resource, Result, Violation};

/// `EntityAccess.svc/Share`: requests a share. Returns the id of the request.
#[derive(Clone, Copy, Debug)]
pub struct GrantAccess<'a>(pub &'a Share);

/// `EntityAccess.svc/Revoke`: requests that a share is revoked. Returns the id of the request.
#[derive(Clone, Copy, Debug)]
pub struct RevokeAccess<'a> {
    /// The share.
    pub share: &'a Share,
    /// The texts by which LeadSquared reports that the user has no access to revoke.
    pub gone_texts: &'a [String],
}

/// `EntityAccess.svc/Status/Get`: returns the status of a request.
#[derive(Clone, Copy, Debug)]
pub struct GetAccessStatus<'a> {
    /// The id of the request.
    pub id: &'a str,
    /// The status numbers of a processed request.
    pub processed: &'a [i64],
    /// The texts by which LeadSquared reports that the user has no access to revoke.
    pub gone_texts: &'a [String],
}

/// The status of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessStatus {
    /// `ShareStatus`. LeadSquared documents only 6: processed.
    pub number: i64,
    /// Whether the request is processed and has not failed.
    pub processed: bool,
    /// The error of a failed request.
    pub failed: Option<Error>,
}

impl Operation for GrantAccess<'_> {
    type Output = String;
    type Request = UpstreamRequest;
    const NAME: &'static str = "EntityAccess.Share";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        keys(self.0)
    }

    fn request(&self) -> UpstreamRequest {
        let mut item = item(self.0);
        item["DurationInMinutes"] = json!(self.0.minutes);
        post("EntityAccess.svc/Share", &item)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<String> {
        message_id(response).map_err(|error| with_exact_kind(error, response))
    }
}

impl Operation for RevokeAccess<'_> {
    type Output = String;
    type Request = UpstreamRequest;
    const NAME: &'static str = "EntityAccess.Revoke";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        keys(self.share)
    }

    fn request(&self) -> UpstreamRequest {
        post("EntityAccess.svc/Revoke", &item(self.share))
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<String> {
        message_id(response).map_err(|error| {
            let text = response.text().unwrap_or_else(|| response.beginning());
            let is_response = !response.is_page() && !error.is_refused();
            if is_response && is_gone(&text, self.gone_texts) {
                let kind = ErrorKind::NotFound(Resource::Share);
                return Error { kind, ..error };
            }
            with_exact_kind(error, response)
        })
    }
}

impl Operation for GetAccessStatus<'_> {
    type Output = AccessStatus;
    type Request = UpstreamRequest;
    const NAME: &'static str = "EntityAccess.Status";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        UpstreamRequest {
            path: "EntityAccess.svc/Status/Get",
            query: vec![("id", self.id.to_owned())],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<AccessStatus> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        #[derive(Default)]
        struct Status {
            message: Json,
            share_status: Json,
            error_message: Json,
        }

        let status: Status = response.json().map_err(|error| with_exact_kind(error, response))?;
        let number = whole(&status.share_status);
        let text = status.message["ResponseText"].as_str().unwrap_or_default().trim();
        let gone = || is_gone(text, self.gone_texts).then(|| ErrorKind::NotFound(Resource::Share).into());
        let failed = failure(&status.error_message, self.gone_texts).or_else(gone);
        let is_processed = number.is_some_and(|number| self.processed.contains(&number))
            || text.trim_end_matches('.').eq_ignore_ascii_case(PROCESSED);
        if number.is_none() && failed.is_none() && !is_processed && text.is_empty() {
            let path = "ShareStatus".to_owned();
            return Err(ErrorKind::Unreadable { path }.into());
        }
        Ok(AccessStatus {
            number: number.unwrap_or_default(),
            processed: failed.is_none() && is_processed,
            failed,
        })
    }
}

/// The text of a processed request.
const PROCESSED: &str = "Request processed successfully";

/// The error of a failed request. A request with an error text has failed, with any number.
fn failure(message: &Json, gone_texts: &[String]) -> Option<Error> {
    let text = match message {
        Json::Null => return None,
        Json::String(text) => text.trim().to_owned(),
        Json::Array(items) if items.is_empty() => return None,
        Json::Object(items) if items.is_empty() => return None,
        other => other.to_string(),
    };
    let is_empty = text.is_empty() || ["null", "none"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let kind = || match is_gone(&text, gone_texts) {
        true => ErrorKind::NotFound(Resource::Share),
        false => kind_of(&text).unwrap_or(ErrorKind::Exception),
    };
    (!is_empty).then(|| kind().into())
}

/// Whether the text reports that the user has no access to revoke.
fn is_gone(text: &str, gone_texts: &[String]) -> bool {
    let text = text.to_lowercase();
    gone_texts.iter().any(|gone| text.contains(&gone.to_lowercase()))
}

/// Requests for the same user and entity are sent in order.
fn keys(share: &Share) -> Vec<String> {
    vec![order_key("share", &format!("{}:{}", share.entity_id(), share.user_id))]
}

/// The item of a request to share or revoke. A revoke names the granted access, since the default is read access.
fn item(share: &Share) -> Json {
    let access = match share.access {
        Access::Read => 1,
        Access::Write => 2,
    };
    let mut item = json!({"UserId": share.user_id, "EntityType": 3, "AccessType": access});
    match &share.entity {
        SharedEntity::Lead { number, .. } => {
            item["Entity"] = json!(1);
            item["EntityId"] = json!(number);
            item["ContextEntity"] = json!(1);
            item["ContextEntityId"] = json!(share.activity_id());
        }
        SharedEntity::Opportunity { id } => {
            item["Entity"] = json!(5);
            item["EntityId"] = json!(id);
        }
    }
    item
}

fn post(path: &'static str, item: &Json) -> UpstreamRequest {
    UpstreamRequest {
        path,
        query: vec![],
        body: Some(json!([item]).to_string()),
    }
}

/// The same error, made more exact by the text of the response. The exceptions of these endpoints are not documented. Only an
/// exception with a name of LeadSquared proves that the request was rejected. Any other error may follow the execution.
fn with_exact_kind(mut error: Error, response: &UpstreamResponse) -> Error {
    let is_open = matches!(
        error.kind,
        ErrorKind::Exception
            | ErrorKind::Invalid(_)
            | ErrorKind::NotFound(_)
            | ErrorKind::Duplicate { .. }
            | ErrorKind::FeatureDisabled
    );
    let name = error.details.exception_type.as_deref().unwrap_or_default();
    let is_named = name.starts_with("MX");
    // LeadSquared also rejects an unreadable or forbidden request without a name.
    let is_plain =
        response.text().is_none() && matches!(error.kind, ErrorKind::Invalid(_) | ErrorKind::FeatureDisabled);
    if !is_open {
        return error;
    }
    error.kind = match response.text().as_deref().and_then(kind_of) {
        _ if !is_named && !is_plain => ErrorKind::Exception,
        Some(kind) => kind,
        // Fields of leads do not exist in these requests.
        None => match error.kind {
            ErrorKind::Duplicate { .. } => ErrorKind::ShareExists { by: None },
            ErrorKind::Invalid(_) => invalid("share"),
            kind => kind,
        },
    };
    error
}

fn invalid(field: &str) -> ErrorKind {
    ErrorKind::Invalid(vec![Violation::new(field, "LeadSquared rejects the value")])
}

/// The error that a text about sharing describes.
fn kind_of(text: &str) -> Option<ErrorKind> {
    let text = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let is_missing = has(&["not found", "not exist"]);
    Some(
        if has(&["not enabled", "administrator", "not authorized", "permission"]) {
            ErrorKind::FeatureDisabled
        } else if has(&["already shared"]) {
            ErrorKind::ShareExists { by: None }
        } else if has(&["not shared"]) {
            ErrorKind::NotFound(Resource::Share)
        } else if has(&["can not be more than", "cannot be more than", "limit", "maximum"]) && has(&["lead", "share"]) {
            ErrorKind::ShareLimitReached
        } else if has(&["user"]) && has(&["sales user", "not active", "inactive", "deactivated"]) {
            ErrorKind::NotASalesUser
        } else if has(&["activity"]) && is_missing {
            ErrorKind::NotFound(Resource::Activity)
        } else if has(&["activity"]) {
            invalid("activity_id")
        } else if has(&["duration"]) {
            invalid("duration")
        } else if has(&["opportunity"]) && is_missing {
            ErrorKind::NotFound(Resource::Opportunity)
        } else if has(&["lead"]) && is_missing {
            ErrorKind::NotFound(Resource::Lead)
        } else if has(&["user"]) && is_missing {
            ErrorKind::NotFound(Resource::User)
        } else {
            return None;
        },
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;

    fn response(status: u16, body: &Json) -> UpstreamResponse {
        UpstreamResponse {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::from(body.to_string()),
            head: Default::default(),
        }
    }

    fn status(number: &Json, text: &str, why: &Json) -> AccessStatus {
        status_of_revoke(number, text, why, &[])
    }

    fn status_of_revoke(number: &Json, text: &str, why: &Json, gone_texts: &[String]) -> AccessStatus {
        let body =
            json!({"Status": "Success", "Message": {"ResponseText": text}, "ShareStatus": number, "ErrorMessage": why});
        let operation = GetAccessStatus {
            id: "98fe",
            processed: &[6],
            gone_texts,
        };
        operation.decode(&response(200, &body)).unwrap()
    }

    #[test]
    fn a_revoke_without_access_is_detected_by_the_configured_texts() {
        let gone = ["No such share".to_owned(), "kein Zugriff".to_owned()];
        let missing = Some(ErrorKind::NotFound(Resource::Share));
        let kind = |status: AccessStatus| status.failed.map(|error| error.kind);
        for text in ["NO SUCH SHARE.", "Error: no such share (1001)", "Kein Zugriff"] {
            let null = Json::Null;
            let number = json!(7);
            assert_eq!(
                kind(status_of_revoke(&number, "", &json!(text), &gone)),
                missing,
                "{text}"
            );
            assert_eq!(kind(status_of_revoke(&number, text, &null, &gone)), missing, "{text}");
            // In a request to share, the text has no such meaning.
            assert_eq!(
                kind(status(&number, "", &json!(text))),
                Some(ErrorKind::Exception),
                "{text}"
            );
        }
        let other = status_of_revoke(&json!(7), "", &json!("Something else"), &gone);
        assert_eq!(kind(other), Some(ErrorKind::Exception));

        let share = Share::new(
            uuid::Uuid::from_u128(1),
            SharedEntity::Opportunity { id: "deal".into() },
            "sam".into(),
            Access::Read,
            30,
            jiff::Timestamp::UNIX_EPOCH,
        );
        let revoke = RevokeAccess {
            share: &share,
            gone_texts: &gone,
        };
        let revoked = |status: u16, body: &Json| revoke.decode(&response(status, body)).unwrap_err().kind;
        for (status, body) in [
            (
                200,
                json!({"Status": "Failed", "Message": {"Message": "No such share"}}),
            ),
            (
                500,
                json!({"Status": "Error", "ExceptionType": "MXAnyException", "ExceptionMessage": "no such share"}),
            ),
            (404, json!({"Message": "No such share"})),
        ] {
            assert_eq!(Some(revoked(status, &body)), missing, "{body}");
        }
        let limit = json!("API calls exceeded the limit of 25 in 5 second(s). No such share");
        assert!(matches!(revoked(429, &limit), ErrorKind::Refused(_)));
        let page = UpstreamResponse {
            status: StatusCode::BAD_GATEWAY,
            body: Bytes::from("<html>No such share</html>"),
            head: Default::default(),
        };
        assert_eq!(
            revoke.decode(&page).unwrap_err().kind,
            ErrorKind::Unavailable { sent: true }
        );
    }

    #[test]
    fn status_6_is_processed_an_error_text_is_failed_and_any_other_status_is_pending() {
        let null = Json::Null;
        assert!(status(&json!(6), "", &null).processed);
        assert!(status(&json!("6"), "", &null).processed);
        assert!(status(&json!(9), "Request processed successfully.", &null).processed);
        for text in [
            "Request could not be processed successfully.",
            "Request not processed successfully",
        ] {
            assert!(!status(&json!(7), text, &null).processed, "{text}");
        }
        assert!(status(&json!(6.0), "", &json!("null")).processed);
        for odd in [json!({"Code": 7}), json!(["Lead not found"])] {
            assert!(status(&json!(6), "", &odd).failed.is_some(), "{odd}");
        }
        for number in [json!(1), json!(-7), null.clone(), json!("soon")] {
            let found = status(&number, "Request is being processed.", &null);
            assert!(!found.processed && found.failed.is_none(), "{number}");
        }
        let failed = status(&json!(6), "Request processed successfully.", &json!("Lead not found"));
        assert!(!failed.processed);
        assert_eq!(failed.failed.unwrap().kind, ErrorKind::NotFound(Resource::Lead));
        assert_eq!(status(&json!(7), "", &json!(" ")).failed, None);
    }

    #[test]
    fn texts_are_classified_by_their_words() {
        for (text, kind) in [
            (
                "Entity Sharing is not enabled for your account",
                ErrorKind::FeatureDisabled,
            ),
            ("Only an administrator can share or revoke", ErrorKind::FeatureDisabled),
            ("User is not a sales user", ErrorKind::NotASalesUser),
            ("User is not active", ErrorKind::NotASalesUser),
            (
                "Number of leads shared with a user can not be more than 2000",
                ErrorKind::ShareLimitReached,
            ),
            ("User not found", ErrorKind::NotFound(Resource::User)),
            ("Lead not found", ErrorKind::NotFound(Resource::Lead)),
            ("Activity does not exist.", ErrorKind::NotFound(Resource::Activity)),
            ("Opportunity not found", ErrorKind::NotFound(Resource::Opportunity)),
            ("User is not the owner of the activity", invalid("activity_id")),
            ("Already shared with the user", ErrorKind::ShareExists { by: None }),
            ("Not shared with the user", ErrorKind::NotFound(Resource::Share)),
        ] {
            assert_eq!(kind_of(text), Some(kind), "{text}");
        }
        assert_eq!(kind_of("Something else"), None);
    }
}
