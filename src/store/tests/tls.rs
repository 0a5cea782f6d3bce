//! PostgreSQL over TLS, and passwords.

use std::fs;
use std::path::PathBuf;

use rcgen::ExtendedKeyUsagePurpose;

use super::certificates::{Authority, Issued, in_days};
use super::postgres::backend;
use super::server::Server;
use crate::store::{Store, StoreOptions};

/// A server with TLS, and the files of its clients.
struct TlsServer {
    server: Server,
    authority: Authority,
    client: Issued,
    folder: tempfile::TempDir,
}

impl TlsServer {
    /// The certificate of the server is for `localhost` and 127.0.0.1.
    fn start() -> Self {
        let server = Server::start("fsync = off");
        let (authority, clients) = (Authority::new(), Authority::new());
        let issued = authority.server();
        server.use_tls(&issued.cert, &issued.key, &clients.pem);
        Self {
            server,
            authority,
            client: clients.client(&["dns:leadgate"]),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Replaces the certificate of the server.
    fn replace(&self, issued: &Issued) {
        self.server.use_tls(&issued.cert, &issued.key, &self.authority.pem);
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn url(&self, parameters: &str) -> String {
        self.server.url("postgres").replace("sslmode=disable", parameters)
    }

    /// A URL that checks the certificate of the server.
    fn verified_url(&self, host: &str, authority: &Authority) -> String {
        let ca = self.file("ca.pem", &authority.pem);
        let url = self.url(&format!("sslmode=verify-full&sslrootcert={}", ca.display()));
        url.replace("127.0.0.1", host)
    }
}

/// Opens a store, and returns whether its connection uses TLS.
async fn uses_tls(url: &str) -> Result<bool, String> {
    let store = Store::open(url).await.map_err(|error| error.to_string())?;
    let query = "SELECT ssl::int::bigint FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let uses = backend(&store).count(query).await == 1;
    store.close().await;
    Ok(uses)
}

#[tokio::test]
async fn the_mode_decides_whether_a_connection_uses_tls() {
    let server = TlsServer::start();
    for (mode, expected) in [("disable", false), ("prefer", true), ("require", true)] {
        let found = uses_tls(&server.url(&format!("sslmode={mode}"))).await;
        assert_eq!(found, Ok(expected), "{mode}");
    }
    assert_eq!(uses_tls(&server.url("")).await, Ok(true));
}

#[tokio::test]
async fn a_server_without_tls_is_an_error_unless_plaintext_is_allowed() {
    let server = Server::shared();
    let database = server.create_database();
    let url = |mode: &str| server.url(&database).replace("sslmode=disable", mode);
    assert_eq!(uses_tls(&url("sslmode=prefer")).await, Ok(false));
    for mode in ["require", "verify-full"] {
        let error = uses_tls(&url(&format!("sslmode={mode}"))).await.unwrap_err();
        assert!(
            error.contains("does not support TLS; set ssl = on at the server"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_certificate_of_the_server_is_verified_with_its_authority_and_its_name() {
    let server = TlsServer::start();
    for host in ["127.0.0.1", "localhost"] {
        let found = uses_tls(&server.verified_url(host, &server.authority)).await;
        assert_eq!(found, Ok(true), "{host}");
    }
    let error = uses_tls(&server.verified_url("127.0.0.1", &Authority::new())).await;
    let error = error.unwrap_err();
    assert!(
        error.contains("not from a trusted authority; set sslrootcert"),
        "{error}"
    );
    // Without sslrootcert, only public authorities are trusted.
    let error = uses_tls(&server.url("sslmode=verify-full")).await.unwrap_err();
    assert!(error.contains("not from a trusted authority"), "{error}");

    let issued = server
        .authority
        .issue(&["dns:db.example"], ExtendedKeyUsagePurpose::ServerAuth, in_days(365));
    server.replace(&issued);
    let error = uses_tls(&server.verified_url("127.0.0.1", &server.authority)).await;
    let error = error.unwrap_err();
    assert!(error.contains("not valid for the host 127.0.0.1"), "{error}");
    // The certificate is not verified in this mode.
    assert_eq!(uses_tls(&server.url("sslmode=require")).await, Ok(true));

    let expired = server.authority.server_until(in_days(-1));
    server.replace(&expired);
    let error = uses_tls(&server.verified_url("127.0.0.1", &server.authority)).await;
    let error = error.unwrap_err();
    assert!(error.contains("has expired"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_sent() {
    let server = TlsServer::start();
    server
        .server
        .sql("postgres", "CREATE ROLE with_certificate LOGIN SUPERUSER");
    let (certificate, key) = (
        server.file("client.pem", &server.client.cert),
        server.file("client.key", &server.client.key),
    );
    let url = server.verified_url("localhost", &server.authority);
    let url = url.replace("leadgate@", "with_certificate@");
    let error = uses_tls(&url).await.unwrap_err();
    assert!(error.contains("requires a valid client certificate"), "{error}");
    let url = format!("{url}&sslcert={}&sslkey={}", certificate.display(), key.display());
    assert_eq!(uses_tls(&url).await, Ok(true));
}

#[tokio::test]
async fn a_changed_password_is_used_if_it_is_in_a_file() {
    let server = Server::shared();
    let database = server.create_database();
    let role = "CREATE ROLE rotated LOGIN PASSWORD 'first-word'; GRANT CREATE, USAGE ON SCHEMA public TO rotated";
    server.sql(&database, role);
    let url = server.url(&database).replace("leadgate@", "rotated@");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "first-word\n").unwrap();
    let fixed = StoreOptions::new(&url).with_environment([("PGPASSWORD".to_owned(), "first-word".to_owned())]);
    let from_file = StoreOptions {
        password: Some("first-word".into()),
        password_file: Some(file.clone()),
        ..StoreOptions::new(&url)
    };
    let stores = [
        Store::open_with(&fixed).await.unwrap(),
        Store::open_with(&from_file).await.unwrap(),
    ];
    fs::write(&file, "second-word\n").unwrap();
    server.sql(&database, "ALTER ROLE rotated PASSWORD 'second-word'");
    // Open connections continue.
    for store in &stores {
        store.quota_state("acme").await.unwrap();
    }
    let stop = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'rotated'";
    server.sql(&database, stop);
    let error = stores[0].quota_state("acme").await.unwrap_err().to_string();
    assert!(
        error.contains("password authentication failed") && error.contains("check the user, store.password"),
        "{error}"
    );
    assert!(!error.contains("-word"), "{error}");
    stores[1].quota_state("acme").await.unwrap();

    // A file that is being replaced.
    fs::remove_file(&file).unwrap();
    server.sql(&database, "ALTER ROLE rotated PASSWORD 'first-word'");
    server.sql(&database, stop);
    for store in &stores {
        store.quota_state("acme").await.unwrap();
    }
}
