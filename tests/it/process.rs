//! The program as a process: its commands, its log, its shutdown.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate::identity::api_key::KeyHash;
use leadgate_simulator::{Options, Simulator};
use pb::lead_service_client::LeadServiceClient;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::harness::{by_id, lead, listen, seen, tenant};

/// The output and the exit code of a command.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let said = Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!said.err.contains("panicked"), "{}", said.err);
        said
    }
}

pub fn leadgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leadgate"));
    command
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub async fn run(arguments: &[&str]) -> Output {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, leadgate().args(arguments).output())
        .await
        .unwrap()
        .unwrap()
}

/// A configuration file, which is deleted with the value.
fn settings(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "{text}\n[store]\nurl = \"sqlite://{}/leadgate.db\"\n",
        folder.path().display()
    );
    let path: PathBuf = folder.path().join("leadgate.toml");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// A gateway in a process of its own, with the simulator in the process of the test.
pub struct Served {
    child: Child,
    pub address: String,
    simulator: Simulator,
    stop: CancellationToken,
    /// Its settings and its log.
    folder: tempfile::TempDir,
}

async fn serve(options: Options) -> Served {
    serve_with(options, "").await
}

/// `server`: further settings of `[server]`.
async fn serve_with(options: Options, server: &str) -> Served {
    serve_in(options, server, "[log]\nfilter = \"trace\"\n", &[]).await
}

/// The same with further settings and environment variables.
pub async fn serve_in(options: Options, server: &str, further: &str, environment: &[(&str, &str)]) -> Served {
    serve_logging_to(None, options, server, further, environment).await
}

/// The same with another output of the log. `None`: a file.
async fn serve_logging_to(
    log: Option<Stdio>,
    options: Options,
    server: &str,
    further: &str,
    environment: &[(&str, &str)],
) -> Served {
    let upstream = listen().await;
    let address = listen().await.local_addr().unwrap().to_string();
    let text = format!(
        "[server]\nlisten = \"{address}\"\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n{}{further}",
        tenant("acme", upstream.local_addr().unwrap(), &options)
    );
    let (folder, path) = settings(&text);
    let simulator = Simulator::new(options);
    let stop = CancellationToken::new();
    tokio::spawn(simulator.clone().serve(upstream, stop.clone().cancelled_owned()));
    let file = std::fs::File::create(folder.path().join("log")).unwrap();
    let log = log.unwrap_or_else(|| file.into());
    let child = leadgate()
        .args(["serve", "--config", &path])
        .envs(environment.iter().copied())
        .stderr(log)
        .spawn()
        .unwrap();
    let served = Served {
        child,
        address,
        simulator,
        stop,
        folder,
    };
    for _ in 0..200 {
        if run(&["health", "--addr", &served.address]).await.status.success() {
            return served;
        }
    }
    panic!("the gateway does not become healthy");
}

impl Served {
    /// The address of the admin pages, from the log.
    pub fn admin(&self) -> String {
        self.listener("admin")
    }

    /// The address of a listener, from the log.
    fn listener(&self, name: &str) -> String {
        let log = self.log();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let serving = lines.find(|line| line["message"] == "serving").unwrap();
        serving[name].as_str().unwrap().to_owned()
    }

    /// Sends SIGTERM to the gateway.
    async fn signal(&self) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(sent.unwrap().success());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Stops the gateway with SIGTERM. Returns whether it succeeded, and its log.
    pub async fn terminate(mut self) -> (bool, String) {
        self.signal().await;
        let status = tokio::time::timeout(Duration::from_secs(30), self.child.wait())
            .await
            .unwrap()
            .unwrap();
        self.stop.cancel();
        (status.success(), self.log())
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_shutdown_delay_and_the_process_stops_in_order() {
    let served = serve_with(Options::default(), "shutdown_delay = \"60s\"").await;
    served.signal().await;
    let begun = async {
        while !served.log().contains("not-serving") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), begun).await.unwrap();
    assert!(!served.log().contains("stop-accepting"));
    let (succeeded, log) = served.terminate().await;
    assert!(
        succeeded && log.contains("stop-accepting") && log.contains("stopped"),
        "{log}"
    );
}

#[tokio::test]
async fn rpcs_and_the_shutdown_do_not_wait_for_the_output_of_the_log() {
    // The lines of these RPCs are much longer than the buffer of a pipe.
    const RPCS: usize = 300;
    for is_closed in [true, false] {
        let (reader, writer) = std::io::pipe().unwrap();
        let reader = (!is_closed).then_some(reader);
        let filter = "[log]\nfilter = \"debug\"\n";
        let served = serve_logging_to(Some(writer.into()), Options::default(), "", filter, &[]).await;
        let mut leads = LeadServiceClient::connect(format!("http://{}", served.address))
            .await
            .unwrap();
        for _ in 0..RPCS {
            let request = pb::GetLeadRequest {
                key: Some(by_id("no id")),
                ..Default::default()
            };
            let error = leads.get_lead(request).await.unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
        }
        drop(leads);
        let (succeeded, _) = served.terminate().await;
        assert!(succeeded, "the output is closed: {is_closed}");
        drop(reader);
    }
}

#[tokio::test]
async fn a_wrong_file_is_answered_with_every_fault() {
    let (_folder, path) = settings("[server]\nlisten = \"0.0.0.0:1\"\n[tenants.acme.limits]\ncalls = 0\n");
    // A supervisor does not have to restart `serve` after this error.
    for (command, code) in [("serve", 78), ("check", 1)] {
        let output = run(&[command, "--config", &path]).await;
        assert_eq!(output.status.code(), Some(code));
        let said = String::from_utf8(output.stderr).unwrap();
        for key in [
            "server.listen",
            "acme.limits.calls",
            "acme.base_url",
            "acme.access_key",
            "acme.secret_key",
        ] {
            assert!(said.contains(key), "{key} in {said}");
        }
    }
    let output = run(&["check", "--config", "/nowhere.toml"]).await;
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nowhere.toml"));
}

#[tokio::test]
async fn check_says_whose_keys_these_are() {
    let upstream = listen().await;
    let address = upstream.local_addr().unwrap();
    let options = Options::default();
    let text = tenant("acme", address, &options);
    let stop = CancellationToken::new();
    let simulator = Simulator::new(options);
    tokio::spawn(simulator.clone().serve(upstream, stop.clone().cancelled_owned()));

    let (folder, path) = settings(&format!("{text}{SHORT_WINDOW}"));
    let output = run(&["check", "--config", &path]).await;
    assert!(output.status.success());
    assert!(simulator.calls().is_empty());
    // The check creates no store.
    let store = folder.path().join("leadgate.db");
    assert!(!store.exists());
    std::fs::write(&store, "nonsense".repeat(1000)).unwrap();
    let output = run(&["check", "--config", &path]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("the store cannot be opened: ")
            && said.contains("leadgate.db is damaged, or is not a leadgate store"),
        "{said}"
    );
    std::fs::remove_file(&store).unwrap();
    let output = run(&["check", "--connect", "--config", &path]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("role Administrator"), "{said}");
    assert!(said.contains("no store to record"), "{said}");
    assert!(!store.exists());

    let (_folder, path) = settings(&text.replace("simulator-secret-key", "wrong"));
    let output = run(&["check", "--connect", "--config", &path]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("rejects the account's keys")
    );
    stop.cancel();
}

/// Without a store, `check --connect` waits for a window.
const SHORT_WINDOW: &str = "[tenants.acme.limits]\nwindow = \"50ms\"\n";

/// The output of `check --connect` for an account with that activity type for shares.
async fn checked(options: Options, share_type: u32) -> (bool, String) {
    let upstream = listen().await;
    let text = tenant("acme", upstream.local_addr().unwrap(), &options);
    let stop = CancellationToken::new();
    tokio::spawn(Simulator::new(options).serve(upstream, stop.clone().cancelled_owned()));
    let sharing = format!("[tenants.acme.sharing]\ndefault_activity_type = {share_type}\n");
    let (_folder, path) = settings(&format!("{text}{sharing}{SHORT_WINDOW}"));
    let output = run(&["check", "--connect", "--config", &path]).await;
    stop.cancel();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn check_reports_missing_requirements_of_shares() {
    let (success, said) = checked(Options::default(), 201).await;
    assert!(success, "{said}");
    assert!(
        said.contains("shares require the role Administrator, which the keys have"),
        "{said}"
    );
    assert!(said.contains("201 (Loan Evaluation) has the Owner field"), "{said}");

    for (share_type, text) in [
        (202, "202 (Branch Visit) has no Owner field"),
        // A disabled type, and one that does not exist.
        (203, "203: LeadSquared has no such activity type"),
        (999, "set it to the code of a type whose form has the Owner field"),
    ] {
        let (success, said) = checked(Options::default(), share_type).await;
        assert!(!success && said.contains(text), "{said}");
    }

    let options = Options {
        role: "Sales_User".to_owned(),
        ..Default::default()
    };
    let (success, said) = checked(options.clone(), 201).await;
    assert!(
        !success && said.contains("the role of these keys is Sales_User"),
        "{said}"
    );
    // Without shares, the keys need not be those of an Administrator.
    let (success, said) = checked(options, 0).await;
    assert!(success && !said.contains("sharing"), "{said}");
}

#[tokio::test]
async fn nobody_there_is_not_healthy() {
    let address = listen().await.local_addr().unwrap().to_string();
    let output = run(&["health", "--addr", &address]).await;
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn the_log_has_a_line_for_each_rpc_and_attempt_and_no_secrets() {
    let served = serve(Options::default()).await;
    let mut client = LeadServiceClient::connect(format!("http://{}", served.address))
        .await
        .unwrap();
    let create = || pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            phone: Some("+91-9845098450".into()),
            ..lead("Personal")
        }),
        ..Default::default()
    };
    let id = client.create_lead(create()).await.unwrap().into_inner().lead_id;
    let duplicate = client.create_lead(create()).await.unwrap_err();
    for key in [
        by_id(&id),
        pb::get_lead_request::Key::EmailAddress("personal@example.com".into()),
        pb::get_lead_request::Key::Phone("+91-9845098450".into()),
    ] {
        let request = pb::GetLeadRequest {
            key: Some(key),
            ..Default::default()
        };
        client.get_lead(request).await.unwrap();
    }
    let calls = served.simulator.calls();
    let (success, log) = served.terminate().await;
    assert!(success, "{log}");

    let line = |target: &str, words: &[&str]| {
        log.lines()
            .filter(|line| line.contains(target) && words.iter().all(|word| line.contains(word)))
            .count()
    };
    assert_eq!(
        line(
            "leadgate::rpc",
            &["CreateLead", "\"code\":\"OK\"", "\"tenant\":\"acme\""]
        ),
        1,
        "{log}"
    );
    assert_eq!(
        line(
            "leadgate::rpc",
            &["CreateLead", "ALREADY_EXISTS", "\"reason\":\"LEAD_DUPLICATE\""]
        ),
        1
    );
    assert_eq!(
        line("leadgate::attempt", &["Lead.Create", "MXDuplicateEntryException"]),
        1
    );
    // The call of the duplicate, and the call of the read.
    assert_eq!(
        line("leadgate::attempt", &["Leads.GetByEmailaddress", "\"outcome\":\"ok\""]),
        2
    );
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    }

    // No line has keys or personal data.
    let said = format!("{log}{:?}", seen(duplicate).status);
    for secret in [
        "u$rSimulator",
        "simulator-secret",
        "personal@",
        "Personal",
        "9845098450",
    ] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    for call in calls {
        let place = format!("{}{:?}", call.path, call.query);
        assert!(!place.contains("u$r") && !place.contains("secret"), "{place}");
        let headers: Vec<_> = call.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        assert!(headers.contains(&"x-lsq-accesskey".to_owned()), "{headers:?}");
    }
}

#[tokio::test]
async fn the_log_finds_a_request_id_in_the_lines_of_its_rpc_and_of_its_attempts() {
    let served = serve(Options::default()).await;
    let mut client = LeadServiceClient::connect(format!("http://{}", served.address))
        .await
        .unwrap();
    let id = |number: u128| uuid::Uuid::from_u128(number).to_string();
    let create = pb::CreateLeadRequest {
        lead: Some(lead("Ada")),
        request_id: id(1),
        ..Default::default()
    };
    let lead_id = client.create_lead(create).await.unwrap().into_inner().lead_id;
    let upsert = |name: &str, request_id: String| pb::UpsertLeadRequest {
        lead: Some(lead(name)),
        request_id,
        ..Default::default()
    };
    // One item has an id of its own, the other one that of the batch.
    let batch = pb::BatchUpsertLeadsRequest {
        requests: vec![upsert("Bob", id(2)), upsert("Cid", String::new())],
        request_id: id(3),
    };
    client.batch_upsert_leads(batch).await.unwrap();
    let row = pb::ImportLeadsRequest {
        sequence: 1,
        operation: Some(pb::import_leads_request::Operation::Upsert(upsert("Dora", id(4)))),
    };
    let mut rows = client
        .import_leads(tokio_stream::iter([row]))
        .await
        .unwrap()
        .into_inner();
    assert!(rows.message().await.unwrap().is_some());
    drop(rows);
    let delete = pb::DeleteLeadRequest {
        lead_id,
        request_id: id(5),
    };
    // A rejected attempt counts as well.
    client.delete_lead(delete).await.unwrap_err();
    let (success, log) = served.terminate().await;
    assert!(success, "{log}");

    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The subjects of the lines with that target and the id.
    let found = |target: &str, number: u128| -> Vec<&str> {
        let is_it = |line: &&serde_json::Value| {
            let ids = line["mutation_id"].as_str().unwrap_or_default();
            line["target"] == target && ids.split(' ').any(|one| one == id(number))
        };
        let of = |line: &&serde_json::Value| {
            ["method", "endpoint", "lane"]
                .into_iter()
                .find(|key| line[*key].is_string())
        };
        let about = lines.iter().filter(is_it).map(|line| line[of(&line).unwrap()].as_str());
        about.map(Option::unwrap).collect()
    };
    for (number, method, endpoint) in [
        (1, "/leadgate.v1.LeadService/CreateLead", "Lead.Create"),
        (5, "/leadgate.v1.LeadService/DeleteLead", "Lead/Delete/ById"),
    ] {
        assert_eq!(found("leadgate::rpc", number), [method]);
        assert_eq!(found("leadgate::attempt", number), [endpoint]);
    }
    assert_eq!(found("leadgate::rpc", 3), ["/leadgate.v1.LeadService/BatchUpsertLeads"]);
    for number in [2, 3, 4] {
        assert_eq!(found("leadgate::batch", number), ["upserts"], "{number} in {log}");
    }
    // The id of the RPC is unchanged.
    let is_mutation = |line: &serde_json::Value| {
        line["request_id"]
            .as_str()
            .is_some_and(|text| (1..6).any(|i| text == id(i)))
    };
    assert!(!lines.iter().any(is_mutation));
}

#[tokio::test]
async fn the_log_tells_of_requests_that_reach_no_service() {
    let served = serve(Options::default()).await;
    let mut client = LeadServiceClient::connect(format!("http://{}", served.address))
        .await
        .unwrap();
    let mut ask = async |metadata: &[(&'static str, &str)]| {
        let mut request = tonic::Request::new(pb::GetLeadRequest {
            key: Some(by_id("x")),
            ..Default::default()
        });
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        client.get_lead(request).await.unwrap_err();
    };
    ask(&[("x-token", &"v".repeat(20_000))]).await;
    for caller in ["shop", "shop", "crawler"] {
        ask(&[("x-leadgate-caller", caller), ("x-leadgate-locale", "de")]).await;
    }
    reqwest::get(format!("http://{}/nothing", served.address))
        .await
        .unwrap();
    let (success, log) = served.terminate().await;
    assert!(success, "{log}");
    let lines = |words: &[&str]| {
        let is_it = |line: &&str| words.iter().all(|word| line.contains(word));
        log.lines().filter(is_it).count()
    };
    assert_eq!(
        lines(&["server.max_metadata_bytes", "\"limit\":16384", "x-token"]),
        1,
        "{log}"
    );
    assert_eq!(lines(&["leadgate::rpc", "GetLead", "INVALID_FIELD"]), 1, "{log}");
    assert_eq!(
        lines(&["unknown request metadata ignored", "x-leadgate-locale"]),
        2,
        "{log}"
    );
    assert_eq!(
        lines(&["leadgate::rpc", "\"method\":\"unknown\"", "INVALID_ARGUMENT"]),
        1,
        "{log}"
    );
}

#[tokio::test]
async fn the_demo_shows_a_newcomer_around() {
    let output = run(&["demo", "--tour-only"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for text in [
        "LEAD_DUPLICATE",
        "INVALID_FIELD",
        "6. 30 RPCs and 30 REST requests",
        "60 succeeded, 0 failed",
        "rejected 0; at most 25 of 25 calls",
    ] {
        assert!(said.contains(text), "{text} in {said}");
    }
    // The states of the share.
    let mut rest = said.as_str();
    for text in [
        "\n   active\n",
        "may write lead 1001",
        "9. ListShares",
        "\n   revoked\n",
        "In LeadSquared: no share",
    ] {
        let (_, after) = rest.split_once(text).unwrap_or_else(|| panic!("{text} in {said}"));
        rest = after;
    }
    for step in 1..=10 {
        assert_eq!(
            said.lines()
                .filter(|line| line.starts_with(&format!("{step}. ")))
                .count(),
            1
        );
    }
}

#[tokio::test]
async fn strangers_at_the_rest_listener_are_named_and_do_not_fill_the_log() {
    let secret = "a-secret-of-43-characters-012345678901234567";
    let further = format!(
        "[rest]\nlisten = \"127.0.0.1:0\"\n[callers.legacy]\ntenants = [\"acme\"]\nallow = [\"REST:LeadManagement.svc/*\"]\n\
         rest_keys = [{{ access_key = \"lgr_legacy_1\", secret_key = \"{}\" }}]\n",
        KeyHash::of(secret)
    );
    let served = serve_in(Options::default(), "", &further, &[]).await;
    let url = format!("http://{}/v2/LeadManagement.svc/Leads.GetById", served.listener("rest"));
    let options = Options::default();
    let client = reqwest::Client::new();
    let real = format!(
        "{url}?id=personal&accessKey={}&secretKey={}",
        options.access_key, options.secret_key
    );
    let pair = |secret: &str| format!("accessKey=lgr_legacy_1&secretKey={secret}");
    let denied = format!(
        "http://{}/v2/Foo.svc/Bar/98450/2?{}",
        served.listener("rest"),
        pair(secret)
    );
    for (url, status) in [
        (real, 401),
        (format!("{url}?id=personal&{}", pair("canary")), 401),
        (format!("{url}?id=personal"), 401),
        (denied, 403),
    ] {
        assert_eq!(client.get(url).send().await.unwrap().status(), status);
    }
    for _ in 0..100 {
        let unknown = format!("{url}?id=personal&accessKey=canary&secretKey=canary");
        assert_eq!(client.get(unknown).send().await.unwrap().status(), 401);
    }
    let (success, log) = served.terminate().await;
    assert!(success, "{log}");
    let lines = log.lines().filter(|line| line.contains("rest request finished"));
    let lines: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((2..100).contains(&lines.len()), "{log}");
    let of_strangers: Vec<_> = lines.iter().filter(|line| line.get("caller").is_none()).collect();
    for (line, failure) in
        of_strangers
            .iter()
            .zip(["real_keys", "wrong_rest_secret", "no_rest_key", "unknown_rest_key"])
    {
        assert_eq!(
            (&line["auth_failure"], &line["peer"]),
            (&failure.into(), &"127.0.0.1".into())
        );
    }
    assert_eq!(lines[1]["claimed_caller"], "legacy");
    let denied = lines.iter().find(|line| line["status"] == 403).unwrap();
    assert_eq!(
        (&denied["rule"], &denied["operation"], &denied["method"]),
        (&"endpoint".into(), &"foo.svc/bar/*/2".into(), &"GET".into())
    );
    assert_eq!(lines[0]["tenant"], "acme");
    for text in ["personal", "canary", secret, &options.access_key, &options.secret_key] {
        assert!(!log.contains(text), "{text} in {log}");
    }
}

#[tokio::test]
async fn the_log_has_no_text_of_an_unknown_path() {
    let served = serve(Options::default()).await;
    let address = served.address.parse().unwrap();
    for path in [
        "/personal@example.com/+919845098450",
        "/leadgate.v1.LeadService/personal",
        "/%1b%e2%80%ae",
    ] {
        crate::harness::ask(address, crate::harness::grpc(path), vec![]).await;
    }
    let (success, log) = served.terminate().await;
    assert!(success, "{log}");
    assert_eq!(log.matches("\"method\":\"unknown\"").count(), 3, "{log}");
    for text in ["personal", "9845098450", "%1b"] {
        assert!(!log.contains(text), "{text} in {log}");
    }
}

#[tokio::test]
async fn the_end_of_the_day_and_rejected_keys_have_a_line_at_their_start_and_at_their_end() {
    let served = serve_in(Options::default(), "", "", &[]).await;
    let mut client = LeadServiceClient::connect(format!("http://{}", served.address))
        .await
        .unwrap();
    let id = served.simulator.insert_lead(&[("FirstName", "Ann")]);
    let read = pb::BatchGetLeadsRequest {
        lead_ids: vec![id],
        ..Default::default()
    };
    let lines = |message: &str| -> Vec<serde_json::Value> {
        let log = served.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines
            .filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with(message)))
            .collect()
    };
    client.batch_get_leads(read.clone()).await.unwrap();
    let secret = Options::default().secret_key;
    served
        .simulator
        .set_options(|options| options.secret_key = "another".to_owned());
    for _ in 0..2 {
        client.batch_get_leads(read.clone()).await.unwrap_err();
    }
    served.simulator.set_options(|options| options.secret_key = secret);
    client.batch_get_leads(read.clone()).await.unwrap();

    served
        .simulator
        .add_fault(leadgate_simulator::Fault::new(
            "Leads/Retrieve/ByIds",
            leadgate_simulator::FaultKind::RefuseDaily,
        ))
        .unwrap();
    let refused = seen(client.batch_get_leads(read.clone()).await.unwrap_err());
    refused.is(tonic::Code::ResourceExhausted, "DAILY_BUDGET_EXHAUSTED");
    // There is no daily limit, and no call remains.
    let page = reqwest::get(format!("http://{}/metrics", served.admin()))
        .await
        .unwrap();
    let page = page.text().await.unwrap();
    assert!(
        page.contains("leadgate_quota_daily_remaining{tenant=\"acme\"} 0\n"),
        "{page}"
    );
    let written = async {
        while lines("daily budget exhausted").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written).await.unwrap();
    for (message, level) in [
        ("LeadSquared rejects the keys in use", "WARN"),
        ("LeadSquared accepts the keys in use again", "INFO"),
        ("daily budget exhausted", "WARN"),
    ] {
        let [line] = &lines(message)[..] else {
            panic!("{message} in {}", served.log());
        };
        assert_eq!(
            (&line["level"], &line["tenant"]),
            (&level.into(), &"acme".into()),
            "{line}"
        );
    }
    assert_eq!(lines("daily budget exhausted")[0]["cause"], "LeadSquared");
}

/// A standard output that is closed, and one that is a full disk.
fn broken_outputs() -> [(Stdio, bool); 2] {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    [(writer.into(), false), (full.into(), true)]
}

#[tokio::test]
async fn a_failing_standard_output_is_no_panic() {
    let (_folder, path) = settings(&tenant("acme", "127.0.0.1:1".parse().unwrap(), &Options::default()));
    for arguments in [
        &["check", "--config", path.as_str()][..],
        &["caller", "new", "checkout"],
    ] {
        for (output, is_error) in broken_outputs() {
            let child = leadgate().args(arguments).stdout(output).spawn().unwrap();
            let said = Said::from(child.wait_with_output().await.unwrap());
            assert_eq!(said.code, Some(i32::from(is_error)), "{arguments:?} {said:?}");
            let has_error = said.err.contains("leadgate: writing to standard output failed: ");
            assert_eq!(has_error, is_error, "{arguments:?} {said:?}");
        }
    }
}

#[tokio::test]
async fn only_variables_of_leadgate_must_be_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let (_folder, path) = settings(&tenant("acme", "127.0.0.1:1".parse().unwrap(), &Options::default()));
    let invalid = std::ffi::OsStr::from_bytes(b"\xff");
    let check = async |name: &str| -> Said {
        let mut command = leadgate();
        command.args(["check", "--config", &path]).env(name, invalid);
        command.output().await.unwrap().into()
    };
    let said = check("LS_COLORS").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = check("LEADGATE__LOG__FILTER").await;
    assert!(
        said.code == Some(1) && said.err.contains("LEADGATE__LOG__FILTER must be UTF-8"),
        "{said:?}"
    );
}

#[tokio::test]
async fn the_simulator_serves_by_itself() {
    let address = listen().await.local_addr().unwrap().to_string();
    let mut child = leadgate()
        .args(["simulate", "--listen", &address, "--calls", "2", "--window", "fixed"])
        .spawn()
        .unwrap();
    let url = format!("http://{address}/_simulator/options");
    let reading = async {
        loop {
            if let Ok(answer) = reqwest::get(&url).await {
                return answer.text().await.unwrap();
            }
        }
    };
    let options = tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap();
    assert!(
        options.contains("\"calls\":2") && options.contains("\"fixed\""),
        "{options}"
    );
    child.kill().await.unwrap();
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_a_low_one_is_logged() {
    for (hard, is_low) in [(1_200, true), (1_300, false)] {
        let account = Account::open(Options::default(), "").await;
        let process = account.process().await;
        let text = std::fs::read_to_string(&process.path).unwrap();
        let text = text.replacen("[server]\n", "[server]\nmax_connections = 1000\n", 1);
        std::fs::write(&process.path, text).unwrap();
        let log = account.folder.path().join("log");
        let start = format!("ulimit -S -n 100 && ulimit -H -n {hard} && exec \"$0\" serve --config \"$1\"");
        let mut child = Command::new("sh")
            .args([
                "-c",
                &start,
                env!("CARGO_BIN_EXE_leadgate"),
                process.path.to_str().unwrap(),
            ])
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        process.channel().await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id().unwrap())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let values: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(values, [hard.to_string(), hard.to_string()]);
        let written = || std::fs::read_to_string(&log).unwrap();
        // The line is written before this one.
        while !written().contains(r#""message":"serving""#) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child.kill().await.unwrap();
        assert_eq!(
            written().contains("limit of open files too low"),
            is_low,
            "{}",
            written()
        );
    }
}
