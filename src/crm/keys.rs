//! The two pairs of keys of an account: where they come from, what LeadSquared has said about each, and which one is in use.
//! Pure, except for reading files. `account` makes the calls.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

/// How long a successful call proves that the keys are valid.
const PROOF_LIFETIME: Duration = Duration::from_secs(30);

const ACCESS_KEY: HeaderName = HeaderName::from_static("x-lsq-accesskey");
const SECRET_KEY: HeaderName = HeaderName::from_static("x-lsq-secretkey");

/// The keys of an account in the settings.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `access_key` and `secret_key`.
    pub first: KeyPairSource,
    /// `next`.
    pub next: Option<KeyPairSource>,
}

/// Where a pair of keys comes from.
#[derive(Clone, Debug)]
pub struct KeyPairSource {
    /// `access_key`.
    pub access: KeySource,
    /// `secret_key`.
    pub secret: KeySource,
}

/// Where a key comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// The settings or the environment.
    Value(SecretString),
    /// A file, whose content may change.
    File(PathBuf),
}

/// Which of the two pairs. The later one is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PairName {
    /// `access_key` and `secret_key` of the tenant.
    First,
    /// `next` of the tenant.
    Next,
}

impl PairName {
    /// All names, in ascending order of preference.
    pub const ALL: [Self; 2] = [Self::First, Self::Next];

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Next => "next",
        }
    }
}

impl fmt::Display for PairName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Keys {
    /// The source of a pair. `None` if the settings have no such pair.
    pub fn source(&self, name: PairName) -> Option<&KeyPairSource> {
        match name {
            PairName::First => Some(&self.first),
            PairName::Next => self.next.as_ref(),
        }
    }
}

impl KeyPairSource {
    /// The files that the pair is read from.
    pub fn files(&self) -> Vec<PathBuf> {
        let sources = [&self.access, &self.secret].into_iter();
        let files = sources.filter_map(|source| match source {
            KeySource::File(path) => Some(path.clone()),
            KeySource::Value(_) => None,
        });
        files.collect()
    }

    /// Reads the pair. The error does not have the keys.
    pub(super) fn read(&self, name: PairName) -> Result<KeyPair, String> {
        Ok(KeyPair {
            name,
            access: header("access_key", &self.access)?,
            secret: header("secret_key", &self.secret)?,
            succeeded: Mutex::default(),
            is_rejected: AtomicBool::new(false),
        })
    }
}

impl KeySource {
    /// Reads the key. The error does not have the key.
    pub fn read(&self) -> Result<SecretString, String> {
        match self {
            Self::Value(key) => checked(key.expose_secret()),
            Self::File(path) => checked(read_file(path)?.expose_secret()),
        }
    }
}

fn read_file(path: &Path) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("reading {} failed: {error}", path.display()))?;
    Ok(text.into())
}

/// The key without the space around it. Fails if it cannot be sent as an HTTP header.
fn checked(text: &str) -> Result<SecretString, String> {
    let key = text.trim();
    if key.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("must be printable ASCII without spaces, because it is sent as an HTTP header".to_owned());
    }
    Ok(key.into())
}

fn header(setting: &str, source: &KeySource) -> Result<HeaderValue, String> {
    let key = source.read().map_err(|error| format!("{setting}: {error}"))?;
    let value = HeaderValue::from_str(key.expose_secret());
    let mut value = value.map_err(|_| format!("{setting}: has characters that are invalid in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A pair of keys, as it is sent. The values are marked as sensitive, so no debug text shows them.
#[derive(Debug)]
pub(super) struct KeyPair {
    pub(super) name: PairName,
    access: HeaderValue,
    secret: HeaderValue,
    /// When LeadSquared last accepted the keys.
    succeeded: Mutex<Option<Instant>>,
    /// Whether LeadSquared rejected the keys when it was last queried about them.
    is_rejected: AtomicBool,
}

impl KeyPair {
    /// The headers of a request with these keys.
    pub(super) fn headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(ACCESS_KEY, self.access.clone()), (SECRET_KEY, self.secret.clone())])
    }

    /// Whether the pair has these keys. Compares in constant time.
    pub(super) fn is(&self, access: &[u8], secret: &[u8]) -> bool {
        let is = |key: &HeaderValue, given: &[u8]| verify_slices_are_equal(key.as_bytes(), given).is_ok();
        is(&self.access, access) & is(&self.secret, secret)
    }

    pub(super) fn record_success(&self, now: Instant) {
        *self.succeeded.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether LeadSquared has accepted the keys lately.
    pub(super) fn is_proved(&self, now: Instant) -> bool {
        let succeeded = *self.succeeded.lock().unwrap_or_else(PoisonError::into_inner);
        succeeded.is_some_and(|at| now.saturating_duration_since(at) < PROOF_LIFETIME)
    }

    pub(super) fn is_rejected(&self) -> bool {
        self.is_rejected.load(Ordering::Relaxed)
    }

    pub(super) fn set_rejected(&self, is_rejected: bool) {
        self.is_rejected.store(is_rejected, Ordering::Relaxed);
    }

    fn has_keys_of(&self, other: &Self) -> bool {
        self.access == other.access && self.secret == other.secret
    }
}

/// What LeadSquared says about a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyVerdict {
    /// Nothing yet, or the check failed for another reason.
    Unknown,
    Accepted,
    Rejected,
}

impl KeyVerdict {
    /// The result in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "failed",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }
}

/// A change to log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyChange {
    /// Another pair is in use.
    Switched { from: PairName, to: PairName },
    /// A pair that is not in use is rejected.
    NotAccepted { pair: PairName, in_use: PairName },
    /// The pair in use is rejected, and no other pair is accepted.
    Rejected { pair: PairName },
}

/// Which pair is in use, and what is known of each pair.
#[derive(Debug)]
pub(super) struct KeySelection {
    in_use: Arc<KeyPair>,
    /// The pair in use, and the pairs that the settings and files have now.
    known: Vec<KnownPair>,
}

#[derive(Debug)]
struct KnownPair {
    pair: Arc<KeyPair>,
    verdict: KeyVerdict,
    /// Whether the settings and files have it. The pair in use may be one whose files have changed.
    is_current: bool,
}

impl KeySelection {
    /// The first pair is in use.
    pub(super) fn new(first: KeyPair, next: Option<KeyPair>) -> Self {
        let known = |pair| KnownPair {
            pair: Arc::new(pair),
            verdict: KeyVerdict::Unknown,
            is_current: true,
        };
        let known: Vec<_> = std::iter::once(first).chain(next).map(known).collect();
        Self {
            in_use: known[0].pair.clone(),
            known,
        }
    }

    pub(super) fn in_use(&self) -> &Arc<KeyPair> {
        &self.in_use
    }

    pub(super) fn is_in_use(&self, pair: &Arc<KeyPair>) -> bool {
        Arc::ptr_eq(&self.in_use, pair)
    }

    /// Replaces a pair whose files were read again. The pair in use stays in use. Returns whether the keys are other ones.
    pub(super) fn replace(&mut self, pair: KeyPair) -> bool {
        let name = pair.name;
        let is_same = |known: &KnownPair| known.pair.name == name && known.pair.has_keys_of(&pair);
        if self.known.iter().any(|known| known.is_current && is_same(known)) {
            return false;
        }
        self.known
            .retain(|known| known.pair.name != name || Arc::ptr_eq(&known.pair, &self.in_use));
        // The files of the pair in use may have their former content again.
        let mut is_known = false;
        for known in self.known.iter_mut().filter(|known| known.pair.name == name) {
            known.is_current = known.pair.has_keys_of(&pair);
            is_known |= known.is_current;
        }
        if !is_known {
            self.known.push(KnownPair {
                pair: Arc::new(pair),
                verdict: KeyVerdict::Unknown,
                is_current: true,
            });
        }
        // A rotation is in progress, so LeadSquared may now accept a pair that it rejected.
        for known in &mut self.known {
            if !Arc::ptr_eq(&known.pair, &self.in_use) {
                known.verdict = KeyVerdict::Unknown;
            }
        }
        true
    }

    /// The pairs that would be used instead of the pair in use, and that LeadSquared has not judged. The best one comes first.
    pub(super) fn candidates(&self) -> Vec<Arc<KeyPair>> {
        let mut pairs = self.others();
        pairs.retain(|pair| pair.name >= self.in_use.name && self.verdict(pair) == KeyVerdict::Unknown);
        pairs
    }

    /// The pairs with other keys than the pair in use. The best one comes first.
    pub(super) fn others(&self) -> Vec<Arc<KeyPair>> {
        let mut pairs: Vec<_> = self.known.iter().map(|known| known.pair.clone()).collect();
        pairs.retain(|pair| !pair.has_keys_of(&self.in_use));
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.name));
        pairs
    }

    /// Records what LeadSquared has said about some pairs at the same time, and selects the pair to use.
    pub(super) fn record(&mut self, results: &[(Arc<KeyPair>, KeyVerdict)]) -> Vec<KeyChange> {
        let mut changes = Vec::new();
        let mut rejected = Vec::new();
        for (pair, verdict) in results {
            let Some(known) = self.known.iter_mut().find(|known| Arc::ptr_eq(&known.pair, pair)) else {
                continue;
            };
            if *verdict == KeyVerdict::Unknown {
                continue;
            }
            if *verdict == KeyVerdict::Rejected && known.verdict != KeyVerdict::Rejected {
                rejected.push(pair.clone());
            }
            known.verdict = *verdict;
        }
        let from = self.in_use.clone();
        let is_rejected = results
            .iter()
            .any(|(pair, verdict)| Arc::ptr_eq(pair, &from) && *verdict == KeyVerdict::Rejected);
        let accepted = results.iter().filter(|(pair, verdict)| {
            let is_usable = *verdict == KeyVerdict::Accepted && !Arc::ptr_eq(pair, &from);
            is_usable && self.is_current(pair) && (is_rejected || pair.name >= from.name)
        });
        if let Some((to, _)) = accepted.max_by_key(|(pair, _)| pair.name) {
            self.in_use = to.clone();
            self.known
                .retain(|known| known.is_current || Arc::ptr_eq(&known.pair, to));
            let (from, to) = (from.name, to.name);
            changes.push(KeyChange::Switched { from, to });
        }
        for pair in rejected {
            if Arc::ptr_eq(&pair, &self.in_use) {
                changes.push(KeyChange::Rejected { pair: pair.name });
            } else if !Arc::ptr_eq(&pair, &from) {
                let in_use = self.in_use.name;
                changes.push(KeyChange::NotAccepted {
                    pair: pair.name,
                    in_use,
                });
            }
        }
        changes
    }

    fn is_current(&self, pair: &Arc<KeyPair>) -> bool {
        self.known
            .iter()
            .any(|known| known.is_current && Arc::ptr_eq(&known.pair, pair))
    }

    fn verdict(&self, pair: &Arc<KeyPair>) -> KeyVerdict {
        let known = self.known.iter().find(|known| Arc::ptr_eq(&known.pair, pair));
        known.map_or(KeyVerdict::Unknown, |known| known.verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::KeyVerdict::{Accepted, Rejected, Unknown};
    use super::*;

    fn pair(name: PairName, keys: &str) -> KeyPair {
        let value = |key: &str| KeySource::Value(format!("{keys}-{key}").into());
        let source = KeyPairSource {
            access: value("access"),
            secret: value("secret"),
        };
        source.read(name).unwrap()
    }

    fn first(keys: &str) -> KeyPair {
        pair(PairName::First, keys)
    }

    fn next(keys: &str) -> KeyPair {
        pair(PairName::Next, keys)
    }

    /// An account where LeadSquared accepts these keys only. Returns the changes after a check of the candidates.
    fn check(selection: &mut KeySelection, accepted: &[&str]) -> Vec<KeyChange> {
        let mut changes = vec![];
        while let Some(pair) = selection.candidates().first() {
            let verdict = verdict(pair, accepted);
            changes.extend(selection.record(&[(pair.clone(), verdict)]));
        }
        changes
    }

    /// The changes after a request was rejected: all pairs are checked.
    fn reject(selection: &mut KeySelection, accepted: &[&str]) -> Vec<KeyChange> {
        let mut pairs = selection.others();
        pairs.push(selection.in_use().clone());
        let results: Vec<_> = pairs
            .into_iter()
            .map(|pair| {
                let verdict = verdict(&pair, accepted);
                (pair, verdict)
            })
            .collect();
        selection.record(&results)
    }

    fn verdict(pair: &KeyPair, accepted: &[&str]) -> KeyVerdict {
        match accepted.contains(&keys(pair).as_str()) {
            true => Accepted,
            false => Rejected,
        }
    }

    fn keys(pair: &KeyPair) -> String {
        let text = pair.access.to_str().unwrap();
        text.trim_end_matches("-access").to_owned()
    }

    fn used(selection: &KeySelection) -> String {
        keys(selection.in_use())
    }

    fn switched(from: PairName, to: PairName) -> Vec<KeyChange> {
        vec![KeyChange::Switched { from, to }]
    }

    #[test]
    fn the_next_pair_takes_over_when_it_is_accepted() {
        let mut selection = KeySelection::new(first("a"), Some(next("b")));
        assert_eq!(used(&selection), "a");
        assert_eq!(
            check(&mut selection, &["a", "b"]),
            switched(PairName::First, PairName::Next)
        );
        assert_eq!(used(&selection), "b");
        // The first pair is not tried without a reason, and stays as the fallback.
        assert!(selection.candidates().is_empty());
        assert_eq!(selection.others().len(), 1);
    }

    #[test]
    fn a_rejected_next_pair_is_reported_once_and_takes_over_when_the_first_one_is_rejected() {
        let mut selection = KeySelection::new(first("a"), Some(next("b")));
        let not_accepted = KeyChange::NotAccepted {
            pair: PairName::Next,
            in_use: PairName::First,
        };
        assert_eq!(check(&mut selection, &["a"]), [not_accepted]);
        assert!(selection.candidates().is_empty());
        // The rejection of a request concerned only the request.
        assert_eq!(reject(&mut selection, &["a"]), []);
        assert_eq!(used(&selection), "a");
        assert_eq!(
            reject(&mut selection, &["b"]),
            switched(PairName::First, PairName::Next)
        );
        assert_eq!(used(&selection), "b");
    }

    #[test]
    fn a_rejected_next_pair_in_use_is_replaced_by_the_first_one() {
        let mut selection = KeySelection::new(first("a"), Some(next("b")));
        check(&mut selection, &["a", "b"]);
        // While the next pair is accepted, it stays in use.
        assert_eq!(reject(&mut selection, &["a", "b"]), []);
        assert_eq!(
            reject(&mut selection, &["a"]),
            switched(PairName::Next, PairName::First)
        );
        assert_eq!(used(&selection), "a");
        assert!(selection.candidates().is_empty());
        // And forward again.
        assert_eq!(
            reject(&mut selection, &["b"]),
            switched(PairName::First, PairName::Next)
        );
    }

    #[test]
    fn two_rejected_pairs_are_reported_once() {
        let mut selection = KeySelection::new(first("a"), Some(next("b")));
        let both = [
            KeyChange::NotAccepted {
                pair: PairName::Next,
                in_use: PairName::First,
            },
            KeyChange::Rejected { pair: PairName::First },
        ];
        assert_eq!(reject(&mut selection, &[]), both);
        assert_eq!(reject(&mut selection, &[]), []);
        assert_eq!(used(&selection), "a");
    }

    #[test]
    fn a_check_without_a_result_changes_nothing_and_is_repeated() {
        let mut selection = KeySelection::new(first("a"), Some(next("b")));
        let pair = selection.candidates().remove(0);
        assert_eq!(selection.record(&[(pair, Unknown)]), []);
        assert_eq!((used(&selection).as_str(), selection.candidates().len()), ("a", 1));
        // A check of the pair in use without a result is no rejection.
        let pair = selection.candidates().remove(0);
        let in_use = selection.in_use().clone();
        assert_eq!(selection.record(&[(in_use, Unknown), (pair, Rejected)]).len(), 1);
        assert_eq!(used(&selection), "a");
    }

    #[test]
    fn a_changed_pair_is_used_only_when_it_is_accepted() {
        let mut selection = KeySelection::new(first("a"), None);
        assert!(selection.candidates().is_empty() && selection.others().is_empty());
        assert!(!selection.replace(first("a")));
        // As seen between the writes of the two files.
        assert!(selection.replace(first("torn")));
        assert_eq!(check(&mut selection, &["a", "c"]).len(), 1);
        assert_eq!(used(&selection), "a");
        assert!(selection.replace(first("c")));
        assert_eq!(
            check(&mut selection, &["a", "c"]),
            switched(PairName::First, PairName::First)
        );
        assert_eq!(used(&selection), "c");
        // The former pair is forgotten.
        assert!(selection.others().is_empty());
        assert_eq!(
            reject(&mut selection, &["a"]),
            [KeyChange::Rejected { pair: PairName::First }]
        );
    }

    #[test]
    fn a_changed_pair_that_was_rejected_is_tried_again_when_the_used_one_is_rejected() {
        let mut selection = KeySelection::new(first("a"), None);
        selection.replace(first("c"));
        check(&mut selection, &["a"]);
        assert_eq!(used(&selection), "a");
        assert_eq!(
            reject(&mut selection, &["c"]),
            switched(PairName::First, PairName::First)
        );
        assert_eq!(used(&selection), "c");
    }

    #[test]
    fn files_with_their_former_content_need_no_check() {
        let mut selection = KeySelection::new(first("a"), None);
        selection.replace(first("c"));
        check(&mut selection, &["a"]);
        assert!(selection.replace(first("a")));
        assert!(selection.candidates().is_empty() && selection.others().is_empty());
        assert_eq!(used(&selection), "a");
    }

    #[test]
    fn a_change_of_the_first_pair_tries_the_next_one_again() {
        let mut selection = KeySelection::new(first("a"), Some(next("b")));
        check(&mut selection, &["a"]);
        selection.replace(first("c"));
        let candidates: Vec<_> = selection.candidates().iter().map(|pair| keys(pair)).collect();
        assert_eq!(candidates, ["b", "c"]);
        assert_eq!(
            check(&mut selection, &["a", "b"]),
            switched(PairName::First, PairName::Next)
        );
        // The first pair is the fallback as it is now, not as it was.
        assert_eq!(
            reject(&mut selection, &["a", "c"]),
            switched(PairName::Next, PairName::First)
        );
        assert_eq!(used(&selection), "c");
    }

    #[test]
    fn the_first_pair_does_not_replace_an_accepted_next_one() {
        let mut selection = KeySelection::new(first("a"), Some(next("b")));
        check(&mut selection, &["a", "b"]);
        selection.replace(first("c"));
        assert!(selection.candidates().is_empty());
        // The rotation is completed: the first pair has the same keys as the next one.
        selection.replace(first("b"));
        assert!(selection.candidates().is_empty() && selection.others().is_empty());
    }

    #[test]
    fn a_changed_next_pair_replaces_the_former_one() {
        let mut selection = KeySelection::new(first("a"), Some(next("b")));
        check(&mut selection, &["a", "b"]);
        selection.replace(next("wrong"));
        check(&mut selection, &["a", "b"]);
        assert_eq!(used(&selection), "b");
        selection.replace(next("d"));
        assert_eq!(
            check(&mut selection, &["a", "b", "d"]),
            switched(PairName::Next, PairName::Next)
        );
        assert_eq!(used(&selection), "d");
    }

    #[test]
    fn a_pair_that_changed_during_its_check_is_not_used() {
        let mut selection = KeySelection::new(first("a"), Some(next("b")));
        let checked = selection.candidates().remove(0);
        selection.replace(next("c"));
        assert_eq!(selection.record(&[(checked, Accepted)]), []);
        assert_eq!(used(&selection), "a");
        assert_eq!(keys(&selection.candidates()[0]), "c");
    }

    #[test]
    fn no_debug_text_shows_a_key() {
        let keys = Keys {
            first: KeyPairSource {
                access: KeySource::Value("u$rSECRET".into()),
                secret: KeySource::Value("SECRET".into()),
            },
            next: None,
        };
        let pair = keys.first.read(PairName::First).unwrap();
        let headers = pair.headers();
        assert_eq!(headers["x-lsq-accesskey"], "u$rSECRET");
        let selection = KeySelection::new(pair, None);
        let said = format!("{keys:?} {selection:?} {headers:?}");
        assert!(!said.contains("SECRET"), "{said}");
    }

    #[test]
    fn a_key_that_cannot_be_sent_is_an_error_without_the_key() {
        for (key, expected) in [
            ("", "empty"),
            (" \n", "empty"),
            ("SEC RET", "printable"),
            ("SECRÉT", "printable"),
        ] {
            let error = KeySource::Value(key.into()).read().unwrap_err();
            assert!(error.contains(expected) && !error.contains("SEC"), "{error}");
        }
        let key = KeySource::Value(" key\n".into()).read().unwrap();
        assert_eq!(key.expose_secret(), "key");
        let missing = KeySource::File("/nonexistent/key".into()).read().unwrap_err();
        assert!(missing.starts_with("reading /nonexistent/key failed"), "{missing}");
    }
}
