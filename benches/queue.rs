//! How long the queue takes for one ticket with 100,000 waiting, and how much memory they need.
//!
//! `cargo bench --bench queue` prints the table; with `-- --write docs/benchmarks` it writes `docs/benchmarks/queue.md`.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod machine;

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leadgate::quota::Cost;
use leadgate::quota::lane::Sizes;
use leadgate::quota::latency::Estimate;
use leadgate::quota::queue::{Ask, Criticality, Key, Next, Queue, QueueSettings, Share, Slots, Supply};
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
    too_early: Duration::ZERO,
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
        position: None,
        keys: if is_write {
            vec![Key::of(&dice.roll(keys))]
        } else {
            Vec::new()
        },
        deadline: begin + Duration::from_millis(3_600_000 + dice.roll(60_000)),
        lane: None,
    }
}

fn percentile(times: &mut [u128], share: usize) -> u128 {
    times.sort_unstable();
    times[(times.len() - 1) * share / 100]
}

/// The median and the 99th percentile, in a cell of the table.
fn cell(mut times: Vec<u128>) -> String {
    let (median, most) = (percentile(&mut times, 50), percentile(&mut times, 99));
    format!(" {:.1} / {:.1} |", median as f64 / 1000.0, most as f64 / 1000.0)
}

fn timed<R>(times: &mut Vec<u128>, act: impl FnOnce() -> R) -> R {
    let begin = Instant::now();
    let result = act();
    times.push(begin.elapsed().as_nanos());
    result
}

/// A row of the table.
fn measure(callers: usize, keys: u64) -> String {
    let of_keys = if keys == u64::MAX {
        "a key each".to_owned()
    } else {
        format!("{keys} keys")
    };
    let names: Vec<Arc<str>> = (0..callers).map(|i| format!("caller-{i}").into()).collect();
    let begin = Instant::now();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let before = COUNTING.current_usage_as_mb();
    COUNTING.reset_peak_usage();
    let mut queue = Queue::new(QueueSettings {
        max_waiting: WAITING + 1,
        max_per_caller: WAITING + 1,
        callers: HashMap::new(),
        others: Share::default(),
        sizes: Sizes::default(),
    });
    let mut pushes = Vec::with_capacity(WAITING + ROUNDS);
    let before = before.max(COUNTING.current_usage_as_mb());
    for i in 0..WAITING {
        let ask = ask(&names, &mut dice, keys, begin);
        timed(&mut pushes, || queue.push(ask, i, begin)).unwrap();
    }
    let mib = COUNTING.current_usage_as_mb() - before;
    let most = COUNTING.peak_usage_as_mb() - before;
    let mut row = format!("| {callers} | {of_keys} | {mib:.0} MiB | {most:.0} MiB |");
    row += &cell(std::mem::take(&mut pushes));

    let (mut pops, mut admits) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for i in 0..ROUNDS {
        let (receipt, _) = timed(&mut pops, || match queue.next(&FREE, begin) {
            Next::Granted(receipt, payload) => (receipt, payload),
            Next::Dead(..) | Next::Nobody => panic!("something can always go"),
        });
        queue.done(receipt);
        let ask = ask(&names, &mut dice, keys, begin);
        let estimate = Estimate {
            least: Duration::from_millis(100),
            usual: Duration::from_millis(100),
            long: Duration::from_millis(100),
        };
        let wait = |_, ahead| Duration::from_millis(200) * ahead as u32;
        timed(&mut admits, || queue.admit(&ask, &estimate, &FREE, begin, wait)).ok();
        timed(&mut pushes, || queue.push(ask, i, begin)).unwrap();
    }
    [pushes, pops, admits]
        .map(cell)
        .into_iter()
        .fold(row, |row, cell| row + &cell)
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--write");
    let target = arguments.nth(1);
    let mut table = String::from("| callers | writes to | memory | peak | push, growing | push | next | admit |\n");
    table += "|---|---|---|---|---|---|---|---|\n";
    for (callers, keys) in [
        (1, 50_000),
        (20, 50_000),
        (1_000, 50_000),
        (1_000, 100),
        (WAITING, u64::MAX),
    ] {
        let _ = writeln!(table, "{}", measure(callers, keys));
    }
    println!("{table}");
    if let Some(target) = target {
        let text = include_str!("queue.md")
            .replace("{table}", &table)
            .replace("{machine}", &format!("{}, shared with others", machine::processor()));
        std::fs::create_dir_all(&target)?;
        std::fs::write(Path::new(&target).join("queue.md"), text)?;
    }
    Ok(())
}
