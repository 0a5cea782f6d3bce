//! `connection`: the headers of a response, HTTP/2, and the time after which LeadSquared closes an idle connection.

use std::time::Duration;

use http::Version;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, SET_COOKIE};
use serde_json::json;

use super::finding::Finding;
use super::observed::IdleResult;
use super::request::metadata;
use super::session::{ProbeResult, Session};
use super::settings;
use super::text::without_data;
use super::{Probe, ProbeNeeds, ProbeRun};

pub(super) const PROBE: Probe = Probe {
    id: "connection",
    question: "Which headers, HTTP versions and idle times has the server?",
    // Four idle connections with two reads each, and two single reads.
    calls: 10,
    max_calls: 10,
    needs: ProbeNeeds::READ,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

/// What was observed.
#[derive(Clone, Debug, Default, PartialEq)]
struct ConnectionFacts {
    /// The response to a read. `None`: there is none.
    headers: Option<ResponseHeaders>,
    /// Whether HTTP/2 is served. `None`: unknown.
    http2: Option<bool>,
    idle: Vec<IdleResult>,
}

/// The headers that matter to a proxy. Cookies are only counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ResponseHeaders {
    content_type: String,
    content_encoding: String,
    cookies: usize,
}

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    let (_, response) = session.read_with(session.client, &metadata()).await?;
    let headers = response.map(|response| ResponseHeaders::of(&response.headers));
    let http2 = match session.client.separate(true) {
        Ok(client) => {
            let (_, response) = session.read_with(&client, &metadata()).await?;
            let is_https = session.settings.base_url.scheme() == "https";
            match response {
                Some(response) => Some(response.version == Version::HTTP_2),
                // A server without HTTP/2 cannot read it without TLS. With TLS, the version is negotiated.
                None if !is_https => Some(false),
                None => None,
            }
        }
        Err(_) => None,
    };
    let facts = ConnectionFacts {
        headers,
        http2,
        idle: session.idle(),
    };
    let upstream = &session.settings.upstream;
    Ok(decide(&facts, upstream.idle_timeout, upstream.http2))
}

impl ResponseHeaders {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| {
            let value = headers
                .get(name)
                .and_then(|value: &http::HeaderValue| value.to_str().ok());
            value.map(without_data).unwrap_or_default()
        };
        Self {
            content_type: text(CONTENT_TYPE),
            content_encoding: text(CONTENT_ENCODING),
            cookies: headers.get_all(SET_COOKIE).iter().count(),
        }
    }
}

/// The longest time after which a connection was open, and the shortest one after which it was closed. `None`: the results contradict
/// each other or are absent.
fn idle_range(results: &[IdleResult]) -> Option<(Duration, Option<Duration>)> {
    let open = results.iter().filter(|result| result.is_open == Some(true));
    let open = open.map(|result| result.idle_for).max().unwrap_or_default();
    let closed = results.iter().filter(|result| result.is_open == Some(false));
    let closed = closed.map(|result| result.idle_for).min();
    match closed {
        Some(closed) if closed <= open => None,
        None if open.is_zero() => None,
        closed => Some((open, closed)),
    }
}

fn decide(facts: &ConnectionFacts, idle_timeout: Duration, http2: bool) -> Finding {
    let range = idle_range(&facts.idle);
    let headers = facts.headers.clone().unwrap_or_default();
    let seconds = |time: Duration| (time.as_secs_f64() * 100.0).round() / 100.0;
    let value = json!({
        "http2": facts.http2,
        "content_type": headers.content_type,
        "content_encoding": headers.content_encoding,
        "cookies": headers.cookies,
        "open_after_seconds": range.map(|(open, _)| seconds(open)),
        "closed_after_seconds": range.and_then(|(_, closed)| closed).map(seconds),
    });
    let observation = match &facts.headers {
        Some(headers) => format!(
            "content type {}; {} cookie(s); HTTP/2 {}",
            headers.content_type,
            headers.cookies,
            match facts.http2 {
                Some(true) => "yes",
                Some(false) => "no",
                None => "unknown",
            }
        ),
        None => "no response".to_owned(),
    };
    let Some((open, closed)) = range.filter(|_| facts.headers.is_some()) else {
        return Finding::undecided(observation, "the idle time is unknown", value);
    };
    let answer = match closed {
        // Nothing is known about shorter times.
        Some(closed) if open.is_zero() => {
            let reason = format!("an idle connection is closed within {:.1} s", closed.as_secs_f64());
            return Finding::undecided(observation, reason, value);
        }
        Some(closed) => format!(
            "an idle connection is closed between {:.1} s and {:.1} s",
            open.as_secs_f64(),
            closed.as_secs_f64()
        ),
        None => format!("an idle connection is open after {:.1} s", open.as_secs_f64()),
    };
    let mut finding = Finding::decided(observation, answer, value, 0.9);
    // leadgate must close first. The margin covers a request that is on its way when LeadSquared closes.
    let safe = whole(open * 4 / 5);
    if closed.is_some() && idle_timeout > safe {
        finding = finding.with_setting("upstream.idle_timeout", settings::time(safe));
    }
    if http2 && facts.http2 == Some(false) {
        finding = finding.with_setting("upstream.http2", false);
    }
    finding
}

/// A duration in whole seconds, and in whole milliseconds below one second. Rounded down.
fn whole(time: Duration) -> Duration {
    match time.as_secs() {
        0 => Duration::from_millis(u64::from(time.subsec_millis()).max(1)),
        seconds => Duration::from_secs(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn facts(idle: &[(u64, Option<bool>)]) -> ConnectionFacts {
        let idle = idle.iter().map(|(seconds, is_open)| IdleResult {
            idle_for: Duration::from_secs(*seconds),
            is_open: *is_open,
        });
        ConnectionFacts {
            headers: Some(ResponseHeaders {
                content_type: "application/json; charset=utf-8".to_owned(),
                ..ResponseHeaders::default()
            }),
            http2: Some(false),
            idle: idle.collect(),
        }
    }

    #[test]
    fn the_idle_time_decides_the_timeout_of_idle_connections() {
        let (open, closed) = (Some(true), Some(false));
        for (idle, setting) in [
            (vec![(10, open), (25, open), (55, open)], None),
            (vec![(10, open), (25, open), (55, closed)], None),
            (vec![(10, open), (25, closed), (55, closed)], Some("8s")),
            (vec![(4, open), (10, closed), (25, closed)], Some("3s")),
            // Only what is less than an open time is safe.
            (vec![(19, open), (45, closed)], Some("15s")),
            (vec![(10, open), (25, None), (55, None)], None),
        ] {
            let finding = decide(&facts(&idle), TIMEOUT, false);
            assert_eq!(finding.state, ProbeState::Decided, "{idle:?}");
            let found = finding.settings.first().and_then(|setting| setting.value.as_str());
            assert_eq!(found, setting, "{idle:?}");
        }
    }

    #[test]
    fn contradictions_and_missing_responses_have_no_answer() {
        let (open, closed) = (Some(true), Some(false));
        for idle in [
            vec![],
            vec![(10, None), (25, None)],
            vec![(10, closed), (25, open), (55, open)],
            // The time is anywhere below 4 s.
            vec![(4, closed), (10, closed), (25, closed)],
        ] {
            let finding = decide(&facts(&idle), TIMEOUT, false);
            assert_eq!(
                (finding.state, finding.settings),
                (ProbeState::Undecided, vec![]),
                "{idle:?}"
            );
        }
        let lost = ConnectionFacts {
            headers: None,
            ..facts(&[(10, open)])
        };
        assert_eq!(decide(&lost, TIMEOUT, false).state, ProbeState::Undecided);
    }

    #[test]
    fn http2_is_switched_off_only_if_it_is_on_and_not_served() {
        let idle = [(10, Some(true)), (25, Some(true))];
        for (is_on, is_served, settings) in [
            (true, Some(false), 1),
            (true, Some(true), 0),
            (true, None, 0),
            (false, Some(false), 0),
            (false, Some(true), 0),
        ] {
            let facts = ConnectionFacts {
                http2: is_served,
                ..facts(&idle)
            };
            assert_eq!(
                decide(&facts, TIMEOUT, is_on).settings.len(),
                settings,
                "{is_on} {is_served:?}"
            );
        }
    }

    #[test]
    fn cookies_are_counted_and_not_shown() {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, "session=secret1".parse().unwrap());
        headers.append(SET_COOKIE, "other=secret2".parse().unwrap());
        let headers = ResponseHeaders::of(&headers);
        assert_eq!(headers.cookies, 2);
        assert!(!format!("{headers:?}").contains("secret"));
    }
}
