//! The bottleneck of an import: a window of the quota, or an outage, as reported by the gateway.

use std::convert::Infallible;
use std::time::Duration;

use leadgate::grpc::pb;
use pb::quota_service_client::QuotaServiceClient;
use tokio::sync::watch;

use crate::cli::client::GatewayClient;

/// The interval of quota requests, which make no calls.
const REQUEST_INTERVAL: Duration = Duration::from_secs(2);

/// The cause of waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Bottleneck {
    #[default]
    None,
    /// The circuit breaker is open.
    Outage,
    Calls(WindowLimit),
    Bulk(WindowLimit),
}

/// The number of calls per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowLimit {
    calls: i32,
    window: Duration,
}

/// Requests the quota repeatedly, and sends a bottleneck that was seen twice in a row.
pub(super) async fn watch_quota(gateway: GatewayClient, sender: watch::Sender<Bottleneck>) -> Infallible {
    let mut client = QuotaServiceClient::new(gateway.channel());
    let mut before = Bottleneck::None;
    loop {
        tokio::time::sleep(REQUEST_INTERVAL).await;
        let response = client.get_quota(gateway.request(pb::GetQuotaRequest {})).await;
        // An error of this request does not stop the import.
        let now = response
            .ok()
            .and_then(|response| response.into_inner().quota)
            .map_or(Bottleneck::None, |quota| Bottleneck::of(&quota));
        let is_same = now == before;
        sender.send_replace(if is_same { now } else { Bottleneck::None });
        before = now;
    }
}

impl Bottleneck {
    fn of(quota: &pb::Quota) -> Self {
        let full = |window: &Option<pb::QuotaWindow>| {
            let window = window.as_ref().filter(|window| window.used >= window.effective)?;
            Some(WindowLimit {
                calls: window.limit,
                window: window.window.and_then(|window| window.try_into().ok())?,
            })
        };
        let state = quota.breaker.as_ref().map(pb::QuotaBreaker::state);
        if matches!(state, Some(pb::BreakerState::Open | pb::BreakerState::HalfOpen)) {
            return Self::Outage;
        }
        match (full(&quota.calls), full(&quota.bulk)) {
            (Some(limit), _) => Self::Calls(limit),
            (None, Some(limit)) => Self::Bulk(limit),
            (None, None) => Self::None,
        }
    }

    /// Returns the text for the progress.
    pub(super) fn shown(self) -> Option<String> {
        let (which, limit) = match self {
            Self::None => return None,
            Self::Outage => {
                return Some("waiting because LeadSquared fails: the circuit breaker is open".to_owned());
            }
            Self::Calls(limit) => ("quota", limit),
            Self::Bulk(limit) => ("bulk quota", limit),
        };
        Some(format!("waiting for the {which}: {}", limit.shown()))
    }

    /// Returns a note about what to do, if there is something. `lane` is the setting that allows single calls for rows.
    pub(super) fn note(self, lane: Option<&str>) -> Option<String> {
        let Self::Bulk(limit) = self else {
            return None;
        };
        let mut text = format!(
            "This import is limited by the bulk quota: {}. If the account's plan allows more bulk calls, raise limits.bulk in \
             the configuration of the gateway.",
            limit.shown()
        );
        if let Some(lane) = lane {
            text += &format!(" With {lane} = true, the gateway also sends rows in single calls.");
        }
        Some(text)
    }
}

impl WindowLimit {
    fn shown(self) -> String {
        let calls = if self.calls == 1 { "call" } else { "calls" };
        format!("{} {calls} per {}", self.calls, humantime::format_duration(self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_is_the_bottleneck() {
        let window = |limit, used| pb::QuotaWindow {
            limit,
            used,
            effective: limit,
            window: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            ..Default::default()
        };
        let of = |calls, bulk| {
            let quota = pb::Quota {
                calls: Some(calls),
                bulk: Some(bulk),
                ..Default::default()
            };
            Bottleneck::of(&quota)
        };
        let bulk = of(window(25, 1), window(1, 1));
        assert_eq!(
            bulk.shown().as_deref(),
            Some("waiting for the bulk quota: 1 call per 5s")
        );
        let note = bulk.note(Some("batching.creates")).unwrap();
        assert!(note.contains("1 call per 5s") && note.contains("limits.bulk") && note.contains("batching.creates"));
        let calls = of(window(25, 25), window(1, 1));
        assert_eq!(calls.shown().as_deref(), Some("waiting for the quota: 25 calls per 5s"));
        assert_eq!(
            (calls.note(None), of(window(25, 1), window(5, 1)).shown()),
            (None, None)
        );
    }
}
