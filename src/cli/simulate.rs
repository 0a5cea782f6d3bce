//! `leadgate simulate`: a simulated LeadSquared for tests, in a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use leadgate_simulator::{Latency, Options, Refusal, Simulator, Window};

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

    let listener = bind(options.listen).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    print_line!("The simulated LeadSquared is at http://{address}");
    print_line!("  access key  {}", chosen.access_key);
    print_line!("  secret key  {}", chosen.secret_key);
    print_line!("  control     http://{address}/_simulator/options, /faults, /stats, /calls, /leads");
    Simulator::new(chosen)
        .serve(listener, shutdown_signal()?)
        .await
        .map_err(|error| error.to_string())
}
