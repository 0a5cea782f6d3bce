//! Pictures for tests.

use std::time::Duration;

use leadgate::grpc::pb::{
    BreakerState, Criticality, Quota, QuotaBreaker, QuotaCaller, QuotaDay, QuotaQueue, QuotaWindow,
};
use tokio::time::Instant;

use crate::cli::top::history::History;
use crate::cli::top::{ConnectionState, Picture, Update};

const SECOND: Duration = Duration::from_secs(1);

/// A picture before the first message.
pub(in crate::cli::top) fn empty() -> Picture {
    Picture {
        source: "acme at http://127.0.0.1:50051".to_owned(),
        connection: ConnectionState::Connecting,
        latest: None,
        history: History::new(SECOND),
        old_age: SECOND * 3,
    }
}

/// Adds a message, one second after the last one.
pub(in crate::cli::top) fn add(picture: &mut Picture, quota: Quota) {
    let at = picture
        .latest
        .as_ref()
        .map_or_else(Instant::now, |(_, at)| *at + SECOND);
    picture.apply(Update::Quota(Box::new(quota)), at);
}

/// Calls wait, because other integrations use the account.
pub(in crate::cli::top) fn busy() -> Picture {
    let mut picture = empty();
    for second in 0..100 {
        add(&mut picture, busy_quota(second));
    }
    picture
}

fn busy_quota(second: i32) -> Quota {
    let names = ["nightly-export", "checkout", "support", "leadgate", "web", "reports"];
    let callers = names.iter().enumerate().map(|(at, name)| QuotaCaller {
        caller: (*name).to_owned(),
        waiting: [1_200, 14, 9, 1, 3, 2][at],
    });
    Quota {
        calls: Some(QuotaWindow {
            limit: 25,
            window: duration(5_000),
            effective: 18,
            used: 18,
            free_in: duration(400),
            margin: duration(100),
            own_refusals: 2,
            foreign_refusals: 40 + i64::from(second / 20),
            holds: 4,
            reserve: 0,
        }),
        bulk: Some(QuotaWindow {
            limit: 5,
            window: duration(5_000),
            effective: 5,
            used: 1,
            free_in: duration(0),
            ..Default::default()
        }),
        day: Some(QuotaDay {
            limit: Some(500_000),
            used: 12_345,
            remaining: Some(487_655),
            reset_time: timestamp(1_800_036_600),
            spent_time: timestamp(1_800_022_800),
            closed: false,
        }),
        queues: queues([0, 3, 26, 1_200]),
        callers: callers.collect(),
        grants: 54_000 + 3 * i64::from(second),
        utilisation: f64::from(second % 40) / 40.0,
        replicas: 3,
        breaker: Some(QuotaBreaker {
            state: BreakerState::Closed.into(),
            ..Default::default()
        }),
        owner: "10.0.0.7:50052".to_owned(),
        epoch: 12,
        owned_since: timestamp(1_799_990_000),
        last_move_reason: "takeover".to_owned(),
        ..Default::default()
    }
}

/// LeadSquared fails, and the connection is lost.
pub(in crate::cli::top) fn failing() -> Picture {
    let mut picture = empty();
    let breaker = QuotaBreaker {
        state: BreakerState::Open.into(),
        since: timestamp(1_800_000_000),
        next_probe_in: duration(12_000),
    };
    for second in 0..3 {
        let quota = Quota {
            breaker: Some(breaker),
            owner: String::new(),
            replicas: 1,
            queues: queues([0; 4]),
            callers: Vec::new(),
            ..busy_quota(second)
        };
        add(&mut picture, quota);
    }
    let lost = "The stream was interrupted (h2: \u{1b}[31m broken pipe). Reconnecting for up to 10m.";
    let at = picture.latest.as_ref().map_or_else(Instant::now, |(_, at)| *at);
    picture.apply(Update::Lost(lost.to_owned()), at);
    picture
}

/// Names of callers that control terminals, or are wide or long.
pub(in crate::cli::top) fn hostile() -> Picture {
    let names = [
        "\u{1b}[2J\u{1b}[31mevil",
        "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字",
        "a\nb\r\tc\u{7}\u{9b}2J\u{202e}",
        &"x".repeat(5_000),
        "👩\u{200d}👩\u{200d}👧e\u{301}",
    ];
    let callers = names.iter().zip(7_000..).map(|(name, waiting)| QuotaCaller {
        caller: (*name).to_owned(),
        waiting,
    });
    let mut picture = empty();
    let quota = Quota {
        callers: callers.collect(),
        owner: names[0].to_owned(),
        last_move_reason: names[1].to_owned(),
        ..busy_quota(0)
    };
    add(&mut picture, quota);
    picture
}

/// The extremes of all numbers, one after the other.
pub(in crate::cli::top) fn absurd() -> Picture {
    let mut picture = empty();
    for value in [i64::MIN, i64::MAX, -1, 0, i64::MIN] {
        add(&mut picture, any(&[value; 24], "\u{1b}c", f64::NAN));
    }
    picture
}

/// A message with these numbers, of which 23 are used.
pub(in crate::cli::top) fn any(values: &[i64], name: &str, utilization: f64) -> Quota {
    let mut values = values.iter().copied();
    let mut long = || values.next().unwrap_or_default();
    let mut window = || QuotaWindow {
        limit: long() as i32,
        effective: long() as i32,
        used: long() as i32,
        window: Some(prost_types::Duration {
            seconds: long(),
            nanos: -1,
        }),
        free_in: Some(prost_types::Duration {
            seconds: long(),
            nanos: i32::MAX,
        }),
        margin: None,
        own_refusals: long(),
        foreign_refusals: long(),
        holds: long(),
        reserve: 0,
    };
    let (calls, bulk) = (Some(window()), Some(window()));
    let number = long();
    let time = Some(prost_types::Timestamp {
        seconds: long(),
        nanos: i32::MIN,
    });
    let length = Some(prost_types::Duration {
        seconds: number,
        nanos: i32::MIN,
    });
    let queue = QuotaQueue {
        criticality: number as i32,
        waiting: number as i32,
        oldest: length,
    };
    Quota {
        calls,
        bulk,
        day: Some(QuotaDay {
            limit: Some(number),
            used: long(),
            remaining: Some(long()),
            reset_time: time,
            spent_time: time,
            closed: false,
        }),
        queues: vec![queue; 7],
        callers: (0..200)
            .map(|_| QuotaCaller {
                caller: name.to_owned(),
                waiting: number as i32,
            })
            .collect(),
        grants: long(),
        utilisation: utilization,
        replicas: number as i32,
        breaker: Some(QuotaBreaker {
            state: number as i32,
            since: time,
            next_probe_in: length,
        }),
        owner: name.to_owned(),
        epoch: long(),
        owned_since: time,
        last_move_reason: name.to_owned(),
        outage_cause: name.to_owned(),
        ..Default::default()
    }
}

fn queues(waiting: [i32; 4]) -> Vec<QuotaQueue> {
    let classes = [
        Criticality::CriticalPlus,
        Criticality::Critical,
        Criticality::SheddablePlus,
        Criticality::Sheddable,
    ];
    let queue = |(class, waiting): (Criticality, i32)| QuotaQueue {
        criticality: class.into(),
        waiting,
        oldest: duration(i64::from(waiting) * 100).filter(|_| waiting > 0),
    };
    classes.into_iter().zip(waiting).map(queue).collect()
}

fn duration(millis: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: millis / 1_000,
        nanos: (millis % 1_000) as i32 * 1_000_000,
    })
}

fn timestamp(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}
