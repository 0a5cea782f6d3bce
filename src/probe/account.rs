//! `account`: the role of the keys, the time zone, and the host of the account's API.

use serde_json::json;

use super::finding::Finding;
use super::observed::Observed;
use super::request::get;
use super::session::{ProbeResult, Session};
use super::settings::BASE_URL;
use super::text::without_data;
use super::{Probe, ProbeNeeds, ProbeRun};
use crate::crm::authentication::KeyOwner;

/// The role that shares require.
pub(super) const ADMINISTRATOR: &str = "Administrator";

pub(super) const PROBE: Probe = Probe {
    id: "account",
    question: "Which role have the keys, and which host serves the account?",
    calls: 1,
    max_calls: 1,
    needs: ProbeNeeds::READ,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    let observed = session.read(get("Authentication.svc/UserByAccessKey.Get", &[])).await?;
    if let Some(owner) = owner(&observed) {
        session.set_owner(owner);
    }
    if !observed.is_success() && !observed.is_rejected() {
        session.set_unreadable(format!("the account cannot be read: {}", observed.summary()));
    }
    Ok(decide(&observed, session.settings.base_url.authority()))
}

fn owner(observed: &Observed) -> Option<KeyOwner> {
    if !observed.is_success() || !observed.body.is_object() {
        return None;
    }
    serde_json::from_value(observed.body.clone()).ok()
}

fn decide(observed: &Observed, host: &str) -> Finding {
    let owner = owner(observed).unwrap_or_default();
    let role = owner.role.as_deref().map(without_data).filter(|role| !role.is_empty());
    let api = owner.api_host().map(without_data);
    let zone = owner.time_zone.as_deref().map(without_data);
    let value = json!({
        "role": role,
        "is_administrator": role.as_deref().map(|role| role == ADMINISTRATOR),
        "time_zone": zone,
        "api_host": api,
    });
    let observation = observed.summary();
    if !observed.is_success() {
        return Finding::undecided(observation, "the read failed", value);
    }
    let (Some(role), Some(api)) = (role, api) else {
        return Finding::undecided(observation, "the response names no role or no host", value);
    };
    let shares = match role == ADMINISTRATOR {
        true => "shares are allowed",
        false => "shares require the role Administrator",
    };
    let zone = zone.unwrap_or_else(|| "unknown".to_owned());
    let answer = format!("role {role}: {shares}; time zone {zone}; host {api}");
    let finding = Finding::decided(observation, answer, value, 1.0);
    match api == host {
        true => finding,
        false => finding.with_setting(BASE_URL, format!("https://{api}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    const HOST: &str = "api-in21.leadsquared.com";

    fn response(role: &str, api: &str) -> Observed {
        Observed::of(
            200,
            json!({
                "Role": role, "TimeZone": "Asia/Kolkata", "EmailAddress": "ann@x.co",
                "LSQCommonServiceURLs": {"api": api},
            }),
        )
    }

    #[test]
    fn the_role_and_the_host_are_named() {
        let finding = decide(&response("Administrator", "https://api-in21.leadsquared.com/v2"), HOST);
        assert_eq!((finding.state, finding.confidence), (ProbeState::Decided, 1.0));
        assert_eq!(finding.value["is_administrator"], true);
        assert_eq!(finding.value["api_host"], HOST);
        assert_eq!(finding.settings, []);
        assert!(!format!("{finding:?}").contains("ann@"));
        let finding = decide(&response("Sales_User", "https://api-us11.leadsquared.com"), HOST);
        assert!(
            finding.answer.contains("require the role Administrator"),
            "{}",
            finding.answer
        );
        assert_eq!(
            finding.settings[0].value.as_str(),
            Some("https://api-us11.leadsquared.com")
        );
    }

    #[test]
    fn without_a_role_or_a_host_there_is_no_answer() {
        for observed in Observed::nonsense().into_iter().chain([
            Observed::of(200, "[]"),
            Observed::of(200, "{}"),
            Observed::of(200, json!({"Role": 7})),
            response("", "https://x.example"),
            response("Administrator", ""),
        ]) {
            let finding = decide(&observed, HOST);
            assert_eq!(finding.state, ProbeState::Undecided, "{observed:?}");
            assert_eq!(finding.settings, []);
        }
    }
}
