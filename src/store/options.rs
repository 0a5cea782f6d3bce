//! Which store to open.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::url;

/// Which store to open.
#[derive(Clone)]
pub struct StoreOptions {
    /// The URL. It can contain a password.
    pub url: String,
    /// The password for PostgreSQL. `None`: the password of the URL, or of the environment variable `PGPASSWORD`.
    pub password: Option<SecretString>,
    /// The file of the password. It is read for each new connection, so that a changed password is used. If it cannot be read or is
    /// empty, `password` is used.
    pub password_file: Option<PathBuf>,
    /// Maximum number of connections to PostgreSQL. The leases have another one.
    pub max_connections: u32,
    /// Maximum time to connect to one host of PostgreSQL.
    pub connect_timeout: Duration,
    /// The environment variables of libpq, for parts of the URL that are missing.
    pub environment: BTreeMap<String, String>,
}

impl StoreOptions {
    /// The options for a URL, with the defaults of the settings.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            password: None,
            password_file: None,
            max_connections: 10,
            connect_timeout: Duration::from_secs(5),
            environment: BTreeMap::new(),
        }
    }

    /// Adds the environment variables of libpq.
    pub fn with_environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables = variables.into_iter();
        self.environment = variables
            .filter(|(name, value)| name.starts_with("PG") && !value.is_empty())
            .collect();
        self
    }

    /// Whether the store is a PostgreSQL database.
    pub fn is_postgres(&self) -> bool {
        url::is_postgres(&self.url)
    }

    /// Whether the URL has a password.
    pub fn has_password_in_url(&self) -> bool {
        url::has_password(&self.url)
    }
}

/// Shows the URL without a password.
impl fmt::Display for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_postgres() {
            true => f.write_str(&url::shown(&self.url)),
            false => f.write_str(&self.url),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreOptions({self})")
    }
}
