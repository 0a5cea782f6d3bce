//! One connection to the server. A transaction is one message: the server executes it as a whole or not at all, and no
//! transaction stays open while leadgate waits.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::CertificateError;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Either, Row};
use tokio::time::Instant;
use tokio_stream::StreamExt;

use super::settings::{ConnectSettings, Host};
use crate::store::StoreError;

/// The oldest supported server.
const MIN_VERSION: u32 = 13;

/// An error of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server is gone: the connection is lost, there is no response in time, or the server accepts no writes any more.
    Gone(String),
    /// The server rejected a statement. Nothing was changed.
    Rejected(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(reason) | Self::Rejected(reason) => f.write_str(reason),
        }
    }
}

impl Failure {
    pub(super) fn reading(&self) -> StoreError {
        match self {
            // Later, or on another server, the same read may succeed.
            Self::Gone(_) => StoreError::new("cannot be read", self),
            Self::Rejected(_) => StoreError::reading("cannot be read", self),
        }
    }

    pub(super) fn writing(&self) -> StoreError {
        StoreError::new("cannot be written", self)
    }
}

/// The result of one statement.
#[derive(Default)]
pub(super) struct StatementResult {
    pub(super) rows: Vec<PgRow>,
}

/// The limits of a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransactionLimits {
    /// The maximum time until the response. After it, the connection is closed, and the outcome is unknown.
    pub(super) timeout: Duration,
    /// The maximum time of the server for a lock, and for a statement.
    pub(super) server: Duration,
}

/// A connection to a server that accepts writes.
pub(super) struct Connection {
    inner: PgConnection,
    host: Host,
    pub(super) last_used: Instant,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the first host that accepts writes, starting with the last one that did. Resolves the names anew.
    pub(super) async fn connect(settings: &ConnectSettings, preferred: &AtomicUsize) -> Result<Self, Failure> {
        let count = settings.hosts.len();
        let first = preferred.load(Ordering::Relaxed);
        let mut reasons = vec![];
        for at in (first..first + count).map(|at| at % count) {
            let host = &settings.hosts[at];
            let connected = tokio::time::timeout(settings.connect_timeout, Self::connect_to(settings, host)).await;
            match connected {
                Ok(Ok(connection)) => {
                    preferred.store(at, Ordering::Relaxed);
                    return Ok(connection);
                }
                Ok(Err(reason)) => reasons.push(reason),
                Err(_) => reasons.push(format!(
                    "{host}: no response within {:?}; check the host and the network, or increase store.connect_timeout",
                    settings.connect_timeout
                )),
            }
        }
        Err(Failure::Gone(reasons.join("; ")))
    }

    /// Connects to one host. The error has its name.
    async fn connect_to(settings: &ConnectSettings, host: &Host) -> Result<Self, String> {
        let connected = settings.current_options(host).await.connect().await;
        let mut inner = connected.map_err(|error| format!("{host}: {}", connect_error(&error, host, settings)))?;
        let query = "SELECT current_setting('transaction_read_only'), pg_is_in_recovery(), \
                     current_setting('server_version_num'), current_setting('server_encoding')";
        let results = collect(&mut inner, query.to_owned()).await;
        let results = results.map_err(|error| format!("{host}: {}", failure(&error)))?;
        let text = |at: usize| {
            let row = results.first().and_then(|result| result.rows.first());
            row.and_then(|row| row.try_get::<String, _>(at).ok())
                .unwrap_or_default()
        };
        let is_in_recovery = results
            .first()
            .and_then(|result| result.rows.first())
            .is_some_and(|row| row.try_get(1).unwrap_or(false));
        let problem = match (
            text(0).as_str(),
            is_in_recovery,
            text(2).parse::<u32>(),
            text(3).as_str(),
        ) {
            (_, true, ..) => "is a standby, which accepts no writes".to_owned(),
            ("on", ..) => "accepts no writes: default_transaction_read_only is on".to_owned(),
            (_, _, Ok(version), _) if version / 10_000 < MIN_VERSION => {
                format!(
                    "has PostgreSQL {}; at least version {MIN_VERSION} is required",
                    version / 10_000
                )
            }
            (_, _, _, encoding) if encoding != "UTF8" => {
                format!(
                    "has a database with the encoding {encoding}: create the database with ENCODING 'UTF8' TEMPLATE template0"
                )
            }
            _ => {
                return Ok(Self {
                    inner,
                    host: host.clone(),
                    last_used: Instant::now(),
                });
            }
        };
        let _ = inner.close().await;
        Err(format!("{host} {problem}"))
    }

    /// Checks that the server responds.
    pub(super) async fn ping(&mut self, timeout: Duration) -> Result<(), Failure> {
        let ping = collect(
            &mut self.inner,
            "SELECT current_setting('transaction_read_only')".to_owned(),
        );
        let results = within(timeout, &self.host, ping).await?;
        check_writable(&results, &self.host)?;
        self.last_used = Instant::now();
        Ok(())
    }

    /// Executes statements as one transaction in one message. After [`Failure::Gone`], the connection must not be used again, and
    /// whether the transaction was committed is unknown.
    pub(super) async fn execute(
        &mut self,
        limits: TransactionLimits,
        statements: &str,
    ) -> Result<Vec<StatementResult>, Failure> {
        let text = format!("{}{statements}; COMMIT", begin(limits));
        let mut results = self.send(limits, text).await?;
        // The result of COMMIT.
        results.pop();
        Ok(results)
    }

    /// Executes the first statements of a transaction. The transaction must be ended with [`Connection::commit`] or
    /// [`Connection::roll_back`], or the connection must be dropped.
    pub(super) async fn begin(
        &mut self,
        limits: TransactionLimits,
        statements: &str,
    ) -> Result<Vec<StatementResult>, Failure> {
        let text = format!("{}{statements}", begin(limits));
        self.send(limits, text).await
    }

    /// Executes further statements of a transaction.
    pub(super) async fn go_on(&mut self, limits: TransactionLimits, statements: String) -> Result<(), Failure> {
        let query = collect(&mut self.inner, statements);
        let done = tokio::time::timeout(limits.timeout, query).await;
        self.ended(limits, done).await.map(drop)
    }

    /// Executes the last statements of a transaction, and commits it.
    pub(super) async fn commit(&mut self, limits: TransactionLimits, statements: &str) -> Result<(), Failure> {
        self.go_on(limits, format!("{statements}; COMMIT")).await
    }

    pub(super) async fn roll_back(&mut self, limits: TransactionLimits) -> Result<(), Failure> {
        self.go_on(limits, "ROLLBACK".to_owned()).await
    }

    /// Closes the connection. Waits for a moment at most.
    pub(super) async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.inner.close()).await;
    }

    async fn send(&mut self, limits: TransactionLimits, text: String) -> Result<Vec<StatementResult>, Failure> {
        let query = collect(&mut self.inner, text);
        let done = tokio::time::timeout(limits.timeout, query).await;
        let mut results = self.ended(limits, done).await?;
        // The results of BEGIN and of the settings.
        let settings: Vec<_> = results.drain(..2.min(results.len())).collect();
        check_writable(settings.get(1..).unwrap_or_default(), &self.host)?;
        Ok(results)
    }

    /// Converts the result of a message. Rolls back after a rejected statement, so that the connection can be used again.
    async fn ended<T>(
        &mut self,
        limits: TransactionLimits,
        done: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Failure> {
        let error = match done {
            Ok(Ok(result)) => {
                self.last_used = Instant::now();
                return Ok(result);
            }
            Ok(Err(error)) => failure(&error),
            Err(_) => Failure::Gone(format!("{}: no response within {:?}", self.host, limits.timeout)),
        };
        if matches!(error, Failure::Rejected(_)) {
            let rolled_back = collect(&mut self.inner, "ROLLBACK".to_owned());
            within(limits.timeout, &self.host, rolled_back).await?;
        }
        Err(error)
    }
}

/// Waits for a query without which the connection cannot be used.
async fn within<T>(
    timeout: Duration,
    host: &Host,
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, query).await {
        Ok(done) => done.map_err(|error| Failure::Gone(failure(&error).to_string())),
        Err(_) => Err(Failure::Gone(format!("{host}: no response within {timeout:?}"))),
    }
}

/// The beginning of each transaction. Stricter values of `synchronous_commit` are kept. The last column says whether the server
/// accepts writes: a server that became a standby keeps its connections.
fn begin(limits: TransactionLimits) -> String {
    let server = limits.server.as_millis().max(1);
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
         SELECT set_config('lock_timeout', '{server}', true), \
         set_config('idle_in_transaction_session_timeout', '{server}', true), \
         set_config('statement_timeout', '{server}', true), \
         set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' \
         ELSE 'on' END, true), current_setting('transaction_read_only'); "
    )
}

/// Fails if the last column of the last result says that the server accepts no writes.
fn check_writable(results: &[StatementResult], host: &Host) -> Result<(), Failure> {
    let row = results.last().and_then(|result| result.rows.last());
    let is_read_only = row.is_none_or(|row| {
        let last = row.len().saturating_sub(1);
        row.try_get::<String, _>(last).is_ok_and(|text| text == "on")
    });
    match is_read_only {
        true => Err(Failure::Gone(format!("{host} accepts no writes any more"))),
        false => Ok(()),
    }
}

/// Sends a text with one or more statements, and collects the result of each.
async fn collect(connection: &mut PgConnection, text: String) -> Result<Vec<StatementResult>, sqlx::Error> {
    let query = sqlx::raw_sql(AssertSqlSafe(text));
    let mut stream = query.fetch_many(connection);
    let mut results = vec![];
    let mut rows = vec![];
    while let Some(step) = stream.next().await {
        match step? {
            Either::Right(row) => rows.push(row),
            Either::Left(_) => results.push(StatementResult {
                rows: std::mem::take(&mut rows),
            }),
        }
    }
    Ok(results)
}

/// What an error of a connection attempt means, and what to do.
fn connect_error(error: &sqlx::Error, host: &Host, settings: &ConnectSettings) -> String {
    let (user, database) = (&settings.user, &settings.database);
    if let sqlx::Error::Tls(error) = error {
        return format!("TLS failed: {error}; set ssl = on at the server, or check sslmode in store.url");
    }
    if let sqlx::Error::Io(error) = error {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return tls_error(error, host);
        }
        return match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "the connection was refused; check that PostgreSQL runs there, and store.url".to_owned()
            }
            io::ErrorKind::NotFound => {
                "the socket does not exist; check that PostgreSQL runs, and store.url".to_owned()
            }
            _ => format!("cannot be reached: {error}; check store.url"),
        };
    }
    let Some(database_error) = error.as_database_error() else {
        return format!("the connection failed: {error}");
    };
    let code = database_error.code().unwrap_or_default().into_owned();
    let message = database_error.message();
    match code.as_str() {
        "28P01" | "28000" if !settings.has_password() => format!(
            "the server did not accept the user {user} ({message}); no password is given: set store.password or PGPASSWORD"
        ),
        "28P01" | "28000" => format!(
            "the server did not accept the user {user} ({message}); check the user, store.password and pg_hba.conf"
        ),
        "3D000" => format!(
            "the database {database} does not exist; create it: CREATE DATABASE \"{database}\" OWNER \"{user}\" \
             ENCODING 'UTF8' TEMPLATE template0"
        ),
        "42501" => format!(
            "the user {user} may not connect ({message}); run: GRANT CONNECT ON DATABASE \"{database}\" TO \"{user}\""
        ),
        "53300" => format!(
            "the server has no free connection ({message}); decrease store.max_connections, or increase max_connections of the \
             server"
        ),
        _ => format!("the connection failed: {}", failure(error)),
    }
}

/// What an error of TLS means, and what to do.
fn tls_error(error: &rustls::Error, host: &Host) -> String {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return format!("TLS failed: {error}; check sslmode, sslcert and sslkey in store.url");
    };
    match reason {
        // Two authorities of the same name differ in their keys.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate of the server is not from a trusted authority; set sslrootcert in store.url to the authority of the \
             server"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the certificate of the server is not valid for the host {}; use a host of the certificate in store.url",
            host.name
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate of the server has expired".to_owned()
        }
        _ => format!("the certificate of the server is invalid: {error}"),
    }
}

/// Classifies an error. The text has no stored data.
fn failure(error: &sqlx::Error) -> Failure {
    let Some(database_error) = error.as_database_error() else {
        return Failure::Gone(format!("the connection is lost: {error}"));
    };
    let code = database_error.code().unwrap_or_default();
    let message = database_error.message();
    // Messages of other classes can have stored values.
    let text = match code.get(..2).unwrap_or_default() {
        "08" | "25" | "28" | "3D" | "3F" | "40" | "42" | "53" | "54" | "55" | "57" | "58" => {
            format!("{message} (SQLSTATE {code})")
        }
        _ => format!("PostgreSQL reported an error (SQLSTATE {code})"),
    };
    let text = match &*code {
        "42501" => format!("{text}; docs/postgresql.md lists the rights that the role needs"),
        "53100" => format!("{text}; the disk of the server is full"),
        _ => text,
    };
    let is_gone = match &*code {
        // A read-only transaction, and shutdowns of the server.
        "25006" | "57P01" | "57P02" | "57P03" | "57P05" => true,
        // A function that a standby does not have. Nothing here has another reason for this error.
        "55000" => true,
        // A cancelled statement: its transaction was not committed.
        "57014" => false,
        code => code.starts_with("08"),
    };
    match is_gone {
        true => Failure::Gone(text),
        false => Failure::Rejected(text),
    }
}
