//! The audit: which lines are written, when, and what happens if they cannot be written.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leadgate::grpc::{is_mutation, pb, rpc_paths};
use leadgate::identity::api_key;
use leadgate_simulator::{FaultKind, Latency, OpportunitySpec, Options};
use pb::activity_service_client::ActivityServiceClient;
use pb::import_leads_request::Operation;
use pb::lead_service_client::LeadServiceClient;
use pb::rest_service_client::RestServiceClient;
use serde_json::Value as Json;
use tokio::process::Command;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::account::Account;
use crate::auth::{bearer, call, callers};
use crate::harness::{World, by_id, channel, custom, lead, seen, text, within};
use crate::process::run;
use crate::share::{SAM, SITA, ShareFixture};

const KEYS: [&str; 11] = [
    "time",
    "phase",
    "caller",
    "tenant",
    "method",
    "lead_id",
    "share_id",
    "request_id",
    "mutation_id",
    "outcome",
    "fields",
];
const IMPORT: &str = "/leadgate.v1.LeadService/ImportLeads";
const OPPORTUNITY: &str = "d0000000-0000-4000-8000-000000000001";

/// The audit file of a test.
struct AuditFile {
    folder: tempfile::TempDir,
    /// The number of lines that were read.
    read: usize,
}

impl AuditFile {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            read: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn settings(&self, required: bool) -> String {
        format!(
            "\n[audit]\nfile = \"{}\"\nrequired = {required}\n",
            self.path().display()
        )
    }

    /// The lines since the last call.
    fn new_lines(&mut self) -> Vec<Json> {
        let lines = lines(&self.path()).split_off(self.read);
        self.read += lines.len();
        lines
    }

    fn only_line(&mut self) -> Json {
        let mut lines = self.new_lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    /// Waits for the next lines.
    async fn next_lines(&mut self, count: usize) -> Vec<Json> {
        until(|| lines(&self.path()).len() >= self.read + count).await;
        self.new_lines()
    }

    /// Lets the path name another file.
    fn point_to(&self, target: &Path) {
        let new = self.folder.path().join("new");
        symlink(target, &new).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }
}

/// The lines of an audit file.
pub fn lines(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let parse = |line: &str| {
        let parsed: Json = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let keys: BTreeSet<&str> = parsed.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, KEYS.into());
        parsed
    };
    text.lines().map(parse).collect()
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
}

fn outcomes(lines: &[Json]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["outcome"].as_str().unwrap_or(""))
        .collect()
}

fn create(name: &str, request_id: &str) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        lead: Some(lead(name)),
        request_id: request_id.to_owned(),
        ..Default::default()
    }
}

fn canary() -> pb::LeadFields {
    pb::LeadFields {
        first_name: Some("Canaria".into()),
        email_address: Some("canary@example.com".into()),
        phone: Some("+91-9845099999".into()),
        ..Default::default()
    }
}

/// Adds the lines of one RPC to the list.
struct Table {
    file: AuditFile,
    seen: BTreeSet<String>,
}

impl Table {
    /// Checks that the RPC wrote one line, with this outcome, lead, share and fields.
    fn row(&mut self, rpc: &str, outcome: &str, lead: Option<&str>, share: Option<&str>, fields: &[&str]) {
        let line = self.file.only_line();
        self.check(&line, rpc, outcome, fields);
        assert_eq!(
            (line["lead_id"].as_str(), line["share_id"].as_str()),
            (lead, share),
            "{rpc}"
        );
    }

    fn check(&mut self, line: &Json, rpc: &str, outcome: &str, fields: &[&str]) {
        let method = line["method"].as_str().unwrap();
        assert!(method.ends_with(&format!("/{rpc}")), "{rpc}: {line}");
        assert_eq!(line["phase"], "end");
        assert_eq!(
            (&line["caller"], &line["tenant"]),
            (&"anonymous".into(), &"acme".into())
        );
        assert_eq!(line["outcome"], outcome, "{rpc}");
        let names: Vec<&str> = line["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        assert_eq!(names, fields, "{rpc}");
        self.seen.insert(method.to_owned());
    }
}

#[tokio::test]
async fn each_mutation_has_one_line_and_no_values() {
    let file = AuditFile::new();
    let opportunity = OpportunitySpec {
        id: OPPORTUNITY.into(),
        owner: SITA.into(),
    };
    let change = |options: &mut Options| {
        options.delete_enabled = true;
        options.opportunities = vec![opportunity];
    };
    let fixture = ShareFixture::with(change, &file.settings(false)).await;
    let world = &fixture.world;
    let mut table = Table {
        file,
        seen: BTreeSet::new(),
    };
    let client = || world.client.clone();
    const CANARY: [&str; 3] = ["EmailAddress", "FirstName", "Phone"];

    let request_id = Uuid::new_v4().to_string();
    let created = pb::CreateLeadRequest {
        lead: Some(canary()),
        request_id: request_id.clone(),
        ..Default::default()
    };
    let id = client()
        .create_lead(created.clone())
        .await
        .unwrap()
        .into_inner()
        .lead_id;
    table.row("CreateLead", "OK", Some(&id), None, &CANARY);
    // The stored response of a repeated request is a line of its own.
    let mut again = Request::new(created.clone());
    again.metadata_mut().insert("x-request-id", "again".parse().unwrap());
    client().create_lead(again).await.unwrap();
    let line = table.file.only_line();
    table.check(&line, "CreateLead", "OK", &CANARY);
    assert_eq!(
        (&line["lead_id"], &line["request_id"]),
        (&id.as_str().into(), &"again".into())
    );
    assert_eq!(line["mutation_id"], request_id.as_str());
    let duplicate = pb::CreateLeadRequest {
        request_id: String::new(),
        ..created.clone()
    };
    seen(client().create_lead(duplicate.clone()).await.unwrap_err()).is(Code::AlreadyExists, "LEAD_DUPLICATE");
    table.row("CreateLead", "LEAD_DUPLICATE", None, None, &CANARY);
    let checked = pb::CreateLeadRequest {
        validate_only: true,
        ..duplicate
    };
    client().create_lead(checked.clone()).await.unwrap();
    let invalid = pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            custom: custom(&[("canary@example.com", text("x"))]),
            ..canary()
        }),
        ..checked
    };
    client().create_lead(invalid.clone()).await.unwrap_err();
    assert_eq!(table.file.new_lines(), Vec::<Json>::new());
    let invalid = pb::CreateLeadRequest {
        validate_only: false,
        ..invalid
    };
    seen(client().create_lead(invalid).await.unwrap_err()).is(Code::InvalidArgument, "INVALID_FIELD");
    table.row("CreateLead", "INVALID_FIELD", None, None, &CANARY);

    let update = pb::UpdateLeadRequest {
        lead_id: id.clone(),
        lead: Some(pb::LeadFields {
            last_name: Some("Canary".into()),
            ..Default::default()
        }),
        clear_fields: vec!["Company".into()],
        ..Default::default()
    };
    client().update_lead(update.clone()).await.unwrap();
    table.row("UpdateLead", "OK", Some(&id), None, &["Company", "LastName"]);
    let upsert = pb::UpsertLeadRequest {
        lead: Some(canary()),
        ..Default::default()
    };
    client().upsert_lead(upsert.clone()).await.unwrap();
    table.row("UpsertLead", "OK", Some(&id), None, &CANARY);
    let capture = pb::CaptureLeadRequest {
        lead: Some(canary()),
        ..Default::default()
    };
    client().capture_lead(capture).await.unwrap();
    table.row("CaptureLead", "OK", Some(&id), None, &CANARY);

    let batch = pb::BatchCreateLeadsRequest {
        requests: vec![create("CanaryA", ""), create("CanaryB", ""), created.clone()],
        ..Default::default()
    };
    client().batch_create_leads(batch).await.unwrap();
    let lines = table.file.new_lines();
    assert_eq!(lines.len(), 3);
    let mut results = outcomes(&lines);
    results.sort_unstable();
    assert_eq!(results, ["OK", "OK", "OK"]);
    for line in &lines {
        let fields: &[&str] = match line["mutation_id"].as_str() {
            Some(_) => &CANARY,
            None => &CANARY[..2],
        };
        table.check(line, "BatchCreateLeads", "OK", fields);
    }
    let batch = pb::BatchUpdateLeadsRequest {
        requests: vec![update],
        ..Default::default()
    };
    client().batch_update_leads(batch).await.unwrap();
    table.row("BatchUpdateLeads", "OK", Some(&id), None, &["Company", "LastName"]);
    let batch = pb::BatchUpsertLeadsRequest {
        requests: vec![upsert],
        ..Default::default()
    };
    client().batch_upsert_leads(batch).await.unwrap();
    table.row("BatchUpsertLeads", "OK", Some(&id), None, &CANARY);

    let rows = [create("CanaryC", ""), create("CanaryC", "")].map(|row| pb::ImportLeadsRequest {
        operation: Some(Operation::Create(row)),
        ..Default::default()
    });
    let imported = client().import_leads(tokio_stream::iter(rows)).await.unwrap();
    let mut imported = imported.into_inner();
    while imported.message().await.unwrap().is_some() {}
    let mut lines = table.file.new_lines();
    lines.sort_by_key(|line| line["outcome"].to_string());
    assert_eq!(outcomes(&lines), ["LEAD_DUPLICATE", "OK"]);
    table.check(&lines[1], "ImportLeads", "OK", &CANARY[..2]);

    let mut activities = ActivityServiceClient::new(channel(world.address).await);
    let post = pb::PostActivityRequest {
        lead_id: id.clone(),
        activity_type: 201,
        note: "canary note".into(),
        owner_id: SAM.into(),
        fields: custom(&[("mx_Custom_1", text("canary"))]),
        ..Default::default()
    };
    let posted = activities.post_activity(post).await.unwrap().into_inner().activity_id;
    table.row(
        "PostActivity",
        "OK",
        Some(&id),
        None,
        &["ActivityEvent_Note", "Owner", "mx_Custom_1"],
    );
    let update = pb::UpdateActivityRequest {
        activity_id: posted,
        activity_type: 201,
        note: Some("another canary".into()),
        ..Default::default()
    };
    activities.update_activity(update).await.unwrap();
    table.row("UpdateActivity", "OK", None, None, &["ActivityEvent_Note"]);

    let share = fixture.share().await;
    let lead_id = fixture.lead.as_str();
    table.row("ShareLead", "OK", Some(lead_id), Some(&share.share_id), &[]);
    let extend = pb::ExtendShareRequest {
        share_id: share.share_id.clone(),
        wait_for: pb::WaitFor::Active.into(),
        ..Default::default()
    };
    let mut shares = fixture.client.clone();
    let extended = shares.extend_share(extend).await.unwrap().into_inner().share.unwrap();
    table.row("ExtendShare", "OK", Some(lead_id), Some(&extended.share_id), &[]);
    let retry = pb::RetryShareRequest {
        share_id: extended.share_id.clone(),
        ..Default::default()
    };
    seen(shares.retry_share(retry).await.unwrap_err()).is(Code::FailedPrecondition, "SHARE_NOT_RETRYABLE");
    table.row("RetryShare", "SHARE_NOT_RETRYABLE", None, Some(&extended.share_id), &[]);
    let revoke = pb::RevokeShareRequest {
        share: Some(pb::revoke_share_request::Share::ShareId(extended.share_id.clone())),
        wait_for: pb::WaitFor::Active.into(),
        ..Default::default()
    };
    shares.revoke_share(revoke).await.unwrap();
    table.row("RevokeShare", "OK", Some(lead_id), Some(&extended.share_id), &[]);
    let opportunity = pb::ShareOpportunityRequest {
        opportunity_id: OPPORTUNITY.into(),
        user: Some(pb::share_opportunity_request::User::UserId(SAM.into())),
        access: pb::Access::Write.into(),
        ..Default::default()
    };
    let of_opportunity = shares.share_opportunity(opportunity).await.unwrap();
    let of_opportunity = of_opportunity.into_inner().share.unwrap().share_id;
    table.row("ShareOpportunity", "OK", None, Some(&of_opportunity), &[]);
    let share = fixture.share().await;
    table.file.only_line();
    let all = pb::RevokeSharesRequest {
        user_id: SAM.into(),
        ..Default::default()
    };
    let mut revoked = shares.revoke_shares(all).await.unwrap().into_inner();
    while revoked.message().await.unwrap().is_some() {}
    let lines = table.file.new_lines();
    let ids: BTreeSet<&str> = lines.iter().map(|line| line["share_id"].as_str().unwrap()).collect();
    assert_eq!(
        (lines.len(), ids),
        (2, [of_opportunity.as_str(), &share.share_id].into())
    );
    table.check(&lines[0], "RevokeShares", "OK", &[]);

    let other = world.simulator.insert_lead(&[("FirstName", "Other")]);
    let merge = pb::MergeLeadsRequest {
        lead_id: other.clone(),
        merged_lead_id: id.clone(),
        ..Default::default()
    };
    client().merge_leads(merge).await.unwrap();
    table.row("MergeLeads", "OK", Some(&id), None, &[]);
    let delete = pb::DeleteLeadRequest {
        lead_id: other.clone(),
        ..Default::default()
    };
    client().delete_lead(delete).await.unwrap();
    table.row("DeleteLead", "OK", Some(&other), None, &[]);

    let call = pb::CallRequest {
        method: "POST".to_owned(),
        path: "LeadManagement.svc/Lead.Update".to_owned(),
        query: [("leadId".to_owned(), id.clone())].into(),
        body: br#"[{"Attribute":"FirstName","Value":"Canary"}]"#.to_vec(),
        ..Default::default()
    };
    let mut rest = RestServiceClient::new(channel(world.address).await);
    rest.call(call).await.unwrap();
    let line = table.file.only_line();
    assert_eq!(line["method"], "REST:LeadManagement.svc/Lead.Update");
    assert_eq!(
        (line["lead_id"].as_str(), &line["fields"]),
        (Some(id.as_str()), &Json::Array(vec![]))
    );
    table.seen.insert("/leadgate.v1.RestService/Call".to_owned());

    let mutations: BTreeSet<String> = rpc_paths().into_iter().filter(|path| is_mutation(path)).collect();
    assert_eq!(table.seen, mutations, "an RPC without an audited example");
    let everything = std::fs::read_to_string(table.file.path()).unwrap().to_lowercase();
    let options = Options::default();
    for value in [
        "canar",
        "98450",
        "example.com",
        "other",
        &options.access_key,
        &options.secret_key,
    ] {
        assert!(!everything.contains(&value.to_lowercase()), "{value} in {everything}");
    }
}

#[tokio::test]
async fn denied_and_invalid_mutations_have_a_line_and_reads_and_strangers_have_none() {
    let mut file = AuditFile::new();
    let (none, all) = (api_key::generate("none"), api_key::generate("all"));
    let settings = format!(
        "{}[tenants.north]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"\n{}",
        callers(&[
            ("none", &none, "tenants = [\"acme\"]"),
            ("all", &all, "tenants = [\"acme\"]\nallow = [\"*\"]"),
        ]),
        file.settings(false)
    );
    let world = World::with(Options::default(), &settings).await;
    let channel = channel(world.address).await;
    let (none, all) = (bearer(&none), bearer(&all));
    for path in rpc_paths() {
        let path: &'static str = path.leak();
        let mut rpc = async |caller: Option<&str>, tenant: &'static str| {
            call(&channel, path, caller, Some(tenant)).await;
            let lines = file.new_lines();
            let facts = |line: &Json| {
                assert_eq!((&line["method"], &line["phase"]), (&path.into(), &"end".into()));
                ["caller", "tenant", "outcome"].map(|key| line[key].as_str().unwrap_or("").to_owned())
            };
            lines.iter().map(facts).collect::<Vec<_>>()
        };
        let expect = |line: [&str; 3]| match is_mutation(path) {
            true => vec![line.map(str::to_owned)],
            false => vec![],
        };
        assert_eq!(rpc(None, "acme").await, Vec::<[String; 3]>::new(), "{path}");
        let denied = "CALLER_NOT_ALLOWED";
        assert_eq!(
            rpc(Some(&none), "acme").await,
            expect(["none", "acme", denied]),
            "{path}"
        );
        assert_eq!(
            rpc(Some(&all), "north").await,
            expect(["all", "north", denied]),
            "{path}"
        );
        assert_eq!(rpc(Some(&all), "ghost").await, expect(["all", "", denied]), "{path}");
        // The empty message of an import is a row without an operation, which is no mutation.
        if path != IMPORT {
            let invalid = expect(["all", "acme", "INVALID_FIELD"]);
            assert_eq!(rpc(Some(&all), "acme").await, invalid, "{path}");
        }
    }
}

#[tokio::test]
async fn the_line_of_a_mutation_without_its_caller_has_the_real_outcome() {
    let mut file = AuditFile::new();
    let settings = format!("[tenant_defaults.upstream]\ntimeout = \"1s\"\n{}", file.settings(true));
    let world = World::with(Options::default(), &settings).await.warm().await;
    let lasting = Duration::from_secs(3600);

    world.fail_next("Lead.Create", FaultKind::CommitThenHang { lasting });
    let request = within(Duration::from_millis(300), create("Asha", ""));
    let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
    error.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let lines = file.next_lines(2).await;
    assert_eq!(
        (&lines[0]["phase"], &lines[1]["phase"]),
        (&"begin".into(), &"end".into())
    );
    assert_eq!(outcomes(&lines), ["", "OK"]);
    assert_eq!(
        lines[1]["lead_id"],
        world.simulator.leads()[0]["ProspectID"].clone().unwrap()
    );

    // A caller that cancels.
    world.fail_next("Lead.Create", FaultKind::CommitThenHang { lasting });
    let mut client = world.client.clone();
    let cancelled = tokio::spawn(async move { client.create_lead(create("Ravi", "")).await });
    until(|| world.simulator.leads().len() == 2).await;
    // The line is in the file before LeadSquared gets the request.
    assert_eq!(file.only_line()["phase"], "begin");
    cancelled.abort();
    assert_eq!(outcomes(&file.next_lines(1).await), ["OK"]);
}

#[tokio::test]
async fn a_required_line_that_cannot_be_written_prevents_the_mutation() {
    let file = AuditFile::new();
    file.point_to(Path::new("/dev/full"));
    let world = World::with(Options::default(), &file.settings(true)).await.warm().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    assert!(world.page("/ready").await.1.contains("\"ready\""));
    let request_id = Uuid::new_v4().to_string();
    let error = seen(
        world
            .client
            .clone()
            .create_lead(create("Asha", &request_id))
            .await
            .unwrap_err(),
    );
    error.is(Code::Unavailable, "AUDIT_UNAVAILABLE");
    assert_eq!(error.retry_same_request_id(), Some("true"));
    let batch = pb::BatchCreateLeadsRequest {
        requests: vec![create("Ravi", "")],
        ..Default::default()
    };
    let batch = world.client.clone().batch_create_leads(batch).await.unwrap();
    assert!(
        format!("{batch:?}").contains("audit file cannot be written"),
        "{batch:?}"
    );
    assert_eq!(world.get(by_id(&id)).await.unwrap().lead_id, id);
    assert!(world.calls("Lead.Create").is_empty());
    // Two mutations, with two lines each.
    world.until("leadgate_audit_lines_total{outcome=\"failed\"} 4").await;
    let (status, ready) = world.page("/ready").await;
    assert_eq!(status, 200);
    assert!(
        ready.contains("\"degraded\"") && ready.contains("AUDIT_UNAVAILABLE"),
        "{ready}"
    );

    // With free space, the same request id is executed: it has no record.
    let real = file.folder.path().join("real");
    file.point_to(&real);
    world
        .client
        .clone()
        .create_lead(create("Asha", &request_id))
        .await
        .unwrap();
    assert_eq!(outcomes(&lines(&real)), ["", "OK"]);
    assert!(world.page("/ready").await.1.contains("\"ready\""));
    world.until("leadgate_audit_lines_total{outcome=\"written\"} 2").await;
}

#[tokio::test]
async fn a_last_line_that_cannot_be_written_does_not_change_the_response() {
    let file = AuditFile::new();
    let real = file.folder.path().join("real");
    file.point_to(&real);
    let options = Options {
        latency: Latency {
            min: Duration::from_millis(500),
            max: Duration::from_millis(500),
        },
        ..Options::default()
    };
    let world = World::with(options, &file.settings(true)).await.warm().await;
    let mut client = world.client.clone();
    let created = tokio::spawn(async move { client.create_lead(create("Asha", "")).await });
    until(|| lines(&real).len() == 1).await;
    file.point_to(Path::new("/dev/full"));
    created.await.unwrap().unwrap();
    assert_eq!(outcomes(&lines(&real)), [""]);
    world.until("leadgate_audit_lines_total{outcome=\"failed\"} 1").await;
    assert!(world.page("/ready").await.1.contains("AUDIT_UNAVAILABLE"));
}

/// A second gateway of the account in a process of its own, with an audit that is required.
async fn account(file: &AuditFile, options: Options) -> Account {
    Account::open(options, &file.settings(true)).await
}

#[tokio::test]
async fn a_renamed_file_is_created_again_after_sighup() {
    let mut file = AuditFile::new();
    let account = account(&file, Options::default()).await;
    let process = account.process().await;
    let child = process.start();
    let mut client = LeadServiceClient::new(process.channel().await);
    client.create_lead(create("Asha", "")).await.unwrap();
    assert_eq!(file.new_lines().len(), 2);
    let old = file.folder.path().join("audit.jsonl.1");
    std::fs::rename(file.path(), &old).unwrap();
    let id = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &id])
            .status()
            .await
            .unwrap()
            .success()
    );
    until(|| file.path().exists()).await;
    client.create_lead(create("Ravi", "")).await.unwrap();
    assert_eq!((lines(&old).len(), lines(&file.path()).len()), (2, 2));
}

#[tokio::test]
async fn each_request_that_was_sent_has_a_line_after_a_crash() {
    let file = AuditFile::new();
    let options = Options {
        latency: Latency {
            min: Duration::from_millis(20),
            max: Duration::from_millis(60),
        },
        limits: leadgate_simulator::Limits {
            calls: 0,
            bulk: 0,
            ..Default::default()
        },
        ..Options::default()
    };
    let account = account(&file, options).await;
    let process = account.process().await;
    let mut child = process.start();
    let client = LeadServiceClient::new(process.channel().await);
    let ids: Vec<String> = (0..30).map(|_| Uuid::new_v4().to_string()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for (n, id) in ids.iter().enumerate() {
        let (mut client, request) = (client.clone(), create(&format!("Asha{n}."), id));
        tasks.spawn(async move { client.create_lead(request).await.map(drop) });
    }
    let sent = || {
        account
            .simulator
            .calls()
            .into_iter()
            .filter(|call| call.endpoint == "Lead.Create")
    };
    until(|| sent().count() >= 5).await;
    child.kill().await.unwrap();
    tasks.abort_all();
    let begun: BTreeSet<String> = lines(&file.path())
        .iter()
        .filter(|line| line["phase"] == "begin")
        .map(|line| line["mutation_id"].as_str().unwrap().to_owned())
        .collect();
    for call in sent() {
        let number = |n: &usize| call.body.contains(&format!("\"Asha{n}.\""));
        let n = (0..ids.len()).find(number).unwrap_or_else(|| panic!("{}", call.body));
        assert!(begun.contains(&ids[n]), "{n} was sent without a line");
    }
}

#[tokio::test]
async fn check_says_whether_the_file_can_be_written() {
    let file = AuditFile::new();
    let settings = |path: &str| {
        format!(
            "[tenants.acme]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"\n\
             [store]\nurl = \"sqlite::memory:\"\n[audit]\nfile = \"{path}\"\n"
        )
    };
    let config = file.folder.path().join("leadgate.toml");
    let check = async |path: &str| {
        std::fs::write(&config, settings(path)).unwrap();
        run(&["check", "--config", config.to_str().unwrap()]).await
    };
    assert!(check(file.path().to_str().unwrap()).await.status.success());
    assert!(!file.path().exists());
    let missing = file.folder.path().join("missing/audit.jsonl");
    let output = check(missing.to_str().unwrap()).await;
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("audit.file") && error.contains("cannot be written"),
        "{error}"
    );
}

#[tokio::test]
async fn lines_go_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let account = Account::open(Options::default(), "\n[audit]\nfile = \"stdout\"\n").await;
    let process = account.process().await;
    let out = folder.path().join("out");
    let _child = crate::process::leadgate()
        .args(["serve", "--config", process.path.to_str().unwrap()])
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut client = LeadServiceClient::new(process.channel().await);
    client.create_lead(create("Asha", "")).await.unwrap();
    assert_eq!(outcomes(&lines(&out)), ["OK"]);
}
