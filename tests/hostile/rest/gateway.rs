//! A gateway with the REST listener in a process of its own, its callers, and the check that all of its slots and permits are free.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use leadgate::identity::api_key::KeyHash;
use leadgate_simulator::{Fault, FaultKind, Latency, Options, Simulator};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::task::JoinSet;

use super::inputs::{exchange, finish, get, send};
use crate::account::{Account, Process};
use crate::harness::listen;

pub const SECRET: &str = "a-secret-of-43-characters-012345678901234567";
/// The caller of the good clients, the one of the bad requests, another one, and one whose requests wait.
pub const GOOD: &str = "good";
pub const BAD: &str = "bad";
pub const OTHER: &str = "other";
pub const CAPPED: &str = "capped";
/// The id of a request that no server may take for a request.
pub const SMUGGLED: &str = "00000000-0000-4000-8000-5b00991ed000";
/// The email of the lead with a long response, and its length: more than the buffers of a connection take.
pub const LONG: &str = "long.response@example.com";
const LONG_BYTES: usize = 4 << 20;

/// Calls in a window of one second.
const CALLS: usize = 500;
const WINDOW: Duration = Duration::from_secs(1);
/// Calls of the caller `CAPPED` in a window.
const CAPPED_CALLS: u32 = 5;
/// Maximum number of requests in progress, in all and of one caller.
const MAX_IN_FLIGHT: usize = 200;
/// The connections of the burst that needs all slots.
const CONNECTIONS: usize = 100;
/// The time in which all slots and permits must be free.
const LIMIT: Duration = Duration::from_secs(20);
/// Bursts until one succeeds. A lost slot fails all of them; a machine that is too slow for one within a window, or that stops a request
/// for longer than its patience, only some.
const BURSTS: usize = 10;

/// A gateway in a process of its own.
pub struct RestGateway {
    account: Account,
    process: Process,
    pub child: Child,
    pub rest: SocketAddr,
    pub lead: String,
    /// The lead that the caller `CAPPED` reads.
    pub capped_lead: String,
}

/// The keys of a caller, for a query.
pub fn keys(caller: &str) -> String {
    format!("accessKey={}&secretKey={SECRET}", access_key(caller))
}

pub fn access_key(caller: &str) -> String {
    format!("lgr_{caller}_0123456789abcdef")
}

impl RestGateway {
    pub async fn start() -> Self {
        let mut options = Options {
            latency: Latency {
                min: Duration::from_millis(5),
                max: Duration::from_millis(8),
            },
            keep_calls: 100_000,
            ..Options::default()
        };
        (options.limits.calls, options.limits.bulk) = (0, 0);
        let rest = listen().await.local_addr().unwrap();
        let mut settings = format!(
            "[log]\nfilter = \"warn\"\n[tenants.acme.limits]\ncalls = {CALLS}\nbulk = {CALLS}\nwindow = \"1s\"\n\
             [rest]\nlisten = \"{rest}\"\nheader_timeout = \"1s\"\nbody_timeout = \"1s\"\n"
        );
        for (name, more) in [
            (GOOD, String::new()),
            (BAD, String::new()),
            (OTHER, String::new()),
            (
                CAPPED,
                format!("calls_per_window = {CAPPED_CALLS}\nrest_max_wait = \"10m\"\n"),
            ),
        ] {
            settings += &format!(
                "[callers.{name}]\ntenants = [\"acme\"]\nallow = [\"REST:*\"]\n{more}\
                 rest_keys = [{{ access_key = \"{}\", secret_key = \"{}\" }}]\n",
                access_key(name),
                KeyHash::of(SECRET)
            );
        }
        let account = Account::open(options, &settings).await;
        let process = account.process().await;
        let limits = format!(
            "[server]\nmax_in_flight = {MAX_IN_FLIGHT}\nmax_in_flight_per_caller = {MAX_IN_FLIGHT}\n\
             max_streams_per_caller = {MAX_IN_FLIGHT}\n"
        );
        let file = std::fs::read_to_string(&process.path).unwrap();
        std::fs::write(&process.path, file.replacen("[server]\n", &limits, 1)).unwrap();
        let simulator = &account.simulator;
        let lead = simulator.insert_lead(&[("FirstName", "Asha")]);
        let capped_lead = simulator.insert_lead(&[("FirstName", "Ravi")]);
        let long = FaultKind::Respond {
            status: 200,
            body: "x".repeat(LONG_BYTES),
            content_type: None,
            commit: false,
        };
        let long = Fault::new("Leads.GetByEmailaddress", long).containing(LONG);
        simulator.add_fault(long).unwrap();
        let child = process.start();
        process.channel().await;
        let listening = async {
            while TcpStream::connect(rest).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, listening).await.unwrap();
        Self {
            account,
            process,
            child,
            rest,
            lead,
            capped_lead,
        }
    }

    pub fn grpc(&self) -> SocketAddr {
        self.process.address
    }

    pub fn simulator(&self) -> &Simulator {
        &self.account.simulator
    }

    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.process.admin);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// Checks the calls of the simulator during an attack: no smuggled one, and of the capped caller only those that its cap allows.
    pub fn expected_calls(&self, duration: Duration) -> Result<(), String> {
        let calls = self.simulator().calls();
        let of = |id: &str| calls.iter().filter(|call| call.parameter("id") == Some(id)).count();
        let smuggled = of(SMUGGLED);
        if smuggled > 0 {
            return Err(format!("{smuggled} smuggled requests were sent to LeadSquared"));
        }
        let (capped, windows) = (of(&self.capped_lead), duration.as_secs() as usize + 2);
        let allowed = CAPPED_CALLS as usize * windows;
        if capped > allowed {
            return Err(format!("{capped} calls of a caller that may make {allowed}"));
        }
        Ok(())
    }

    /// Waits until nothing is in progress, and checks that all permits and all slots can be used.
    pub async fn all_free(&self) -> Result<(), String> {
        const GAUGES: [&str; 5] = [
            "leadgate_quota_slots_used{",
            "leadgate_quota_waiting{",
            "leadgate_caller_waiting{",
            "leadgate_upstream_requests_in_progress{",
            "leadgate_rpcs_in_progress ",
        ];
        let busy = |text: &str| -> Vec<String> {
            let gauges = text
                .lines()
                .filter(|line| GAUGES.iter().any(|name| line.starts_with(name)));
            let busy = gauges.filter(|line| !line.ends_with(" 0"));
            busy.map(str::to_owned).collect()
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            let busy = busy(&self.metrics().await);
            match (busy.is_empty(), Instant::now() < deadline) {
                (true, _) => break,
                (false, true) => tokio::time::sleep(Duration::from_millis(20)).await,
                (false, false) => return Err(format!("in progress: {busy:?}")),
            }
        }
        self.all_permits().await?;
        self.all_slots().await
    }

    /// Sends one request more than may be in progress, without its body: exactly one is refused.
    async fn all_permits(&self) -> Result<(), String> {
        let body = format!(
            r#"{{"SearchParameters":{{"LeadIds":["{}"]}},"Columns":{{"Include_CSV":"FirstName"}},"Paging":{{"PageIndex":1,"PageSize":1}}}}"#,
            self.lead
        );
        let head = format!(
            "POST /v2/LeadManagement.svc/Leads/Retrieve/ByIds?{} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            keys(BAD),
            body.len()
        );
        let mut streams = Vec::new();
        for _ in 0..=MAX_IN_FLIGHT {
            streams.push(
                send(self.rest, head.as_bytes())
                    .await
                    .map_err(|error| error.to_string())?,
            );
        }
        let (refused, is_refused) = tokio::sync::watch::channel(());
        let mut requests = JoinSet::new();
        for mut stream in streams {
            let (refused, mut is_refused, body) = (refused.clone(), is_refused.clone(), body.clone());
            requests.spawn(async move {
                tokio::select! {
                    // The gateway keeps the connection of the refused one for a while.
                    _ = stream.readable() => {
                        refused.send_replace(());
                        finish(&mut stream).await
                    }
                    _ = is_refused.changed() => exchange(&mut stream, body.as_bytes()).await,
                }
            });
        }
        let outcomes = requests.join_all().await;
        let count = |outcome: &str| outcomes.iter().filter(|seen| *seen == outcome).count();
        match (count("200"), count("429")) {
            (MAX_IN_FLIGHT, 1) => Ok(()),
            (served, refused) => Err(format!(
                "{served} of {MAX_IN_FLIGHT} requests were served at one time, and {refused} refused: {outcomes:?}"
            )),
        }
    }

    /// Sends as many requests as there are slots, each of which fails if no slot is free, and then one more, which must fail.
    async fn all_slots(&self) -> Result<(), String> {
        let mut result = Ok(());
        for _ in 0..BURSTS {
            // The slots of the requests before are held for a window.
            tokio::time::sleep(WINDOW * 3 / 2).await;
            let request = get(
                &format!("id={}&{}", self.lead, keys(GOOD)),
                "x-leadgate-max-wait: 0s\r\n",
            );
            let began = Instant::now();
            let mut connections = JoinSet::new();
            for _ in 0..CONNECTIONS {
                let (rest, request) = (self.rest, request.clone());
                connections.spawn(async move {
                    let mut stream = TcpStream::connect(rest).await.unwrap();
                    let mut outcomes = Vec::new();
                    for _ in 0..CALLS / CONNECTIONS {
                        outcomes.push(exchange(&mut stream, &request).await);
                    }
                    outcomes
                });
            }
            let outcomes = connections.join_all().await.concat();
            let failed: Vec<_> = outcomes.iter().filter(|outcome| *outcome != "200").collect();
            if let Some(first) = failed.first() {
                result = Err(format!("{} of {CALLS} requests got no slot: {first}", failed.len()));
                continue;
            }
            let mut stream = TcpStream::connect(self.rest).await.unwrap();
            let further = exchange(&mut stream, &request).await;
            // Otherwise the first slots are free again.
            if began.elapsed() < WINDOW {
                return match further.as_str() {
                    "429" => Ok(()),
                    other => Err(format!("there are more than {CALLS} slots: {other}")),
                };
            }
            result = Err(format!("{CALLS} requests took longer than a window"));
        }
        result
    }
}
