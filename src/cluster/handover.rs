//! The JSON form of the state that is handed over. Old and new versions of leadgate hand over to each other: unknown fields are
//! ignored, and a missing field has a default that never allows more calls. Times are in milliseconds, rounded up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::handover::{ControllerHandover, DayHandover, Handover, LatencySample, LimitHandover};
use crate::error::Limit;

/// Maximum number of latencies of one endpoint that are handed over. Together with the limit of endpoints, the text is at most a
/// few kilobytes.
const MAX_SAMPLES: usize = 8;

/// The JSON form of a state.
pub fn to_json(handover: &Handover) -> String {
    // Maps with text keys, numbers and texts are always JSON.
    serde_json::to_string(&HandoverRecord::from(handover)).unwrap_or_default()
}

/// Reads a state. `None`: it cannot be read, or it has no limits. All windows count as full then.
pub fn from_json(json: &str) -> Option<Handover> {
    let record: HandoverRecord = serde_json::from_str(json).ok()?;
    Some(Handover {
        calls: record.calls.into_limit()?,
        bulk: record.bulk.into_limit()?,
        day: DayHandover {
            day: record.day.day,
            calls: record.day.calls,
            closed_for: record.day.closed_for_ms.map(Duration::from_millis),
        },
        latencies: record
            .latencies
            .into_iter()
            .map(|(name, samples)| (name, read(samples)))
            .collect(),
    })
}

#[derive(Serialize, Deserialize)]
struct HandoverRecord {
    calls: LimitRecord,
    bulk: LimitRecord,
    #[serde(default)]
    day: DayRecord,
    /// For each endpoint, ages and latencies.
    #[serde(default)]
    latencies: BTreeMap<String, Vec<(u64, u64)>>,
}

#[derive(Serialize, Deserialize)]
struct LimitRecord {
    configured: (u32, u64),
    limit: (u32, u64),
    free_in_ms: Vec<u64>,
    #[serde(default)]
    controller: ControllerRecord,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ControllerRecord {
    effective: Option<f64>,
    refused_at: f64,
    clean: f64,
    accepted: u32,
    is_steady: bool,
    refusals_in_row: u32,
    margin_ms: u64,
    held_for_ms: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct DayRecord {
    day: String,
    calls: u64,
    closed_for_ms: Option<u64>,
}

impl From<&Handover> for HandoverRecord {
    fn from(handover: &Handover) -> Self {
        let samples = |samples: &Vec<LatencySample>| {
            let newest = &samples[samples.len().saturating_sub(MAX_SAMPLES)..];
            newest
                .iter()
                .map(|sample| (millis(sample.age), millis(sample.took)))
                .collect()
        };
        Self {
            calls: (&handover.calls).into(),
            bulk: (&handover.bulk).into(),
            day: DayRecord {
                day: handover.day.day.clone(),
                calls: handover.day.calls,
                closed_for_ms: handover.day.closed_for.map(millis),
            },
            latencies: handover
                .latencies
                .iter()
                .map(|(name, all)| (name.clone(), samples(all)))
                .collect(),
        }
    }
}

impl From<&LimitHandover> for LimitRecord {
    fn from(limit: &LimitHandover) -> Self {
        let controller = &limit.controller;
        Self {
            configured: pair(limit.configured),
            limit: pair(limit.limit),
            free_in_ms: limit.free_in.iter().copied().map(millis).collect(),
            controller: ControllerRecord {
                effective: controller.effective,
                refused_at: controller.refused_at,
                clean: controller.clean,
                accepted: controller.accepted,
                is_steady: controller.is_steady,
                refusals_in_row: controller.refusals_in_row,
                margin_ms: millis(controller.margin),
                held_for_ms: millis(controller.held_for),
            },
        }
    }
}

impl LimitRecord {
    fn into_limit(self) -> Option<LimitHandover> {
        let controller = self.controller;
        Some(LimitHandover {
            configured: limit(self.configured)?,
            limit: limit(self.limit)?,
            free_in: self.free_in_ms.into_iter().map(Duration::from_millis).collect(),
            controller: ControllerHandover {
                effective: controller.effective,
                refused_at: controller.refused_at,
                clean: controller.clean,
                accepted: controller.accepted,
                is_steady: controller.is_steady,
                refusals_in_row: controller.refusals_in_row,
                margin: Duration::from_millis(controller.margin_ms),
                held_for: Duration::from_millis(controller.held_for_ms),
            },
        })
    }
}

fn pair(limit: Limit) -> (u32, u64) {
    (limit.calls, millis(limit.per))
}

/// A limit of no calls or of no time is not valid.
fn limit((calls, per): (u32, u64)) -> Option<Limit> {
    let per = Duration::from_millis(per);
    (calls > 0 && !per.is_zero()).then_some(Limit { calls, per })
}

fn read(samples: Vec<(u64, u64)>) -> Vec<LatencySample> {
    let sample = |(age, took)| LatencySample {
        age: Duration::from_millis(age),
        took: Duration::from_millis(took),
    };
    samples.into_iter().map(sample).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Handover {
        let limit = |calls| LimitHandover {
            configured: Limit {
                calls,
                per: Duration::from_secs(5),
            },
            limit: Limit {
                calls: calls + 1,
                per: Duration::from_secs(6),
            },
            free_in: [0, 1_300, 36_000].map(Duration::from_millis).to_vec(),
            controller: ControllerHandover {
                effective: Some(21.25),
                refused_at: 23.5,
                clean: 1.75,
                accepted: 12,
                is_steady: true,
                refusals_in_row: 2,
                margin: Duration::from_millis(80),
                held_for: Duration::from_millis(1_750),
            },
        };
        let sample = |age| LatencySample {
            age: Duration::from_millis(age),
            took: Duration::from_millis(90),
        };
        Handover {
            calls: limit(25),
            bulk: limit(4),
            day: DayHandover {
                day: "2026-07-31".to_owned(),
                calls: 1_234,
                closed_for: Some(Duration::from_secs(59)),
            },
            latencies: BTreeMap::from([("Leads.GetById".to_owned(), vec![sample(900), sample(20)])]),
        }
    }

    #[test]
    fn a_state_is_the_same_after_json() {
        let json = to_json(&example());
        assert_eq!(from_json(&json), Some(example()), "{json}");
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_have_defaults() {
        let json = r#"{
            "calls": {"configured": [25, 5000], "limit": [25, 5000], "free_in_ms": [7], "later": {"a": 1}},
            "bulk": {"configured": [4, 5000], "limit": [4, 5000], "free_in_ms": []},
            "later": []
        }"#;
        let read = from_json(json).unwrap();
        assert_eq!(read.calls.free_in, [Duration::from_millis(7)]);
        assert_eq!(
            (read.calls.controller.effective, read.day),
            (None, DayHandover::default())
        );
    }

    #[test]
    fn a_state_without_slots_or_with_an_invalid_limit_is_none() {
        let limit =
            |calls: u32, slots: &str| format!(r#"{{"configured": [25, 5000], "limit": [{calls}, 5000]{slots}}}"#);
        let slots = r#", "free_in_ms": []"#;
        let state = |calls: &str| format!(r#"{{"calls": {calls}, "bulk": {}}}"#, limit(4, slots));
        assert!(from_json(&state(&limit(25, slots))).is_some());
        assert!(from_json(&state(&limit(25, ""))).is_none());
        assert!(from_json(&state(&limit(0, slots))).is_none());
        assert!(from_json("").is_none());
    }

    #[test]
    fn times_are_rounded_up_and_only_the_newest_latencies_are_kept() {
        let mut handover = example();
        handover.calls.free_in = vec![Duration::from_micros(1)];
        let sample = |age: u64| LatencySample {
            age: Duration::from_millis(age),
            took: Duration::from_millis(1),
        };
        let samples: Vec<_> = (0..20).rev().map(sample).collect();
        handover.latencies.insert("Leads.GetById".to_owned(), samples);
        let read = from_json(&to_json(&handover)).unwrap();
        assert_eq!(read.calls.free_in, [Duration::from_millis(1)]);
        assert_eq!(read.latencies["Leads.GetById"].first(), Some(&sample(7)));
        assert_eq!(read.latencies["Leads.GetById"].len(), 8);
    }
}
