//! What it costs to identify a caller, and what TLS costs: per RPC and per connection.
//!
//! `cargo bench --bench auth` prints the tables; with `-- --write docs/benchmarks` it writes `docs/benchmarks/auth.md`.

// The modules of the tests have more than the bench needs.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub
)]

#[path = "../tests/it/certificates.rs"]
mod certificates;
mod machine;
#[path = "../tests/it/tokens.rs"]
mod tokens;

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use certificates::{Issued, TlsFiles};
use jsonwebtoken::Algorithm;
use leadgate::app::App;
use leadgate::config::Config;
use leadgate::grpc::pb;
use leadgate::identity::Identification;
use leadgate::identity::api_key::{self, KeyHash};
use leadgate::identity::certificate::SubjectName;
use pb::quota_service_client::QuotaServiceClient;
use serde_json::json;
use tokens::{TokenKey, key_set};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};

/// Number of identifications in one measurement, and number of measurements.
const IDENTIFICATIONS: u32 = 20_000;
const UNCACHED: usize = 200;
const ROUNDS: usize = 15;
/// Number of RPCs, and of connections, in one measurement.
const RPCS: u32 = 400;
const CONNECTIONS: u32 = 20;
/// The length of one measurement must not depend on the order, so it changes by this generator (xorshift).
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

const CALLER: &str = "checkout";
const TENANT: &str = "[tenants.acme]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"\n";

/// The keys of an issuer, by algorithm.
fn token_keys() -> [(&'static str, TokenKey); 3] {
    [
        ("RS256", TokenKey::new(Algorithm::RS256, "rsa")),
        ("ES256", TokenKey::new(Algorithm::ES256, "ec")),
        ("EdDSA", TokenKey::new(Algorithm::EdDSA, "ed")),
    ]
}

/// A token. `number` makes it differ from others.
fn token(key: &TokenKey, number: usize) -> String {
    key.sign(&json!({"iss": "https://idp.example", "aud": "leadgate", "sub": CALLER, "exp": 4_000_000_000_u64, "jti": number}))
}

/// One kind of client.
struct Kind {
    name: &'static str,
    has_tls: bool,
    authorization: Option<String>,
    has_certificate: bool,
}

/// A gateway.
struct Gateway {
    address: std::net::SocketAddr,
    tls: Option<Arc<TlsFiles>>,
    client: Arc<Issued>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Gateway {
    async fn start(settings: &str, jwks: &str, tls: Option<&Arc<TlsFiles>>, client: &Arc<Issued>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, jwks).unwrap();
        let settings = settings.replace("{jwks}", &path.display().to_string());
        let text = format!("[store]\nurl = \"sqlite::memory:\"\n{settings}\n{TENANT}");
        let variables = tls.into_iter().flat_map(|files| files.variables());
        let config = Config::read("bench", &text, variables).unwrap();
        let (listener, admin) = (listen().await, listen().await);
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let app = App::new(config).await.unwrap();
        tokio::spawn(app.serve(listener, admin, stop.clone().cancelled_owned()));
        Self {
            address,
            tls: tls.cloned(),
            client: client.clone(),
            stop,
            _folder: folder,
        }
    }

    fn endpoint(&self, has_certificate: bool) -> Endpoint {
        match &self.tls {
            None => Endpoint::new(format!("http://{}", self.address)).unwrap(),
            Some(files) => files.endpoint(self.address, has_certificate.then_some(&*self.client)),
        }
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Shuffles by a fixed generator.
fn shuffle<T>(values: &mut [T], state: &mut u64) {
    for i in (1..values.len()).rev() {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        values.swap(i, (*state % (i as u64 + 1)) as usize);
    }
}

/// Microseconds per call.
fn per_call(took: Duration, calls: u32) -> f64 {
    took.as_secs_f64() * 1e6 / f64::from(calls)
}

/// The time to identify a caller, without the network.
fn identifications(key: &str, keys: &[(&str, TokenKey); 3]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let jwks = folder.path().join("jwks.json");
    std::fs::write(&jwks, all_keys(keys)).unwrap();
    let settings = settings(key).replace("{jwks}", &jwks.display().to_string());
    let text = format!("{settings}\n{TENANT}");
    let config = Config::read("bench", &text, std::iter::empty()).unwrap();
    let authenticator = leadgate::identity::Authenticator::new(&config.auth, config.registry).unwrap();
    let names: Arc<[SubjectName]> = [format!("spiffe://bench/{CALLER}").parse().unwrap()].into();
    let identify = |text: Option<&str>| {
        let certificate = text.is_none().then_some(&names);
        let found = authenticator.identify(text.map(str::as_bytes), certificate, SystemTime::now());
        assert!(matches!(found, Identification::Caller(_)), "{found:?}");
    };
    let mut table = String::from("| credential | time |\n|---|---|\n");
    let mut row = |name: &str, micros: f64| {
        let _ = writeln!(table, "| {name} | {micros:.2} us |");
    };
    let repeated = |text: Option<&str>| {
        let round = |_| {
            let began = Instant::now();
            (0..IDENTIFICATIONS).for_each(|_| identify(text));
            per_call(began.elapsed(), IDENTIFICATIONS)
        };
        median((0..ROUNDS).map(round).collect())
    };
    row("API key", repeated(Some(&format!("Bearer {key}"))));
    row("client certificate, verified", repeated(None));
    for (name, token_key) in keys {
        let text = format!("Bearer {}", token(token_key, 0));
        row(&format!("token, {name}, cached"), repeated(Some(&text)));
    }
    let mut number = 0;
    for (name, token_key) in keys {
        let mut round = || {
            let tokens: Vec<String> = (0..UNCACHED)
                .map(|_| {
                    number += 1;
                    format!("Bearer {}", token(token_key, number))
                })
                .collect();
            let began = Instant::now();
            tokens.iter().for_each(|token| identify(Some(token)));
            per_call(began.elapsed(), UNCACHED as u32)
        };
        let micros = median((0..ROUNDS).map(|_| round()).collect());
        row(&format!("token, {name}, first use"), micros);
    }
    table
}

/// The JWK Set of all keys.
fn all_keys(keys: &[(&str, TokenKey); 3]) -> String {
    key_set(&keys.each_ref().map(|(_, key)| key))
}

fn settings(key: &str) -> String {
    format!(
        "[auth]\nmode = \"callers\"\n[auth.jwt]\nissuer = \"https://idp.example\"\njwks = {{ file = \"{{jwks}}\" }}\n\
         [callers.{CALLER}]\napi_keys = [\"{}\"]\nsubjects = [\"{CALLER}\"]\ncertificates = [\"spiffe://bench/{CALLER}\"]\n\
         tenants = [\"*\"]\nallow = [\"*\"]\n",
        KeyHash::of(key)
    )
}

async fn rpcs(client: &mut QuotaServiceClient<Channel>, authorization: Option<&AsciiMetadataValue>) -> f64 {
    let began = Instant::now();
    for _ in 0..RPCS {
        let mut request = Request::new(pb::GetQuotaRequest {});
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        client.get_quota(request).await.unwrap();
    }
    per_call(began.elapsed(), RPCS)
}

/// The time of an RPC, and what each credential and TLS add to it.
async fn whole_rpcs(key: &str, keys: &[(&str, TokenKey); 3]) -> String {
    let jwks = all_keys(keys);
    let files = Arc::new(TlsFiles::new());
    let client = Arc::new(files.client_authority.client(&[&format!("spiffe://bench/{CALLER}")]));
    let none = Gateway::start("", &jwks, None, &client).await;
    let plain = Gateway::start(&settings(key), &jwks, None, &client).await;
    let tls_none = Gateway::start("", &jwks, Some(&files), &client).await;
    let tls = Gateway::start(&settings(key), &jwks, Some(&files), &client).await;
    let bearer = |text: &str| Some(format!("Bearer {text}"));
    let kind = |name, has_tls, authorization, has_certificate| Kind {
        name,
        has_tls,
        authorization,
        has_certificate,
    };
    let kinds = [
        kind("no TLS, no authentication", false, None, false),
        kind("no TLS, API key", false, bearer(key), false),
        kind(
            "no TLS, token (EdDSA, cached)",
            false,
            bearer(&token(&keys[2].1, 0)),
            false,
        ),
        kind("TLS, no authentication", true, None, false),
        kind("TLS, API key", true, bearer(key), false),
        kind("TLS, client certificate", true, None, true),
    ];
    let gateway = |kind: &Kind| match (kind.has_tls, kind.authorization.is_some() || kind.has_certificate) {
        (false, false) => &none,
        (false, true) => &plain,
        (true, false) => &tls_none,
        (true, true) => &tls,
    };
    let mut clients = Vec::new();
    for kind in &kinds {
        let channel = gateway(kind).endpoint(kind.has_certificate).connect().await.unwrap();
        let authorization = kind.authorization.as_ref().map(|text| text.parse().unwrap());
        clients.push((QuotaServiceClient::new(channel), authorization));
    }
    let mut times = vec![Vec::new(); kinds.len()];
    let mut state = SEED;
    // The first round only warms up.
    for round in 0..=2 * ROUNDS {
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        shuffle(&mut order, &mut state);
        for at in order {
            let (client, authorization) = &mut clients[at];
            let micros = rpcs(client, authorization.as_ref()).await;
            if round > 0 {
                times[at].push(micros);
            }
        }
    }
    let mut table = String::from("| client | RPC | difference to the first row |\n|---|---|---|\n");
    for (at, kind) in kinds.iter().enumerate() {
        let differences = times[at].iter().zip(&times[0]).map(|(own, first)| own - first);
        let difference = match at {
            0 => String::new(),
            _ => format!("{:+.1} us", median(differences.collect())),
        };
        let _ = writeln!(
            table,
            "| {} | {:.0} us | {difference} |",
            kind.name,
            median(times[at].clone())
        );
    }
    table.push_str("\n| connection | time until the first response |\n|---|---|\n");
    let connections = [
        ("no TLS", &none, false),
        ("TLS", &tls_none, false),
        ("TLS with client certificate", &tls, true),
    ];
    let mut times = vec![Vec::new(); connections.len()];
    for _ in 0..ROUNDS {
        let mut order: Vec<usize> = (0..connections.len()).collect();
        shuffle(&mut order, &mut state);
        for at in order {
            let (_, gateway, has_certificate) = connections[at];
            let began = Instant::now();
            for _ in 0..CONNECTIONS {
                let channel = gateway.endpoint(has_certificate).connect().await.unwrap();
                let request = pb::GetQuotaRequest {};
                QuotaServiceClient::new(channel).get_quota(request).await.unwrap();
            }
            times[at].push(per_call(began.elapsed(), CONNECTIONS));
        }
    }
    for ((name, ..), times) in connections.iter().zip(times) {
        let _ = writeln!(table, "| {name} | {:.2} ms |", median(times) / 1_000.0);
    }
    for gateway in [&none, &plain, &tls_none, &tls] {
        gateway.stop.cancel();
    }
    table
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments = std::env::args().skip_while(|argument| argument != "--write");
    let target = arguments.nth(1);
    let key = api_key::generate(CALLER);
    let keys = token_keys();
    let identify = identifications(&key, &keys);
    println!("{identify}");
    let rpc = whole_rpcs(&key, &keys).await;
    println!("{rpc}");
    if let Some(target) = target {
        let text = include_str!("auth.md")
            .replace("{identify}", &identify)
            .replace("{rpc}", &rpc)
            .replace("{machine}", &format!("{}, shared with others", machine::processor()));
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(Path::new(&target).join("auth.md"), text).unwrap();
    }
}
