//! Measures how long the queue takes for one ticket while 10,000 or 100,000 tickets wait, and how much memory they need.
//!
//! `cargo bench --bench queue` prints the table. With `-- --write docs/benchmarks` it writes
//! `docs/benchmarks/queue.md`. Memory is measured as the bytes
//! requested from the allocator, including payloads of 8 bytes.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod machine;

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leadgate::quota::lane::BatchSizes;
use leadgate::quota::latency::LatencyEstimate;
use leadgate::quota::queue::{
    Criticality, NextTicket, Queue, QueueSettings, SlotSupply, Supply, TicketRequest, WriteKey,
};
use leadgate::quota::{CallerQuotas, Cost};
use peak_alloc::PeakAlloc;
use tokio::time::Instant;

/// Counts the bytes requested from the allocator.
#[global_allocator]
static COUNTING: PeakAlloc = PeakAlloc;

/// The usual number of tickets.
const WAITING: usize = 100_000;
/// Number of measured grants.
const ROUNDS: usize = 200_000;
const FREE: Supply = Supply {
    calls: SlotSupply { limit: 25, free: 25 },
    bulk: SlotSupply { limit: 10, free: 10 },
    window: Duration::from_secs(5),
    pacing_delay: Duration::ZERO,
};

/// A pseudo-random number generator (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn request(names: &[Arc<str>], random: &mut Random, keys: u64, begin: Instant) -> TicketRequest {
    let is_write = random.below(2) == 0;
    TicketRequest {
        caller: names[random.below(names.len() as u64) as usize].clone(),
        criticality: Criticality::ALL[random.below(4) as usize],
        cost: if random.below(5) == 0 { Cost::Bulk } else { Cost::Call },
        position: None,
        keys: if is_write {
            vec![WriteKey::of(&random.below(keys).to_string())]
        } else {
            Vec::new()
        },
        deadline: begin + Duration::from_millis(3_600_000 + random.below(60_000)),
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
fn measure(waiting: usize, callers: usize, keys: u64) -> String {
    let of_keys = if keys == u64::MAX {
        "a key each".to_owned()
    } else {
        format!("{keys} keys")
    };
    let label = match waiting {
        WAITING => callers.to_string(),
        _ => format!("{callers}, {waiting} tickets"),
    };
    let names: Vec<Arc<str>> = (0..callers).map(|i| format!("caller-{i}").into()).collect();
    let begin = Instant::now();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let before = COUNTING.current_usage_as_mb();
    COUNTING.reset_peak_usage();
    let mut queue = Queue::new(QueueSettings {
        max_waiting: waiting + 1,
        max_per_caller: waiting + 1,
        callers: CallerQuotas::default(),
        sizes: BatchSizes::default(),
    });
    let mut pushes = Vec::with_capacity(waiting + ROUNDS);
    let before = before.max(COUNTING.current_usage_as_mb());
    for i in 0..waiting {
        let request = request(&names, &mut random, keys, begin);
        timed(&mut pushes, || queue.push(request, i, begin)).unwrap();
    }
    let mib = COUNTING.current_usage_as_mb() - before;
    let most = COUNTING.peak_usage_as_mb() - before;
    let mut row = format!("| {label} | {of_keys} | {mib:.0} MiB | {most:.0} MiB |");
    row += &cell(std::mem::take(&mut pushes));

    let (mut pops, mut admits) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for i in 0..ROUNDS {
        let (receipt, _) = timed(&mut pops, || match queue.next(&FREE, begin) {
            NextTicket::Granted(receipt, payload) => (receipt, payload),
            NextTicket::Expired(..) | NextTicket::None => panic!("no ticket can be granted"),
        });
        queue.done(receipt);
        let request = request(&names, &mut random, keys, begin);
        let estimate = LatencyEstimate {
            least: Duration::from_millis(100),
            usual: Duration::from_millis(100),
            long: Duration::from_millis(100),
        };
        let wait = |_, ahead| Duration::from_millis(200) * ahead as u32;
        timed(&mut admits, || queue.admit(&request, &estimate, &FREE, begin, wait)).ok();
        timed(&mut pushes, || queue.push(request, i, begin)).unwrap();
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
    for (waiting, callers, keys) in [
        (10_000, 100, 5_000),
        (WAITING, 1, 50_000),
        (WAITING, 20, 50_000),
        (WAITING, 1_000, 50_000),
        (WAITING, 1_000, 100),
        (WAITING, WAITING, u64::MAX),
    ] {
        let _ = writeln!(table, "{}", measure(waiting, callers, keys));
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
