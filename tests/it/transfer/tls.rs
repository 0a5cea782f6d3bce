//! Commands use TLS for https:// addresses, and never fall back to plaintext.

use std::time::Duration;

use leadgate::identity::api_key::{self, KeyHash};
use leadgate_simulator::{Latency, Options};

use super::double::{Double, Reply};
use super::{Fixture, SETTINGS, alike, ended};
use crate::certificates::TlsFiles;
use crate::harness::{World, listen};
use crate::process::{Said, leadgate, run};

const AUTHORITY: &str = include_str!("tls/authority.pem");
const CERTIFICATE: &str = include_str!("tls/server.pem");
const KEY: &str = include_str!("tls/server.key");

#[tokio::test]
async fn an_address_of_https_is_reached_by_tls() {
    let double = Double::with_tls(CERTIFICATE, KEY).await;
    let url = format!("https://localhost:{}", double.address.port());
    let fixture = Fixture::open(|_| {}).await;
    fixture.write("authority.txt", AUTHORITY);
    fixture.write("nothing.txt", "no certificate");
    fixture.write("leads.csv", "email_address,FirstName\na@x.co,a1\n");
    let path = |name: &str| fixture.path(name).to_str().unwrap().to_owned();
    let authority = path("authority.txt");

    let said: Said = run(&["health", "--addr", &url, "--ca-file", &authority]).await.into();
    assert_eq!((said.code, said.out.as_str()), (Some(0), "serving\n"), "{said:?}");
    // Upper case is valid as well.
    let upper = url.replace("https", "HTTPS");
    let said: Said = run(&["health", "--addr", &upper, "--ca-file", &authority]).await.into();
    assert_eq!(said.code, Some(0), "{said:?}");
    let import = ["import", &path("leads.csv"), "--addr", &url, "--ca-file", &authority];
    let said: Said = run(&import).await.into();
    assert_eq!((said.code, double.done()), (Some(0), vec!["a1".to_owned()]), "{said:?}");

    // The certificates of the system, which this variable names, are trusted without the option.
    let trusting = leadgate()
        .args(["health", "--addr", &url])
        .env("SSL_CERT_FILE", &authority)
        .output();
    let said: Said = trusting.await.unwrap().into();
    assert_eq!(said.code, Some(0), "{said:?}");
    let said: Said = run(&["health", "--addr", &url]).await.into();
    assert!(
        said.code == Some(1) && said.err.contains("--tls-ca can add it"),
        "{said:?}"
    );
    let said: Said = run(&["health", "--addr", &url, "--ca-file", &path("nothing.txt")])
        .await
        .into();
    assert!(said.err.contains("has no certificate"), "{said:?}");
}

#[tokio::test]
async fn an_address_of_https_never_gets_plaintext() {
    let listener = listen().await;
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let first_byte = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        // The socket may not be readable after all.
        while stream.try_read(&mut byte).is_err() {
            stream.readable().await.unwrap();
        }
        byte[0]
    };
    let (said, byte) = tokio::join!(leadgate().args(["shares", "list", "--addr", &url]).output(), first_byte);
    // The record type of a TLS handshake; plaintext would begin with the P of HTTP/2's preface.
    assert_eq!(byte, 0x16);
    assert_eq!(Said::from(said.unwrap()).code, Some(1));

    let fixture = Fixture::open(|_| {}).await;
    fixture.write("leads.csv", "email_address\na@x.co\n");
    let plain = fixture.world.address.port();
    for (address, text) in [
        (format!("https://localhost:{plain}"), "does not use TLS"),
        (format!("ftp://localhost:{plain}"), "https://HOST:PORT"),
        ("https://".to_owned(), "https://HOST:PORT"),
    ] {
        let child = leadgate()
            .args([
                "import",
                fixture.path("leads.csv").to_str().unwrap(),
                "--addr",
                &address,
            ])
            .spawn()
            .unwrap();
        let said = ended(child).await;
        assert!(said.code == Some(2) && said.err.contains(text), "{address}: {said:?}");
    }
    fixture.write("authority.txt", AUTHORITY);
    let plain = format!("http://127.0.0.1:{plain}");
    let authority = fixture.path("authority.txt");
    let said: Said = run(&["health", "--addr", &plain, "--ca-file", authority.to_str().unwrap()])
        .await
        .into();
    assert!(said.code == Some(1) && said.err.contains("without TLS"), "{said:?}");
}

#[tokio::test]
async fn an_import_and_an_export_continue_with_the_next_token() {
    let files = TlsFiles::new();
    files.write("authority.crt", &files.server_authority.pem);
    let (old, new) = (api_key::generate("etl"), api_key::generate("etl"));
    let settings = |key: &str| {
        format!(
            "{SETTINGS}[auth]\nmode = \"callers\"\n[callers.etl]\napi_keys = [\"{}\"]\ntenants = [\"acme\"]\n\
             allow = [\"LeadService/*\"]\n",
            KeyHash::of(key)
        )
    };
    let mut options = Options::default();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    let set_latency = |options: &mut Options, milliseconds| {
        options.latency = Latency {
            min: Duration::from_millis(milliseconds),
            max: Duration::from_millis(milliseconds + 100),
        };
    };
    set_latency(&mut options, 500);
    let fixture = Fixture {
        world: World::with_tls(options, &settings(&old), &files, None).await,
        folder: tempfile::tempdir().unwrap(),
    };
    let path = |name: &str| fixture.path(name).to_str().unwrap().to_owned();
    let spawn = |arguments: &[&str]| {
        let address = format!("https://localhost:{}", fixture.world.address.port());
        let mut command = leadgate();
        command.args(arguments).args(["--addr", &address]);
        command.args(["--tls-ca", files.path("authority.crt").to_str().unwrap()]);
        command.args(["--token-file", &path("token.txt")]).spawn().unwrap()
    };
    // As Kubernetes does it: the file is there at any time. The old key is revoked at once.
    let rotate = |key: &str| {
        fixture.write("next.txt", format!("{key}\n"));
        std::fs::rename(fixture.path("next.txt"), fixture.path("token.txt")).unwrap();
        fixture.world.write_settings(&settings(key));
    };
    let is_continued = |said: &Said| {
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.err.contains("The stream was interrupted"), "{said:?}");
        let all = format!("{}{}", said.out, said.err);
        assert!(!all.contains(&old) && !all.contains(&new), "{said:?}");
    };

    fixture.write("token.txt", &old);
    fixture.write("leads.csv", alike(1_500));
    let importing = spawn(&["import", &path("leads.csv"), "--mode", "create"]);
    fixture.until(100).await;
    rotate(&new);
    is_continued(&ended(importing).await);
    fixture.assert_each_once(1_500);

    for n in 1_500..7_000 {
        fixture.world.simulator.insert_lead(&[("LastName", &n.to_string())]);
    }
    fixture.world.set_options(|options| set_latency(options, 1_000));
    let exporting = spawn(&["export", "--from", "24h", "--out", &path("all.csv")]);
    let written = async {
        while !fixture.path("all.csv.part").exists() || fixture.read("all.csv.part").lines().count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written).await.unwrap();
    rotate(&old);
    is_continued(&ended(exporting).await);
    assert_eq!(fixture.read("all.csv").lines().count(), 7_001);

    // Without a valid token, the command ends at its first call.
    rotate(&new);
    fixture.write("token.txt", &old);
    let said = ended(spawn(&["export", "--from", "24h", "--out", &path("none.csv")])).await;
    assert!(said.code == Some(1) && said.err.contains("CALLER_UNKNOWN"), "{said:?}");
}

#[tokio::test]
async fn a_caller_with_credentials_does_not_name_itself() {
    let fixture = Fixture::open(|_| {}).await;
    fixture.write("leads.csv", "email_address,FirstName\na@x.co,a1\n");
    fixture.write("token.txt", api_key::generate("etl"));
    let token = fixture.path("token.txt");
    let import = ["import", "leads.csv"];
    for (arguments, name) in [
        (&import[..], Some("transfer")),
        (&["import", "leads.csv", "--token-file", token.to_str().unwrap()], None),
    ] {
        let double = Double::start(|_, _| Reply::Taken).await;
        let said = ended(fixture.spawn(double.address, arguments)).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(double.callers().last().unwrap().as_deref(), name);
    }
}
