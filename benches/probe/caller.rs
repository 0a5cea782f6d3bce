//! A caller of the measurement over HTTP, and an account of the simulator behind a socket.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use leadgate::probe::call::{CallKind, CallObservation, CallOutcome, ProbeCaller};
use leadgate_simulator::{Options, Simulator};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A simulated account, with its foreign calls. It ends when it is dropped.
pub struct Account {
    url: String,
    options: Options,
    client: reqwest::Client,
    budget: AtomicU32,
    tasks: JoinSet<()>,
}

impl Account {
    pub async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let simulator = Simulator::new(options.clone());
        tasks.spawn(async move { simulator.serve(listener, std::future::pending()).await.unwrap() });
        Self {
            url,
            options,
            client: client(),
            budget: AtomicU32::new(u32::MAX),
            tasks,
        }
    }

    /// Another client reads with this many calls per second, at random times.
    pub fn add_foreign_calls(&mut self, per_second: f64, seed: u64) {
        let client = client();
        let request = self.request(&client, CallKind::Read);
        self.tasks.spawn(async move {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            loop {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                let uniform = (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64;
                tokio::time::sleep(Duration::from_secs_f64(-(1.0 - uniform).ln() / per_second)).await;
                let _ = request.try_clone().unwrap().send().await;
            }
        });
    }

    fn request(&self, client: &reqwest::Client, kind: CallKind) -> reqwest::RequestBuilder {
        let leads = format!("{}/v2/LeadManagement.svc", self.url);
        let post = |path: &str, body: String| {
            let request = client.post(format!("{leads}/{path}"));
            request.header("content-type", "application/json").body(body)
        };
        let id = uuid::Uuid::new_v4();
        let update = format!(
            r#"{{"SearchByKey":"ProspectId","LeadPropertiesList":[{{"Fields":[{{"Attribute":"ProspectId","Value":"{id}"}},{{"Attribute":"FirstName","Value":"x"}}]}}]}}"#
        );
        let request = match kind {
            CallKind::Read => client.get(format!("{leads}/LeadsMetaData.Get?schemaName=ProspectID")),
            CallKind::Bulk => post("Lead/Bulk/UpdateV2", update),
            CallKind::UnknownPath => client.get(format!("{leads}/Leads.Unknown")),
            CallKind::BadJson => post("Leads.Get", "{".into()),
        };
        request
            .header("x-LSQ-AccessKey", &self.options.access_key)
            .header("x-LSQ-SecretKey", &self.options.secret_key)
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .retry(reqwest::retry::never())
        .build()
        .unwrap()
}

impl ProbeCaller for Account {
    async fn call(&self, kind: CallKind) -> CallObservation {
        self.budget.fetch_sub(1, Ordering::Relaxed);
        let sent = Instant::now();
        let response = async {
            let response = self.request(&self.client, kind).send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
        };
        let outcome = match response.await {
            Err(error) => CallOutcome::Failed(error.without_url().to_string()),
            Ok((401, _)) => CallOutcome::Unauthorized,
            Ok((status, body)) => match serde_json::from_str::<serde_json::Value>(&body) {
                Ok(body) if body["ExceptionType"] == "MXAPIRateLimitExceededException" => {
                    let text = body["ExceptionMessage"].as_str().unwrap().to_owned();
                    match text.contains("exceeded the limit of") {
                        true => CallOutcome::Refused { status, text },
                        false => CallOutcome::DailyRefused { status, text },
                    }
                }
                _ => CallOutcome::Accepted(status),
            },
        };
        CallObservation {
            kind,
            sent,
            received: Instant::now(),
            outcome,
        }
    }

    fn calls_left(&self) -> u32 {
        self.budget.load(Ordering::Relaxed)
    }

    fn progress(&self, _text: &str, _fraction: f32) {}
}
