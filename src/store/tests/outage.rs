//! Outages of PostgreSQL: a server that stops responding, that has no free connection, that accepts no writes behind PgBouncer, or
//! that crashes. Every operation ends within a limit, and the store recovers without a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::lease::fence_of_all_tenants;
use super::postgres::backend;
use super::server::Server;
use super::{KEEP, mark};
use crate::store::{BeginResult, Store, StoreOptions};

/// A proxy before a server. It can hold the responses.
struct Proxy {
    port: u16,
    holds: Arc<watch::Sender<bool>>,
    /// Whether the time is paused.
    paused: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, target) = (listener.local_addr().unwrap().port(), server.port);
        let holds = Arc::new(watch::Sender::new(false));
        let mut tasks = JoinSet::new();
        let paused = Arc::new(AtomicBool::new(false));
        let (held, pauses) = (holds.clone(), paused.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                connections.spawn(pass(client, server, held.subscribe(), pauses.clone()));
            }
        });
        Self {
            port,
            holds,
            paused,
            _tasks: tasks,
        }
    }

    fn url(&self, server: &Server, database: &str) -> String {
        let (from, to) = (format!(":{}/", server.port), format!(":{}/", self.port));
        server.url(database).replace(&from, &to)
    }

    /// Holds the responses from now on. Once the server has executed a request and its response is held, times of timeouts pass at
    /// once.
    fn hold(&self) {
        self.holds.send_replace(true);
    }

    fn release(&self) {
        self.holds.send_replace(false);
        if self.paused.swap(false, Ordering::Relaxed) {
            tokio::time::resume();
        }
    }
}

/// Passes on requests at once, and responses while they are not held.
async fn pass(client: TcpStream, server: TcpStream, mut holds: watch::Receiver<bool>, paused: Arc<AtomicBool>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let responses = async {
        let mut buffer = [0; 4096];
        loop {
            let length = from_server.read(&mut buffer).await.unwrap_or(0);
            if length > 0 && *holds.borrow() && !paused.swap(true, Ordering::Relaxed) {
                tokio::time::pause();
            }
            if length == 0 || holds.wait_for(|holds| !holds).await.is_err() {
                return;
            }
            if to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        () = responses => {}
    }
}

#[tokio::test]
async fn an_operation_without_a_response_fails_within_its_limit_and_its_outcome_is_unknown() {
    let server = Server::shared();
    let database = server.create_database();
    let proxy = Proxy::start(server).await;
    let store = Store::open(&proxy.url(server, &database)).await.unwrap();
    let fence = fence_of_all_tenants(&store).await;
    let store = store.fenced(fence);
    store.save_quota_state("acme", "1").await.unwrap();

    proxy.hold();
    let began = Instant::now();
    let error = store.begin_request("acme", "crm", &mark(1), KEEP).await;
    assert!(error.unwrap_err().to_string().contains("no response within 10s"));
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
    // A new connection is limited by store.connect_timeout. A read is repeated once.
    let error = store.quota_state("acme").await.unwrap_err().to_string();
    assert!(error.contains("no response within 5s"), "{error}");
    assert!(began.elapsed() <= Duration::from_secs(22), "{:?}", began.elapsed());
    proxy.release();

    // The transaction was executed, and its response was lost.
    assert_eq!(store.quota_state("acme").await, Ok(Some("1".to_owned())));
    let found = store.request("acme", "crm", &Uuid::from_u128(1), KEEP).await;
    assert_eq!(found.unwrap().map(|found| found.result), Some(None));
    let again = store.begin_request("acme", "crm", &mark(1), KEEP).await;
    assert_eq!(again, Ok(BeginResult::Exists));
}

#[tokio::test]
async fn a_beat_without_a_response_fails_within_a_fifth_of_the_lease() {
    let server = Server::shared();
    let database = server.create_database();
    let proxy = Proxy::start(server).await;
    let store = Store::open(&proxy.url(server, &database)).await.unwrap();
    let mut leases = store.lease_connection("me".into(), Duration::from_secs(10)).unwrap();
    leases.beat("x:1", &[]).await.unwrap();
    proxy.hold();
    let began = Instant::now();
    let error = leases.beat("x:1", &[]).await.unwrap_err().to_string();
    assert!(error.contains("no response within 2s"), "{error}");
    assert!(leases.connect().await.is_err());
    assert!(began.elapsed() <= Duration::from_secs(8), "{:?}", began.elapsed());
    proxy.release();
    let beat = leases.beat("x:1", &[]).await.unwrap();
    // The response of the second beat was lost.
    assert_eq!(beat.replicas[0].beat, 3);
}

#[tokio::test]
async fn an_operation_waits_for_a_connection_for_a_limited_time() {
    let server = Server::shared();
    let database = server.create_database();
    let proxy = Proxy::start(server).await;
    let options = StoreOptions {
        max_connections: 1,
        ..StoreOptions::new(&proxy.url(server, &database))
    };
    let store = Store::open_with(&options).await.unwrap();
    proxy.hold();
    let mut operations = JoinSet::new();
    for number in 0..3_u64 {
        let store = store.clone();
        operations.spawn(async move {
            // Each begins a bit later.
            tokio::time::sleep(Duration::from_millis(20 * number)).await;
            store.save_quota_state("acme", "1").await.unwrap_err().to_string()
        });
    }
    let began = Instant::now();
    let mut errors = operations.join_all().await;
    assert!(began.elapsed() <= Duration::from_secs(16), "{:?}", began.elapsed());
    errors.sort_unstable();
    // The first one gets no response, the second one can open no connection, and the third one has no turn.
    for (error, text) in errors.iter().zip([
        "no response within 10s",
        "no response within 5s",
        "increase store.max_connections",
    ]) {
        assert!(error.contains(text), "{errors:?}");
    }
    proxy.release();
    store.save_quota_state("acme", "2").await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_an_error_and_open_connections_continue() {
    let server = Server::shared();
    let database = server.create_database();
    server.sql(
        &database,
        "CREATE ROLE pair LOGIN CONNECTION LIMIT 2; GRANT CREATE, USAGE ON SCHEMA public TO pair",
    );
    let store = Store::open(&server.url(&database).replace("leadgate@", "pair@"))
        .await
        .unwrap();
    let mut errors: Vec<String> = vec![];
    // A fast server may serve ten operations with two connections.
    for _ in 0..100 {
        let mut operations = JoinSet::new();
        for number in 0..10 {
            let store = store.clone();
            operations.spawn(async move { store.begin_request("acme", "crm", &mark(number), KEEP).await });
        }
        let results = operations.join_all().await;
        let failed = results.iter().filter_map(|done| done.as_ref().err());
        errors = failed.map(ToString::to_string).collect();
        if !errors.is_empty() {
            break;
        }
    }
    assert!(!errors.is_empty() && errors.len() < 10, "{errors:?}");
    for error in errors {
        assert!(
            error.contains("too many connections for role") && error.contains("decrease store.max_connections"),
            "{error}"
        );
    }
    store.quota_state("acme").await.unwrap();
}

#[tokio::test]
async fn a_server_that_becomes_read_only_behind_pgbouncer_counts_as_gone_until_it_accepts_writes() {
    let server = Server::start("fsync = off");
    server.start_bouncer();
    let store = Store::open(&server.bouncer_url("postgres")).await.unwrap();
    store.save_quota_state("acme", "1").await.unwrap();
    let mut leases = store.lease_connection("me".into(), Duration::from_secs(10)).unwrap();
    leases.beat("x:1", &[]).await.unwrap();
    let set = |value: &str| {
        server.sql(
            "postgres",
            &format!("ALTER SYSTEM SET default_transaction_read_only = {value}"),
        );
        server.sql("postgres", "SELECT pg_reload_conf()");
        while server.sql("postgres", "SHOW default_transaction_read_only").trim() != value {}
    };
    set("on");
    // The server's connections learn of the setting a moment later. PgBouncer keeps the connections of its clients.
    let error = loop {
        match store.save_quota_state("acme", "2").await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        error.contains("accepts no writes") || error.contains("25006"),
        "{error}"
    );
    assert!(leases.beat("x:1", &[]).await.is_err());
    let error = store.quota_state("acme").await.unwrap_err().to_string();
    assert!(error.contains("default_transaction_read_only is on"), "{error}");
    set("off");
    while store.save_quota_state("acme", "3").await.is_err() || leases.beat("x:1", &[]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.quota_state("acme").await, Ok(Some("3".to_owned())));
}

// Durability.

#[tokio::test]
async fn every_transaction_waits_for_the_log_whatever_the_role_has() {
    let server = Server::shared();
    let database = server.create_database();
    let store = Store::open(&server.url(&database)).await.unwrap();
    for (setting, expected) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        server.sql(
            &database,
            &format!("ALTER ROLE leadgate IN DATABASE {database} SET synchronous_commit = {setting}"),
        );
        assert_eq!(server.sql(&database, "SHOW synchronous_commit").trim(), setting);
        let options = StoreOptions::new(&server.url(&database));
        let new = Store::open_with(&options).await.unwrap();
        let query = format!("SELECT (current_setting('synchronous_commit') = '{expected}')::int::bigint");
        assert_eq!(backend(&new).count(&query).await, 1, "{setting}");
        new.close().await;
    }
    store.close().await;
}

#[tokio::test]
async fn confirmed_writes_survive_a_crash_of_the_server() {
    let server = Server::start("fsync = on\nwal_writer_delay = 10s");
    // Without the setting of each transaction, the last commits would be lost.
    server.sql("postgres", "ALTER ROLE leadgate SET synchronous_commit = off");
    let store = Store::open(&server.url("postgres")).await.unwrap();
    let fence = fence_of_all_tenants(&store).await;
    let store = store.fenced(fence);
    for round in 0..3_u128 {
        let confirmed = Arc::new(std::sync::Mutex::new(vec![]));
        let mut writers = JoinSet::new();
        for writer in 0..4_u128 {
            let (store, confirmed) = (store.clone(), confirmed.clone());
            writers.spawn(async move {
                for number in 0.. {
                    let mark = mark(1 + round * 1_000_000 + writer * 100_000 + number);
                    let id = mark.request.id;
                    if store.begin_request("acme", "crm", &mark, KEEP).await.is_err() {
                        return;
                    }
                    confirmed.lock().unwrap().push((id, None));
                    if number % 2 == 0 {
                        continue;
                    }
                    let result = "{\"Done\":1}";
                    if store
                        .finish_request("acme", "crm", &mark.request, result)
                        .await
                        .is_err()
                    {
                        return;
                    }
                    confirmed.lock().unwrap().push((id, Some(result.to_owned())));
                }
            });
        }
        while confirmed.lock().unwrap().len() < 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill();
        writers.join_all().await;
        server.start_again();
        let confirmed = confirmed.lock().unwrap().clone();
        for (id, result) in confirmed {
            let found = loop {
                match store.request("acme", "crm", &id, KEEP).await {
                    Ok(found) => break found,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let found = found.unwrap_or_else(|| panic!("{id} is lost"));
            // A result that was not confirmed may have been written, too.
            assert!(result.is_none() || found.result == result, "the result of {id} is lost");
        }
    }
}
