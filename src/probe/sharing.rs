//! `sharing`: whether leads can be shared, by a request to share a lead that does not exist.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::account::ADMINISTRATOR;
use super::finding::Finding;
use super::observed::Observed;
use super::request::{get, post};
use super::session::{ProbeResult, Session};
use super::text::without_data;
use super::{Probe, ProbeNeeds, ProbeRun};
use crate::error::ErrorKind;

pub(super) const PROBE: Probe = Probe {
    id: "sharing",
    question: "Is sharing enabled for the account and the keys?",
    calls: 2,
    max_calls: 2,
    needs: ProbeNeeds::WRITE,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

/// What was observed.
#[derive(Clone, Debug, PartialEq)]
struct SharingResponses {
    share: Observed,
    /// The status of the request. `None`: the request was not accepted.
    status: Option<Observed>,
    /// The role of the keys, if known.
    role: Option<String>,
}

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    // No lead has the number 0, and no user and no activity has a random id.
    let item = json!({
        "UserId": Uuid::new_v4().to_string(),
        "Entity": 1,
        "EntityType": 3,
        "EntityId": "0",
        "ContextEntity": 1,
        "ContextEntityId": Uuid::new_v4().to_string(),
        "AccessType": 1,
        "DurationInMinutes": 1,
    });
    let share = session
        .write(post("EntityAccess.svc/Share", &[], &json!([item])))
        .await?;
    let id = request_id(&share.body).filter(|_| share.is_success());
    let status = match id {
        Some(id) => Some(session.read(get("EntityAccess.svc/Status/Get", &[("id", &id)])).await?),
        None => None,
    };
    let role = session.owner().and_then(|owner| owner.role);
    Ok(decide(&SharingResponses { share, status, role }))
}

fn request_id(body: &Json) -> Option<String> {
    Some(body["Message"]["Id"].as_str()?.to_owned())
}

fn decide(responses: &SharingResponses) -> Finding {
    let SharingResponses { share, status, role } = responses;
    let words = share.words();
    let is_forbidden = share.is_rejected()
        && (matches!(
            share.kind(),
            Some(ErrorKind::FeatureDisabled | ErrorKind::Denied { .. })
        ));
    let is_about_role = words.contains("admin");
    let is_about_feature = ["not enabled", "enable", "feature", "support"]
        .iter()
        .any(|word| words.contains(word));
    let is_accepted = share.is_success() && request_id(&share.body).is_some();
    let (result, answer, confidence) = match () {
        () if is_accepted => (
            "enabled",
            "sharing is enabled; invalid ids are reported by the status of the request",
            0.9,
        ),
        () if is_forbidden && is_about_role => {
            ("not-administrator", "shares require the keys of an Administrator", 0.9)
        }
        () if is_forbidden && is_about_feature => (
            "disabled",
            "sharing is not enabled: LeadSquared's support enables it",
            0.9,
        ),
        () if is_forbidden => match role.as_deref() {
            Some(ADMINISTRATOR) => (
                "disabled",
                "sharing is not enabled, since the keys are those of an Administrator",
                0.7,
            ),
            Some(_) => ("not-administrator", "shares require the keys of an Administrator", 0.7),
            None => ("undecided", "not enabled, or not allowed for these keys", 0.0),
        },
        // A check of the ids needs the right to share.
        () if share.is_rejected() && share.exception().is_some_and(|name| name.starts_with("MX")) => {
            ("enabled", "sharing is enabled; invalid ids are rejected at once", 0.8)
        }
        () => ("undecided", "neither accepted nor rejected by LeadSquared", 0.0),
    };
    let status_json = status.as_ref().map(|status| {
        json!({
            "http": status.json(),
            "share_status": status.body["ShareStatus"].as_i64(),
            "text": status.body["Message"]["ResponseText"].as_str().map(without_data),
            "error": status.body["ErrorMessage"].as_str().map(without_data),
        })
    });
    let value = json!({"sharing": result, "share": share.json(), "status": status_json});
    let observation = match status {
        Some(status) => format!("{}; its status: {}", share.summary(), status.summary()),
        None => share.summary(),
    };
    match result {
        "undecided" => Finding::undecided(observation, answer, value),
        _ => Finding::decided(observation, answer, value, confidence),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    fn responses(share: Observed, role: Option<&str>) -> SharingResponses {
        SharingResponses {
            share,
            status: None,
            role: role.map(str::to_owned),
        }
    }

    #[test]
    fn each_response_to_a_share_has_its_answer() {
        let forbidden = |text: &str| Observed::exception_of(500, "MXUnAuthorizedAccessException", text);
        let accepted = Observed::of(
            200,
            json!({"Status": "Success", "Message": {"Id": "0123456789abcdef0123456789abcdef"}}),
        );
        for (share, role, result) in [
            (accepted, None, "enabled"),
            (
                forbidden("Entity Sharing is not enabled for your account"),
                None,
                "disabled",
            ),
            (
                forbidden("Only an administrator can share or revoke"),
                None,
                "not-administrator",
            ),
            (forbidden("No"), Some("Administrator"), "disabled"),
            (forbidden("No"), Some("Sales_User"), "not-administrator"),
            (
                Observed::exception_of(500, "MXInvalidInputException", "User not found"),
                None,
                "enabled",
            ),
        ] {
            let finding = decide(&responses(share, role));
            assert_eq!(finding.state, ProbeState::Decided, "{result}");
            assert_eq!(finding.value["sharing"], result, "{finding:?}");
        }
    }

    #[test]
    fn nonsense_has_no_answer() {
        for share in Observed::nonsense().into_iter().chain([
            Observed::exception_of(500, "MXUnAuthorizedAccessException", "No"),
            Observed::of(200, "{}"),
            Observed::of(404, ""),
        ]) {
            assert_eq!(
                decide(&responses(share.clone(), None)).state,
                ProbeState::Undecided,
                "{share:?}"
            );
        }
    }

    #[test]
    fn the_status_of_an_accepted_request_is_reported_without_ids() {
        let accepted = Observed::of(
            200,
            json!({"Status": "Success", "Message": {"Id": "0123456789abcdef0123456789abcdef"}}),
        );
        let status = Observed::of(
            200,
            json!({
                "Status": "Success", "Message": {"ResponseText": "Request failed."}, "ShareStatus": 7,
                "ErrorMessage": "Lead 910a2dec-8902-5cc1-beeb-8da1658eec67 not found",
            }),
        );
        let finding = decide(&SharingResponses {
            status: Some(status),
            ..responses(accepted, None)
        });
        assert_eq!(finding.value["status"]["share_status"], 7);
        assert_eq!(finding.value["status"]["error"], "Lead (id) not found");
        assert!(!format!("{finding:?}").contains("0123456789abcdef"));
    }
}
