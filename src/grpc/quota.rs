//! The handlers of QuotaService.

use std::time::Duration;

use tonic::Request;

use super::response_stream::ResponseStream;
use super::rpc::{ResponseSender, Rpc, RpcResult, ServerContext, StreamResult};
use super::{convert, pb};
use crate::domain::pause::Pause;
use crate::error::{Error, Result};
use crate::gateway::{BreakerSnapshot, BreakerState, Criticality, Gateway, WindowSnapshot};
use crate::tenant::Tenant;

/// The default and the range of the interval of WatchQuota.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// The handlers of QuotaService.
pub(super) struct QuotaHandlers {
    pub(super) server: ServerContext,
}

#[tonic::async_trait]
impl pb::quota_service_server::QuotaService for QuotaHandlers {
    type WatchQuotaStream = ResponseStream<pb::WatchQuotaResponse>;

    async fn get_quota(&self, request: Request<pb::GetQuotaRequest>) -> RpcResult<pb::GetQuotaResponse> {
        let access = &self.server.access;
        let handler = |rpc: Rpc<pb::GetQuotaRequest>, _| async move {
            Ok(pb::GetQuotaResponse {
                quota: Some(quota(&rpc.gateway, &rpc.tenant, access.pause_of(&rpc.tenant))),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn watch_quota(&self, request: Request<pb::WatchQuotaRequest>) -> StreamResult<pb::WatchQuotaResponse> {
        let access = self.server.access.clone();
        let handler = |rpc: Rpc<pb::WatchQuotaRequest>, responder: ResponseSender<pb::WatchQuotaResponse>| async move {
            let mut ticks = tokio::time::interval(interval(rpc.message.interval)?);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let quota = Some(quota(&rpc.gateway, &rpc.tenant, access.pause_of(&rpc.tenant)));
                responder.send(pb::WatchQuotaResponse { quota }).await?;
            }
        };
        self.server.stream(request, handler).await
    }
}

fn interval(given: Option<prost_types::Duration>) -> Result<Duration> {
    let Some(given) = given else {
        return Ok(DEFAULT_INTERVAL);
    };
    let interval = convert::duration(given).filter(|interval| (MIN_INTERVAL..=MAX_INTERVAL).contains(interval));
    interval.ok_or_else(|| Error::invalid("interval", "must be 100 ms to 1 hour"))
}

fn quota(gateway: &Gateway, tenant: &Tenant, pause: Option<Pause>) -> pb::Quota {
    let state = gateway.quota();
    let membership = tenant.membership();
    // The RPC is executed here, so this replica owns the tenant.
    let lease = membership.and(tenant.last_move()).filter(|last| last.is_acquisition);
    let queues = Criticality::ALL.into_iter().rev().map(|class| pb::QuotaQueue {
        criticality: match class {
            Criticality::Sheddable => pb::Criticality::Sheddable,
            Criticality::SheddablePlus => pb::Criticality::SheddablePlus,
            Criticality::Critical => pb::Criticality::Critical,
            Criticality::CriticalPlus => pb::Criticality::CriticalPlus,
        }
        .into(),
        waiting: count(state.queue.waiting[class as usize]),
        oldest: state.queue.oldest[class as usize]
            .map(|since| proto_duration(state.now.saturating_duration_since(since))),
    });
    let callers = state.queue.callers.iter().map(|caller| pb::QuotaCaller {
        caller: caller.name.to_string(),
        waiting: count(caller.waiting),
    });
    pb::Quota {
        calls: Some(window(&state.calls)),
        bulk: Some(window(&state.bulk)),
        day: Some(pb::QuotaDay {
            limit: state.daily.limit.map(saturated),
            used: saturated(state.daily.used),
            remaining: state.daily.remaining.map(saturated),
            reset_time: Some(convert::timestamp(state.daily.reset)),
            spent_time: state.daily.spent_at.map(convert::timestamp),
            closed: state.daily.closed,
        }),
        queues: queues.collect(),
        callers: callers.collect(),
        grants: saturated(state.grants),
        utilisation: state.utilization,
        replicas: membership.map_or(1, |membership| count(membership.replicas())),
        breaker: Some(breaker(&state.breaker)),
        owner: membership.map_or(String::new(), |membership| membership.address().to_owned()),
        epoch: lease.map_or(0, |lease| lease.epoch),
        owned_since: lease.map(|lease| convert::timestamp(lease.moved.at)),
        last_move_reason: lease.map_or(String::new(), |lease| lease.moved.reason.name().to_owned()),
        pause: pause.map(|pause| pb::QuotaPause {
            since: Some(convert::timestamp(pause.since)),
            reason: pause.reason,
        }),
        credentials_rejected: gateway.credentials_rejected(),
        outage_cause: gateway
            .outage_cause()
            .map_or(String::new(), |cause| cause.name().to_owned()),
    }
}

fn breaker(breaker: &BreakerSnapshot) -> pb::QuotaBreaker {
    let state = match breaker.state {
        BreakerState::Closed => pb::BreakerState::Closed,
        BreakerState::Open => pb::BreakerState::Open,
        BreakerState::HalfOpen => pb::BreakerState::HalfOpen,
    };
    pb::QuotaBreaker {
        state: state.into(),
        since: breaker.since.map(convert::timestamp),
        next_probe_in: breaker.next_probe_in.map(proto_duration),
    }
}

fn window(state: &WindowSnapshot) -> pb::QuotaWindow {
    pb::QuotaWindow {
        limit: i32::try_from(state.limit.calls).unwrap_or(i32::MAX),
        window: Some(proto_duration(state.limit.per)),
        effective: i32::try_from(state.effective).unwrap_or(i32::MAX),
        used: count(state.used),
        free_in: state.free_in.map(proto_duration),
        margin: Some(proto_duration(state.margin)),
        own_refusals: saturated(state.refused.own),
        foreign_refusals: saturated(state.refused.foreign),
        holds: saturated(state.holds),
        reserve: i32::try_from(state.reserve).unwrap_or(i32::MAX),
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn saturated(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or_default()
}
