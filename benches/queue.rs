//! How long the queue takes for one ticket with 100,000 waiting, and how much memory they need.
//!
//! `cargo bench --bench queue`. Bytes are those asked of the allocator, payloads of 8 bytes included.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use leadgate::quota::Cost;
use leadgate::quota::queue::{Ask, Criticality, Key, Next, Queue, Settings, Share, Slots, Supply};
use peak_alloc::PeakAlloc;
use tokio::time::Instant;

/// Counts the bytes asked of the allocator.
#[global_allocator]
static COUNTING: PeakAlloc = PeakAlloc;

const WAITING: usize = 100_000;
const ROUNDS: usize = 200_000;
const FREE: Supply = Supply {
    calls: Slots { limit: 25, free: 25 },
    bulk: Slots { limit: 10, free: 10 },
    window: Duration::from_secs(5),
};

/// A generator good enough to spread tickets (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn ask(names: &[Arc<str>], dice: &mut Dice, keys: u64, begin: Instant) -> Ask {
    let is_write = dice.roll(2) == 0;
    Ask {
        caller: names[dice.roll(names.len() as u64) as usize].clone(),
        criticality: Criticality::ALL[dice.roll(4) as usize],
        cost: if dice.roll(5) == 0 { Cost::Bulk } else { Cost::Call },
        keys: if is_write {
            vec![Key::of(&dice.roll(keys))]
        } else {
            Vec::new()
        },
        deadline: begin + Duration::from_millis(3_600_000 + dice.roll(60_000)),
    }
}

fn percentile(times: &mut [u128], share: usize) -> u128 {
    times.sort_unstable();
    times[(times.len() - 1) * share / 100]
}

fn report(what: &str, mut times: Vec<u128>) {
    let (median, most) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!("  {what:<14} median {median:>6} ns   p99 {most:>6} ns");
}

fn timed<R>(times: &mut Vec<u128>, act: impl FnOnce() -> R) -> R {
    let begin = Instant::now();
    let result = act();
    times.push(begin.elapsed().as_nanos());
    result
}

fn measure(callers: usize, keys: u64) {
    let of_keys = if keys == u64::MAX {
        "a key each".to_owned()
    } else {
        format!("{keys} keys")
    };
    println!("{WAITING} waiting, {callers} callers, {of_keys}:");
    let names: Vec<Arc<str>> = (0..callers).map(|i| format!("caller-{i}").into()).collect();
    let begin = Instant::now();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let before = COUNTING.current_usage_as_mb();
    COUNTING.reset_peak_usage();
    let mut queue = Queue::new(Settings {
        most_waiting: WAITING + 1,
        most_per_caller: WAITING + 1,
        callers: HashMap::new(),
        others: Share::default(),
    });
    let mut pushes = Vec::with_capacity(WAITING + ROUNDS);
    let before = before.max(COUNTING.current_usage_as_mb());
    for i in 0..WAITING {
        let ask = ask(&names, &mut dice, keys, begin);
        timed(&mut pushes, || queue.push(ask, i, begin)).unwrap();
    }
    let mib = COUNTING.current_usage_as_mb() - before;
    let most = COUNTING.peak_usage_as_mb() - before;
    println!("  memory         {mib:>6.1} MiB, {most:.1} MiB at most while it grew");
    report("push, growing", std::mem::take(&mut pushes));

    let (mut pops, mut admits) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for i in 0..ROUNDS {
        let (receipt, _) = timed(&mut pops, || match queue.next(&FREE, begin) {
            Next::Granted(receipt, payload) => (receipt, payload),
            Next::Dead(..) | Next::Nobody => panic!("something can always go"),
        });
        queue.done(receipt);
        let ask = ask(&names, &mut dice, keys, begin);
        let typical = Duration::from_millis(100);
        let wait = |_, ahead| Duration::from_millis(200) * ahead as u32;
        timed(&mut admits, || queue.admit(&ask, typical, &FREE, begin, wait)).ok();
        timed(&mut pushes, || queue.push(ask, i, begin)).unwrap();
    }
    report("push", pushes);
    report("next", pops);
    report("admit", admits);
}

fn main() {
    measure(1, 50_000);
    measure(20, 50_000);
    measure(1_000, 50_000);
    measure(1_000, 100);
    measure(WAITING, u64::MAX);
}
