//! The issuer of tokens: its keys (JWK Set), from a file or a URL, and when they are read again.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::redirect::Policy;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::jwt::{Expected, KeySet, Verifier};
use crate::files::{self, Contents};

/// The time after which the keys of a URL are fetched again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(600);
/// The minimum time between two fetches, and the pause after a failed one.
const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum duration of a fetch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a JWK Set, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Maximum number of requests that wait for a fetch because their tokens name an unknown key.
const MAX_WAITING: usize = 1_000;

/// Which tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// The claims of a valid token.
    pub expected: Expected,
    /// Where the issuer's keys are.
    pub jwks: JwksSource,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// A URL, which is fetched again from time to time.
    Url(Url),
    /// A file, which is read again when it changes.
    File(PathBuf),
}

/// The number of fetched keys, or why there are none.
type FetchResult = Result<usize, String>;

/// An issuer with its present keys.
#[derive(Debug)]
pub struct Issuer {
    verifier: Verifier,
    source: JwksSource,
    /// The contents of the file from before it was read first.
    read_contents: Option<Contents>,
    client: reqwest::Client,
    /// The time and the result of the last fetch. Locked while a fetch is in progress.
    last_fetch: Mutex<Option<(Instant, FetchResult)>>,
    waiting: Semaphore,
}

impl Issuer {
    /// An issuer. The keys of a file are read now, and a file that cannot be read is an error. Those of a URL are fetched by
    /// [`Self::run`].
    pub fn new(config: JwtConfig) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| format!("auth.jwt: building the HTTP client failed: {error}"))?;
        let issuer = Self {
            verifier: Verifier::new(config.expected, KeySet::default()),
            read_contents: match &config.jwks {
                JwksSource::File(file) => Some(files::contents([file])),
                JwksSource::Url(_) => None,
            },
            source: config.jwks,
            client,
            last_fetch: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        };
        issuer.read_file()?;
        Ok(issuer)
    }

    /// The verifier of its tokens.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The contents of the file from before it was read first. `None` if the keys are not in a file.
    pub fn read_contents(&self) -> Option<&Contents> {
        self.read_contents.as_ref()
    }

    /// Reads the keys of the file. After an error, the old ones stay in use.
    pub fn read_file(&self) -> Result<(), String> {
        let JwksSource::File(file) = &self.source else {
            return Ok(());
        };
        let name = file.display();
        let json = std::fs::read(file).map_err(|error| format!("auth.jwt.jwks: reading {name} failed: {error}"))?;
        let keys = KeySet::read(&json).map_err(|error| format!("auth.jwt.jwks: {name} {error}"))?;
        self.verifier.replace_keys(keys);
        Ok(())
    }

    /// Fetches the keys of the URL, unless they were fetched less than 30 s ago. Requests above a maximum number do not wait.
    pub async fn refresh(&self) {
        if matches!(self.source, JwksSource::File(_)) {
            return;
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return;
        };
        // `run` reports failures.
        let _ = self.fetch_if_due().await;
    }

    /// Fetches the keys of the URL. Returns the URL and the number of keys. `None` if the keys are in a file.
    pub async fn check(&self) -> Option<(&Url, Result<usize, String>)> {
        match &self.source {
            JwksSource::File(_) => None,
            JwksSource::Url(url) => Some((url, self.fetch_if_due().await)),
        }
    }

    /// Fetches the keys of the URL from time to time, until `stop`, and reports whether each fetch succeeded. A failure is logged
    /// once; the old keys stay in use.
    pub async fn run(&self, stop: CancellationToken, report: impl Fn(bool)) {
        let JwksSource::Url(url) = &self.source else {
            return;
        };
        let mut is_failing = false;
        loop {
            let fetched = self.fetch_if_due().await;
            report(fetched.is_ok());
            let pause = match fetched {
                Ok(keys) => {
                    if std::mem::replace(&mut is_failing, false) {
                        tracing::info!(%url, keys, "keys of the token issuer fetched again");
                    }
                    REFRESH_INTERVAL
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(%url, error, "fetching the keys of the token issuer failed; the known keys stay in use");
                    }
                    MIN_INTERVAL
                }
            };
            if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// Returns the result of the last fetch. Fetches if it is older than [`MIN_INTERVAL`].
    async fn fetch_if_due(&self) -> FetchResult {
        let mut last_fetch = self.last_fetch.lock().await;
        if let Some((at, result)) = &*last_fetch
            && at.elapsed() < MIN_INTERVAL
        {
            return result.clone();
        }
        let started = Instant::now();
        let result = self.fetch().await;
        *last_fetch = Some((started, result.clone()));
        result
    }

    /// Fetches the keys. Returns their number.
    async fn fetch(&self) -> FetchResult {
        let JwksSource::Url(url) = &self.source else {
            return Ok(0);
        };
        // The texts of reqwest repeat the URL.
        let failed = |error: reqwest::Error| format!("the request failed: {}", error.without_url());
        let mut response = self.client.get(url.clone()).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(format!("the response has HTTP status {}", response.status().as_u16()));
        }
        let mut json = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            json.extend_from_slice(&chunk);
            if json.len() > MAX_BYTES {
                return Err(format!("the response has more than {MAX_BYTES} bytes"));
            }
        }
        let keys = KeySet::read(&json).map_err(|error| format!("the response {error}"))?;
        let count = keys.len();
        self.verifier.replace_keys(keys);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex as SyncMutex};

    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;
    use tokio_util::task::TaskTracker;

    use super::*;

    /// A JWK Set with keys of these ids.
    fn key_set(ids: &[&str]) -> String {
        let key = |id: &&str| {
            // The key of RFC 8037, appendix A.2.
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#)
        };
        format!(r#"{{"keys":[{}]}}"#, ids.iter().map(key).collect::<Vec<_>>().join(","))
    }

    #[tokio::test]
    async fn keys_are_fetched_again_after_30_s_and_kept_when_a_fetch_fails() {
        let served = Arc::new(SyncMutex::new((key_set(&["old"]), 0)));
        let state = served.clone();
        let respond = move || async move {
            let mut served = state.lock().unwrap();
            served.1 += 1;
            served.0.clone()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/", get(respond));
        TaskTracker::new().spawn(axum::serve(listener, router).into_future());
        let issuer = Issuer::new(JwtConfig {
            expected: Expected {
                issuer: String::new(),
                audience: String::new(),
                caller_claim: String::new(),
                leeway: Duration::ZERO,
            },
            jwks: JwksSource::Url(url),
        })
        .unwrap();
        let state = |issuer: &Issuer| (served.lock().unwrap().1, issuer.verifier().key_ids());
        let later = async || {
            tokio::time::pause();
            tokio::time::advance(MIN_INTERVAL).await;
            tokio::time::resume();
        };
        issuer.refresh().await;
        issuer.refresh().await;
        assert_eq!(state(&issuer), (1, vec!["old".to_owned()]));
        served.lock().unwrap().0 = key_set(&["new", "old"]);
        later().await;
        issuer.refresh().await;
        assert_eq!(state(&issuer), (2, vec!["new".to_owned(), "old".to_owned()]));
        served.lock().unwrap().0 = "<html>".to_owned();
        later().await;
        issuer.refresh().await;
        assert_eq!(state(&issuer), (3, vec!["new".to_owned(), "old".to_owned()]));

        // The result of each fetch is reported.
        let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let check = async {
            assert_eq!(reports.recv().await, Some(false));
            served.lock().unwrap().0 = key_set(&["new"]);
            later().await;
            assert_eq!(reports.recv().await, Some(true));
            stop.cancel();
        };
        let run = issuer.run(stop.clone(), |is_ok| report.send(is_ok).unwrap());
        tokio::join!(run, check);
        assert_eq!(issuer.verifier().key_ids(), ["new"]);
    }
}
