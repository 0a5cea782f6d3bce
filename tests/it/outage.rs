//! Errors for operators: LeadSquared cannot be reached, a proxy fails, or the store cannot be written. They name the cause, host, port
//! and path.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Options, Simulator};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::Code;

use crate::harness::{World, by_id, closed_address, listen, seen};
use crate::process::{Said, leadgate, run};

/// A CA and its certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A TLS server with that name, in front of the server at that address.
    async fn serve(&self, name: &str, change: impl FnOnce(&mut CertificateParams), behind: SocketAddr) -> SocketAddr {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate: CertificateDer = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = listen().await;
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    if let Ok(mut behind) = TcpStream::connect(behind).await {
                        let _ = copy_bidirectional(&mut stream, &mut behind).await;
                    }
                });
            }
        });
        address
    }
}

async fn simulate() -> SocketAddr {
    serve(Simulator::new(Options::default())).await
}

pub async fn serve(simulator: Simulator) -> SocketAddr {
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(simulator.serve(listener, std::future::pending()));
    address
}

/// A server that does the same with every connection.
async fn server<F>(with: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener: TcpListener = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(with(stream));
        }
    });
    address
}

pub fn settings(base_url: &str, upstream: &str) -> String {
    let Options {
        access_key, secret_key, ..
    } = Options::default();
    format!(
        "[tenants.acme]\nbase_url = \"{base_url}\"\naccess_key = \"{access_key}\"\nsecret_key = \"{secret_key}\"\n\
         insecure_plaintext = true\n[tenants.acme.upstream]\nmax_attempts = 2\n{upstream}\n"
    )
}

/// The output of `check --connect`, with these additional environment variables.
async fn check(settings: &str, variables: &[(&str, &str)]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("leadgate.toml");
    let store = format!("[store]\nurl = \"sqlite://{}/leadgate.db\"\n", folder.path().display());
    std::fs::write(&config, format!("{settings}{store}")).unwrap();
    let mut command = leadgate();
    command.args(["check", "--connect", "--config"]).arg(&config);
    command.envs(variables.iter().copied());
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    output.unwrap().unwrap().into()
}

#[tokio::test]
async fn check_names_the_cause_of_each_connection_error_with_host_and_port() {
    let authority = Authority::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    std::fs::write(&ours, &authority.pem).unwrap();
    std::fs::write(&other, Authority::new("other").pem).unwrap();
    let (ours, other) = (ours.to_str().unwrap(), other.to_str().unwrap());

    let simulator = simulate().await;
    let good = authority.serve("localhost", |_| {}, simulator).await.port();
    let other_name = authority.serve("example.com", |_| {}, simulator).await.port();
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    let expired = authority.serve("localhost", expired, simulator).await.port();
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(2100, 1, 1);
    let future = authority.serve("localhost", future, simulator).await.port();
    let own = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let self_signed = authority.serve("localhost", own, simulator).await.port();
    let refused = closed_address().port();
    let silent = server(|stream| async move {
        let _stream = stream;
        std::future::pending().await
    });
    let silent = silent.await.port();
    let closing = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let closing = closing.await.port();
    // The responses of Go's server and of nginx.
    let https_only = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let text = "Client sent an HTTP request to an HTTPS server.\n";
        let head = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n";
        let _ = stream.write_all(format!("{head}{text}").as_bytes()).await;
    });
    let https_only = https_only.await.port();

    for (base_url, trusted, words) in [
        (
            "https://no-such-host.invalid".to_owned(),
            ours,
            ["no-such-host.invalid:443", "(DNS)"],
        ),
        (format!("http://127.0.0.1:{refused}"), ours, ["127.0.0.1:", "refused"]),
        (format!("https://localhost:{refused}"), ours, ["localhost:", "refused"]),
        (
            format!("https://localhost:{good}"),
            other,
            ["localhost:", "certificate is not trusted"],
        ),
        (
            format!("https://localhost:{self_signed}"),
            ours,
            ["localhost:", "it is self-signed"],
        ),
        (
            format!("https://localhost:{other_name}"),
            ours,
            ["localhost:", "for another host name"],
        ),
        (
            format!("https://localhost:{expired}"),
            ours,
            ["localhost:", "certificate has expired"],
        ),
        (
            format!("https://localhost:{future}"),
            ours,
            ["localhost:", "not valid yet"],
        ),
        (
            format!("https://localhost:{}", simulator.port()),
            ours,
            ["localhost:", "(protocol)"],
        ),
        (format!("http://localhost:{good}"), ours, ["localhost:", "(protocol)"]),
        (
            format!("http://localhost:{https_only}"),
            ours,
            ["localhost:", "requires HTTPS"],
        ),
        (
            format!("http://localhost:{silent}"),
            ours,
            ["localhost:", "no response within upstream.timeout"],
        ),
        (
            format!("https://localhost:{silent}"),
            ours,
            ["localhost:", "no connection within upstream.connect_timeout"],
        ),
        (
            format!("http://localhost:{closing}"),
            ours,
            ["localhost:", "closed before the response"],
        ),
        (
            format!("https://localhost:{closing}"),
            ours,
            ["localhost:", "during the TLS handshake"],
        ),
    ] {
        let timeouts = "connect_timeout = \"500ms\"\ntimeout = \"1s\"";
        // A resolver may be slow.
        let timeouts = if base_url.contains("invalid") { "" } else { timeouts };
        let said = check(&settings(&base_url, timeouts), &[("SSL_CERT_FILE", trusted)]).await;
        assert_eq!(said.code, Some(1), "{base_url}: {said:?}");
        for word in words {
            assert!(said.out.contains(word), "{base_url}: {word} in {said:?}");
        }
        assert!(!said.out.contains("Authentication.svc"), "{said:?}");
    }
    let said = check(
        &settings(&format!("https://localhost:{good}"), ""),
        &[("SSL_CERT_FILE", ours)],
    )
    .await;
    assert!(
        said.code == Some(0) && said.out.contains("role Administrator"),
        "{said:?}"
    );
}

#[tokio::test]
async fn the_error_has_the_cause_as_one_word() {
    let settings = settings(&format!("http://{}", closed_address()), "");
    let world = World::gateway(Simulator::new(Options::default()), &settings).await;
    let error = seen(
        world
            .get(by_id("00000000-0000-4000-8000-000000000001"))
            .await
            .unwrap_err(),
    );
    error.is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert_eq!(error.metadata["cause"], "refused");
    let text = error.status.message();
    assert!(!text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn the_status_page_and_top_tell_a_failure_of_leadsquared_from_one_of_the_own_network_or_settings() {
    let refused = format!("http://{}", closed_address());
    let untrusted = Authority::new("unknown")
        .serve("localhost", |_| {}, simulate().await)
        .await;
    let untrusted = format!("https://localhost:{}", untrusted.port());
    for (base_url, owner, text) in [
        (refused, "LeadSquared", "(refused)"),
        (
            untrusted,
            "network or settings",
            "ERROR: LeadSquared cannot be reached (certificate)",
        ),
    ] {
        let world = World::gateway(Simulator::new(Options::default()), &settings(&base_url, "")).await;
        world
            .get(by_id("00000000-0000-4000-8000-000000000001"))
            .await
            .unwrap_err();
        let severity = |snapshot: &serde_json::Value, name: &str| {
            let causes = snapshot["causes"].as_array().unwrap();
            let found = causes.iter().find(|cause| cause["cause"] == name).unwrap();
            found["severity"].clone()
        };
        let snapshot = world.snapshot(|snapshot| severity(snapshot, owner) == "error").await;
        for other in ["LeadSquared", "network or settings"] {
            let expected = if other == owner { "error" } else { "ok" };
            assert_eq!(severity(&snapshot, other), expected, "{snapshot}");
        }
        // A connection that fails says nothing about the latency.
        let rows = snapshot["tenant"]["endpoints"]["rows"].as_array().unwrap();
        assert!(
            !rows.is_empty() && rows.iter().all(|row| row["p95_ms"].is_null()),
            "{rows:?}"
        );
        let (_, metrics) = world.page("/metrics").await;
        assert!(!metrics.contains("leadgate_upstream_attempt_duration_seconds_count{"));
        let said: Said = run(&["top", "--once", "--addr", &world.address.to_string()])
            .await
            .into();
        let verdict = said.out.lines().find(|line| line.starts_with("verdict")).unwrap();
        assert!(
            verdict.contains("ERROR: LeadSquared ") && verdict.contains(text),
            "{said:?}"
        );
    }
}

/// Runs a gateway process until it has logged a line with these words. Returns all lines.
pub async fn log_until(
    settings: &str,
    variables: &[(&str, &str)],
    words: &[&str],
    then: impl AsyncFnOnce(&str),
) -> String {
    let folder = tempfile::tempdir().unwrap();
    let address = listen().await.local_addr().unwrap().to_string();
    let config = folder.path().join("leadgate.toml");
    let around = format!(
        "[server]\nlisten = \"{address}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"trace\"\n\
         [store]\nurl = \"sqlite://{}/leadgate.db\"\n",
        folder.path().display()
    );
    std::fs::write(&config, format!("{around}{settings}")).unwrap();
    let path = folder.path().join("log");
    let mut command = leadgate();
    command.arg("serve").arg("--config").arg(&config);
    command.envs(variables.iter().copied());
    command.stderr(std::fs::File::create(&path).unwrap());
    let mut child = command.spawn().unwrap();
    let log = || std::fs::read_to_string(&path).unwrap();
    let has = |text: &str| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
    let limit = Duration::from_secs(30);
    let waited = tokio::time::timeout(limit, async {
        while !has(&log()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "no {words:?} in {}", log());
    then(&address).await;
    child.kill().await.unwrap();
    log()
}

#[tokio::test]
async fn serve_logs_a_cause_once_and_not_for_every_attempt() {
    let address = listen().await.local_addr().unwrap();
    let warning = ["WARN", "LeadSquared cannot be reached", "refused"];
    let log = log_until(
        &settings(&format!("http://{address}"), ""),
        &[],
        &warning,
        async |gateway| {
            let mut client = pb::lead_service_client::LeadServiceClient::connect(format!("http://{gateway}"))
                .await
                .unwrap();
            for n in 0..5 {
                let request = pb::GetLeadRequest {
                    key: Some(by_id(&format!("00000000-0000-4000-8000-{n:012}"))),
                    ..Default::default()
                };
                client.get_lead(request).await.unwrap_err();
            }
        },
    )
    .await;
    let is = |line: &&str, words: &[&str]| words.iter().all(|word| line.contains(word));
    let warnings: Vec<_> = log.lines().filter(|line| is(line, &warning)).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains(&address.to_string()), "{warnings:?}");
    let attempts = log
        .lines()
        .filter(|line| is(line, &["leadgate::attempt", "\"cause\":\"refused\""]));
    assert!(attempts.count() >= 5, "{log}");
}

/// A proxy that connects every request to one address. Returns also the requested addresses.
async fn proxy(target: SocketAddr, password: Option<&'static str>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let requested = Arc::new(Mutex::new(Vec::new()));
    let seen = requested.clone();
    let address = server(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            seen.lock().unwrap().push(text.clone());
            let wanted = password.map(|password| format!("basic {password}"));
            if wanted.is_some_and(|wanted| !text.to_lowercase().contains(&wanted.to_lowercase())) {
                let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(refusal.as_bytes()).await;
                return;
            }
            let mut behind = TcpStream::connect(target).await.unwrap();
            if text.starts_with("CONNECT") {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            } else {
                // From the absolute form to that of an origin server.
                let (method, rest) = text.split_once(" http://").unwrap();
                let path = &rest[rest.find('/').unwrap()..];
                behind.write_all(format!("{method} {path}").as_bytes()).await.unwrap();
            }
            let _ = copy_bidirectional(&mut stream, &mut behind).await;
        }
    });
    (address.await, requested)
}

#[tokio::test]
async fn http_and_https_use_the_configured_proxy() {
    let simulator = simulate().await;
    let (http_proxy, requested) = proxy(simulator, Some("dXNlcjpQQFNTV09SRA==")).await;
    let url = format!("proxy = \"http://user:P%40SSWORD@{http_proxy}\"");
    let said = check(&settings("http://leadsquared.example", &url), &[]).await;
    assert!(
        said.code == Some(0) && said.out.contains("role Administrator"),
        "{said:?}"
    );
    assert!(requested.lock().unwrap()[0].starts_with("GET http://leadsquared.example/v2/Authentication.svc"));

    let authority = Authority::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, &authority.pem).unwrap();
    let trusted = [("SSL_CERT_FILE", trusted.to_str().unwrap())];
    let tls = authority.serve("leadsquared.example", |_| {}, simulator).await;
    let (tunnel, requested) = proxy(tls, Some("dXNlcjpQQFNTV09SRA==")).await;
    let url = format!("proxy = \"http://user:P%40SSWORD@{tunnel}\"");
    let said = check(&settings("https://leadsquared.example", &url), &trusted).await;
    assert!(
        said.code == Some(0) && said.out.contains("role Administrator"),
        "{said:?}"
    );
    assert!(requested.lock().unwrap()[0].starts_with("CONNECT leadsquared.example:443 "));

    // From an environment variable, like the keys.
    let url = format!("http://user:P%40SSWORD@{tunnel}");
    let variables = [trusted[0], ("PROXY_URL", url.as_str())];
    let said = check(
        &settings("https://leadsquared.example", "proxy = { env = \"PROXY_URL\" }"),
        &variables,
    )
    .await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[tokio::test]
async fn a_failing_proxy_is_named_without_its_password() {
    let simulator = simulate().await;
    let (address, _) = proxy(simulator, Some("other")).await;
    let refused = closed_address();
    for base_url in ["http://leadsquared.example", "https://leadsquared.example"] {
        for (proxy, words) in [
            (
                format!("http://user:S3CRET@{address}"),
                ["proxy refused", &address.to_string()],
            ),
            (
                format!("http://user:S3CRET@{refused}"),
                ["refused", &refused.to_string()],
            ),
            (
                "http://user:S3CRET@no-such-proxy.invalid:3128".to_owned(),
                ["(DNS)", "no-such-proxy.invalid:3128"],
            ),
        ] {
            let said = check(&settings(base_url, &format!("proxy = \"{proxy}\"")), &[]).await;
            assert_eq!(said.code, Some(1), "{said:?}");
            for word in words {
                assert!(said.out.contains(word), "{base_url} {word}: {said:?}");
            }
            assert!(!format!("{said:?}").contains("S3CRET"), "{said:?}");
        }
    }
    for wrong in [
        "ftp://user:S3CRET@proxy",
        "user:S3CRET@proxy:3128",
        "http://user:S3CRET@proxy/path",
        "http://user:S3CRET@",
        "S3CRET",
    ] {
        let said = check(&settings("http://127.0.0.1:1", &format!("proxy = \"{wrong}\"")), &[]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("tenants.acme.upstream.proxy: must be"), "{said:?}");
        assert!(!format!("{said:?}").contains("S3CRET"), "{said:?}");
    }
}

#[tokio::test]
async fn proxies_in_the_environment_are_ignored_and_logged() {
    let base_url = format!("http://{}", simulate().await);
    let proxy_url = format!("http://user:S3CRET@{}", closed_address());
    let variables = [
        ("HTTP_PROXY", proxy_url.as_str()),
        ("https_proxy", &proxy_url),
        ("ALL_PROXY", &proxy_url),
    ];
    let said = check(&settings(&base_url, ""), &variables).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let words = ["HTTP_PROXY", "https_proxy", "upstream.proxy", "ignoring the proxies"];
    let log = log_until(&settings(&base_url, ""), &variables, &words, async |_| {}).await;
    assert!(!log.contains("S3CRET"), "{log}");

    // Not logged if a proxy is configured.
    let (proxy, _) = proxy(base_url[7..].parse().unwrap(), None).await;
    let with = format!("proxy = \"http://user:S3CRET@{proxy}\"");
    let words = ["LeadsMetaData.Get", "\"outcome\":\"ok\""];
    let log = log_until(&settings(&base_url, &with), &variables, &words, async |_| {}).await;
    assert!(!log.contains("ignoring the proxies"), "{log}");
    assert!(!log.contains("S3CRET") && !log.contains("dXNlcjpTM0NSRVQ"), "{log}");
}

/// The output of a command with a store at that URL, as that user.
async fn with_store(command: &str, url: &str, user: Option<u32>) -> Said {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = folder.path().join("leadgate.toml");
    let text = settings("http://127.0.0.1:1", "");
    let around = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(&config, format!("{around}{text}[store]\nurl = \"{url}\"\n")).unwrap();
    let mut process = match user {
        None => leadgate(),
        Some(user) => {
            let mut process = tokio::process::Command::new("setpriv");
            let user = user.to_string();
            process.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
            process.arg(env!("CARGO_BIN_EXE_leadgate"));
            process
        }
    };
    process.arg(command).arg("--config").arg(&config).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), process.output()).await;
    output.unwrap().unwrap().into()
}

async fn assert_told(url: &str, user: Option<u32>, text: &str) {
    for command in ["check", "serve"] {
        let said = with_store(command, url, user).await;
        assert_eq!(said.code, Some(1), "{command}: {said:?}");
        assert!(said.err.contains(text), "{command}: {text} in {said:?}");
    }
}

#[tokio::test]
async fn check_and_serve_name_the_error_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display();
    std::fs::write(folder.path().join("file"), "nonsense".repeat(1000)).unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    for (path, text) in [
        ("none/leadgate.db", format!("the directory {root}/none does not exist")),
        ("sub", format!("{root}/sub is a directory, not a file")),
        ("file/leadgate.db", format!("{root}/file is not a directory")),
        ("file", format!("{root}/file is damaged, or is not a leadgate store")),
    ] {
        assert_told(&format!("sqlite://{root}/{path}"), None, &text).await;
    }
    assert_told("sqlite:///proc/leadgate.db", None, "the directory /proc").await;
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(files.len(), 2, "{files:?}");
}

#[tokio::test]
async fn check_and_serve_name_the_path_without_permission() {
    const NOBODY: u32 = 65_534;
    let probe = with_store("--version", "", Some(NOBODY)).await;
    if probe.err.contains("setpriv") || probe.err.contains("ermission") {
        // Only root can change the user, and only if the user can execute the program.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display().to_string();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    let url = format!("sqlite://{root}/leadgate.db");
    let text = format!("the directory {root} cannot be written by user {NOBODY}");
    assert_told(&url, Some(NOBODY), &text).await;

    let store = folder.path().join("leadgate.db");
    let made = with_store("check", &url, None).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    std::fs::write(&store, "").unwrap();
    mode(folder.path(), 0o777);
    mode(&store, 0o444);
    assert_told(&url, Some(NOBODY), &format!("{root}/leadgate.db is read-only")).await;
    mode(&store, 0o644);
    assert_told(
        &url,
        Some(NOBODY),
        &format!("{root}/leadgate.db cannot be written by user {NOBODY}"),
    )
    .await;
}
