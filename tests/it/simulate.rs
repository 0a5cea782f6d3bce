//! `leadgate simulate` and `leadgate demo` for the tests of callers: leads of the start, the clock, a reset, and recordings of
//! calls. Also what leadgate makes of a clock that was advanced.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use leadgate::grpc::pb;
use leadgate_simulator::{FaultKind, Options, Simulator};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tonic::Code;

use crate::harness::{World, lead, seen, tenant};
use crate::process::{Said, leadgate, run};

/// `leadgate simulate` as a process.
struct Simulate {
    child: Child,
    address: String,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Simulate {
    async fn start(arguments: &[&str]) -> Self {
        let mut command = leadgate();
        let mut child = command
            .args(["simulate", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let address = line.rsplit_once("http://").unwrap().1.to_owned();
        Self { child, address, lines }
    }

    /// A gateway with this simulator as its upstream.
    async fn gateway(&self) -> World {
        let options = Options::default();
        let tenant = tenant("acme", self.address.parse().unwrap(), &options);
        World::gateway(Simulator::new(options), &tenant).await.warm().await
    }

    async fn get(&self, name: &str) -> Value {
        let text = reqwest::get(self.url(name)).await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    async fn post(&self, name: &str, body: &Value) -> u16 {
        let request = reqwest::Client::new().post(self.url(name)).body(body.to_string());
        request.send().await.unwrap().status().as_u16()
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/_simulator/{name}", self.address)
    }

    /// Ends the process with SIGTERM. Returns its standard error.
    async fn stop(mut self) -> String {
        signal(&self.child).await;
        assert!(self.child.wait().await.unwrap().success());
        while self.lines.next_line().await.unwrap().is_some() {}
        let mut text = String::new();
        let mut err = self.child.stderr.take().unwrap();
        err.read_to_string(&mut text).await.unwrap();
        text
    }
}

async fn signal(child: &Child) {
    let id = child.id().unwrap().to_string();
    let mut kill = tokio::process::Command::new("kill");
    assert!(kill.args(["-TERM", &id]).status().await.unwrap().success());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn by_email(email: &str) -> pb::get_lead_request::Key {
    pb::get_lead_request::Key::EmailAddress(email.to_owned())
}

#[tokio::test]
async fn the_simulator_starts_with_leads_and_a_reset_restores_them() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("leads.json");
    let leads = json!([{"FirstName": "Ann", "EmailAddress": "ann@example.com", "CreatedOn": "2020-01-02 03:04:05"}]);
    std::fs::write(&seed, leads.to_string()).unwrap();
    let simulate = Simulate::start(&["--seed", text(&seed), "--calls", "7"]).await;
    let start = simulate.get("leads").await;
    assert_eq!(start[0]["CreatedOn"], "2020-01-02 03:04:05.000");

    let gateway = simulate.gateway().await;
    let found = gateway.get(by_email("ann@example.com")).await.unwrap();
    assert_eq!(found.fields.unwrap().first_name.as_deref(), Some("Ann"));
    gateway.create(lead("Ben")).await.unwrap();
    gateway.stop().await;
    assert_eq!(simulate.post("clock", &json!({"advance": "30m"})).await, 200);
    assert_eq!(simulate.get("clock").await["offset"], "30m");
    assert_eq!(simulate.get("leads").await.as_array().unwrap().len(), 2);

    assert_eq!(simulate.post("reset", &Value::Null).await, 204);
    assert_eq!(simulate.get("leads").await, start);
    assert_eq!(simulate.get("clock").await["offset"], "0s");
    assert_eq!(simulate.get("options").await["limits"]["calls"], 7);

    // What the simulator shows is a seed.
    std::fs::write(&seed, start.to_string()).unwrap();
    let again = Simulate::start(&["--seed", text(&seed)]).await;
    assert_eq!(again.get("leads").await, start);
    assert_eq!(
        (again.stop().await, simulate.stop().await),
        (String::new(), String::new())
    );
}

#[tokio::test]
async fn an_invalid_seed_is_reported_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("leads.json");
    std::fs::write(&seed, r#"[{"FirstName": "Ann"}, {"Score": "high"}]"#).unwrap();
    for command in ["simulate", "demo"] {
        let said: Said = run(&[command, "--seed", text(&seed)]).await.into();
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        let expected = format!(
            "leadgate: {}: record 2, field Score: Value of attribute 'Score' is not a valid number\n",
            seed.display()
        );
        assert_eq!(said.err, expected);
    }
    let said: Said = run(&["simulate", "--seed", text(&folder.path().join("none"))])
        .await
        .into();
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    assert!(said.err.contains("none failed: No such file"), "{said:?}");
}

#[tokio::test]
async fn a_quiet_demo_starts_with_leads() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("leads.json");
    std::fs::write(&seed, r#"[{"FirstName": "Ann", "EmailAddress": "ann@example.com"}]"#).unwrap();
    let mut demo = leadgate()
        .args(["demo", "--quiet", "--seed", text(&seed)])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let ready: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let address = format!("http://{}", ready["address"].as_str().unwrap());
    let mut client = pb::lead_service_client::LeadServiceClient::connect(address)
        .await
        .unwrap();
    let request = pb::GetLeadRequest {
        key: Some(by_email("ann@example.com")),
        ..Default::default()
    };
    let found = client.get_lead(request).await.unwrap().into_inner();
    assert_eq!(found.lead.unwrap().fields.unwrap().first_name.as_deref(), Some("Ann"));
    signal(&demo).await;
    assert!(demo.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_gateway_gets_recorded_responses_and_an_error_for_other_requests() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let calls = async |gateway: &World| {
        let unknown = gateway.get(by_email("ann@example.com")).await.unwrap_err();
        seen(unknown).is(Code::NotFound, "LEAD_NOT_FOUND");
        let created = gateway.create(lead("Ann")).await.unwrap();
        let found = gateway.get(by_email("ann@example.com")).await.unwrap();
        assert_eq!(found.lead_id, created);
        found
    };
    let recorded = Simulate::start(&["--record", text(&path)]).await;
    let gateway = recorded.gateway().await;
    let first = calls(&gateway).await;
    gateway.stop().await;
    assert_eq!(recorded.stop().await, "");
    let recording = std::fs::read_to_string(&path).unwrap();
    let options = Options::default();
    assert!(recording.contains("ann@example.com") && !recording.contains(&options.access_key));
    assert!(!recording.contains(&options.secret_key));

    let replayed = Simulate::start(&["--replay", text(&path)]).await;
    let gateway = replayed.gateway().await;
    assert_eq!(calls(&gateway).await, first);
    assert_eq!(replayed.get("leads").await, json!([]));
    assert_eq!(replayed.get("stats").await["replay_unmatched"], 0);

    let error = seen(gateway.create(lead("Ben")).await.unwrap_err());
    error.is(Code::Unknown, "UPSTREAM_EXCEPTION");
    assert_eq!(error.metadata["exception_type"], "MXNoRecordedResponseException");
    gateway.stop().await;
    assert_eq!(replayed.get("stats").await["replay_unmatched"], 1);
    let err = replayed.stop().await;
    let start = "leadgate: no recorded response to POST /v2/LeadManagement.svc/Lead.Create with the ";
    assert!(err.starts_with(start) && err.contains("ben@example.com"), "{err}");
    assert!(
        err.ends_with("the recording does not have this request\n") && err.lines().count() == 1,
        "{err}"
    );
}

#[tokio::test]
async fn files_that_cannot_be_used_for_a_recording_end_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("leads.json");
    std::fs::write(&other, "[]").unwrap();
    let missing = folder.path().join("none/calls.jsonl");
    for (arguments, code, expected) in [
        (
            vec!["--record", "/dev/full"],
            1,
            "writing /dev/full failed: No space left",
        ),
        (vec!["--record", text(&missing)], 1, "calls.jsonl failed: No such file"),
        (
            vec!["--record", text(&other)],
            1,
            "leads.json exists and is no recording",
        ),
        (vec!["--replay", text(&other)], 1, "leads.json: line 1: no recording"),
        (vec!["--replay", text(&missing)], 1, "calls.jsonl failed: No such file"),
        (vec!["--replay", "a", "--record", "b"], 2, "cannot be used with"),
        (vec!["--replay", "a", "--seed", "b"], 2, "cannot be used with"),
        (vec!["--replay", "a", "--daily", "1"], 2, "cannot be used with"),
    ] {
        let arguments = [vec!["simulate", "--listen", "127.0.0.1:0"], arguments].concat();
        let said: Said = run(&arguments).await.into();
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{said:?}");
        assert!(said.err.contains(expected), "{said:?}");
    }
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "[]");
}

/// leadgate compares the times of records with the header `Date`, which has the time of the simulator's clock, too.
#[tokio::test]
async fn an_advanced_clock_does_not_make_an_older_lead_the_result_of_a_lost_request() {
    let world = World::start().await.warm().await;
    world.simulator.advance_clock(Duration::from_secs(3_600)).unwrap();
    let older = Timestamp::now() + SignedDuration::from_mins(50);
    let older = older.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let times = [("CreatedOn", older.as_str()), ("ModifiedOn", &older)];
    let ann = [("FirstName", "Ann"), ("EmailAddress", "ann@example.com")];
    let id = world.simulator.insert_lead(&[ann, times].concat());

    world.fail_next("Lead.Create", FaultKind::DropBefore);
    let error = seen(world.create(lead("Ann")).await.unwrap_err());
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    assert_eq!(error.details.resource_info().unwrap().resource_name, id);

    world.fail_next("Lead.Create", FaultKind::CommitThenDrop);
    let created = world.create(lead("Ben")).await.unwrap();
    assert_eq!(world.value_of(&created, "FirstName").as_deref(), Some("Ben"));
    assert_eq!(world.calls("Lead.Create").len(), 2);
    world.stop().await;
}
