//! `region`: the response of the API host of another region.

use serde_json::json;

use super::finding::Finding;
use super::observed::Observed;
use super::request::metadata;
use super::session::{ProbeResult, Session};
use super::{Probe, ProbeNeeds, ProbeRun};
use crate::error::ErrorKind;
use url::Url;

/// The API hosts of LeadSquared. Only these get the keys.
const HOSTS: [&str; 7] = [
    "api.leadsquared.com",
    "api-us11.leadsquared.com",
    "api-in21.leadsquared.com",
    "api-in22.leadsquared.com",
    "api-ir31.leadsquared.com",
    "api-ca12.leadsquared.com",
    "api-me61.leadsquared.com",
];

pub(super) const PROBE: Probe = Probe {
    id: "region",
    question: "What does the host of another region respond?",
    calls: 1,
    max_calls: 1,
    needs: ProbeNeeds::READ,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    let base = &session.settings.base_url;
    let Some(other) = session.options.other_region.clone().or_else(|| other_region(base)) else {
        return Ok(Finding::skipped("base_url is not a known API host of LeadSquared"));
    };
    let client = match session.client.at(other) {
        Ok(client) => client,
        Err(error) => return Ok(Finding::failed(error)),
    };
    let observed = session.read_elsewhere(&client, &metadata()).await?;
    let own = session.owner().and_then(|owner| owner.api_host().map(str::to_owned));
    Ok(decide(&observed, &own.unwrap_or_else(|| base.authority().to_owned())))
}

/// The host of another region. `None`: the URL is not one of LeadSquared.
fn other_region(base: &Url) -> Option<Url> {
    let host = base.host_str()?;
    let is_known = base.scheme() == "https" && HOSTS.contains(&host);
    let other = HOSTS.iter().find(|other| **other != host)?;
    is_known.then(|| Url::parse(&format!("https://{other}")).ok())?
}

fn decide(observed: &Observed, own: &str) -> Finding {
    let named = match observed.kind() {
        Some(ErrorKind::CredentialsRejected { suggested_host } | ErrorKind::Denied { suggested_host }) => {
            suggested_host.as_deref()
        }
        _ => None,
    };
    let value = json!({
        "status": observed.status,
        "accepted": observed.is_success(),
        "exception": observed.exception(),
        "names_host": named.is_some(),
        "names_own_host": named.is_some_and(|named| named == own),
    });
    let observation = observed.summary();
    match (
        observed.is_success() && observed.body.is_array(),
        observed.status,
        named,
    ) {
        (true, ..) => Finding::decided(observation, "each region accepts the keys", value, 0.9),
        (false, 401 | 403, Some(named)) if named == own => Finding::decided(
            observation,
            "it rejects the keys and names the host of the account",
            value,
            0.95,
        ),
        (false, 401 | 403, Some(named)) => Finding::decided(
            observation,
            format!("it rejects the keys and names the host {named}, which is not {own}"),
            value,
            0.7,
        ),
        (false, 401, None) => Finding::decided(
            observation,
            "it rejects the keys and names no host, so an error about base_url cannot suggest one",
            value,
            0.9,
        ),
        _ => Finding::undecided(observation, "neither accepted nor rejected because of the keys", value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    const OWN: &str = "api-in21.leadsquared.com";

    #[test]
    fn only_known_hosts_get_the_keys() {
        let other = |url: &str| other_region(&url.parse().unwrap());
        assert_eq!(
            other("https://api-in21.leadsquared.com").unwrap().host_str(),
            Some(HOSTS[0])
        );
        assert_eq!(
            other("https://api.leadsquared.com/").unwrap().host_str(),
            Some(HOSTS[1])
        );
        for unknown in [
            "http://api.leadsquared.com",
            "https://crm.example",
            "http://127.0.0.1:8080",
        ] {
            assert_eq!(other(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn each_response_of_another_region_has_its_answer() {
        let exception = |text: &str| Observed::exception_of(401, "MXInvalidAccessDetailsException", text);
        for (observed, answer, names_own_host) in [
            (Observed::of(200, "[]"), "each region accepts", false),
            (
                exception("use https://api-in21.leadsquared.com"),
                "names the host of the account",
                true,
            ),
            (exception("use https://api-us11.leadsquared.com"), "which is not", false),
            (exception("Invalid Access Details provided."), "names no host", false),
            (Observed::of(401, ""), "names no host", false),
            (
                Observed::of(403, "go to api-in21.leadsquared.com"),
                "names the host of the account",
                true,
            ),
        ] {
            let finding = decide(&observed, OWN);
            assert_eq!(finding.state, ProbeState::Decided, "{observed:?}");
            assert!(finding.answer.contains(answer), "{}", finding.answer);
            assert_eq!(finding.value["names_own_host"], names_own_host);
        }
        for observed in Observed::nonsense().into_iter().chain([
            Observed::of(403, "<html>Forbidden</html>"),
            Observed::of(404, ""),
            Observed::exception_of(500, "MXNobodyKnowsException", ""),
        ]) {
            assert_eq!(decide(&observed, OWN).state, ProbeState::Undecided, "{observed:?}");
        }
    }
}
