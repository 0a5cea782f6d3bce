//! Commands use TLS for https:// addresses, and never fall back to plaintext.

use super::double::Double;
use super::{Fixture, ended};
use crate::harness::listen;
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
        said.code == Some(1) && said.err.contains("--ca-file can add it"),
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
