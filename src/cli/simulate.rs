//! `leadgate simulate`: a simulated LeadSquared for tests, in a process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use leadgate_simulator::{Latency, MAX_RECORDING, MAX_SEED, Options, Recording, Refusal, Replay, Simulator, Window};

use crate::cli::output::print_line;
use crate::cli::process::{bind, parse_duration, shutdown_signal};

#[derive(Args)]
pub(crate) struct SimulateOptions {
    /// The address to listen on. Port 0 uses a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// How calls are counted in a window [default: sliding].
    #[arg(long, value_enum)]
    window: Option<Window>,
    /// The HTTP status of a rate limit error [default: 429].
    #[arg(long, value_enum)]
    refusal: Option<Refusal>,
    /// Maximum number of calls per window [default: 25].
    #[arg(long)]
    calls: Option<u32>,
    /// Maximum number of calls to the bulk endpoints per window [default: 1].
    #[arg(long)]
    bulk: Option<u32>,
    /// The length of the window [default: 5s].
    #[arg(long, value_parser = parse_duration)]
    per: Option<Duration>,
    /// Maximum number of calls per day; 0: no limit [default: 0].
    #[arg(long)]
    daily: Option<u32>,
    /// The latency of responses: "20ms", or a range "20ms..80ms" [default: 0ms].
    #[arg(long)]
    latency: Option<Latency>,
    /// A JSON file of options. Options on the command line override it. GET /_simulator/options shows all options.
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,
    #[command(flatten)]
    seed: SeedOption,
    /// Write each call with its response to this file, without keys, as JSON lines. An older recording is replaced.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Answer calls from a file that --record wrote. Keys, rate limits and faults do not apply, and no call is executed. A call that
    /// the file does not have fails with HTTP 501, and is reported on standard error.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "window", "refusal", "calls", "bulk", "per", "daily"])]
    replay: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct SeedOption {
    /// A JSON file of leads that the simulator has from the start, in the form of GET /_simulator/leads.
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
}

impl SeedOption {
    /// Creates a simulator with the leads of the file.
    pub(crate) fn simulator(&self, options: Options) -> Result<Simulator, String> {
        let Some(path) = &self.seed else {
            return Ok(Simulator::new(options));
        };
        Simulator::with_leads(options, &read(path, MAX_SEED)?).map_err(|error| in_file(path, &error))
    }
}

pub(crate) async fn run(options: SimulateOptions) -> Result<(), String> {
    let mut chosen = match &options.options {
        None => Options::default(),
        Some(path) => {
            let name = path.display();
            let text = std::fs::read_to_string(path).map_err(|error| format!("reading {name} failed: {error}"))?;
            serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?
        }
    };
    let limits = &mut chosen.limits;
    limits.window = options.window.unwrap_or(limits.window);
    limits.refusal = options.refusal.unwrap_or(limits.refusal);
    limits.calls = options.calls.unwrap_or(limits.calls);
    limits.bulk = options.bulk.unwrap_or(limits.bulk);
    limits.per = options.per.unwrap_or(limits.per);
    limits.daily = options.daily.unwrap_or(limits.daily);
    chosen.latency = options.latency.unwrap_or(chosen.latency);

    let simulator = options.seed.simulator(chosen.clone())?;
    if let Some(path) = &options.replay {
        let replay = Replay::read(&read(path, MAX_RECORDING)?, report).map_err(|error| in_file(path, &error))?;
        simulator.replay(replay);
    }
    let listener = bind(options.listen).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    // After the address is known to be free: a start that fails leaves an older recording as it is.
    if let Some(path) = &options.record {
        simulator.record(Recording::create(path)?);
    }
    print_line!("The simulated LeadSquared is at http://{address}");
    print_line!("  access key  {}", chosen.access_key);
    print_line!("  secret key  {}", chosen.secret_key);
    print_line!("  control     http://{address}/_simulator/options, /faults, /stats, /calls, /leads, /clock, /reset");
    simulator
        .serve(listener, shutdown_signal()?)
        .await
        .map_err(|error| error.to_string())
}

/// Reads a file of at most `max` bytes.
fn read(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("reading {} failed: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    // One byte more, so that a file that is too large is an error.
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn in_file(path: &Path, error: &str) -> String {
    format!("{}: {error}", path.display())
}

/// Writes a line to standard error. If that is closed, the HTTP status still reports the error.
fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "leadgate: {line}");
}
