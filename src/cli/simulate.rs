//! `leadgate simulate`: a LeadSquared to test against, in a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use leadgate_simulator::{Latency, Options, Refusal, Simulator, Window};

use crate::{bind, duration, told_to_stop};

#[derive(Args)]
pub(crate) struct Simulate {
    /// Where to serve; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// How calls are counted [default: sliding].
    #[arg(long, value_enum)]
    window: Option<Window>,
    /// The HTTP status of a refusal [default: 429].
    #[arg(long, value_enum)]
    refusal: Option<Refusal>,
    /// Calls in a window [default: 25].
    #[arg(long)]
    calls: Option<u32>,
    /// Calls to the bulk endpoints in a window [default: 1].
    #[arg(long)]
    bulk: Option<u32>,
    /// The window [default: 5s].
    #[arg(long, value_parser = duration)]
    per: Option<Duration>,
    /// Calls in a day; 0: no limit [default: 0].
    #[arg(long)]
    daily: Option<u32>,
    /// How long an answer takes: "20ms", or a range "20ms..80ms" [default: 0ms].
    #[arg(long)]
    latency: Option<Latency>,
    /// Every option, as a file of JSON, under those given here; GET /_simulator/options shows them all.
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,
}

pub(crate) async fn run(options: Simulate) -> Result<(), String> {
    let mut chosen = match &options.options {
        None => Options::default(),
        Some(path) => {
            let name = path.display();
            let text = std::fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
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
    println!("A LeadSquared is simulated at http://{address}");
    println!("  access key  {}", chosen.access_key);
    println!("  secret key  {}", chosen.secret_key);
    println!("  steer it    http://{address}/_simulator/options, /faults, /stats, /calls, /leads");
    Simulator::new(chosen)
        .serve(listener, told_to_stop()?)
        .await
        .map_err(|error| error.to_string())
}
