//! The parts of each line about a quota, the most important first. The screen shows those that fit, and plain text shows all. Pure.

use leadgate::grpc::pb::{BreakerState, Criticality, Quota, QuotaBreaker, QuotaDay, QuotaQueue, QuotaWindow};

use super::history::{Counters, RecentChange};
use super::text::{count, day_and_time, duration, printable, seconds, time_of_day};

/// Maximum length of the name of a caller or an owner.
const MAX_NAME: usize = 64;

/// The calls of one class that wait.
pub(super) struct QueueLine {
    pub(super) class: String,
    pub(super) waiting: String,
    /// Empty if no call waits.
    pub(super) oldest: String,
}

/// The owner of the account.
pub(super) fn owner(quota: &Quota) -> Vec<String> {
    let replicas = format!("replicas {}", count(quota.replicas));
    if quota.owner.is_empty() {
        return vec!["no cluster".to_owned(), replicas];
    }
    let mut parts = vec![
        format!("owner {}", printable(&quota.owner, MAX_NAME)),
        format!("epoch {}", count(quota.epoch)),
        replicas,
    ];
    if let Some(since) = &quota.owned_since {
        parts.push(format!("since {}", day_and_time(since)));
    }
    if !quota.last_move_reason.is_empty() {
        parts.push(format!("reason {}", printable(&quota.last_move_reason, MAX_NAME)));
    }
    parts
}

/// A window of calls.
pub(super) fn window(window: &QuotaWindow) -> Vec<String> {
    let free = match &window.free_in {
        Some(free) if free.seconds <= 0 && free.nanos <= 0 => "slot free".to_owned(),
        Some(free) => format!("free in {}", duration(free)),
        None => "free after a response".to_owned(),
    };
    let mut parts = vec![
        format!("{} of {} used", count(window.used), count(window.effective)),
        format!("limit {}", count(window.limit)),
        free,
    ];
    let not_available = not_available(window);
    if not_available > 0 {
        parts.push(format!("{} reserved or used by others", count(not_available)));
    }
    if let Some(length) = &window.window {
        parts.push(format!("window {}", duration(length)));
    }
    parts
}

/// The calls of the limit that leadgate does not use: the reserve, and the estimated calls of other integrations.
pub(super) fn not_available(window: &QuotaWindow) -> i64 {
    (i64::from(window.limit) - i64::from(window.effective)).max(0)
}

/// The circuit breaker.
pub(super) fn breaker(breaker: &QuotaBreaker) -> Vec<String> {
    let state = match breaker.state() {
        BreakerState::Closed => "closed",
        BreakerState::Open => "OPEN",
        BreakerState::HalfOpen => "HALF-OPEN",
        BreakerState::Unspecified => "unknown",
    };
    let mut parts = vec![state.to_owned()];
    if let Some(next) = &breaker.next_probe_in {
        parts.push(format!("next probe in {}", duration(next)));
    }
    if let Some(since) = &breaker.since {
        parts.push(format!("since {}", day_and_time(since)));
    }
    parts
}

/// The daily quota.
pub(super) fn day(day: &QuotaDay) -> Vec<String> {
    let mut parts = vec![format!("{} used", count(day.used))];
    parts.push(match day.remaining {
        Some(remaining) => format!("{} remaining", count(remaining)),
        None => "no known limit".to_owned(),
    });
    if day.closed {
        parts.push("USED UP".to_owned());
    }
    if let Some(spent) = &day.spent_time {
        parts.push(format!("used up at {}", time_of_day(spent)));
    }
    if let Some(reset) = &day.reset_time {
        parts.push(format!("reset {}", time_of_day(reset)));
    }
    if let Some(limit) = day.limit {
        parts.push(format!("limit {}", count(limit)));
    }
    parts
}

/// Refusals, holds and grants since the start of the process, with their changes in the last minute.
pub(super) fn refusals(quota: &Quota, recent: Option<RecentChange>) -> Vec<String> {
    let now = Counters::of(quota);
    let part = |name: &str, value: fn(&Counters) -> i64, over: &str| match &recent {
        Some(recent) => format!(
            "{name} {} (+{}{over})",
            count(value(&now)),
            count(value(&recent.counters))
        ),
        None => format!("{name} {}", count(value(&now))),
    };
    let over = recent.map_or(String::new(), |recent| format!(" in {}", seconds(recent.over)));
    vec![
        part("own", |counters| counters.own_refusals, &over),
        part("foreign", |counters| counters.foreign_refusals, ""),
        part("holds", |counters| counters.holds, ""),
        part("grants", |counters| counters.grants, ""),
    ]
}

/// The calls that wait, by class.
pub(super) fn queues(quota: &Quota) -> Vec<QueueLine> {
    quota.queues.iter().map(queue).collect()
}

fn queue(queue: &QuotaQueue) -> QueueLine {
    let class = match Criticality::try_from(queue.criticality) {
        Ok(Criticality::CriticalPlus) => "critical-plus",
        Ok(Criticality::Critical) => "critical",
        Ok(Criticality::SheddablePlus) => "sheddable-plus",
        Ok(Criticality::Sheddable) => "sheddable",
        Ok(Criticality::Unspecified) | Err(_) => "unknown",
    };
    QueueLine {
        class: class.to_owned(),
        waiting: count(queue.waiting),
        oldest: queue.oldest.as_ref().map(duration).unwrap_or_default(),
    }
}

/// The names of at most `max` callers and their waiting calls, those with the most waiting calls first. If there are more callers,
/// the last line is about them.
pub(super) fn callers(quota: &Quota, max: usize) -> Vec<(String, String)> {
    let mut callers: Vec<_> = quota.callers.iter().collect();
    callers.sort_by(|one, other| {
        other
            .waiting
            .cmp(&one.waiting)
            .then_with(|| one.caller.cmp(&other.caller))
    });
    let shown = match callers.len() > max {
        true => max.saturating_sub(1),
        false => callers.len(),
    };
    let rest = callers.split_off(shown);
    let line = |name: &str, waiting: i64| (printable(name, MAX_NAME), count(waiting));
    let mut lines: Vec<_> = callers
        .into_iter()
        .map(|caller| line(&caller.caller, caller.waiting.into()))
        .collect();
    if !rest.is_empty() && max > 0 {
        let waiting = rest.iter().map(|caller| i64::from(caller.waiting)).sum();
        lines.push(line(&format!("and {} more", rest.len()), waiting));
    }
    lines
}
