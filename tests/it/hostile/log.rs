//! What unknown clients can write to the log.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use leadgate::identity::api_key;
use leadgate_simulator::Options;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::account::Account;
use crate::auth::{call, callers};
use crate::certificates::TlsFiles;
use crate::harness::{concurrently, listen};

const GET_LEAD: &str = "/leadgate.v1.LeadService/GetLead";
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// The log has 10 lines of a kind per second, so that far fewer lines are written than this.
const COUNT: usize = 400;
const LIMIT: Duration = Duration::from_secs(30);

/// The lines of the log with that message.
fn lines(log: &Path, message: &str) -> Vec<Json> {
    let log = std::fs::read_to_string(log).unwrap();
    // The last line may be incomplete.
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// Connects without TLS, and waits until the server closes the connection.
async fn connect_without_tls(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn unknown_clients_are_named_in_the_log_and_do_not_fill_it() {
    let files = TlsFiles::new();
    let key = api_key::generate("checkout");
    let settings = callers(&[("checkout", &key, "tenants = [\"*\"]\nallow = [\"*\"]")]);
    let account = Account::open(Options::default(), &settings).await;
    let process = account.process().await;
    let path = |name: &str| files.path(name).display().to_string();
    let tls = format!(
        "[server]\ntls = {{ cert_file = \"{}\", key_file = \"{}\" }}\n",
        path("tls.crt"),
        path("tls.key")
    );
    let text = std::fs::read_to_string(&process.path).unwrap();
    std::fs::write(&process.path, text.replacen("[server]\n", &tls, 1)).unwrap();
    let mut child = process.start();
    let endpoint = files.endpoint(process.address, None);
    let connected = async {
        loop {
            match endpoint.connect().await {
                Ok(channel) => return channel,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let channel = tokio::time::timeout(LIMIT, connected).await.unwrap();
    let log = account.folder.path().join("log");

    // RPCs without a credential. The first line after a second has the number of suppressed lines.
    let rpcs = (0..COUNT).map(|_| {
        let channel = channel.clone();
        async move { call(&channel, GET_LEAD, None, None).await }
    });
    for status in concurrently(rpcs).await {
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    let mut made = COUNT;
    let all_counted = async {
        loop {
            call(&channel, GET_LEAD, None, None).await;
            made += 1;
            let lines = lines(&log, "rpc finished");
            let suppressed = lines.iter().filter_map(|line| line["suppressed"].as_u64()).sum::<u64>();
            if lines.len() + usize::try_from(suppressed).unwrap() == made {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let written = tokio::time::timeout(LIMIT, all_counted).await.unwrap();
    assert!(written.len() < COUNT / 2, "{}", written.len());
    for line in &written {
        assert_eq!(
            (&line["peer"], &line["auth_failure"]),
            (&"127.0.0.1".into(), &"no_credential".into())
        );
    }

    // Metadata that is too large, at the service that needs no credential.
    let large = "x".repeat(20_000);
    let checks = (0..COUNT).map(|_| {
        let (channel, large) = (channel.clone(), large.clone());
        async move { call(&channel, CHECK, Some(&large), None).await }
    });
    for status in concurrently(checks).await {
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let written = lines(&log, "request metadata exceeds server.max_metadata_bytes").len();
    assert!((1..COUNT / 2).contains(&written), "{written}");

    // Handshakes that fail. A probe of a load balancer, which sends no byte, is none.
    drop(TcpStream::connect(process.address).await.unwrap());
    for _ in 0..COUNT {
        connect_without_tls(process.address).await;
    }
    let written = lines(&log, "tls handshake failed");
    assert!((1..COUNT / 2).contains(&written.len()), "{}", written.len());
    for line in &written {
        assert_eq!((&line["level"], &line["peer"]), (&"INFO".into(), &"127.0.0.1".into()));
        assert!(!line["error"].as_str().unwrap().is_empty(), "{line}");
    }
    let metrics = reqwest::get(format!("http://{}/metrics", process.admin)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let failed = format!("leadgate_tls_handshakes_failed_total{{reason=\"error\"}} {COUNT}\n");
    assert!(metrics.contains(&failed), "{metrics}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn requests_without_a_valid_pair_of_keys_do_not_fill_the_log() {
    let rest = listen().await.local_addr().unwrap();
    let account = Account::open(Options::default(), &format!("[rest]\nlisten = \"{rest}\"\n")).await;
    let process = account.process().await;
    let mut child = process.start();
    let listening = async {
        while TcpStream::connect(rest).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, listening).await.unwrap();
    let log = account.folder.path().join("log");
    let options = Options::default();
    let keys = format!("accessKey={}&secretKey={}", options.access_key, options.secret_key);
    let url = format!("http://{rest}/v2/LeadManagement.svc/Leads.GetById?{keys}");
    let client = reqwest::Client::new();
    let request = || {
        let request = client.get(&url);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    for status in concurrently((0..COUNT).map(|_| request())).await {
        assert_eq!(status, 401);
    }
    let mut made = COUNT;
    let all_counted = async {
        loop {
            request().await;
            made += 1;
            // Also until the line is written.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let lines = lines(&log, "rest request finished");
            let suppressed = lines.iter().filter_map(|line| line["suppressed"].as_u64()).sum::<u64>();
            if lines.len() + usize::try_from(suppressed).unwrap() == made {
                return lines;
            }
        }
    };
    let written = tokio::time::timeout(LIMIT, all_counted).await.unwrap();
    assert!(written.len() < COUNT / 2, "{}", written.len());
    for line in &written {
        assert_eq!(
            (&line["peer"], &line["auth_failure"]),
            (&"127.0.0.1".into(), &"real_keys".into())
        );
    }
    child.kill().await.unwrap();
}
