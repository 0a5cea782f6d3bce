//! The figures of a scenario by name, and whether they are as expected.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use super::runner::{CallOutcome, End, Exchange, RunResult, Stamp};
use super::script::Script;

/// Figures by path: `used`, `caller.NAME.wait_p99`.
pub type Figures = BTreeMap<String, f64>;

/// The figures that every scenario must have a range for.
const REQUIRED: [&str; 3] = ["used", "refused", "worst_window"];

/// The figures that are 0 in every scenario.
const LAWS: [&str; 3] = ["out_of_order", "overlapping", "granted_unused"];

/// The figures of a scenario. Shares are from 0 to 1, waits in seconds.
pub fn figures(script: &Script, result: &RunResult) -> Figures {
    let own: Vec<_> = result.stamps.iter().filter(|stamp| !stamp.is_foreign).collect();
    let foreign = result.stamps.iter().filter(|stamp| stamp.is_foreign);
    let quota = |calls: &dyn Fn(Duration) -> u32| integrate(script, calls);
    let mut figures = Figures::new();
    let mut set = |name: &str, value: f64| figures.insert(name.to_owned(), value);
    set("used", weighed(script, &own) / quota(&|at| script.calls_at(at)));
    let bulk = own.iter().copied().filter(|stamp| stamp.is_bulk).collect::<Vec<_>>();
    set("bulk_used", weighed(script, &bulk) / quota(&|_| script.server.bulk));
    let is_refused = |stamp: &Stamp| !stamp.accepted && !stamp.failed;
    set("refused", part(own.iter().copied(), is_refused));
    set("foreign_refused", part(foreign, |stamp| !stamp.accepted));
    set("refusals", own.iter().filter(|stamp| is_refused(stamp)).count() as f64);
    set("accepted", own.iter().filter(|stamp| stamp.accepted).count() as f64);
    set("worst_window", worst_window(script, &own) as f64);
    set("limit", f64::from(result.limit));
    set("out_of_order", out_of_order(&own) as f64);
    set("overlapping", result.overlapping as f64);
    set("granted_unused", result.granted as f64 - result.sent as f64);
    let late = |outcome: &&CallOutcome| outcome.end == End::Rejected && !outcome.waited.is_zero();
    set("rejected_late", result.outcomes.iter().filter(late).count() as f64);
    for (name, value) in of_outage(script, &result.exchanges) {
        figures.insert(name.to_owned(), value);
    }
    let mut groups: BTreeMap<String, Vec<CallOutcome>> = BTreeMap::new();
    for outcome in &result.outcomes {
        let caller = &script.callers[outcome.stream];
        for group in [
            format!("caller.{}", caller.name),
            format!("class.{}", caller.criticality.name()),
        ] {
            groups.entry(group).or_default().push(*outcome);
        }
    }
    let all = result
        .outcomes
        .iter()
        .filter(|outcome| outcome.end == End::Served)
        .count();
    for (group, outcomes) in groups {
        for (name, value) in of_group(&outcomes, all) {
            figures.insert(format!("{group}.{name}"), value);
        }
    }
    figures
}

/// One line for each figure that is not as expected.
pub fn errors(script: &Script, figures: &Figures) -> Vec<String> {
    let mut ranges = Vec::new();
    let mut errors = Vec::new();
    collect(&script.expect, "", &mut ranges, &mut errors);
    for name in REQUIRED {
        if !ranges.iter().any(|(path, _)| path == name) {
            errors.push(format!("no range for {name}"));
        }
    }
    ranges.extend(LAWS.map(|name| (name.to_owned(), [0.0, 0.0])));
    for (path, [least, most]) in ranges {
        match figures.get(&path) {
            None => errors.push(format!("there is no figure {path}")),
            Some(value) if (least..=most).contains(value) => {}
            Some(value) => errors.push(format!("{path} is {value:.5}, not {least} to {most}")),
        }
    }
    errors
}

/// A table of all figures, for finding out why a scenario fails.
pub fn table(figures: &Figures) -> String {
    let mut text = String::new();
    for (name, value) in figures {
        let _ = writeln!(text, "    {name} = {value:.5}");
    }
    text
}

fn collect(table: &toml::Table, path: &str, ranges: &mut Vec<(String, [f64; 2])>, errors: &mut Vec<String>) {
    for (name, value) in table {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match value {
            toml::Value::Table(table) => collect(table, &path, ranges, errors),
            value => match value.clone().try_into() {
                Ok(range) => ranges.push((path, range)),
                Err(error) => errors.push(format!("{path} must be [least, most]: {error}")),
            },
        }
    }
}

/// The cost of an outage: the calls that were sent after its first failure until a call succeeded, the seconds after
/// that until as many calls were sent as a window allows, and the used part of the windows from then on.
fn of_outage(script: &Script, exchanges: &[Exchange]) -> Vec<(&'static str, f64)> {
    let Some(first) = exchanges.iter().position(|exchange| exchange.failed) else {
        return Vec::new();
    };
    let first = exchanges[first].ended;
    let last = exchanges
        .iter()
        .rev()
        .find(|exchange| exchange.failed)
        .map_or(first, |last| last.ended);
    let success = exchanges
        .iter()
        .find(|exchange| !exchange.failed && exchange.begun > last);
    let success = success.map_or(script.lasts, |success| success.ended);
    let begun = |from: Duration, to: Duration| {
        let begun = exchanges
            .iter()
            .filter(move |exchange| (from..to).contains(&exchange.begun));
        begun.count() as f64
    };
    let mut after: Vec<_> = exchanges.iter().map(|exchange| exchange.begun).collect();
    after.retain(|begun| *begun >= success);
    after.sort_unstable();
    let window = script.server.calls as usize;
    let back = after.get(window - 1).map_or(script.lasts, |begun| *begun);
    let windows = |lasting: Duration| lasting.div_duration_f64(script.server.per) * f64::from(script.server.calls);
    let used_after = after.len() as f64 / windows(script.lasts.saturating_sub(success));
    vec![
        ("outage.calls", begun(first, success)),
        ("outage.seconds", (success - first).as_secs_f64()),
        ("outage.recovered_in", (back - success).as_secs_f64()),
        ("outage.used_before", begun(Duration::ZERO, first) / windows(first)),
        ("outage.used_after", used_after),
    ]
}

fn of_group(outcomes: &[CallOutcome], all_served: usize) -> [(&'static str, f64); 7] {
    let ended = |end| outcomes.iter().filter(move |outcome| outcome.end == end);
    let mut waits: Vec<_> = ended(End::Served).map(|outcome| outcome.waited.as_secs_f64()).collect();
    waits.sort_unstable_by(f64::total_cmp);
    let wait_at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    [
        ("share", share(waits.len(), all_served)),
        ("served", share(waits.len(), outcomes.len())),
        ("rejected", share(ended(End::Rejected).count(), outcomes.len())),
        ("expired", share(ended(End::Expired).count(), outcomes.len())),
        ("failed", share(ended(End::Failed).count(), outcomes.len())),
        ("wait_p50", wait_at(0.5)),
        ("wait_p99", wait_at(0.99)),
    ]
}

fn part<'a>(stamps: impl Iterator<Item = &'a Stamp>, is_part: impl Fn(&Stamp) -> bool) -> f64 {
    let (mut all, mut some) = (0_usize, 0_usize);
    for stamp in stamps {
        all += 1;
        some += usize::from(is_part(stamp));
    }
    some as f64 / all.max(1) as f64
}

/// The weight of a moment. The first and the last window are weighted, so that a burst at the edge does not change the
/// result.
fn weight(script: &Script, at: Duration) -> f64 {
    let edge = at.min(script.lasts.saturating_sub(at));
    edge.div_duration_f64(script.server.per).min(1.0)
}

fn weighed(script: &Script, stamps: &[&Stamp]) -> f64 {
    let accepted = stamps.iter().filter(|stamp| stamp.accepted);
    accepted.map(|stamp| weight(script, stamp.at)).sum()
}

/// Number of calls that all windows together allow, if a window allows this number at each time.
fn integrate(script: &Script, calls: &dyn Fn(Duration) -> u32) -> f64 {
    let step = Duration::from_millis(100);
    let steps = (script.lasts.as_millis() / step.as_millis()) as u32;
    let at = (0..steps).map(|n| step * n + step / 2);
    let allowed: f64 = at.map(|at| weight(script, at) * f64::from(calls(at))).sum();
    allowed * step.div_duration_f64(script.server.per)
}

/// Maximum number of our calls that reached the server in a half-open interval of the length of the window, accepted
/// or not.
fn worst_window(script: &Script, own: &[&Stamp]) -> usize {
    let mut window = VecDeque::new();
    let mut worst = 0;
    for stamp in own {
        window.push_back(stamp.at);
        while window.front().is_some_and(|at| *at + script.server.per <= stamp.at) {
            window.pop_front();
        }
        worst = worst.max(window.len());
    }
    worst
}

/// Number of writes that were accepted before a write to the same key that was requested earlier.
fn out_of_order(own: &[&Stamp]) -> usize {
    let mut last: HashMap<u32, u64> = HashMap::new();
    let writes = own
        .iter()
        .filter(|stamp| stamp.accepted)
        .filter_map(|stamp| stamp.write);
    writes
        .filter(|(key, place)| last.insert(*key, *place).is_some_and(|before| before > *place))
        .count()
}
