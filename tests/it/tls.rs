//! TLS of the gRPC port: handshakes, client certificates, changed files.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use leadgate::config::Config;
use leadgate::grpc::pb;
use leadgate::tls::Tls;
use leadgate_simulator::Options;
use pb::lead_service_client::LeadServiceClient;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::certificates::{Authority, Issued, TlsFiles, in_days};
use crate::harness::{Client, World, lead};
use crate::process::run;

/// The preface of HTTP/2 and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn world(files: &TlsFiles) -> World {
    World::with_tls(Options::default(), "", files, None).await
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A client with these versions of TLS and these protocols (ALPN).
fn config(
    files: &TlsFiles,
    versions: &[&'static SupportedProtocolVersion],
    client: Option<&Issued>,
    protocols: &[&str],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&files.server_authority.pem)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap();
            builder
                .with_client_auth_cert(vec![certificate(&client.cert)], key)
                .unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

async fn connect(world: &World, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(world.address).await?;
    let name = "localhost".try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Whether the gateway accepts the connection and responds to the preface of HTTP/2 with its settings.
async fn serves_http_2(world: &World, config: ClientConfig) -> std::io::Result<bool> {
    let mut stream = connect(world, config).await?;
    stream.write_all(PREFACE).await?;
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    const SETTINGS: u8 = 4;
    Ok(header[3] == SETTINGS)
}

/// The metrics of the admin port.
async fn metric(world: &World, line: &str) -> bool {
    world.page("/metrics").await.1.lines().any(|seen| seen == line)
}

#[tokio::test]
async fn rpcs_work_over_tls_1_2_and_1_3() {
    let files = TlsFiles::new();
    let world = world(&files).await;
    world.create(lead("Asha")).await.unwrap();
    for (version, expected) in [
        (&version::TLS12, ProtocolVersion::TLSv1_2),
        (&version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let stream = connect(&world, config(&files, &[version], None, &["h2"]))
            .await
            .unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.protocol_version(), Some(expected));
        assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
        let client = config(&files, &[version], None, &["http/1.1", "h2"]);
        assert!(serves_http_2(&world, client).await.unwrap());
    }
    world.stop().await;
}

#[tokio::test]
async fn http_2_works_without_alpn_and_http_1_gets_the_name_of_the_protocol() {
    let files = TlsFiles::new();
    let world = world(&files).await;
    let all = rustls::ALL_VERSIONS;
    assert!(serves_http_2(&world, config(&files, all, None, &[])).await.unwrap());
    for protocols in [&["http/1.1"][..], &[]] {
        let mut stream = connect(&world, config(&files, all, None, protocols)).await.unwrap();
        let request = b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 505 "), "{response}");
        assert!(response.contains("this port serves gRPC over HTTP/2"), "{response}");
    }
    let unknown = connect(&world, config(&files, all, None, &["spdy/3"])).await;
    let error = unknown.unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test]
async fn grpc_web_works_with_http_1_over_tls() {
    let files = TlsFiles::new();
    let settings = "[server]\ncors_origins = [\"https://intranet.example.com\"]";
    let world = World::with_tls(Options::default(), settings, &files, None).await;
    let config = config(&files, rustls::ALL_VERSIONS, None, &["http/1.1"]);
    let mut stream = connect(&world, config).await.unwrap();
    let path = "/leadgate.v1.QuotaService/GetQuota";
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/grpc-web\r\ncontent-length: 5\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), &[0; 5]].concat()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let response = String::from_utf8_lossy(&response);
    assert!(
        response.starts_with("HTTP/1.1 200 ") && response.contains("grpc-status: 0\r\n"),
        "{response}"
    );
}

#[tokio::test]
async fn client_certificates_are_optional_and_invalid_ones_fail_the_handshake() {
    let files = TlsFiles::new();
    let world = world(&files).await;
    let names = ["spiffe://prod/checkout"];
    let valid = files.client_authority.client(&names);
    let invalid = [
        Authority::new().client(&names),
        files.client_authority.client_until(&names, in_days(-1)),
        // A certificate of a server cannot be used by a client.
        files.client_authority.server(),
    ];
    for version in [&version::TLS12, &version::TLS13] {
        for accepted in [None, Some(&valid)] {
            let client = config(&files, &[version], accepted, &["h2"]);
            assert!(serves_http_2(&world, client).await.unwrap());
        }
        for rejected in &invalid {
            let client = config(&files, &[version], Some(rejected), &["h2"]);
            let error = serves_http_2(&world, client).await.unwrap_err().to_string();
            assert!(error.contains("alert"), "{error}");
        }
    }
    let expected = "leadgate_tls_handshakes_failed_total{reason=\"error\"} 6";
    assert!(metric(&world, expected).await);
    let channel = files.endpoint(world.address, Some(&valid)).connect().await.unwrap();
    let request = pb::DescribeLeadFieldsRequest::default();
    LeadServiceClient::new(channel)
        .describe_lead_fields(request)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_without_tls_is_closed_and_counted() {
    let files = TlsFiles::new();
    let world = world(&files).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    // At most an alert of TLS: its record has type 21.
    assert!(response.first().is_none_or(|first| *first == 21), "{response:?}");
    world
        .until("leadgate_tls_handshakes_failed_total{reason=\"error\"} 1")
        .await;
}

#[tokio::test]
async fn handshakes_in_progress_delay_no_other_connection() {
    let files = TlsFiles::new();
    let world = world(&files).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    let channel = files.endpoint(world.address, None).connect().await.unwrap();
    let request = pb::DescribeLeadFieldsRequest::default();
    let mut client: Client = LeadServiceClient::new(channel);
    client.describe_lead_fields(request).await.unwrap();
    // They do not delay the shutdown either.
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, world.stop()).await.unwrap();
}

/// Whether a new connection succeeds with a client that trusts this authority.
async fn trusts(world: &World, files: &TlsFiles, authority: &Authority) -> bool {
    let mut client = config(files, rustls::ALL_VERSIONS, None, &["h2"]);
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&authority.pem)).unwrap();
    let provider = client.crypto_provider().clone();
    let protocols = std::mem::take(&mut client.alpn_protocols);
    client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = protocols;
    connect(world, client).await.is_ok()
}

#[tokio::test]
async fn changed_files_apply_to_new_connections_and_open_ones_continue() {
    let files = TlsFiles::new();
    let world = world(&files).await;
    let (old, new) = (&files.server_authority, Authority::new());
    files.write_server(&new.server_until(in_days(30)));
    assert!(trusts(&world, &files, old).await);
    let tls = world.tls.as_ref().unwrap();
    tls.reload().unwrap();
    assert!(trusts(&world, &files, &new).await);
    assert!(!trusts(&world, &files, old).await);
    world.create(lead("Asha")).await.unwrap();

    // A file that cannot be used changes nothing.
    files.write("tls.key", "nonsense");
    let error = tls.reload().unwrap_err();
    assert!(
        error.contains("tls.key: the file has no private key in PEM form"),
        "{error}"
    );
    assert!(trusts(&world, &files, &new).await);
    assert_eq!(tls.generation(), 0);
    assert!(tls.warnings(SystemTime::now()).is_empty());

    files.write_server(&new.server_until(in_days(10)));
    tls.reload().unwrap();
    let warnings = tls.warnings(SystemTime::now()).join("\n");
    assert!(warnings.starts_with("server.tls.cert_file ("), "{warnings}");
    assert!(
        warnings.ends_with("tls.crt): a certificate expires in 9 days"),
        "{warnings}"
    );
    let (_, metrics) = world.page("/metrics").await;
    let prefix = "leadgate_certificate_expiry_timestamp_seconds{file=\"server\"} ";
    let expiry = metrics.lines().find_map(|line| line.strip_prefix(prefix)).unwrap();
    let expected = in_days(10).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(expected - expiry.parse::<u64>().unwrap() < 60, "{expiry}");
}

#[tokio::test]
async fn a_client_is_verified_again_after_its_authority_was_replaced() {
    let files = TlsFiles::new();
    let world = world(&files).await;
    let tls: &Tls = world.tls.as_ref().unwrap();
    let now = SystemTime::now();
    let chain = |issued: &Issued| vec![certificate(&issued.cert)];
    let old = chain(&files.client_authority.client(&["dns:checkout.internal"]));
    let new_authority = Authority::new();
    let new = chain(&new_authority.client(&["dns:checkout.internal"]));
    tls.verify_client(&old, now).unwrap();
    tls.verify_client(&old, in_days(364)).unwrap();
    tls.verify_client(&old, in_days(366)).unwrap_err();
    tls.verify_client(&new, now).unwrap_err();
    tls.verify_client(&[], now).unwrap_err();

    tls.reload().unwrap();
    assert_eq!(tls.generation(), 0);
    // Both authorities, as during a rotation.
    files.write(
        "ca.crt",
        &format!("{}{}", files.client_authority.pem, new_authority.pem),
    );
    tls.reload().unwrap();
    assert_eq!(tls.generation(), 1);
    tls.verify_client(&old, now).unwrap();
    tls.verify_client(&new, now).unwrap();
    files.write("ca.crt", &new_authority.pem);
    tls.reload().unwrap();
    assert_eq!(tls.generation(), 2);
    tls.verify_client(&old, now).unwrap_err();
    tls.verify_client(&new, now).unwrap();
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_of_the_configuration() {
    let files = TlsFiles::new();
    let tenant = "[tenants.acme]\nbase_url = \"https://x\"\naccess_key = \"x\"\nsecret_key = \"x\"\n";
    let read = || Config::read("test", tenant, files.variables().into_iter());
    assert!(read().is_ok());
    let server = files.server_authority.server();
    let cases = [
        (
            "tls.crt",
            "",
            "cert_file",
            "tls.crt: the file has no certificate in PEM form",
        ),
        (
            "tls.crt",
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "cert_file",
            "tls.crt: invalid PEM: a section has no END line",
        ),
        (
            "tls.crt",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "cert_file",
            "tls.crt: invalid certificate: ",
        ),
        (
            "tls.key",
            "",
            "key_file",
            "tls.key: the file has no private key in PEM form",
        ),
        (
            "tls.key",
            &server.key,
            "key_file",
            "the certificate and the key cannot be used together",
        ),
        (
            "ca.crt",
            "x",
            "client_ca_file",
            "ca.crt: the file has no certificate in PEM form",
        ),
    ];
    for (name, text, setting, expected) in cases {
        let before = std::fs::read_to_string(files.path(name)).unwrap();
        files.write(name, text);
        let error = read().unwrap_err().to_string();
        let line = format!("server.tls.{setting}: ");
        assert!(
            error.contains(&line) && error.contains(expected),
            "{expected}\nin {error}"
        );
        files.write(name, &before);
    }
    std::fs::remove_file(files.path("ca.crt")).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(
        error.contains("ca.crt: reading the file failed: No such file"),
        "{error}"
    );
}

#[test]
fn settings_of_tls_are_checked() {
    let errors = |server: &str| {
        let text = format!(
            "[server]\nlisten = \"0.0.0.0:1\"\n{server}\n[tenants.acme]\nbase_url = \"https://x\"\naccess_key = \"x\"\nsecret_key = \"x\"\n"
        );
        let config = Config::read("test", &text, std::iter::empty());
        config.map(drop).map_err(|errors| errors.to_string())
    };
    let files = TlsFiles::new();
    let path = |name: &str| files.path(name).display().to_string();
    let (cert, key) = (path("tls.crt"), path("tls.key"));
    // With TLS and known callers, any address is allowed, and client_ca_file is optional.
    let valid = format!("tls = {{ cert_file = \"{cert}\", key_file = \"{key}\" }}");
    assert_eq!(errors(&format!("{valid}\n[auth]\nmode = \"callers\"")), Ok(()));
    for (server, expected) in [
        (
            "",
            "server.listen: must be a loopback address, because every client could use the gateway; server.tls",
        ),
        (&valid, "server.listen: must be a loopback address"),
        (
            "[auth]\nmode = \"callers\"",
            "server.listen: must be a loopback address",
        ),
        (
            "tls = true",
            "server.tls: must be a table { cert_file, key_file, client_ca_file }",
        ),
        ("tls = { cert_file = \"x\" }", "server.tls.key_file: is required"),
        (
            "tls = { key_fil = \"x\" }",
            "server.tls.key_fil: unknown setting; did you mean key_file?",
        ),
        (
            &format!("[rest]\ntls = {{ cert_file = \"{cert}\", key_file = \"{key}\", client_ca_file = \"{cert}\" }}"),
            "rest.tls.client_ca_file: must not be set",
        ),
        (
            "[callers.a]\nrest_max_wait = \"400000000000y\"",
            "callers.a.rest_max_wait: must be at most a day",
        ),
        ("tlss = { }", "server.tlss: unknown setting; did you mean tls?"),
    ] {
        let error = errors(server).unwrap_err();
        assert!(error.contains(expected), "{expected}\nin {error}");
    }
}

#[tokio::test]
async fn check_warns_of_a_certificate_that_expires_soon() {
    let files = TlsFiles::new();
    files.write_server(&files.server_authority.server_until(in_days(13)));
    let config = files.path("leadgate.toml");
    let [cert, key, ca] = ["tls.crt", "tls.key", "ca.crt"].map(|name| files.path(name).display().to_string());
    let text = format!(
        "[server]\ntls = {{ cert_file = \"{cert}\", key_file = \"{key}\", client_ca_file = \"{ca}\" }}\n[store]\nurl = \"sqlite::memory:\"\n\
         [tenants.acme]\nbase_url = \"https://x\"\naccess_key = \"x\"\nsecret_key = \"x\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = run(&["check", "--config", config.to_str().unwrap()]).await;
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}");
    let expected = format!("server.tls.cert_file ({cert}): a certificate expires in 12 days\n");
    assert!(out.ends_with(&expected), "{out}");
}
