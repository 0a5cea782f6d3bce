//! `leadgate import` and `leadgate export`: the binary as a client of a running gateway.

mod double;
mod files;
mod order;
mod reconnect;
mod tls;
mod unknown;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use leadgate_simulator::{Fault, FaultKind, Latency, Options, Simulator};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::harness::{World, listen, tenant};
use crate::process::{Said, leadgate, run};

/// High limits, so that the quota does not affect the tests.
const SETTINGS: &str =
    "[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\n[tenants.acme.batching]\nimport_window = 100\n";

/// A running gateway, and a folder with files.
struct Fixture {
    world: World,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn open(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        options.limits.calls = 0;
        options.limits.bulk = 0;
        change(&mut options);
        Self::with(options, SETTINGS).await
    }

    /// A gateway whose LeadSquared is unavailable.
    async fn blind() -> Self {
        let options = Options::default();
        let nowhere = crate::harness::closed_address();
        let settings = tenant("acme", nowhere, &options);
        Self {
            world: World::gateway(Simulator::new(options), &settings).await,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn with(options: Options, settings: &str) -> Self {
        Self {
            world: World::with(options, settings).await.warm().await,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A gateway whose LeadSquared is slow, so that a transfer can be interrupted.
    async fn slow() -> Self {
        Self::open(|options| {
            options.latency = Latency {
                min: Duration::from_millis(200),
                max: Duration::from_millis(300),
            };
        })
        .await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn files(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// A command with a file of the folder.
    fn arguments(&self, address: SocketAddr, arguments: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        for text in &mut all {
            if [".csv", ".jsonl", ".txt"].iter().any(|end| text.ends_with(end)) {
                *text = self.path(text).to_str().unwrap().to_owned();
            }
        }
        all.extend(["--addr".to_owned(), address.to_string()]);
        all
    }

    async fn command(&self, arguments: &[&str]) -> Said {
        let arguments = self.arguments(self.world.address, arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&arguments).await.into()
    }

    fn spawn(&self, address: SocketAddr, arguments: &[&str]) -> Child {
        leadgate().args(self.arguments(address, arguments)).spawn().unwrap()
    }

    fn leads(&self) -> Vec<BTreeMap<String, Option<String>>> {
        self.world.simulator.leads()
    }

    fn lead_by(&self, email: &str) -> BTreeMap<String, Option<String>> {
        let is_it = |lead: &BTreeMap<String, Option<String>>| lead["EmailAddress"].as_deref() == Some(email);
        self.leads()
            .into_iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("no lead {email}"))
    }

    /// Waits until LeadSquared has more than `count` leads.
    async fn until(&self, count: usize) {
        let limit = Duration::from_secs(30);
        let more = async {
            while self.leads().len() <= count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(limit, more).await.expect("so many leads");
    }

    /// Waits until that many rows are recorded as settled.
    async fn until_settled(&self, state: &str, rows: u64) {
        let settled = || -> Option<u64> {
            let text = std::fs::read_to_string(self.path(state)).ok()?;
            let state: Json = serde_json::from_str(&text).unwrap();
            state["tally"]["rows"].as_u64()
        };
        let settling = async {
            while settled().is_none_or(|settled| settled <= rows) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), settling)
            .await
            .expect("rows are settled");
    }

    /// Checks that the last names of all leads are the numbers up to the last, each once.
    fn assert_each_once(&self, last: usize) {
        let mut numbers: Vec<usize> = self
            .leads()
            .iter()
            .map(|lead| lead["LastName"].as_deref().unwrap().parse().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    }
}

/// Leads without unique attributes, which LeadSquared would create twice.
fn alike(count: usize) -> String {
    let rows = (1..=count).map(|n| format!("Ann,{n}\n"));
    std::iter::once("first_name,LastName\n".to_owned())
        .chain(rows)
        .collect()
}

async fn ended(child: Child) -> Said {
    let limit = Duration::from_secs(60);
    let ended = tokio::time::timeout(limit, child.wait_with_output()).await;
    ended.unwrap().unwrap().into()
}

async fn interrupt(child: &Child) {
    let id = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .await
            .unwrap()
            .success()
    );
}

/// The rows of a CSV text, each by its names.
fn rows(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_csv_is_imported_and_rejected_rows_can_be_corrected_and_imported() {
    let fixture = Fixture::open(|_| {}).await;
    fixture
        .world
        .simulator
        .insert_lead(&[("EmailAddress", "ben@example.com"), ("mx_City", "Agra")]);
    fixture.write(
        "leads.csv",
        "email_address,mx_City,mx_Loan_Amount,mx_Consent,mx_Next_Call,FirstName\n\
         ann@example.com,Pune,2.5,yes,2026-07-31 05:33:50,\"Ann, née O\"\n\
         ben@example.com,,,,,Ben\n\
         carl@example.com,Pune,much,perhaps,,Carl\n\
         no address,Pune,,,,Dan\n\
         eve@example.com,,7,0,2026-07-31T07:33:50+02:00,Eve\n",
    );
    let said = fixture.command(&["import", "leads.csv"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.starts_with("5 rows: 2 created, 1 updated, 2 rejected"),
        "{said:?}"
    );
    assert!(said.err.contains("2 of 5 rows were rejected"), "{said:?}");
    let ann = fixture.lead_by("ann@example.com");
    for (name, value) in [
        ("FirstName", "Ann, née O"),
        ("mx_City", "Pune"),
        ("mx_Loan_Amount", "2.5"),
        ("mx_Next_Call", "2026-07-31 05:33:50"),
    ] {
        assert!(ann[name].as_deref().unwrap().starts_with(value), "{ann:?}");
    }
    assert!(matches!(ann["mx_Consent"].as_deref(), Some("1" | "true")), "{ann:?}");
    // An empty cell does not change the value.
    let ben = fixture.lead_by("ben@example.com");
    assert_eq!(
        (ben["mx_City"].as_deref(), ben["FirstName"].as_deref()),
        (Some("Agra"), Some("Ben"))
    );
    let eve = fixture.lead_by("eve@example.com");
    assert!(
        eve["mx_Next_Call"]
            .as_deref()
            .unwrap()
            .starts_with("2026-07-31 05:33:50"),
        "{eve:?}"
    );

    let text = fixture.read("leads.csv.rejected.csv");
    let rejected = rows(&text);
    assert_eq!(rejected.len(), 2, "{text}");
    let cell = |at: usize, name: &str| rejected[at][name].clone();
    assert_eq!([cell(0, "row_number"), cell(1, "row_number")], ["3", "4"]);
    assert_eq!(
        (cell(0, "mx_Loan_Amount"), cell(0, "FirstName")),
        ("much".into(), "Carl".into())
    );
    assert_eq!(cell(0, "error_code"), "INVALID_ARGUMENT");
    let message = cell(0, "error_message");
    assert!(
        message.starts_with("line 4: mx_Loan_Amount (column 3) must be a number")
            && message.contains("; mx_Consent (column 4) must be true or false"),
        "{message}"
    );
    assert_eq!(cell(1, "error_reason"), "INVALID_FIELD");
    assert!(
        cell(1, "error_message").contains("lead.email_address: must be an email address"),
        "{text}"
    );
    assert_eq!(
        fixture.files(),
        ["leads.csv", "leads.csv.rejected.csv"].map(str::to_owned).into()
    );

    let right = text
        .replace("much", "3")
        .replace("perhaps", "no")
        .replace("no address", "dan@example.com");
    fixture.write("right.csv", right);
    let said = fixture.command(&["import", "right.csv"]).await;
    assert_eq!((said.code, fixture.leads().len()), (Some(0), 5), "{said:?}");
    assert_eq!(
        fixture.lead_by("carl@example.com")["mx_Loan_Amount"].as_deref(),
        Some("3")
    );
    assert!(!fixture.path("right.csv.import-state").exists() && !fixture.path("right.csv.rejected.csv").exists());
}

#[tokio::test]
async fn a_jsonl_is_imported_with_its_types() {
    let fixture = Fixture::open(|_| {}).await;
    let lines = [
        json!({"email_address": "ann@example.com", "mx_Loan_Amount": 250_000, "mx_Consent": true, "mx_KYC": {"Status": "Done"}}),
        json!({"EmailAddress": "ben@example.com", "mx_Loan_Amount": "12", "FirstName": null}),
        json!({"email_address": "carl@example.com", "mx_Consent": "maybe"}),
    ];
    fixture.write("leads.jsonl", lines.clone().map(|line| format!("{line}\n")).concat());
    let said = fixture.command(&["import", "leads.jsonl", "--mode", "create"]).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err
            .contains("EmailAddress: is the same attribute as email_address"),
        "{said:?}"
    );
    let same = lines.map(|line| format!("{line}\n").replace("\"EmailAddress\"", "\"email_address\""));
    fixture.write("leads.jsonl", same.concat());
    let said = fixture.command(&["import", "leads.jsonl", "--mode", "create"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.starts_with("3 rows: 2 created, 0 updated, 1 rejected"),
        "{said:?}"
    );
    let ann = fixture.lead_by("ann@example.com");
    assert_eq!(ann["mx_Loan_Amount"].as_deref(), Some("250000"));
    assert!(format!("{ann:?}").contains("Done"), "{ann:?}");
    assert_eq!(
        fixture.lead_by("ben@example.com")["mx_Loan_Amount"].as_deref(),
        Some("12")
    );
    let text = fixture.read("leads.jsonl.rejected.jsonl");
    let rejected: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(rejected["email_address"], "carl@example.com");
    assert_eq!(
        (&rejected["_error"]["row_number"], &rejected["_error"]["reason"]),
        (&json!(3), &json!("INVALID_FIELD"))
    );
}

#[tokio::test]
async fn leads_are_updated_by_their_ids() {
    let fixture = Fixture::open(|_| {}).await;
    let id = fixture.world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let nobody = uuid::Uuid::new_v4();
    fixture.write(
        "leads.csv",
        format!("ProspectID,city\n{id},Pune\n{nobody},Agra\n,Agra\n"),
    );
    let said = fixture.command(&["import", "leads.csv", "--mode", "update"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.starts_with("3 rows: 0 created, 1 updated, 2 rejected"),
        "{said:?}"
    );
    assert_eq!(fixture.leads()[0]["mx_City"].as_deref(), Some("Pune"));
    let rejected = rows(&fixture.read("leads.csv.rejected.csv"));
    assert_eq!(rejected[0]["error_reason"], "LEAD_NOT_FOUND");
    assert!(rejected[1]["error_message"].contains("ProspectID is empty"));
    // An upsert also finds leads by their ids.
    fixture.write("upserts.csv", format!("lead_id,city\n{id},Delhi\n"));
    let said = fixture
        .command(&["import", "upserts.csv", "--match-by", "lead_id"])
        .await;
    assert_eq!((said.code, fixture.leads().len()), (Some(0), 1), "{said:?}");
    assert_eq!(fixture.leads()[0]["mx_City"].as_deref(), Some("Delhi"));
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let fixture = Fixture::open(|_| {}).await;
    fixture.write("leads.csv", "email_address\nann@example.com\nwhat\n");
    let said = fixture.command(&["import", "leads.csv", "--dry-run"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.starts_with("2 rows checked: 1 valid, 1 rejected"), "{said:?}");
    assert!(fixture.leads().is_empty() && fixture.world.simulator.calls().is_empty());
    assert!(!fixture.path("leads.csv.import-state").exists());
}

#[tokio::test]
async fn nothing_is_sent_of_a_file_with_a_fault() {
    let fixture = Fixture::open(|_| {}).await;
    fixture.write("empty.csv", "");
    fixture.write("header.csv", "city\n");
    fixture.write("quote.csv", "first_name,city\nAnn,Pune\nBen,\"Agra\nCarl,Pune\n");
    fixture.write("text.csv", "first_name,city\nAnn,\"Pune\"x\n");
    fixture.write("latin.csv", b"first_name\nRen\xe9\n");
    fixture.write("cells.csv", "first_name,city\nAnn,Pune\nBen\n");
    fixture.write("twice.csv", "city,mx_City\nPune,Pune\n");
    fixture.write("unknown.csv", "first_name,mx_Shoe,E_mail\nAnn,42,x\n");
    fixture.write("unknown.jsonl", "{\"first_name\":\"Ann\"}\n{\"mx_Shoe\":1}\n");
    fixture.write("broken.jsonl", "{\"first_name\":\"Ann\"}\n{\"first_name\":\n");
    fixture.write("leads.txt", "x");
    fixture.write("good.csv", "first_name\nAnn\n");
    std::fs::create_dir(fixture.path("folder.csv")).unwrap();
    let before = fixture.files();
    for (arguments, texts) in [
        (&["missing.csv"][..], &["missing.csv failed"][..]),
        (&["folder.csv"], &["is not a file"]),
        (&["leads.txt"], &["must end in .csv or .jsonl"]),
        (&["empty.csv"], &["is empty"]),
        (&["header.csv"], &["has no rows"]),
        (&["quote.csv"], &["line 3: the row", "not closed"]),
        (&["text.csv"], &["line 2, column 2: text follows a closing quote"]),
        (&["latin.csv"], &["line 2, column 1: is not UTF-8"]),
        (&["cells.csv"], &["line 3: has 1 cells"]),
        (&["twice.csv"], &["mx_City: is the same attribute as city"]),
        (
            &["unknown.csv"],
            &["mx_Shoe: the account has no such", "E_mail: the account has no such"],
        ),
        (&["unknown.jsonl"], &["mx_Shoe: the account has no such"]),
        (&["broken.jsonl"], &["line 2: is not a JSON object"]),
        (&["good.csv", "--mode", "update"], &["a column lead_id is required"]),
        (&["good.csv", "--match-by", "phone"], &["the file has no column Phone"]),
        (&["good.csv", "--tenant", "other"], &["--tenant"]),
    ] {
        let said = fixture.command(&[&["import"], arguments].concat()).await;
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
        for text in texts {
            assert!(said.err.contains(text), "{text} in {said:?}");
        }
    }
    assert_eq!(fixture.files(), before);
    assert!(fixture.leads().is_empty());
    let nowhere = crate::harness::closed_address();
    let said = ended(fixture.spawn(nowhere, &["import", "good.csv"])).await;
    assert!(
        said.code == Some(2) && said.err.contains("cannot be reached"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_killed_import_continues_and_writes_no_lead_twice() {
    let fixture = Fixture::slow().await;
    let mut text = alike(1_500);
    // One rejected row long before the end, and one after it.
    text = text
        .replace("Ann,20\n", "Ann,\"20\"\n\u{200b},\n")
        .replace("Ann,1400\n", "\u{200b},\nAnn,1400\n");
    fixture.write("leads.csv", text);
    let create = ["import", "leads.csv", "--mode", "create"];
    for killed_after in [50, 400] {
        let mut child = fixture.spawn(fixture.world.address, &create);
        // Some rows are recorded as settled then, and others are executed and not recorded.
        fixture.until_settled("leads.csv.import-state", killed_after).await;
        child.kill().await.unwrap();
        assert!(fixture.leads().len() < 1_500);
    }
    let said = fixture.command(&create).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("Continuing after row "), "{said:?}");
    assert!(
        said.out.starts_with("1502 rows: 1500 created, 0 updated, 2 rejected"),
        "{said:?}"
    );
    fixture.assert_each_once(1_500);
    let rejected = rows(&fixture.read("leads.csv.rejected.csv"));
    let numbers: Vec<_> = rejected.iter().map(|row| row["row_number"].as_str()).collect();
    assert_eq!(numbers, ["21", "1401"]);
    assert_eq!(
        fixture.files(),
        ["leads.csv", "leads.csv.rejected.csv"].map(str::to_owned).into()
    );
}

#[tokio::test]
async fn an_interrupted_import_says_how_to_continue() {
    let fixture = Fixture::slow().await;
    fixture.write("leads.csv", alike(1_000));
    let create = ["import", "leads.csv", "--mode", "create"];
    let child = fixture.spawn(fixture.world.address, &create);
    fixture.until(200).await;
    interrupt(&child).await;
    let said = ended(child).await;
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("run the same command again to continue"), "{said:?}");

    // Another import does not continue it.
    let other = fixture.command(&["import", "leads.csv"]).await;
    assert!(
        other.code == Some(2) && other.err.contains("started with --mode create"),
        "{other:?}"
    );
    let tenant = fixture.command(&[&create[..], &["--tenant", "acme"]].concat()).await;
    assert!(
        tenant.code == Some(2) && tenant.err.contains("without --tenant"),
        "{tenant:?}"
    );
    let changed = alike(1_000).replace("Ann,7\n", "Ben,7\n");
    fixture.write("leads.csv", changed);
    let changed = fixture.command(&create).await;
    assert!(
        changed.code == Some(2) && changed.err.contains("the file has changed"),
        "{changed:?}"
    );
    fixture.write("leads.csv", alike(1_000));

    let said = fixture.command(&create).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    fixture.assert_each_once(1_000);
    assert_eq!(fixture.files(), ["leads.csv".to_owned()].into());
}

#[tokio::test]
async fn one_file_is_imported_by_one_process() {
    let fixture = Fixture::slow().await;
    fixture.write("leads.csv", alike(500));
    let create = ["import", "leads.csv", "--mode", "create"];
    let child = fixture.spawn(fixture.world.address, &create);
    fixture.until(0).await;
    let second = fixture.command(&create).await;
    assert!(
        second.code == Some(2) && second.err.contains("by another process"),
        "{second:?}"
    );
    assert_eq!(ended(child).await.code, Some(0));
    fixture.assert_each_once(500);
    // Earlier rejected rows are not overwritten.
    fixture.write("leads.csv.rejected.csv", "kept");
    let said = fixture.command(&create).await;
    assert!(said.code == Some(2) && said.err.contains("--rejected"), "{said:?}");
    assert_eq!(fixture.read("leads.csv.rejected.csv"), "kept");
    // An import that was killed before its first row may leave empty files.
    fixture.write("leads.csv.rejected.csv", "");
    fixture.write("leads.csv.unknown.csv", "");
    fixture.write("leads.csv", "EmailAddress\nwhat\n");
    let said = fixture.command(&create).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(fixture.read("leads.csv.rejected.csv").contains("INVALID_FIELD"));
    assert_eq!(
        fixture.files(),
        ["leads.csv", "leads.csv.rejected.csv"].map(str::to_owned).into()
    );
}

/// A connection to the gateway that can be closed.
struct Cable {
    address: SocketAddr,
    cut: tokio::sync::watch::Sender<u32>,
    _running: JoinSet<()>,
}

impl Cable {
    async fn to(gateway: SocketAddr) -> Self {
        let listener = listen().await;
        let address = listener.local_addr().unwrap();
        let (cut, watched) = tokio::sync::watch::channel(0);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut lines = JoinSet::new();
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let mut watched = watched.clone();
                watched.mark_unchanged();
                lines.spawn(async move {
                    let mut to = TcpStream::connect(gateway).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                        _ = watched.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            cut,
            _running: running,
        }
    }

    fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_begun_again() {
    let fixture = Fixture::slow().await;
    let cable = Cable::to(fixture.world.address).await;
    fixture.write("leads.csv", alike(1_000));
    let child = fixture.spawn(cable.address, &["import", "leads.csv", "--mode", "create"]);
    for count in [100, 400] {
        fixture.until(count).await;
        cable.cut();
    }
    let said = ended(child).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.err.matches("The stream was interrupted").count(), 2, "{said:?}");
    fixture.assert_each_once(1_000);
}

#[tokio::test]
async fn a_transient_error_is_retried_and_an_error_of_all_rows_ends_the_import() {
    let mut options = Options::default();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    // With the circuit breaker, each of the failures would take a probe.
    let settings = format!("{SETTINGS}[tenants.acme.upstream]\nbreaker_failures = 0\n");
    let fixture = Fixture::with(options, &settings).await;
    let unique = |n| format!("ann-{n}@example.com,{n}\n");
    let text: String = (1..=60).map(unique).collect();
    fixture.write("leads.csv", format!("EmailAddress,LastName\n{text}"));
    // More failures than the gateway itself retries, for all rows together.
    fixture
        .world
        .simulator
        .add_fault(Fault::new("*", FaultKind::Empty503).times(300))
        .unwrap();
    let said = fixture.command(&["import", "leads.csv"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    fixture.assert_each_once(60);

    fixture.write("more.csv", alike(60));
    fixture
        .world
        .simulator
        .set_options(|options| options.secret_key = "other".to_owned());
    let said = fixture.command(&["import", "more.csv", "--mode", "create"]).await;
    assert!(
        said.code == Some(3) && said.err.contains("UPSTREAM_CREDENTIALS_REJECTED"),
        "{said:?}"
    );
    assert!(fixture.path("more.csv.import-state").exists() && !fixture.path("more.csv.rejected.csv").exists());
    fixture
        .world
        .simulator
        .set_options(|options| options.secret_key = Options::default().secret_key);
    let said = fixture.command(&["import", "more.csv", "--mode", "create"]).await;
    assert_eq!((said.code, fixture.leads().len()), (Some(0), 120), "{said:?}");
}

#[tokio::test]
async fn exported_leads_can_be_imported_elsewhere() {
    let fields = "email_address,FirstName,city,street1,mx_Loan_Amount,mx_Consent,mx_Next_Call,mx_KYC,do_not_call";
    let (here, there) = (Fixture::open(|_| {}).await, Fixture::open(|_| {}).await);
    here.write(
        "leads.jsonl",
        "{\"email_address\":\"ann@example.com\",\"FirstName\":\"Ann, née \\\"O\\\"\",\"street1\":\"1 Main Road\\nFlat 2\",\"mx_Loan_Amount\":2.5,\"mx_Consent\":true}\n\
         {\"email_address\":\"ben@example.com\",\"city\":\"Pune\",\"mx_Next_Call\":\"2026-07-31 05:33:50\",\"do_not_call\":true}\n\
         {\"email_address\":\"carl@example.com\",\"mx_KYC\":{\"Status\":\"Done\"},\"mx_Loan_Amount\":250000}\n",
    );
    let said = here.command(&["import", "leads.jsonl"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let export = async |fixture: &Fixture, name: &str| {
        let said = fixture
            .command(&["export", "--from", "1h", "--out", name, "--fields", fields])
            .await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.err.contains("3 leads in "), "{said:?}");
        fixture.read(name)
    };
    let names = "lead_id,lead_number,DoNotCall,EmailAddress,FirstName,mx_City,mx_Consent,mx_KYC,mx_Loan_Amount,mx_Next_Call,mx_Street1";
    let csv = export(&here, "out.csv").await;
    assert_eq!(csv.lines().next(), Some(names), "{csv}");
    let jsonl = export(&here, "out.jsonl").await;
    assert_eq!(jsonl.lines().count(), 3);

    // With CSV, and then with JSONL.
    for (name, text, said) in [
        ("leads.csv", csv, "3 rows: 3 created"),
        ("leads.jsonl", jsonl, "3 rows: 0 created, 3 updated"),
    ] {
        there.write(name, text);
        let output = there.command(&["import", name]).await;
        assert!(output.code == Some(0) && output.out.starts_with(said), "{output:?}");
        assert!(
            output.err.contains("LeadSquared computes it: lead_id, lead_number"),
            "{output:?}"
        );
    }
    let wanted = names.split(',').skip(2);
    let seen = |fixture: &Fixture| {
        let lead = |lead: BTreeMap<String, Option<String>>| {
            let values: Vec<_> = wanted.clone().map(|name| lead[name].clone()).collect();
            values
        };
        fixture.leads().into_iter().map(lead).collect::<BTreeSet<_>>()
    };
    assert_eq!(seen(&here), seen(&there));
}

#[tokio::test]
async fn a_killed_export_continues_and_has_each_lead_once() {
    let fixture = Fixture::open(|_| {}).await;
    let leads = 7_000;
    for n in 0..leads {
        fixture.world.simulator.insert_lead(&[("LastName", &n.to_string())]);
    }
    fixture.world.simulator.set_options(|options| {
        options.latency = Latency {
            min: Duration::from_millis(800),
            max: Duration::from_millis(900),
        };
    });
    for (name, form) in [("leads.csv", "csv"), ("leads.jsonl", "jsonl")] {
        let export = ["export", "--from", "24h", "--out", name];
        let mut child = fixture.spawn(fixture.world.address, &export);
        let path = fixture.path(&format!("{name}.export-state"));
        let written = || -> Option<Json> { serde_json::from_str(&std::fs::read_to_string(&path).ok()?).unwrap() };
        let writing = async {
            while written().is_none_or(|state| state["leads"] == 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), writing).await.unwrap();
        child.kill().await.unwrap();
        let mut state = written().unwrap();
        assert!(
            state["leads"].as_u64().unwrap() < leads && !fixture.path(name).exists(),
            "{state}"
        );
        // Leads after the saved state are cut off, and repeated leads are not written again.
        let part = fixture.path(&format!("{name}.part"));
        let mut text = std::fs::read(&part).unwrap();
        text.extend(b"half a li");
        std::fs::write(&part, text).unwrap();
        state["resume_token"] = json!("");
        std::fs::write(&path, state.to_string()).unwrap();

        let other = fixture.command(&["export", "--from", "25h", "--out", name]).await;
        assert!(
            other.code == Some(1) && other.err.contains("belongs to another export, --from 24h"),
            "{other:?}"
        );
        let said = fixture.command(&export).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(
            said.err.contains("Continuing after ") && said.err.contains("7000 leads in"),
            "{said:?}"
        );
        let text = fixture.read(name);
        let mut numbers: Vec<u64> = match form {
            "csv" => rows(&text).iter().map(|row| row["LastName"].parse().unwrap()).collect(),
            _ => text
                .lines()
                .map(|line| {
                    serde_json::from_str::<Json>(line).unwrap()["LastName"]
                        .as_str()
                        .unwrap()
                        .parse()
                        .unwrap()
                })
                .collect(),
        };
        numbers.sort_unstable();
        assert_eq!(numbers, (0..leads).collect::<Vec<_>>());
        assert_eq!(fixture.files().iter().filter(|file| file.starts_with(name)).count(), 1);
    }
}

#[tokio::test]
async fn an_export_writes_over_nothing() {
    let fixture = Fixture::open(|_| {}).await;
    fixture.world.simulator.insert_lead(&[("LastName", "1")]);
    fixture.write("leads.csv", "kept");
    fixture.write("other.csv.part", "kept");
    std::fs::create_dir(fixture.path("folder.csv")).unwrap();
    for (arguments, text) in [
        (&["--from", "1h", "--out", "leads.csv"][..], "--force"),
        (&["--from", "1h", "--out", "other.csv"], "without a state file"),
        (&["--from", "1h", "--out", "folder.csv"], "it is not a file"),
        (&["--from", "1h", "--out", "leads.txt"], "must end in .csv or .jsonl"),
        (&["--from", "1h", "--out", "missing/leads.csv"], "writing "),
        (&["--from", "soon", "--out", "new.csv"], "--from: invalid time soon"),
        (
            &["--from", "1h", "--to", "2h", "--out", "new.csv"],
            "must be before --to",
        ),
        (
            &["--from", "1h", "--out", "new.csv", "--fields", "city,Shoe,mx_Hat"],
            "no attribute mx_Hat",
        ),
    ] {
        let said = fixture.command(&[&["export"], arguments].concat()).await;
        assert!(
            said.code == Some(1) && said.err.contains(text),
            "{arguments:?}: {said:?}"
        );
    }
    assert_eq!(
        (fixture.read("leads.csv"), fixture.read("other.csv.part")),
        ("kept".to_owned(), "kept".to_owned())
    );
    assert_eq!(fixture.files().len(), 3);
    let said = fixture
        .command(&[
            "export",
            "--from",
            "1h",
            "--out",
            "leads.csv",
            "--force",
            "--fields",
            "last_name",
        ])
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(rows(&fixture.read("leads.csv"))[0]["LastName"], "1");
    // Without leads, the file has only the names.
    let said = fixture
        .command(&[
            "export",
            "--from",
            "2020-01-01",
            "--to",
            "2020-01-02",
            "--out",
            "none.csv",
            "--fields",
            "city",
        ])
        .await;
    assert_eq!(
        (said.code, fixture.read("none.csv").as_str()),
        (Some(0), "lead_id,lead_number,mx_City\n"),
        "{said:?}"
    );
}
