//! Identity: which caller an RPC belongs to, and what this caller may do. Does not depend on gRPC.
//!
//! A [`Registry`] is built from the settings and never changes. A reload builds another registry and replaces the old one.

mod admin_token;
pub mod api_key;
mod authenticator;
pub mod certificate;
mod issuer;
pub mod jwt;
pub mod permission;
pub mod rest_key;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;

use self::api_key::KeyHash;
use self::certificate::SubjectName;
use self::permission::Permissions;
pub use self::rest_key::{RestCaller, RestKey, RestRules};
pub use admin_token::AdminToken;
pub use authenticator::{Authenticator, Identification};
pub use issuer::{Issuer, JwksSource, JwtConfig};

/// The beginning of the caller names that leadgate uses for its own calls.
pub const RESERVED: &str = "leadgate";

/// A caller and its permissions.
#[derive(Debug)]
pub struct Caller {
    /// The name of the `[callers.NAME]` table.
    pub name: Arc<str>,
    /// What this caller may do.
    pub permissions: Arc<Permissions>,
    /// What it has of its own on the REST listener.
    pub rest: RestRules,
}

/// The credentials and permissions of one caller: the part of `[callers.NAME]` that is not its share of the quota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The SHA-256 of each API key.
    pub api_keys: Vec<KeyHash>,
    /// Subject alternative names of client certificates.
    pub certificates: Vec<SubjectName>,
    /// Values of the claim `auth.jwt.caller_claim`.
    pub subjects: Vec<String>,
    /// The permissions.
    pub permissions: Permissions,
    /// Its pairs of keys of the REST listener.
    pub rest_keys: Vec<RestKey>,
    /// What it has of its own on the REST listener.
    pub rest: RestRules,
}

/// The credentials of one RPC. Their Debug form shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An API key.
    ApiKey {
        /// The caller's name, as the key says it.
        caller: String,
        /// The SHA-256 of the whole key.
        hash: KeyHash,
    },
    /// A verified token.
    Subject {
        /// The value of the caller claim.
        subject: String,
        /// When the token expires, leeway included.
        expires: SystemTime,
    },
    /// The names in a client certificate that the server has verified, in order of preference.
    Certificate(Arc<[SubjectName]>),
}

/// How callers are identified (`[auth]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether callers are identified at all.
    pub mode: AuthMode,
    /// The tokens that are accepted. `None`: no tokens.
    pub jwt: Option<JwtConfig>,
}

/// Whether callers are identified (`auth.mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Every client may do everything. Callers name themselves.
    None,
    /// Every RPC except health checks needs the credential of a known caller.
    Callers,
}

/// A credential of two callers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} also belongs to callers.{other}")]
pub struct CredentialConflict {
    /// One caller.
    pub caller: String,
    /// The setting.
    pub setting: &'static str,
    /// The number of the entry, from 1.
    pub number: usize,
    /// The other caller.
    pub other: String,
}

/// All callers, by their credentials.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    callers: HashMap<Arc<str>, (Arc<Caller>, Vec<KeyHash>)>,
    subjects: HashMap<String, Arc<Caller>>,
    certificates: HashMap<SubjectName, Arc<Caller>>,
    /// By the hash of the access key: the hash of the secret key, and the caller.
    rest_keys: HashMap<KeyHash, (KeyHash, RestCaller)>,
}

impl Registry {
    /// Builds the registry. Fails with all credentials that two callers have.
    pub fn new<'a>(
        callers: impl Iterator<Item = (&'a str, &'a CallerIdentity)>,
    ) -> Result<Self, Vec<CredentialConflict>> {
        let mut registry = Self::default();
        let mut conflicts = Vec::new();
        for (name, identity) in callers {
            let caller = Arc::new(Caller {
                name: name.into(),
                permissions: Arc::new(identity.permissions.clone()),
                rest: identity.rest.clone(),
            });
            conflicts.extend(registry.add_rest_keys(&caller, &identity.rest_keys));
            let keys = identity.api_keys.clone();
            registry.callers.insert(caller.name.clone(), (caller.clone(), keys));
            insert(
                &mut registry.subjects,
                &identity.subjects,
                "subjects",
                &caller,
                &mut conflicts,
            );
            let certificates = &identity.certificates;
            insert(
                &mut registry.certificates,
                certificates,
                "certificates",
                &caller,
                &mut conflicts,
            );
        }
        match conflicts.is_empty() {
            true => Ok(registry),
            false => Err(conflicts),
        }
    }

    /// The caller of that name.
    pub fn named(&self, name: &str) -> Option<Arc<Caller>> {
        self.callers.get(name).map(|(caller, _)| caller.clone())
    }

    /// The caller of a pair of keys of the REST listener. Takes the same time for an unknown access key.
    pub fn identify_rest(&self, access: &[u8], secret: &[u8]) -> Option<RestCaller> {
        let known = self.rest_keys.get(&KeyHash::of_bytes(access));
        // The secret of an unknown access key is compared, too.
        let nobody = KeyHash::of_bytes(b"");
        let expected = known.map_or(&nobody, |(expected, _)| expected);
        let is_valid = expected.is(&KeyHash::of_bytes(secret));
        known.filter(|_| is_valid).map(|(_, caller)| caller.clone())
    }

    /// The caller of an access key of the REST listener, whatever the secret key is.
    pub fn claimed_rest_caller(&self, access: &[u8]) -> Option<Arc<Caller>> {
        let known = self.rest_keys.get(&KeyHash::of_bytes(access));
        known.map(|(_, rest)| rest.caller.clone())
    }

    /// Adds the pairs of keys of a caller. Access keys of other pairs are conflicts.
    fn add_rest_keys(&mut self, caller: &Arc<Caller>, keys: &[RestKey]) -> Vec<CredentialConflict> {
        let mut conflicts = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            match self.rest_keys.entry(key.access.clone()) {
                Entry::Vacant(vacant) => {
                    let tenant = key.tenant.clone();
                    let caller = caller.clone();
                    vacant.insert((key.secret.clone(), RestCaller { caller, tenant }));
                }
                Entry::Occupied(other) => conflicts.push(CredentialConflict {
                    caller: caller.name.to_string(),
                    setting: "rest_keys",
                    number: i + 1,
                    other: other.get().1.caller.name.to_string(),
                }),
            }
        }
        conflicts
    }

    /// The caller of a credential. `None` if the credential is unknown, revoked or expired: callers cannot tell which.
    pub fn identify(&self, credential: &Credential, now: SystemTime) -> Option<Arc<Caller>> {
        match credential {
            Credential::ApiKey { caller, hash } => {
                let (caller, keys) = self.callers.get(caller.as_str())?;
                // Every key is compared, each in constant time.
                let is_known = keys.iter().fold(false, |is_known, key| is_known | key.is(hash));
                is_known.then(|| caller.clone())
            }
            Credential::Subject { subject, expires } => {
                let caller = self.subjects.get(subject)?;
                (now < *expires).then(|| caller.clone())
            }
            Credential::Certificate(names) => names.iter().find_map(|name| self.certificates.get(name)).cloned(),
        }
    }
}

/// Adds the credentials of a caller. Those of another caller are conflicts.
fn insert<C: Clone + Eq + Hash>(
    known: &mut HashMap<C, Arc<Caller>>,
    credentials: &[C],
    setting: &'static str,
    caller: &Arc<Caller>,
    conflicts: &mut Vec<CredentialConflict>,
) {
    for (i, credential) in credentials.iter().enumerate() {
        match known.entry(credential.clone()) {
            Entry::Vacant(vacant) => drop(vacant.insert(caller.clone())),
            Entry::Occupied(other) if other.get().name == caller.name => {}
            Entry::Occupied(other) => conflicts.push(CredentialConflict {
                caller: caller.name.to_string(),
                setting,
                number: i + 1,
                other: other.get().name.to_string(),
            }),
        }
    }
}

/// Checks the name of a caller in the settings. Returns the expected value.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_allowed) {
        return Err("the name of a caller must be 1 to 64 letters, digits, - _ or .");
    }
    match is_reserved(name) {
        true => Err("names that begin with leadgate are reserved"),
        false => Ok(()),
    }
}

/// Whether leadgate uses the name for its own calls, so that no caller may have it.
pub fn is_reserved(name: &str) -> bool {
    name.get(..RESERVED.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn registry(callers: &[(&str, CallerIdentity)]) -> Result<Registry, Vec<CredentialConflict>> {
        Registry::new(callers.iter().map(|(name, identity)| (*name, identity)))
    }

    fn name(registry: &Registry, credential: &Credential) -> Option<Arc<str>> {
        registry
            .identify(credential, SystemTime::UNIX_EPOCH)
            .map(|caller| caller.name.clone())
    }

    fn key(text: &str) -> Credential {
        api_key::credential(text).unwrap()
    }

    #[test]
    fn a_key_identifies_its_own_caller_only() {
        let (one, two) = (api_key::generate("one"), api_key::generate("one"));
        let identity = CallerIdentity {
            api_keys: vec![KeyHash::of(&one), KeyHash::of(&two)],
            ..CallerIdentity::default()
        };
        let registry = registry(&[("one", identity), ("two", CallerIdentity::default())]).unwrap();
        assert_eq!(name(&registry, &key(&one)).as_deref(), Some("one"));
        assert_eq!(name(&registry, &key(&two)).as_deref(), Some("one"));
        assert_eq!(name(&registry, &key(&api_key::generate("one"))), None);
        // The right secret with the name of another caller.
        let forged = one.replacen("lg_one_", "lg_two_", 1);
        assert_eq!(name(&registry, &key(&forged)), None);
        assert_eq!(name(&registry, &key(&api_key::generate("three"))), None);
    }

    #[test]
    fn an_expired_token_identifies_nobody() {
        let identity = CallerIdentity {
            subjects: vec!["checkout@prod".to_owned()],
            ..CallerIdentity::default()
        };
        let registry = registry(&[("checkout", identity)]).unwrap();
        let token = |subject: &str, seconds| Credential::Subject {
            subject: subject.to_owned(),
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        };
        assert_eq!(name(&registry, &token("checkout@prod", 1)).as_deref(), Some("checkout"));
        assert_eq!(name(&registry, &token("checkout@prod", 0)), None);
        assert_eq!(name(&registry, &token("checkout", 1)), None);
    }

    #[test]
    fn a_certificate_identifies_by_its_first_known_name() {
        let names = |texts: &[&str]| {
            let names = texts.iter().map(|text| text.parse().unwrap());
            names.collect::<Vec<SubjectName>>()
        };
        let identity = |texts: &[&str]| CallerIdentity {
            certificates: names(texts),
            ..CallerIdentity::default()
        };
        let registry = registry(&[
            ("one", identity(&["spiffe://prod/one"])),
            ("two", identity(&["dns:two.internal"])),
        ])
        .unwrap();
        let of = |texts: &[&str]| name(&registry, &Credential::Certificate(names(texts).into()));
        assert_eq!(of(&["spiffe://prod/one", "dns:two.internal"]).as_deref(), Some("one"));
        assert_eq!(of(&["spiffe://prod/other", "dns:two.internal"]).as_deref(), Some("two"));
        assert_eq!(of(&["dns:one"]), None);
    }

    #[test]
    fn a_credential_of_two_callers_is_an_error() {
        let identity = CallerIdentity {
            subjects: vec!["same".to_owned()],
            certificates: vec!["dns:same".parse().unwrap()],
            ..CallerIdentity::default()
        };
        let conflicts = registry(&[("one", identity.clone()), ("two", identity)]).unwrap_err();
        let texts = conflicts
            .iter()
            .map(|conflict| format!("{}.{}: {conflict}", conflict.caller, conflict.setting));
        assert_eq!(
            texts.collect::<Vec<_>>(),
            [
                "two.subjects: entry 1 also belongs to callers.one",
                "two.certificates: entry 1 also belongs to callers.one",
            ]
        );
    }

    #[test]
    fn names_of_leadgate_are_reserved_in_any_case() {
        for name in ["leadgate", "leadgate-transfer", "LeadGate", "LEADGATEx"] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["lead", "checkout", "my-leadgate", "", "leadgät"] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
