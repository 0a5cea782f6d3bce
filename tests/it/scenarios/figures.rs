//! What a played scenario comes to, in figures by name, and whether these are as expected.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use super::script::Script;
use super::stage::{Asked, End, Exchange, Played, Stamp};

/// Figures by path: `used`, `caller.NAME.wait_p99`.
pub type Figures = BTreeMap<String, f64>;

/// Those that every scenario has to say something of.
const REQUIRED: [&str; 3] = ["used", "refused", "worst_window"];

/// Those that are 0 in every scenario.
const LAWS: [&str; 3] = ["out_of_order", "overlapping", "granted_in_vain"];

/// The figures of a scenario. Shares are from 0 to 1, waits in seconds.
pub fn figures(script: &Script, played: &Played) -> Figures {
    let own: Vec<_> = played.stamps.iter().filter(|stamp| !stamp.is_foreign).collect();
    let foreign = played.stamps.iter().filter(|stamp| stamp.is_foreign);
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
    set("limit", f64::from(played.limit));
    set("out_of_order", out_of_order(&own) as f64);
    set("overlapping", played.overlapping as f64);
    set("granted_in_vain", played.granted as f64 - played.sent as f64);
    let late = |asked: &&Asked| asked.end == End::TurnedAway && !asked.waited.is_zero();
    set("turned_away_late", played.asked.iter().filter(late).count() as f64);
    for (name, value) in of_outage(script, &played.exchanges) {
        figures.insert(name.to_owned(), value);
    }
    let mut groups: BTreeMap<String, Vec<Asked>> = BTreeMap::new();
    for asked in &played.asked {
        let caller = &script.callers[asked.stream];
        for group in [
            format!("caller.{}", caller.name),
            format!("class.{}", caller.criticality.name()),
        ] {
            groups.entry(group).or_default().push(*asked);
        }
    }
    let all = played.asked.iter().filter(|asked| asked.end == End::Served).count();
    for (group, asked) in groups {
        for (name, value) in of_group(&asked, all) {
            figures.insert(format!("{group}.{name}"), value);
        }
    }
    figures
}

/// What is not as expected, in a line each.
pub fn errors(script: &Script, figures: &Figures) -> Vec<String> {
    let mut ranges = Vec::new();
    let mut faults = Vec::new();
    collect(&script.expect, "", &mut ranges, &mut faults);
    for name in REQUIRED {
        if !ranges.iter().any(|(path, _)| path == name) {
            faults.push(format!("no range for {name}"));
        }
    }
    ranges.extend(LAWS.map(|name| (name.to_owned(), [0.0, 0.0])));
    for (path, [least, most]) in ranges {
        match figures.get(&path) {
            None => faults.push(format!("there is no figure {path}")),
            Some(value) if (least..=most).contains(value) => {}
            Some(value) => faults.push(format!("{path} is {value:.5}, not {least} to {most}")),
        }
    }
    faults
}

/// All figures, for who has to look why.
pub fn table(figures: &Figures) -> String {
    let mut text = String::new();
    for (name, value) in figures {
        let _ = writeln!(text, "    {name} = {value:.5}");
    }
    text
}

fn collect(table: &toml::Table, path: &str, ranges: &mut Vec<(String, [f64; 2])>, faults: &mut Vec<String>) {
    for (name, value) in table {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match value {
            toml::Value::Table(table) => collect(table, &path, ranges, faults),
            value => match value.clone().try_into() {
                Ok(range) => ranges.push((path, range)),
                Err(error) => faults.push(format!("{path} must be [least, most]: {error}")),
            },
        }
    }
}

/// What an outage has cost: the calls that were begun after its first failure was seen until a call succeeded, in how many
/// seconds after that as many calls were begun as a window allows, and how much of the windows was used from then on.
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

fn of_group(asked: &[Asked], all_served: usize) -> [(&'static str, f64); 7] {
    let ended = |end| asked.iter().filter(move |asked| asked.end == end);
    let mut waits: Vec<_> = ended(End::Served).map(|asked| asked.waited.as_secs_f64()).collect();
    waits.sort_unstable_by(f64::total_cmp);
    let wait_at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    [
        ("share", share(waits.len(), all_served)),
        ("served", share(waits.len(), asked.len())),
        ("turned_away", share(ended(End::TurnedAway).count(), asked.len())),
        ("expired", share(ended(End::Expired).count(), asked.len())),
        ("failed", share(ended(End::Failed).count(), asked.len())),
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

/// How much a moment counts. It must not matter whether a burst lies just within the run, so the first and the last
/// window rise and fall.
fn weight(script: &Script, at: Duration) -> f64 {
    let edge = at.min(script.lasts.saturating_sub(at));
    edge.div_duration_f64(script.server.per).min(1.0)
}

fn weighed(script: &Script, stamps: &[&Stamp]) -> f64 {
    let accepted = stamps.iter().filter(|stamp| stamp.accepted);
    accepted.map(|stamp| weight(script, stamp.at)).sum()
}

/// What all windows together allow, where a window allows so many calls at each time.
fn integrate(script: &Script, calls: &dyn Fn(Duration) -> u32) -> f64 {
    let step = Duration::from_millis(100);
    let steps = (script.lasts.as_millis() / step.as_millis()) as u32;
    let at = (0..steps).map(|n| step * n + step / 2);
    let allowed: f64 = at.map(|at| weight(script, at) * f64::from(calls(at))).sum();
    allowed * step.div_duration_f64(script.server.per)
}

/// The most of our calls that reached the server in a half-open interval of the window's length, whatever it said to them.
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

/// Writes that were let in before one to the same key that had asked before.
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
