//! Secrets and personal data stay where they belong: a busy gateway at log level `trace`, with every kind of failure of
//! LeadSquared, whose log, errors and pages are searched for the values that went through it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use leadgate::config::Config;
use leadgate::grpc::pb;
use leadgate::identity::api_key::{self, KeyHash};
use leadgate_simulator::{Fault, FaultKind, Options, Simulator};
use pb::activity_service_client::ActivityServiceClient;
use pb::get_lead_request::Key;
use pb::lead_service_client::LeadServiceClient;
use pb::share_lead_request::{Lead, User};
use pb::share_service_client::ShareServiceClient;
use pb::user_service_client::UserServiceClient;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::harness::{channel, custom, listen, tenant, text};
use crate::process::{leadgate, run};
use crate::share::SAM;
use crate::tokens::{TokenKey, in_seconds, key_set};
use crate::traces::Collector;

const ACCESS_KEY: &str = "u$canaryaccess";
const SECRET_KEY: &str = "canarysecret";
const EMAIL: &str = "canary.person@example.com";
const OTHER_EMAIL: &str = "other.canary@example.com";
const PHONE: &str = "+91-9876501234";
/// The texts of personal data and keys, in lower case. Some are parts of several values.
const PERSONAL: [&str; 3] = ["canary", "9876501234", "98765 01234"];

/// Adds the credential of a caller.
#[derive(Clone)]
struct WithCredential(AsciiMetadataValue);

impl Interceptor for WithCredential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        // A call against a hanging LeadSquared ends.
        request.set_timeout(Duration::from_secs(2));
        Ok(request)
    }
}

type Service = InterceptedService<Channel, WithCredential>;

/// All errors so far, as their bytes.
#[derive(Default)]
struct Errors(Vec<String>);

impl Errors {
    fn note<T>(&mut self, result: Result<T, Status>) -> Option<T> {
        result
            .map_err(|status| {
                self.0.push(format!("{status:?}"));
                self.0.push(String::from_utf8_lossy(status.details()).into_owned());
            })
            .ok()
    }
}

fn person() -> pb::LeadFields {
    pb::LeadFields {
        first_name: Some("Canaryasha".to_owned()),
        last_name: Some("Canaryrao".to_owned()),
        email_address: Some(EMAIL.to_owned()),
        phone: Some(PHONE.to_owned()),
        custom: custom(&[("mx_City", text("Canarycity"))]),
        ..Default::default()
    }
}

/// A lead whose values are all invalid.
fn invalid_person() -> pb::LeadFields {
    pb::LeadFields {
        first_name: Some("Canary".repeat(5_000)),
        email_address: Some("canary without at".to_owned()),
        phone: Some("canary 9876501234 9876501234 9876501234".to_owned()),
        custom: custom(&[("mx_Nothing", text("canary")), ("mx_KYC", text("canary"))]),
        ..Default::default()
    }
}

/// Calls RPCs of all kinds with values that must not be seen.
async fn use_everything(service: &Service, lead_id: &str, errors: &mut Errors) {
    let mut leads = LeadServiceClient::new(service.clone());
    for lead in [person(), invalid_person()] {
        let create = pb::CreateLeadRequest {
            lead: Some(lead.clone()),
            ..Default::default()
        };
        errors.note(leads.create_lead(create.clone()).await);
        let batch = pb::BatchCreateLeadsRequest {
            requests: vec![create.clone(), create],
            ..Default::default()
        };
        if let Some(response) = errors.note(leads.batch_create_leads(batch).await) {
            errors
                .0
                .push(String::from_utf8_lossy(&prost::Message::encode_to_vec(response.get_ref())).into_owned());
        }
        let update = pb::UpdateLeadRequest {
            lead_id: lead_id.to_owned(),
            lead: Some(pb::LeadFields {
                email_address: Some(OTHER_EMAIL.to_owned()),
                ..lead.clone()
            }),
            ..Default::default()
        };
        errors.note(leads.update_lead(update).await);
        let upsert = pb::UpsertLeadRequest {
            lead: Some(lead.clone()),
            match_by: "email_address".to_owned(),
            ..Default::default()
        };
        errors.note(leads.upsert_lead(upsert).await);
        let capture = pb::CaptureLeadRequest {
            lead: Some(lead),
            match_by: "email_address".to_owned(),
            ..Default::default()
        };
        errors.note(leads.capture_lead(capture).await);
    }
    for key in [
        Key::EmailAddress(EMAIL.to_owned()),
        Key::EmailAddress("nobody.canary@example.com".to_owned()),
        Key::EmailAddress("canary".to_owned()),
        Key::Phone(PHONE.to_owned()),
        Key::Phone("canary".to_owned()),
        Key::LeadNumber("canary".to_owned()),
        Key::LeadId(lead_id.to_owned()),
    ] {
        let request = pb::GetLeadRequest {
            key: Some(key),
            ..Default::default()
        };
        errors.note(leads.get_lead(request).await);
    }
    for (field, value) in [
        ("email_address", EMAIL),
        ("mx_City", "Canarycity"),
        ("mx_Nothing", "canary"),
    ] {
        let search = pb::SearchLeadsRequest {
            field: field.to_owned(),
            operator: pb::SearchOperator::Equal.into(),
            value: Some(text(value)),
            page_token: String::new(),
            ..Default::default()
        };
        let again = pb::SearchLeadsRequest {
            page_token: "canary".to_owned(),
            ..search.clone()
        };
        errors.note(leads.search_leads(search).await);
        errors.note(leads.search_leads(again).await);
    }
    let quick = pb::QuickSearchLeadsRequest {
        query: EMAIL.to_owned(),
        ..Default::default()
    };
    errors.note(leads.quick_search_leads(quick).await);

    let mut activities = ActivityServiceClient::new(service.clone());
    for owner_id in ["", "canary"] {
        let post = pb::PostActivityRequest {
            lead_id: lead_id.to_owned(),
            activity_type: 201,
            note: "called canary at 9876501234".to_owned(),
            owner_id: owner_id.to_owned(),
            fields: custom(&[("mx_Custom_1", text("canary"))]),
            ..Default::default()
        };
        errors.note(activities.post_activity(post).await);
    }
    let list = pb::ListLeadActivitiesRequest {
        lead_id: lead_id.to_owned(),
        ..Default::default()
    };
    errors.note(activities.list_lead_activities(list).await);

    let mut users = UserServiceClient::new(service.clone());
    let user = pb::GetUserRequest {
        key: Some(pb::get_user_request::Key::EmailAddress(
            "user.canary@example.com".to_owned(),
        )),
    };
    errors.note(users.get_user(user).await);

    let mut shares = ShareServiceClient::new(service.clone());
    for user in [
        User::UserId(SAM.to_owned()),
        User::UserEmailAddress("user.canary@example.com".to_owned()),
    ] {
        let share = pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(lead_id.to_owned())),
            user: Some(user),
            access: pb::Access::Write.into(),
            context: Some(pb::share_lead_request::Context::NewActivity(pb::NewActivity {
                activity_type: 201,
                note: "canary".to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        };
        errors.note(shares.share_lead(share).await);
    }
}

/// Responses of LeadSquared that fail in different ways, with personal data in each.
fn faults() -> Vec<FaultKind> {
    let respond = |status, body: String, content_type: Option<&str>| FaultKind::Respond {
        status,
        body,
        content_type: content_type.map(str::to_owned),
        commit: false,
    };
    let exception = |name: &str| {
        let text = format!("Lead Canaryasha with {EMAIL} and {PHONE} and key {ACCESS_KEY}");
        json!({"Status": "Error", "ExceptionType": name, "ExceptionMessage": text}).to_string()
    };
    vec![
        respond(500, exception("MXDuplicateEntryException"), None),
        respond(500, exception("MXInvalidInputException"), None),
        respond(500, exception("MXSomethingElseException"), None),
        respond(500, exception("CanaryException of Canaryasha"), None),
        respond(401, exception("MXUnAuthorizedAccessException"), None),
        respond(502, format!("<html>{EMAIL}</html>"), Some("text/html")),
        respond(200, json!({"Canaryasha": [EMAIL, {"ProspectID": 7}]}).to_string(), None),
        respond(200, format!("[{{\"ProspectID\": \"{EMAIL}"), None),
        FaultKind::DropBefore,
        FaultKind::GarbageJson,
        FaultKind::Empty503,
    ]
}

fn search(place: &str, content: &str, secrets: &[String]) {
    let lower = content.to_lowercase();
    let texts = PERSONAL.into_iter().chain(secrets.iter().map(String::as_str));
    for canary in texts {
        let found = lower.find(&canary.to_lowercase());
        if let Some(at) = found {
            let (from, to) = (at.saturating_sub(300), (at + 100).min(lower.len()));
            let (from, to) = (lower.floor_char_boundary(from), lower.ceil_char_boundary(to));
            panic!("{canary:?} in {place}: ...{}...", &lower[from..to]);
        }
    }
}

fn settings(address: &str, upstream: std::net::SocketAddr, options: &Options, folder: &Path, key: &str) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    format!(
        "[server]\nlisten = \"{address}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"trace,h2=trace,hyper=trace,rustls=trace,tower=trace\"\n\
         [store]\nurl = \"sqlite://{}\"\n[audit]\nfile = \"{}\"\nrequired = true\n\
         [auth]\nmode = \"callers\"\n[auth.jwt]\nissuer = \"https://idp.example\"\njwks = {{ file = \"{}\" }}\n\
         [callers.checkout]\napi_keys = [\"{}\"]\nsubjects = [\"checkout\"]\ntenants = [\"*\"]\nallow = [\"*\"]\n\
         {}[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\n\
         [tenants.acme.upstream]\nvisible_after = \"0s\"\nsettle_timeout = \"300ms\"\nbreaker_failures = 0\n",
        file("leadgate.db"),
        file("audit.jsonl"),
        file("jwks.json"),
        KeyHash::of(key),
        tenant("acme", upstream, options),
    )
}

#[tokio::test]
async fn keys_and_personal_data_are_in_no_log_line_error_page_span_or_audit_line() {
    let mut options = Options {
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        ..Options::default()
    };
    (options.limits.calls, options.limits.bulk) = (0, 0);
    let upstream = listen().await;
    let address = listen().await.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = api_key::generate("checkout");
    let token_key = TokenKey::new(Algorithm::ES256, "es");
    std::fs::write(folder.path().join("jwks.json"), key_set(&[&token_key])).unwrap();
    let base = upstream.local_addr().unwrap();
    let collector = Collector::http().await;
    let text = settings(&address.to_string(), base, &options, folder.path(), &key);
    let text = format!("{text}{}", collector.settings());
    let path = folder.path().join("leadgate.toml");
    std::fs::write(&path, &text).unwrap();
    let simulator = Simulator::new(options);
    let stop = CancellationToken::new();
    tokio::spawn(simulator.clone().serve(upstream, stop.clone().cancelled_owned()));
    let lead_id = simulator.insert_lead(&[("FirstName", "Canaryold"), ("EmailAddress", "old.canary@example.com")]);

    // Into a file, because a full pipe would block the process.
    let log_path = folder.path().join("log");
    let log = std::fs::File::create(&log_path).unwrap();
    let mut command = leadgate();
    command
        .args(["serve", "--config", path.to_str().unwrap()])
        .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canarycollector")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "65536")
        .env("RUST_BACKTRACE", "1");
    let mut child = command.stderr(log.try_clone().unwrap()).stdout(log).spawn().unwrap();
    while !run(&["health", "--addr", &address.to_string()]).await.status.success() {}

    let token = token_key.sign(
        &json!({"iss": "https://idp.example", "aud": "leadgate", "sub": "checkout",
        "exp": in_seconds(600)}),
    );
    let channel = channel(address).await;
    let service = |credential: &str| {
        let value = format!("Bearer {credential}").parse().unwrap();
        InterceptedService::new(channel.clone(), WithCredential(value))
    };
    let (by_key, by_token) = (service(&key), service(&token));
    let mut errors = Errors::default();
    use_everything(&by_key, &lead_id, &mut errors).await;
    use_everything(&by_token, &lead_id, &mut errors).await;
    let strange = api_key::generate("checkout");
    for credential in [strange.as_str(), "canary", &format!("{token}x")] {
        use_everything(&service(credential), &lead_id, &mut errors).await;
    }
    let endpoints: BTreeSet<String> = simulator.calls().into_iter().map(|call| call.endpoint).collect();
    assert!(endpoints.len() > 12, "{endpoints:?}");
    for fault in faults() {
        for endpoint in &endpoints {
            simulator
                .add_fault(Fault::new(endpoint.as_str(), fault.clone()))
                .unwrap();
        }
        use_everything(&by_key, &lead_id, &mut errors).await;
        simulator.clear_faults();
    }
    assert!(errors.0.len() > 300, "{}", errors.0.len());

    let audit = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert!(audit.lines().count() > 100, "{audit}");
    let log = std::fs::read_to_string(&log_path).unwrap();
    let admin = log
        .lines()
        .find_map(|line| line.split("\"admin\":\"").nth(1)?.split('"').next());
    let mut pages = Vec::new();
    for page in ["/", "/live", "/ready", "/metrics"] {
        let response = reqwest::get(format!("http://{}{page}", admin.unwrap())).await.unwrap();
        pages.push((page, response.text().await.unwrap()));
    }
    let mut stream = reqwest::get(format!("http://{}/events", admin.unwrap())).await.unwrap();
    let mut snapshot = String::new();
    while !snapshot.ends_with("\n\n") {
        snapshot += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    assert!(
        snapshot.contains("\"settings\":[[") && snapshot.contains("\"errors\":[{"),
        "{snapshot}"
    );
    pages.push(("/events", snapshot));
    let id = child.id().unwrap().to_string();
    assert!(run_kill(&id).await);
    child.wait().await.unwrap();
    stop.cancel();

    let signature = token.rsplit('.').next().unwrap().to_owned();
    let part = |key: &str| key.strip_prefix("lg_checkout_").unwrap().to_owned();
    let secrets = [
        key.clone(),
        part(&key),
        strange.clone(),
        part(&strange),
        token.clone(),
        signature,
    ];
    let log = std::fs::read_to_string(&log_path).unwrap();
    assert!(
        log.lines().count() > 1_000 && log.contains("rpc finished"),
        "{}",
        log.len()
    );
    search("the log", &log, &secrets);
    search("the audit", &audit, &secrets);
    for error in &errors.0 {
        search("an error", error, &secrets);
    }
    let spans = collector.spans();
    assert!(spans.len() > 1_000, "{}", spans.len());
    search("a span", &format!("{spans:?}"), &[&secrets[..], &[lead_id]].concat());
    for (page, content) in &pages {
        assert!(!content.is_empty());
        search(page, content, &secrets);
    }
    let config = Config::load(Some(&path), std::iter::empty()).unwrap();
    search("the debug text of the settings", &format!("{config:?}"), &secrets);
}

/// Sends SIGTERM.
async fn run_kill(id: &str) -> bool {
    let status = tokio::process::Command::new("kill").args(["-TERM", id]).status().await;
    status.unwrap().success()
}
