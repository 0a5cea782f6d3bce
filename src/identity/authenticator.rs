//! Identifies the caller of a request by its credentials. The callers and the keys of the issuer may change at any time.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::certificate::SubjectName;
use super::issuer::Issuer;
use super::jwt::Refusal;
use super::permission::Permissions;
use super::{AuthConfig, AuthMode, Caller, Credential, Registry, RestCaller, RestRules, api_key};

/// The scheme of the metadata entry `authorization`, in lower case.
const SCHEME: &[u8] = b"bearer ";

/// Identifies callers.
#[derive(Debug)]
pub struct Authenticator {
    mode: AuthMode,
    registry: ArcSwap<Registry>,
    issuer: Option<Issuer>,
}

/// The result of an identification.
#[derive(Debug)]
pub enum Identification {
    /// The caller.
    Caller(Arc<Caller>),
    /// There is no valid credential of a known caller. The name of the reason is for logs and metrics: a stranger must not learn
    /// it.
    Unknown(&'static str),
    /// The token names a key that is not known. [`Authenticator::refresh_keys`] may fetch it.
    UnknownTokenKey,
}

impl Authenticator {
    /// Makes an authenticator of these callers. Fails with a text for operators.
    pub fn new(auth: &AuthConfig, registry: Registry) -> Result<Self, String> {
        let issuer = auth.jwt.clone().map(Issuer::new).transpose()?;
        Ok(Self {
            mode: auth.mode,
            registry: ArcSwap::from_pointee(registry),
            issuer,
        })
    }

    /// Whether callers are identified at all.
    pub fn mode(&self) -> AuthMode {
        self.mode
    }

    /// The issuer of the tokens that are accepted.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_ref()
    }

    /// Replaces the callers.
    pub fn set_registry(&self, registry: Registry) {
        self.registry.store(Arc::new(registry));
    }

    /// Identifies the caller of a request. `authorization` is the value of that metadata entry. It decides if it is present;
    /// `certificate` has the names in a client certificate that is valid now.
    pub fn identify(
        &self,
        authorization: Option<&[u8]>,
        certificate: Option<&Arc<[SubjectName]>>,
        now: SystemTime,
    ) -> Identification {
        let (credential, reason) = match (authorization, certificate) {
            (Some(authorization), _) => match self.of_text(authorization, now) {
                Ok(found) => found,
                Err(Refusal::UnknownKey) => return Identification::UnknownTokenKey,
                Err(refusal) => return Identification::Unknown(refusal.name()),
            },
            (None, Some(names)) => (Credential::Certificate(names.clone()), "unknown_certificate"),
            (None, None) => return Identification::Unknown("no_credential"),
        };
        match self.registry.load().identify(&credential, now) {
            Some(caller) => Identification::Caller(caller),
            None => Identification::Unknown(reason),
        }
    }

    /// The caller of that name, whom another replica has identified. `None`: the settings have no such caller.
    pub fn named(&self, name: &str) -> Option<Arc<Caller>> {
        match self.mode {
            AuthMode::None => Some(Arc::new(Caller {
                name: name.into(),
                permissions: Permissions::all(),
                rest: RestRules::default(),
            })),
            AuthMode::Callers => self.registry.load().named(name),
        }
    }

    /// The caller of that name on the REST listener, in any mode.
    pub fn rest_caller(&self, name: &str) -> Option<Arc<Caller>> {
        self.registry.load().named(name)
    }

    /// The caller of an access key of the REST listener, whatever the secret key is.
    pub fn claimed_rest_caller(&self, access: &[u8]) -> Option<Arc<Caller>> {
        self.registry.load().claimed_rest_caller(access)
    }

    /// The caller of a pair of keys of the REST listener, in any mode.
    pub fn identify_rest(&self, access: &[u8], secret: &[u8]) -> Option<RestCaller> {
        self.registry.load().identify_rest(access, secret)
    }

    /// Fetches the keys of the issuer, unless they were fetched a short time ago.
    pub async fn refresh_keys(&self) {
        if let Some(issuer) = &self.issuer {
            issuer.refresh().await;
        }
    }

    /// Returns the credential in a metadata entry, and the reason if nobody has it.
    fn of_text(&self, authorization: &[u8], now: SystemTime) -> Result<(Credential, &'static str), Refusal> {
        let (scheme, text) = authorization.split_at_checked(SCHEME.len()).ok_or(Refusal::Malformed)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(Refusal::Malformed);
        }
        let text = std::str::from_utf8(text).map_err(|_| Refusal::Malformed)?.trim();
        if let Some(credential) = api_key::credential(text) {
            return Ok((credential, "unknown_api_key"));
        }
        let issuer = self.issuer.as_ref().ok_or(Refusal::Malformed)?;
        Ok((issuer.verifier().verify(text, now)?, "unknown_subject"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CallerIdentity;
    use crate::identity::api_key::KeyHash;

    fn reason(identification: &Identification) -> &str {
        match identification {
            Identification::Caller(caller) => &caller.name,
            Identification::Unknown(reason) => reason,
            Identification::UnknownTokenKey => "unknown token key",
        }
    }

    #[test]
    fn a_key_decides_before_a_certificate_and_a_bad_one_is_not_ignored() {
        let key = api_key::generate("by-key");
        let by_key = CallerIdentity {
            api_keys: vec![KeyHash::of(&key)],
            ..CallerIdentity::default()
        };
        let by_certificate = CallerIdentity {
            certificates: vec!["dns:one".parse().unwrap()],
            ..CallerIdentity::default()
        };
        let callers = [("by-key", &by_key), ("by-certificate", &by_certificate)];
        let registry = Registry::new(callers.into_iter()).unwrap();
        let auth = AuthConfig {
            mode: AuthMode::Callers,
            jwt: None,
        };
        let authenticator = Authenticator::new(&auth, registry).unwrap();
        let certificate: Arc<[SubjectName]> = ["dns:one".parse().unwrap()].into();
        let other: Arc<[SubjectName]> = ["dns:other".parse().unwrap()].into();
        let bearer = |text: &str| format!("Bearer {text}");
        let unknown = api_key::generate("by-key");
        for (text, names, expected) in [
            (Some(bearer(&key)), Some(&certificate), "by-key"),
            (Some(format!("bEARER  {key} ")), None, "by-key"),
            (None, Some(&certificate), "by-certificate"),
            (None, Some(&other), "unknown_certificate"),
            (None, None, "no_credential"),
            (Some(bearer(&unknown)), Some(&certificate), "unknown_api_key"),
            (Some(bearer("a.b.c")), Some(&certificate), "malformed"),
            (Some(key.clone()), Some(&certificate), "malformed"),
            (Some(format!("Basic {key}")), None, "malformed"),
            (Some(String::new()), None, "malformed"),
        ] {
            let text = text.as_deref().map(str::as_bytes);
            let found = authenticator.identify(text, names, SystemTime::UNIX_EPOCH);
            assert_eq!(reason(&found), expected, "{text:?}");
        }
        authenticator.set_registry(Registry::default());
        let found = authenticator.identify(Some(bearer(&key).as_bytes()), None, SystemTime::UNIX_EPOCH);
        assert_eq!(reason(&found), "unknown_api_key");
    }
}
