//! The latency of a read through the REST listener, and of the same read without it: one client on one connection, one request after
//! the other.

use std::fmt::Write;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use leadgate_simulator::{Options, Simulator};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::gateway::{ACCESS_KEY, Gateway, Plan, SECRET_KEY, free_address};
use crate::process::Process;
use crate::{SECRET, access_key, median, rest_caller};

/// The order of the two measurements of a pair comes from this generator (xorshift).
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const PAIRS: usize = 15;
const REQUESTS: usize = 2_000;
/// The requests of each measurement that are not counted.
const WARM_UP: usize = 100;
const CALLER: &str = "legacy";

/// The process of the simulator: it prints its address and the id of a lead.
pub(crate) fn simulator() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut options = Options {
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            keep_calls: 0,
            ..Options::default()
        };
        options.limits.calls = 0;
        let simulator = Simulator::new(options);
        let id = simulator.insert_lead(&[
            ("FirstName", "Asha"),
            ("LastName", "Rao"),
            ("EmailAddress", "asha.rao@example.com"),
            ("Phone", "+91-9845000000"),
            ("Company", "Example"),
            ("mx_City", "Pune"),
        ]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{} {id}", listener.local_addr().unwrap());
        simulator.serve(listener, std::future::pending()).await.unwrap();
    });
}

/// A server, and the keys of its client.
struct Target {
    address: String,
    access_key: String,
    secret_key: &'static str,
}

impl Target {
    /// The latencies of some requests on a new connection, in milliseconds.
    async fn measure(&self, id: &str, requests: usize) -> Latency {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        let mut connections = JoinSet::new();
        connections.spawn(async move { connection.await.unwrap() });
        for _ in 0..WARM_UP {
            self.get(&mut sender, id).await;
        }
        let mut times = Vec::new();
        for _ in 0..requests {
            let began = Instant::now();
            self.get(&mut sender, id).await;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        [times[requests / 2], times[requests * 99 / 100]]
    }

    async fn get(&self, sender: &mut SendRequest<Empty<Bytes>>, id: &str) {
        let request = Request::get(format!("/v2/LeadManagement.svc/Leads.GetById?id={id}"))
            .header(HOST, &self.address)
            .header("x-LSQ-AccessKey", &self.access_key)
            .header("x-LSQ-SecretKey", self.secret_key)
            .body(Empty::new())
            .unwrap();
        // An error would mean that the connection was not kept.
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(status == 200 && body.len() > 1_000, "{status}: {body:?}");
    }
}

/// The p50 and the p99.
type Latency = [f64; 2];

pub(crate) fn table(is_quick: bool) -> String {
    let (pairs, requests) = if is_quick { (3, 500) } else { (PAIRS, REQUESTS) };
    let mut simulator = Process::role("simulator", &[]);
    let line = simulator.line();
    let (upstream, id) = line.split_once(' ').unwrap();
    let rest = free_address();
    let gateway = Gateway::start(&Plan {
        more: format!("[rest]\nlisten = \"{rest}\"\n{}", rest_caller(CALLER, 1)),
        ..Plan::without_waiting(upstream)
    });
    let targets = [
        Target {
            address: upstream.to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY,
        },
        Target {
            address: rest,
            access_key: access_key(CALLER),
            secret_key: SECRET,
        },
    ];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut random = SEED;
    let mut found: [Vec<Latency>; 2] = Default::default();
    // The first pair only warms up.
    for pair in 0..=pairs {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let first = (random % 2) as usize;
        let mut latencies = [[0.0; 2]; 2];
        for of in [first, 1 - first] {
            latencies[of] = runtime.block_on(targets[of].measure(id, requests));
        }
        eprintln!("latency: pair {pair} of {pairs}: {latencies:.3?}");
        if pair > 0 {
            found[0].push(latencies[0]);
            found[1].push(latencies[1]);
        }
    }
    drop(gateway);
    let mut text = String::from("| | p50 | p99 |\n|---|---|---|\n");
    let row = |text: &mut String, name: &str, cell: &dyn Fn(usize) -> String| {
        let _ = writeln!(text, "| {name} | {} | {} |", cell(0), cell(1));
    };
    let of = |of: usize, at: usize| median(found[of].iter().map(|latency| latency[at]).collect());
    let differences = |at: usize| -> Vec<f64> {
        let pairs = found[0].iter().zip(&found[1]);
        pairs.map(|(direct, through)| through[at] - direct[at]).collect()
    };
    row(&mut text, "without `leadgate`", &|at| format!("{:.2} ms", of(0, at)));
    row(&mut text, "through `leadgate`", &|at| format!("{:.2} ms", of(1, at)));
    row(&mut text, "added", &|at| format!("{:.2} ms", median(differences(at))));
    row(&mut text, "added, in the pair with the least and the most", &|at| {
        let mut all = differences(at);
        all.sort_by(f64::total_cmp);
        format!("{:.2} to {:.2} ms", all[0], all[all.len() - 1])
    });
    row(&mut text, "goal", &|at| format!("at most {} ms", ["0.5", "2"][at]));
    text
}
