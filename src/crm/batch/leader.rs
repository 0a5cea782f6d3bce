//! The leader of a batch: sends the batch, splits it if it fails as a whole, and replies to its members.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::account::KeyDecision;
use super::super::keys::KeyPair;
use super::super::retry::{Retries, Safety};
use super::super::{CallPermit, Client, Exchanged, MAX_KEY_SWITCHES, Operation, attempt_span, first_in_queue};
use super::member::{Member, reply_all};
use super::splitting::{Failure, Splitting, is_unserved};
use super::{BatchMode, Batchable, MemberResult};
use crate::context::{Criticality, RequestContext, deadline_exceeded};
use crate::error::Result;
use crate::identity::permission::Permissions;
use crate::quota::breaker::OperationId;
use crate::quota::{Lane, SlotRequest};
use crate::telemetry::metrics::BatchRequest;
use crate::telemetry::trace::{Span, Trace};

/// Maximum number of request ids in a log line.
const MAX_LOGGED: usize = 100;

impl Client {
    /// Sends a batch in one call. If the call fails as a whole, each half is sent in one call, and so on, until the member
    /// that causes the failure is alone. Writes with an unknown outcome are reconciled before, each by the task of its caller.
    pub(super) async fn lead_batch<O: Batchable>(self, mut place: CallPermit, leader: Member<O>) {
        let batch = leader.batch;
        let registry = O::registry(&self.shared.registries);
        let mut members = registry.collect(place.slot.notify_members(), leader).await;
        let (trace, mut span) = batch_span(O::LANE, &members);
        members.iter_mut().for_each(|member| member.span.link(&trace));
        let mut first = Some(place);
        let mut splitting = Splitting::new(members.len());
        let mut groups = VecDeque::from([members]);
        while let Some(mut members) = groups.pop_front() {
            // A member that was cancelled before anything was sent uses no quota.
            members.retain(|member| !member.reply.is_closed());
            members.iter_mut().for_each(|member| member.batch = batch);
            if members.is_empty() {
                continue;
            }
            if splitting.has_begun && members.len() == 1 && members[0].mode == BatchMode::Opportunistic {
                // The single endpoint returns the error of this member, and no bulk call is used.
                members.into_iter().for_each(Member::send_alone);
                continue;
            }
            let result = self.send_batch(batch, &trace, first.take(), &mut members).await;
            if members.is_empty() {
                continue;
            }
            let error = match result {
                Ok(results) => {
                    let Some(missing) = reply_results(members, results) else {
                        splitting.succeeded();
                        continue;
                    };
                    if O::SAFETY == Safety::Repeatable {
                        groups.push_back(missing);
                        continue;
                    }
                    // One of these members may be why the others were skipped.
                    members = missing;
                    O::missing_error()
                }
                Err(error) => error,
            };
            let is_whole = !splitting.has_begun;
            if is_whole {
                span.fail(error.name());
            }
            let is_absent = self.shared.absent_lanes.is_disabled(O::LANE);
            match splitting.failed::<O>(&error, members.len()) {
                Failure::NotExecuted if is_whole && is_unserved(&error) && is_absent => {
                    members.into_iter().for_each(|member| member.fail(error.clone()));
                }
                Failure::OfAll => reply_all(members, &error),
                Failure::OfTheOnlyOne => members.into_iter().for_each(|member| member.fail(error.clone())),
                Failure::NoSuchEndpoint => {
                    tracing::warn!(
                        tenant = %self.shared.tenant,
                        lane = O::LANE.name(),
                        error = error.name(),
                        "batch endpoint is not available; sending operations one by one for 10 minutes"
                    );
                    self.shared.disabled_lanes.disable(O::LANE);
                    let all = members
                        .into_iter()
                        .chain(std::mem::take(&mut groups).into_iter().flatten());
                    // Members that have a single endpoint are sent to it. Two of the other members may cause the failure.
                    let (single, batch_only): (Vec<_>, Vec<_>) =
                        all.partition(|member| member.mode != BatchMode::Always);
                    single.into_iter().for_each(Member::send_alone);
                    groups.extend(halves(batch_only));
                }
                Failure::NotExecuted => {
                    self.shared.metrics.bisected(&self.shared.tenant, O::LANE.name());
                    let halves = halves(members);
                    match is_unserved(&error) {
                        // The other half first shows whether the endpoint serves anything.
                        true => groups.extend(halves),
                        false => halves.into_iter().rev().for_each(|half| groups.push_front(half)),
                    }
                }
                Failure::Unknown => {
                    self.shared.metrics.bisected(&self.shared.tenant, O::LANE.name());
                    let mut members = registry.reconcile(members, &error).await;
                    members.iter_mut().for_each(|member| member.span.link(&trace));
                    halves(members)
                        .into_iter()
                        .rev()
                        .for_each(|half| groups.push_front(half));
                }
            }
        }
        if splitting.is_absent() {
            self.shared.absent_lanes.disable(O::LANE);
        }
    }

    /// Sends one call for these members, and again if its keys are rejected and another pair is accepted. The members get their
    /// claims back. Members whose deadline passes before the call can be sent fail and are removed.
    async fn send_batch<O: Batchable>(
        &self,
        batch: OperationId,
        trace: &Trace,
        mut place: Option<CallPermit>,
        members: &mut Vec<Member<O>>,
    ) -> Result<Vec<MemberResult<O::Output>>> {
        let mut switches = 0;
        loop {
            let place = match place.take() {
                Some(place) => place,
                None => self.acquire_again(trace, members, switches > 0).await?,
            };
            if members.is_empty() {
                // The slot is dropped unsent, so it is free again.
                return Ok(Vec::new());
            }
            let pair = self.shared.keys.in_use();
            let result = self.send_group(batch, trace, place, members, &pair).await;
            match self.decide_keys(&batch_context(members), &pair, result).await {
                KeyDecision::Done(result) => return result,
                KeyDecision::SendAgain(result) if switches == MAX_KEY_SWITCHES => return result,
                KeyDecision::SendAgain(_) => switches += 1,
            }
        }
    }

    /// Waits for another slot for these members. Members whose deadline passes meanwhile fail and are removed.
    async fn acquire_again<O: Batchable>(
        &self,
        trace: &Trace,
        members: &mut Vec<Member<O>>,
        is_resent: bool,
    ) -> Result<CallPermit> {
        let request = SlotRequest {
            cost: O::BatchCall::COST,
            endpoint: O::BatchCall::NAME,
            keys: Vec::new(),
            batch: None,
        };
        let mut retries = Retries::new(O::SAFETY, 1);
        let mut context = batch_context(members);
        context.trace = trace.clone();
        if is_resent {
            context = first_in_queue(&context);
        }
        let place = self.acquire_for(&context, &request, &mut retries).await?;
        let now = Instant::now();
        let is_late = |member: &mut Member<O>| member.context.deadline <= now || member.reply.is_closed();
        for member in members.extract_if(.., is_late) {
            member.reply(Err(deadline_exceeded("a slot of the quota")));
        }
        Ok(place)
    }

    /// Sends one call for these members with these keys.
    async fn send_group<O: Batchable>(
        &self,
        batch: OperationId,
        trace: &Trace,
        place: CallPermit,
        members: &mut [Member<O>],
        pair: &KeyPair,
    ) -> Result<Vec<MemberResult<O::Output>>> {
        let shared = &*self.shared;
        let context = batch_context(members);
        let operations: Vec<O> = members.iter().map(|member| member.operation.clone()).collect();
        let call = O::batch_call(&operations);
        let queued = place.queued;
        let request = self.build(call.request().into(), pair)?;
        let span = attempt_span(trace, &request, None);
        let sent = Instant::now();
        let deadline = sent + shared.settings.timeout;
        let (response, requeues) = self
            .clone()
            .exchange(batch, request, place, deadline, O::BatchCall::verdict)
            .await;
        let mut requeues: HashMap<_, _> = requeues
            .into_iter()
            .map(|requeue| (requeue.ticket(), requeue))
            .collect();
        for member in members.iter_mut().filter(|member| member.requeue.is_none()) {
            member.requeue = requeues.remove(&member.ticket);
        }
        let exchanged = Exchanged {
            response,
            queued,
            took: sent.elapsed(),
            operations: members.len(),
            span,
        };
        let result = self.read(&context, &call, exchanged);
        let requests: Vec<&str> = members
            .iter()
            .take(MAX_LOGGED)
            .map(|member| &*member.context.id)
            .collect();
        let mutations: Vec<String> = (members.iter().take(MAX_LOGGED))
            .filter_map(|member| Some(member.context.mutation?.to_string()))
            .collect();
        let traces: BTreeSet<String> = (members.iter().take(MAX_LOGGED))
            .filter_map(|member| Some(member.context.trace.id()?.to_string()))
            .collect();
        let traces: Vec<String> = traces.into_iter().collect();
        tracing::info!(
            target: "leadgate::batch",
            request_id = %context.id,
            mutation_id = Some(mutations.join(" ")).filter(|ids| !ids.is_empty()),
            trace_id = Some(traces.join(" ")).filter(|ids| !ids.is_empty()),
            tenant = %shared.tenant,
            lane = O::LANE.name(),
            members = members.len(),
            of = %requests.join(" "),
            "batch request finished"
        );
        shared.metrics.shared(&BatchRequest {
            tenant: &shared.tenant,
            lane: O::LANE.name(),
            members: members.len(),
        });
        result
    }
}

/// Replies to each member with its result. Returns the members that the response does not mention, if this has no meaning for
/// them yet.
fn reply_results<O: Batchable>(
    members: Vec<Member<O>>,
    results: Vec<MemberResult<O::Output>>,
) -> Option<Vec<Member<O>>> {
    // The response to a read may be incomplete. If it mentions no member, the missing records do not exist.
    let is_partial = results.iter().any(|result| !matches!(result, MemberResult::Missing));
    let mut missing = Vec::new();
    let results = results
        .into_iter()
        .chain(std::iter::repeat_with(|| MemberResult::Missing));
    for (member, result) in members.into_iter().zip(results) {
        match result {
            MemberResult::Final(result) => member.reply(result),
            MemberResult::NotExecuted(error) => member.fail(error),
            MemberResult::Missing if is_partial || O::SAFETY == Safety::Once => missing.push(member),
            MemberResult::Missing => member.reply(Err(O::missing_error())),
        }
    }
    (!missing.is_empty()).then_some(missing)
}

/// Starts the span of a batch, in a trace of its own, with links to its members. Returns also the trace for the calls of the batch.
fn batch_span<O: Batchable>(lane: Lane, members: &[Member<O>]) -> (Trace, Span) {
    let (trace, mut span) = Trace::linked_span("batch", members.iter().map(|member| &member.trace));
    span.set("leadgate.batch.lane", lane.name());
    span.set(
        "leadgate.batch.members",
        i64::try_from(members.len()).unwrap_or(i64::MAX),
    );
    (trace, span)
}

/// Both halves of a group, without empty ones.
fn halves<O: Batchable>(mut members: Vec<Member<O>>) -> Vec<Vec<Member<O>>> {
    let second = members.split_off(members.len().div_ceil(2));
    [members, second].into_iter().filter(|half| !half.is_empty()).collect()
}

/// The context of a batch call: the request and the caller of its first member, the highest criticality and the latest
/// deadline of all members.
fn batch_context<O: Batchable>(members: &[Member<O>]) -> RequestContext {
    let contexts = || members.iter().map(|member| &member.context);
    let (id, caller) = match members.first() {
        Some(member) => (member.context.id.clone(), member.context.caller.clone()),
        None => (Arc::from(""), Arc::from("")),
    };
    let mutation = contexts().next().and_then(|context| context.mutation);
    RequestContext {
        id,
        // The ids of all members are in the log line of the batch.
        mutation: mutation.filter(|id| contexts().all(|context| context.mutation == Some(*id))),
        caller,
        trace: contexts()
            .next()
            .map_or_else(Trace::default, |context| context.trace.clone()),
        permissions: Permissions::all(),
        first_received: contexts()
            .map(|context| context.first_received)
            .min()
            .unwrap_or_else(Instant::now),
        is_repeated: contexts().any(|context| context.is_repeated),
        criticality: contexts()
            .map(|context| context.criticality)
            .max()
            .unwrap_or(Criticality::Sheddable),
        deadline: contexts()
            .map(|context| context.deadline)
            .max()
            .unwrap_or_else(Instant::now),
        cancelled: CancellationToken::new(),
        position: None,
        progress: Arc::default(),
        record: None,
        audit: Default::default(),
    }
}
