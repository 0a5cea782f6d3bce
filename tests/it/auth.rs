//! Callers: credentials, the RPCs and tenants that a caller may use, and what changes while the process runs.

use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use leadgate::grpc::pb;
use leadgate::identity::api_key::{self, KeyHash};
use leadgate_simulator::Options;
use serde_json::{Value as Json, json};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::certificates::{Authority, TlsFiles, in_days};
use crate::harness::{Seen, World, seen};
use crate::tokens::{KeyServer, TokenKey, in_seconds, key_set};

const ISSUER: &str = "https://idp.example";
/// The time within which a removed credential must be refused.
const REVOCATION: Duration = Duration::from_secs(10);

const GET_LEAD: &str = "/leadgate.v1.LeadService/GetLead";
const GET_USER: &str = "/leadgate.v1.UserService/GetUser";
const GET_QUOTA: &str = "/leadgate.v1.QuotaService/GetQuota";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// The settings of callers with these keys.
pub fn callers(list: &[(&str, &str, &str)]) -> String {
    let table = |(name, key, settings): &(&str, &str, &str)| {
        let hash = KeyHash::of(key);
        format!("[callers.{name}]\napi_keys = [\"{hash}\"]\n{settings}\n")
    };
    let tables: String = list.iter().map(table).collect();
    format!("[auth]\nmode = \"callers\"\n{tables}")
}

pub fn bearer(text: &str) -> String {
    format!("Bearer {text}")
}

/// Calls an RPC with an empty message, which leadgate's RPCs reject after they have checked the caller.
pub async fn call(channel: &Channel, path: &'static str, authorization: Option<&str>, tenant: Option<&str>) -> Status {
    let mut request = Request::new(());
    for (name, value) in [("authorization", authorization), ("x-leadgate-tenant", tenant)] {
        if let Some(value) = value {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
    }
    let mut client = tonic::client::Grpc::new(channel.clone());
    if let Err(error) = client.ready().await {
        return Status::unavailable(error.to_string());
    }
    let path = PathAndQuery::from_static(path);
    // A response of an RPC without a stream is a stream of one message.
    let result = client
        .server_streaming(request, path, ProstCodec::<(), ()>::default())
        .await;
    let first = match result {
        Ok(response) => response.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    first.err().unwrap_or_else(|| Status::ok(""))
}

/// Whether the status shows that the RPC has passed all checks of the caller.
fn is_admitted(status: &Status) -> bool {
    matches!(status.code(), Code::Ok | Code::InvalidArgument | Code::NotFound)
}

fn is_unknown(status: Status) {
    let message = status.message().to_owned();
    let error = seen(status);
    error.is(Code::Unauthenticated, "CALLER_UNKNOWN");
    // A stranger learns nothing.
    assert_eq!(
        message,
        "the request has no valid credential of a known caller; nothing was sent"
    );
    let keys: std::collections::BTreeSet<&str> = error.metadata.keys().map(String::as_str).collect();
    assert_eq!(keys, ["attempts", "queued_ms"].into());
}

fn is_denied(status: Status, rule: &str) -> Seen {
    let error = seen(status);
    error.is(Code::PermissionDenied, "CALLER_NOT_ALLOWED");
    assert_eq!(error.metadata["rule"], rule);
    error
}

fn claims() -> Json {
    json!({"iss": ISSUER, "aud": "leadgate", "sub": "checkout@prod", "exp": in_seconds(600)})
}

fn with(key: &str, value: Json) -> Json {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn jwt_settings(jwks: &str) -> String {
    format!("[auth.jwt]\nissuer = \"{ISSUER}\"\njwks = {{ {jwks} }}\n")
}

#[tokio::test]
async fn every_credential_is_accepted_or_refused_by_the_table() {
    let (rsa, ec, ed) = (
        TokenKey::new(Algorithm::RS256, "rsa"),
        TokenKey::new(Algorithm::ES256, "ec"),
        TokenKey::new(Algorithm::EdDSA, "ed"),
    );
    let (foreign, unlisted) = (
        TokenKey::new(Algorithm::ES256, "ec"),
        TokenKey::new(Algorithm::ES256, "new"),
    );
    let files = TlsFiles::new();
    files.write("jwks.json", &key_set(&[&rsa, &ec, &ed]));
    let (key, second, revoked) = (
        api_key::generate("checkout"),
        api_key::generate("checkout"),
        api_key::generate("checkout"),
    );
    let settings = format!(
        "[server]\nreflection = true\n[auth]\nmode = \"callers\"\n{}\
         [callers.checkout]\napi_keys = [\"{}\", \"{}\"]\nsubjects = [\"checkout@prod\"]\n\
         certificates = [\"spiffe://prod/checkout\", \"dns:checkout.internal\"]\ntenants = [\"acme\"]\n\
         allow = [\"LeadService/*\", \"QuotaService/GetQuota\"]\n",
        jwt_settings(&format!("file = \"{}\"", files.path("jwks.json").display())),
        KeyHash::of(&key),
        KeyHash::of(&second),
    );
    let world = World::with_tls(Options::default(), &settings, &files, None).await;
    let authority = &files.client_authority;
    let good = authority.client(&["spiffe://prod/checkout"]);
    let by_dns = authority.client(&["dns:Checkout.internal"]);
    let unknown_name = authority.client(&["spiffe://prod/other"]);
    let expired = authority.client_until(&["spiffe://prod/checkout"], in_days(-1));
    let foreign_ca = Authority::new().client(&["spiffe://prod/checkout"]);

    let texts = [
        ("key", bearer(&key), true),
        ("second key", bearer(&second), true),
        ("revoked key", bearer(&revoked), false),
        (
            "key of another caller's name",
            bearer(&key.replacen("checkout", "chockout", 1)),
            false,
        ),
        ("key with a changed character", bearer(&changed(&key)), false),
        ("key that is too short", bearer(&key[..key.len() - 1]), false),
        ("key without Bearer", key.clone(), false),
        ("basic", format!("Basic {key}"), false),
        ("empty", String::new(), false),
        ("hash instead of key", bearer(&KeyHash::of(&key).to_string()), false),
        ("RS256", bearer(&rsa.sign(&claims())), true),
        ("ES256", bearer(&ec.sign(&claims())), true),
        ("EdDSA", bearer(&ed.sign(&claims())), true),
        ("no algorithm", bearer(&ec.unsigned(&claims())), false),
        (
            "HMAC with the public key",
            bearer(&ec.sign_with_public_key(&claims())),
            false,
        ),
        ("signature of another key", bearer(&foreign.sign(&claims())), false),
        ("unknown key id", bearer(&unlisted.sign(&claims())), false),
        ("expired", bearer(&ec.sign(&with("exp", json!(in_seconds(-40))))), false),
        (
            "expired within the leeway",
            bearer(&ec.sign(&with("exp", json!(in_seconds(-10))))),
            true,
        ),
        (
            "not yet valid",
            bearer(&ec.sign(&with("nbf", json!(in_seconds(60))))),
            false,
        ),
        (
            "another issuer",
            bearer(&ec.sign(&with("iss", json!("https://other.example")))),
            false,
        ),
        (
            "another audience",
            bearer(&ec.sign(&with("aud", json!("other")))),
            false,
        ),
        ("without expiry", bearer(&ec.sign(&with("exp", Json::Null))), false),
        (
            "unknown subject",
            bearer(&ec.sign(&with("sub", json!("stranger@prod")))),
            false,
        ),
        ("broken token", bearer(&ec.sign(&claims())[1..]), false),
    ];
    let certificates = [
        ("no certificate", None, false),
        ("certificate", Some(&good), true),
        ("certificate by DNS name", Some(&by_dns), true),
        ("certificate of an unknown name", Some(&unknown_name), false),
    ];
    let without = files.endpoint(world.address, None).connect().await.unwrap();
    for (name, text, is_known) in &texts {
        check_rpcs(name, &without, Some(text), *is_known).await;
    }
    for (name, certificate, is_known) in certificates {
        let channel = files.endpoint(world.address, certificate).connect().await.unwrap();
        check_rpcs(name, &channel, None, is_known).await;
        // A key decides before the certificate, also a wrong one.
        check_rpcs(name, &channel, Some(&bearer(&key)), true).await;
        check_rpcs(name, &channel, Some(&bearer(&revoked)), false).await;
    }
    for (name, certificate) in [("expired", &expired), ("another CA", &foreign_ca)] {
        let endpoint = files.endpoint(world.address, Some(certificate));
        let refused = match endpoint.connect().await {
            Ok(channel) => call(&channel, GET_LEAD, None, None).await,
            Err(error) => Status::unavailable(error.to_string()),
        };
        assert!(
            !is_admitted(&refused) && refused.code() != Code::Unauthenticated,
            "{name}: {refused:?}"
        );
    }
    let (_, metrics) = world.page("/metrics").await;
    for reason in [
        "no_credential",
        "unknown_api_key",
        "unknown_certificate",
        "token_expired",
        "token_audience",
    ] {
        let start = format!("leadgate_auth_failures_total{{reason=\"{reason}\"}}");
        assert!(
            metrics.lines().any(|line| line.starts_with(&start)),
            "{reason} in {metrics}"
        );
    }
}

/// Checks methods and tenants with one credential.
async fn check_rpcs(name: &str, channel: &Channel, text: Option<&str>, is_known: bool) {
    let rpc = |path, tenant| call(channel, path, text, tenant);
    let health = rpc(HEALTH, None).await;
    assert_eq!(health.code(), Code::Ok, "{name}: {health:?}");
    const UNKNOWN_METHOD: &str = "/leadgate.v1.LeadService/Nothing";
    const UNKNOWN_SERVICE: &str = "/leadgate.v1.NoService/Nothing";
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/Nothing";
    if !is_known {
        for path in [
            GET_LEAD,
            GET_QUOTA,
            GET_USER,
            UNKNOWN_METHOD,
            UNKNOWN_SERVICE,
            REFLECTION,
            "/a/b",
        ] {
            for tenant in [None, Some("acme"), Some("ghost")] {
                is_unknown(rpc(path, tenant).await);
            }
        }
        return;
    }
    for (path, tenant) in [(GET_LEAD, None), (GET_LEAD, Some("acme")), (GET_QUOTA, Some("acme"))] {
        let status = rpc(path, tenant).await;
        assert!(is_admitted(&status), "{name} {path} {tenant:?}: {status:?}");
    }
    is_denied(rpc(GET_LEAD, Some("ghost")).await, "tenant");
    // The RPC is checked before the tenant.
    for tenant in [None, Some("acme"), Some("ghost")] {
        is_denied(rpc(GET_USER, tenant).await, "method");
        is_denied(rpc(UNKNOWN_SERVICE, tenant).await, "method");
        is_denied(rpc("/a/b", tenant).await, "method");
        assert_eq!(rpc(UNKNOWN_METHOD, tenant).await.code(), Code::Unimplemented);
        // Reflection needs no rule.
        assert_eq!(rpc(REFLECTION, tenant).await.code(), Code::Unimplemented);
    }
}

/// The same text with another last character but one.
fn changed(key: &str) -> String {
    let (start, last) = key.split_at(key.len() - 2);
    let replaced = if last.starts_with('A') { "B" } else { "A" };
    format!("{start}{replaced}{}", &last[1..])
}

#[tokio::test]
async fn a_tenant_that_is_not_allowed_and_one_that_does_not_exist_look_the_same() {
    let (one, all) = (api_key::generate("one"), api_key::generate("all"));
    let settings = format!(
        "{}[tenants.north]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"\n",
        callers(&[
            ("one", &one, "tenants = [\"acme\"]\nallow = [\"*\"]"),
            ("all", &all, "tenants = [\"*\"]\nallow = [\"*\"]"),
        ])
    );
    let world = World::with(Options::default(), &settings).await;
    let channel = crate::harness::channel(world.address).await;
    let (one, all) = (bearer(&one), bearer(&all));
    let [denied, unknown] = [Some("north"), Some("ghost")].map(|tenant| call(&channel, GET_QUOTA, Some(&one), tenant));
    let (denied, unknown) = (is_denied(denied.await, "tenant"), is_denied(unknown.await, "tenant"));
    assert_eq!(denied.status.message(), unknown.status.message());
    assert_eq!(denied.metadata, unknown.metadata);
    // The only tenant of a caller needs no name.
    assert_eq!(call(&channel, GET_QUOTA, Some(&one), None).await.code(), Code::Ok);
    let unnamed = seen(call(&channel, GET_QUOTA, Some(&all), None).await);
    unnamed.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(unnamed.fields(), ["x-leadgate-tenant"]);
    assert_eq!(
        call(&channel, GET_QUOTA, Some(&all), Some("north")).await.code(),
        Code::Ok
    );
}

#[tokio::test]
async fn a_caller_without_rules_may_do_nothing_and_a_star_is_everything() {
    let (none, all) = (api_key::generate("none"), api_key::generate("all"));
    let settings = callers(&[("none", &none, ""), ("all", &all, "tenants = [\"*\"]\nallow = [\"*\"]")]);
    let world = World::with(Options::default(), &settings).await;
    let channel = crate::harness::channel(world.address).await;
    for path in leadgate::grpc::rpc_paths() {
        let path: &'static str = path.leak();
        is_denied(call(&channel, path, Some(&bearer(&none)), Some("acme")).await, "method");
        // Streams of requests respond to an empty message with an error of their own.
        let status = call(&channel, path, Some(&bearer(&all)), Some("acme")).await;
        assert!(
            !matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated),
            "{path}: {status:?}"
        );
    }
    // Reflection is off.
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let status = call(&channel, REFLECTION, Some(&bearer(&none)), None).await;
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn callers_do_not_name_themselves() {
    let key = api_key::generate("checkout");
    let rules = "tenants = [\"*\"]\nallow = [\"*\"]\ncalls_per_window = 7";
    let world = World::with(Options::default(), &callers(&[("checkout", &key, rules)])).await;
    let mut request = Request::new(pb::GetQuotaRequest {});
    let metadata = request.metadata_mut();
    metadata.insert("x-leadgate-caller", "admin".parse().unwrap());
    is_unknown(quota_client(&world).await.get_quota(request).await.unwrap_err());

    let plain = World::start().await;
    for name in ["leadgate", "leadgate-transfer", "LeadGate.x"] {
        let mut request = Request::new(pb::GetQuotaRequest {});
        request
            .metadata_mut()
            .insert("x-leadgate-caller", name.parse().unwrap());
        let error = seen(quota_client(&plain).await.get_quota(request).await.unwrap_err());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["x-leadgate-caller"]);
    }
}

type QuotaClient = pb::quota_service_client::QuotaServiceClient<Channel>;

async fn quota_client(world: &World) -> QuotaClient {
    QuotaClient::new(crate::harness::channel(world.address).await)
}

#[tokio::test]
async fn a_removed_key_is_refused_and_its_streams_end() {
    let (removed, kept) = (api_key::generate("removed"), api_key::generate("kept"));
    let rules = "tenants = [\"*\"]\nallow = [\"*\"]";
    let both = callers(&[("removed", &removed, rules), ("kept", &kept, rules)]);
    let world = World::with(Options::default(), &both).await;
    let channel = crate::harness::channel(world.address).await;
    let watch = async |key: &str| {
        let mut request = Request::new(pb::WatchQuotaRequest::default());
        request
            .metadata_mut()
            .insert("authorization", bearer(key).parse().unwrap());
        let mut client = QuotaClient::new(channel.clone());
        let mut stream = client.watch_quota(request).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        stream
    };
    let (mut ends, mut stays) = (watch(&removed).await, watch(&kept).await);

    // A file that cannot be used changes nothing.
    world.write_settings(&format!("{both}\nnonsense = ["));
    world
        .until("leadgate_reloads_total{what=\"settings\",result=\"failed\"} 1")
        .await;
    assert_eq!(
        call(&channel, GET_QUOTA, Some(&bearer(&removed)), None).await.code(),
        Code::Ok
    );

    // An error in a section that needs a restart does not keep the key.
    let changed = Instant::now();
    world.write_settings(&format!(
        "{}[log]\nformat = \"xml\"\n",
        callers(&[("kept", &kept, rules)])
    ));
    world
        .until("leadgate_reloads_total{what=\"settings\",result=\"ok\"} 1")
        .await;
    is_unknown(call(&channel, GET_QUOTA, Some(&bearer(&removed)), None).await);
    assert_eq!(
        call(&channel, GET_QUOTA, Some(&bearer(&kept)), None).await.code(),
        Code::Ok
    );
    let ended = loop {
        match ends.message().await {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    seen(ended).is(Code::Unauthenticated, "CALLER_UNKNOWN");
    assert!(changed.elapsed() < REVOCATION, "{:?}", changed.elapsed());
    stays.message().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_ends_when_its_rule_is_removed() {
    let key = api_key::generate("one");
    let settings = |allow: &str| callers(&[("one", &key, &format!("tenants = [\"*\"]\nallow = [{allow}]"))]);
    let world = World::with(Options::default(), &settings("\"*\"")).await;
    let mut request = Request::new(pb::WatchQuotaRequest::default());
    request
        .metadata_mut()
        .insert("authorization", bearer(&key).parse().unwrap());
    let mut stream = quota_client(&world)
        .await
        .watch_quota(request)
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    world.write_settings(&settings("\"LeadService/*\""));
    let ended = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    is_denied(ended, "method");
}

#[tokio::test]
async fn limits_and_weights_change_without_a_restart_and_other_settings_do_not() {
    let settings = |calls: u32| format!("[tenants.acme.limits]\ncalls = {calls}\n");
    let world = World::with(Options::default(), &settings(25)).await;
    let limit = async || {
        let quota = quota_client(&world).await.get_quota(pb::GetQuotaRequest {}).await;
        quota.unwrap().into_inner().quota.unwrap().calls.unwrap().limit
    };
    assert_eq!(limit().await, 25);
    world.write_settings(&format!("{}[server]\nmax_streams = 7\n", settings(10)));
    world
        .until("leadgate_reloads_total{what=\"settings\",result=\"ok\"} 1")
        .await;
    assert_eq!(limit().await, 10);
}

#[tokio::test]
async fn a_certificate_of_a_removed_ca_is_refused_on_an_open_connection() {
    let files = TlsFiles::new();
    let settings = "[auth]\nmode = \"callers\"\n[callers.checkout]\ncertificates = [\"spiffe://prod/checkout\"]\n\
                    tenants = [\"*\"]\nallow = [\"*\"]\n";
    let world = World::with_tls(Options::default(), settings, &files, None).await;
    let certificate = files.client_authority.client(&["spiffe://prod/checkout"]);
    let channel = files
        .endpoint(world.address, Some(&certificate))
        .connect()
        .await
        .unwrap();
    assert_eq!(call(&channel, GET_QUOTA, None, None).await.code(), Code::Ok);
    let other = Authority::new();
    files.write("ca.crt", &other.pem);
    world
        .until("leadgate_reloads_total{what=\"tls\",result=\"ok\"} 1")
        .await;
    is_unknown(call(&channel, GET_QUOTA, None, None).await);
    // The old CA beside the new one, as during a rotation.
    files.write("ca.crt", &format!("{}\n{}", other.pem, files.client_authority.pem));
    world
        .until("leadgate_reloads_total{what=\"tls\",result=\"ok\"} 2")
        .await;
    assert_eq!(call(&channel, GET_QUOTA, None, None).await.code(), Code::Ok);
}

#[tokio::test]
async fn new_keys_of_an_issuer_are_fetched_and_an_unreachable_issuer_stops_nobody() {
    let (old, new) = (
        TokenKey::new(Algorithm::ES256, "old"),
        TokenKey::new(Algorithm::EdDSA, "new"),
    );
    let server = KeyServer::start(key_set(&[&old])).await;
    let settings = format!(
        "[auth]\nmode = \"callers\"\n{}[callers.checkout]\nsubjects = [\"checkout@prod\"]\ntenants = [\"*\"]\nallow = [\"*\"]\n",
        jwt_settings(&format!("url = \"http://{}/jwks.json\"", server.address))
    );
    let world = World::with(Options::default(), &settings).await;
    let channel = crate::harness::channel(world.address).await;
    let code = async |key: &TokenKey| {
        let token = bearer(&key.sign(&claims()));
        call(&channel, GET_QUOTA, Some(&token), None).await.code()
    };
    assert_eq!(code(&old).await, Code::Ok);
    assert_eq!(server.requests(), 1);
    world.until("leadgate_token_keys_failing 0").await;
    // Fetched a short time ago, so an unknown key does not fetch again.
    assert_eq!(code(&new).await, Code::Unauthenticated);
    assert_eq!(server.requests(), 1);
    server.set(None);
    assert_eq!(code(&old).await, Code::Ok);
}

#[tokio::test]
async fn an_issuer_that_is_unreachable_at_the_start_is_in_the_metrics() {
    let server = KeyServer::start(String::new()).await;
    server.set(None);
    let settings = format!(
        "[auth]\nmode = \"callers\"\n{}[callers.checkout]\nsubjects = [\"checkout@prod\"]\ntenants = [\"*\"]\nallow = [\"*\"]\n",
        jwt_settings(&format!("url = \"http://{}/jwks.json\"", server.address))
    );
    let world = World::with(Options::default(), &settings).await;
    world.until("leadgate_token_keys_failing 1").await;
    assert_eq!(server.requests(), 1);
}
