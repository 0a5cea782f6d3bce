//! JSON Web Tokens: RS256, ES256 and EdDSA signatures with the keys of a JWK Set (RFC 7517, 7519, 8037).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::Credential;

/// The longest token, in bytes. Metadata is limited as a whole by `server.max_metadata_bytes`.
const MAX_TOKEN: usize = 16 * 1024;
/// The number of verified tokens that are cached.
const MAX_CACHED: u64 = 10_000;

/// Why a token was refused. For logs and metrics only: a caller learns no more than that it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The text is not a token.
    Malformed,
    /// The algorithm is not RS256, ES256 or EdDSA, or not that of the key.
    Algorithm,
    /// No key has the key id of the token. The key set may be outdated.
    UnknownKey,
    /// The signature is wrong.
    Signature,
    /// `exp` is in the past.
    Expired,
    /// `nbf` is in the future.
    NotYetValid,
    /// `iss` is another one.
    Issuer,
    /// `aud` does not contain the audience.
    Audience,
    /// A required claim is missing or has another type.
    Claim,
}

impl Refusal {
    /// A short name for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "token_algorithm",
            Self::UnknownKey => "token_unknown_key",
            Self::Signature => "token_signature",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Claim => "token_claim",
        }
    }
}

/// What tokens have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `iss`.
    pub issuer: String,
    /// A member of `aud`.
    pub audience: String,
    /// The claim with the name of the caller.
    pub caller_claim: String,
    /// How much the clocks of issuer and gateway may differ.
    pub leeway: Duration,
}

/// The keys of an issuer. By default there are none.
#[derive(Default)]
pub struct KeySet {
    by_id: HashMap<String, (Algorithm, DecodingKey)>,
    /// The only key of a set, if it has no key id. Tokens without a key id are verified with it.
    without_id: Option<(Algorithm, DecodingKey)>,
}

/// Verifies tokens. Verified tokens are cached, since a signature costs more than all else that an RPC needs.
pub struct Verifier {
    expected: Expected,
    keys: ArcSwap<KeySet>,
    verified: moka::sync::Cache<[u8; 32], Verified>,
}

#[derive(Clone)]
struct Verified {
    subject: Arc<str>,
    not_before: SystemTime,
    expires: SystemTime,
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<Json>,
    nbf: Option<Json>,
    #[serde(flatten)]
    others: HashMap<String, Json>,
}

impl KeySet {
    /// Reads a JWK Set. Keys of other kinds, and keys that are not for signatures, are ignored; a set without a usable key is
    /// an error.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Json>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|error| format!("is not a JWK Set: {error}"))?;
        let number = set.keys.len();
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        let mut by_id = HashMap::new();
        let mut without_id = Vec::new();
        for (id, key) in keys.filter_map(|key: Jwk| Some((key.common.key_id.clone(), usable(&key)?))) {
            match id {
                Some(id) => drop(by_id.insert(id, key)),
                None => without_id.push(key),
            }
        }
        let without_id = match (without_id.pop(), number) {
            (Some(key), 1) => Some(key),
            (Some(_), _) if by_id.is_empty() => {
                return Err(format!("has {number} keys, so each key for tokens must have a kid"));
            }
            _ => None,
        };
        let keys = Self { by_id, without_id };
        match keys.is_empty() {
            true => Err(format!("has no key for RS256, ES256 or EdDSA among its {number} keys")),
            false => Ok(keys),
        }
    }

    /// The number of usable keys.
    pub fn len(&self) -> usize {
        self.by_id.len() + usize::from(self.without_id.is_some())
    }

    /// Whether there are no usable keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get(&self, id: Option<&str>) -> Option<&(Algorithm, DecodingKey)> {
        match id {
            Some(id) => self.by_id.get(id).or(self.without_id.as_ref()),
            None => self.without_id.as_ref(),
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("ids", &self.by_id.keys())
            .finish_non_exhaustive()
    }
}

/// The algorithm and the key of a JWK, if signatures can be verified with it.
fn usable(key: &Jwk) -> Option<(Algorithm, DecodingKey)> {
    if !matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let (algorithm, name) = match &key.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let is_ours = key.common.key_algorithm.is_none_or(|named| named == name);
    let key = is_ours.then(|| DecodingKey::from_jwk(key).ok()).flatten()?;
    Some((algorithm, key))
}

impl Verifier {
    /// A verifier with the keys of an issuer.
    pub fn new(expected: Expected, keys: KeySet) -> Self {
        Self {
            expected,
            keys: ArcSwap::from_pointee(keys),
            verified: moka::sync::Cache::new(MAX_CACHED),
        }
    }

    /// The ids of the keys, sorted.
    pub fn key_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.keys.load().by_id.keys().cloned().collect();
        ids.sort_unstable();
        ids
    }

    /// Replaces the keys. Tokens that were signed with a key that is gone are refused from now on.
    pub fn replace_keys(&self, keys: KeySet) {
        self.keys.store(Arc::new(keys));
        self.verified.invalidate_all();
    }

    /// The credential in a token.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Credential, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::Malformed);
        }
        let digest = Sha256::digest(token).into();
        let verified = match self.verified.get(&digest) {
            Some(verified) => verified,
            None => {
                let keys = self.keys.load_full();
                let verified = self.verify_signature(&keys, token)?;
                self.verified.insert(digest, verified.clone());
                // Keys that were replaced meanwhile have emptied the cache before the insertion.
                if !Arc::ptr_eq(&keys, &self.keys.load()) {
                    self.verified.invalidate(&digest);
                }
                verified
            }
        };
        let Verified {
            subject,
            not_before,
            expires,
        } = verified;
        if now >= expires {
            return Err(Refusal::Expired);
        }
        if now < not_before {
            return Err(Refusal::NotYetValid);
        }
        let subject = subject.as_ref().to_owned();
        Ok(Credential::Subject { subject, expires })
    }

    /// Checks everything but the times.
    fn verify_signature(&self, keys: &KeySet, token: &str) -> Result<Verified, Refusal> {
        let header = decode_header(token).map_err(|error| refusal(&error))?;
        // An extension that must be understood, and none is (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA) {
            return Err(Refusal::Algorithm);
        }
        let (algorithm, key) = keys.get(header.kid.as_deref()).ok_or(Refusal::UnknownKey)?;
        let mut validation = Validation::new(*algorithm);
        validation.set_issuer(&[&self.expected.issuer]);
        validation.set_audience(&[&self.expected.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, key, &validation)
            .map_err(|error| refusal(&error))?
            .claims;
        // The library also accepts a list with the issuer. `iss` is one text (RFC 7519, 4.1.1).
        if claims.others.get("iss").and_then(Json::as_str) != Some(&self.expected.issuer) {
            return Err(Refusal::Issuer);
        }
        let leeway = self.expected.leeway;
        let expires = time(claims.exp.as_ref().ok_or(Refusal::Claim)?)?
            .checked_add(leeway)
            .ok_or(Refusal::Claim)?;
        let not_before = match &claims.nbf {
            Some(nbf) => time(nbf)?.checked_sub(leeway).unwrap_or(SystemTime::UNIX_EPOCH),
            None => SystemTime::UNIX_EPOCH,
        };
        let subject = claims.others.get(&self.expected.caller_claim).and_then(Json::as_str);
        let subject = subject.filter(|subject| !subject.is_empty()).ok_or(Refusal::Claim)?;
        Ok(Verified {
            subject: subject.into(),
            not_before,
            expires,
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, keys, .. } = self;
        f.debug_struct("Verifier")
            .field("expected", expected)
            .field("keys", &keys.load())
            .finish_non_exhaustive()
    }
}

/// A NumericDate: seconds since 1970, perhaps with a fraction.
fn time(seconds: &Json) -> Result<SystemTime, Refusal> {
    let seconds = seconds.as_f64().ok_or(Refusal::Claim)?;
    let since = Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| Refusal::Claim)?;
    SystemTime::UNIX_EPOCH.checked_add(since).ok_or(Refusal::Claim)
}

fn refusal(error: &jsonwebtoken::errors::Error) -> Refusal {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            Refusal::Algorithm
        }
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Refusal::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Refusal::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => Refusal::Claim,
        _ => Refusal::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use rcgen::KeyPair;
    use serde_json::json;

    use super::*;

    /// The present of these tests, in seconds since 1970.
    const NOW: u64 = 1_800_000_000;

    struct Issuer {
        algorithm: Algorithm,
        pair: KeyPair,
        id: &'static str,
    }

    impl Issuer {
        fn new(algorithm: Algorithm, id: &'static str) -> Self {
            let pair = match algorithm {
                Algorithm::ES256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
                Algorithm::EdDSA => KeyPair::generate_for(&rcgen::PKCS_ED25519),
                _ => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
            };
            Self {
                algorithm,
                pair: pair.unwrap(),
                id,
            }
        }

        fn jwk(&self) -> Json {
            let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let raw = self.pair.public_key_raw();
            match self.algorithm {
                // An uncompressed point: 4, x, y.
                Algorithm::ES256 => json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig",
                    "x": encode(&raw[1..33]), "y": encode(&raw[33..])}),
                Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": encode(raw)}),
                // DER: a sequence of two integers, of which the modulus has a leading zero, and the exponent 65537.
                _ => {
                    let exponent = raw.len() - 5;
                    json!({"kty": "RSA", "kid": self.id, "alg": "RS256", "e": "AQAB",
                        "n": encode(&raw[exponent - 256..exponent])})
                }
            }
        }

        fn sign(&self, claims: &Json) -> String {
            let mut header = Header::new(self.algorithm);
            header.kid = Some(self.id.to_owned());
            self.sign_with(&header, claims)
        }

        fn sign_with(&self, header: &Header, claims: &Json) -> String {
            let pem = self.pair.serialize_pem();
            let key = match self.algorithm {
                Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
                Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
                _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
            };
            encode(header, claims, &key.unwrap()).unwrap()
        }
    }

    fn claims() -> Json {
        json!({"iss": "https://idp.example", "aud": ["leadgate", "other"], "sub": "checkout@prod", "exp": NOW + 60})
    }

    fn with(key: &str, value: Json) -> Json {
        let mut claims = claims();
        claims[key] = value;
        claims
    }

    fn without(key: &str) -> Json {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(key);
        claims
    }

    fn key_set(issuers: &[&Issuer]) -> KeySet {
        let keys: Vec<Json> = issuers.iter().map(|issuer| issuer.jwk()).collect();
        KeySet::read(json!({"keys": keys}).to_string().as_bytes()).unwrap()
    }

    fn verifier(issuers: &[&Issuer]) -> Verifier {
        let expected = Expected {
            issuer: "https://idp.example".to_owned(),
            audience: "leadgate".to_owned(),
            caller_claim: "sub".to_owned(),
            leeway: Duration::from_secs(30),
        };
        Verifier::new(expected, key_set(issuers))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn result(verifier: &Verifier, token: &str) -> Result<String, Refusal> {
        match verifier.verify(token, at(NOW)) {
            Ok(Credential::Subject { subject, .. }) => Ok(subject),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal),
        }
    }

    #[test]
    fn tokens_of_all_three_algorithms_are_verified() {
        let issuers = [
            Issuer::new(Algorithm::RS256, "rsa"),
            Issuer::new(Algorithm::ES256, "ec"),
            Issuer::new(Algorithm::EdDSA, "ed"),
        ];
        let verifier = verifier(&issuers.each_ref());
        for issuer in &issuers {
            let token = issuer.sign(&claims());
            assert_eq!(result(&verifier, &token), Ok("checkout@prod".to_owned()));
            // The second time it comes from the cache.
            assert_eq!(result(&verifier, &token), Ok("checkout@prod".to_owned()));
            let (rest, signature) = token.rsplit_once('.').unwrap();
            let first = if signature.starts_with('A') { 'B' } else { 'A' };
            let forged = format!("{rest}.{first}{}", &signature[1..]);
            assert_eq!(result(&verifier, &forged), Err(Refusal::Signature));
        }
    }

    #[test]
    fn every_claim_is_checked() {
        let issuer = Issuer::new(Algorithm::ES256, "ec");
        let verifier = verifier(&[&issuer]);
        for (claims, expected) in [
            (with("iss", json!("https://other.example")), Refusal::Issuer),
            (without("iss"), Refusal::Issuer),
            (
                with("iss", json!(["https://idp.example", "https://other.example"])),
                Refusal::Issuer,
            ),
            (with("iss", json!(["https://idp.example"])), Refusal::Issuer),
            (with("aud", json!("other")), Refusal::Audience),
            (with("aud", json!(["other"])), Refusal::Audience),
            (without("aud"), Refusal::Audience),
            (with("exp", json!(NOW - 31)), Refusal::Expired),
            (with("exp", json!(0)), Refusal::Expired),
            (with("exp", json!(-1)), Refusal::Claim),
            (without("exp"), Refusal::Claim),
            (with("exp", json!("2100-01-01")), Refusal::Claim),
            (with("exp", json!(1e300)), Refusal::Claim),
            (with("nbf", json!(NOW + 31)), Refusal::NotYetValid),
            (with("nbf", json!("now")), Refusal::Claim),
            (without("sub"), Refusal::Claim),
            (with("sub", json!(7)), Refusal::Claim),
            (with("sub", json!("")), Refusal::Claim),
        ] {
            assert_eq!(result(&verifier, &issuer.sign(&claims)), Err(expected), "{claims}");
        }
        for good in [
            with("aud", json!("leadgate")),
            with("exp", json!(NOW - 29)),
            with("exp", json!(NOW as f64 + 0.5)),
            with("nbf", json!(NOW + 29)),
        ] {
            assert!(result(&verifier, &issuer.sign(&good)).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_cached_token_expires_like_any_other() {
        let issuer = Issuer::new(Algorithm::EdDSA, "ed");
        let verifier = verifier(&[&issuer]);
        let token = issuer.sign(&claims());
        assert!(verifier.verify(&token, at(NOW + 89)).is_ok());
        assert_eq!(verifier.verify(&token, at(NOW + 90)), Err(Refusal::Expired));
    }

    #[test]
    fn no_signature_and_shared_secrets_are_refused() {
        let issuer = Issuer::new(Algorithm::ES256, "ec");
        let verifier = verifier(&[&issuer]);
        let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        let none = format!("{}.{}.", part(&json!({"alg": "none", "kid": "ec"})), part(&claims()));
        assert_eq!(result(&verifier, &none), Err(Refusal::Malformed));
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("ec".to_owned());
        // The public key as a shared secret.
        let key = EncodingKey::from_secret(issuer.pair.public_key_raw());
        let hmac = encode(&header, &claims(), &key).unwrap();
        assert_eq!(result(&verifier, &hmac), Err(Refusal::Algorithm));
    }

    #[test]
    fn the_algorithm_is_that_of_the_key() {
        let (ec, ed) = (Issuer::new(Algorithm::ES256, "ec"), Issuer::new(Algorithm::EdDSA, "ed"));
        let verifier = verifier(&[&ec, &ed]);
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("ec".to_owned());
        assert_eq!(
            result(&verifier, &ed.sign_with(&header, &claims())),
            Err(Refusal::Algorithm)
        );
    }

    #[test]
    fn an_extension_that_must_be_understood_is_refused() {
        let issuer = Issuer::new(Algorithm::ES256, "ec");
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("ec".to_owned());
        header.crit = Some(vec!["b64".to_owned()]);
        let token = issuer.sign_with(&header, &claims());
        assert_eq!(result(&verifier(&[&issuer]), &token), Err(Refusal::Malformed));
    }

    #[test]
    fn tokens_of_a_removed_key_are_refused_also_from_the_cache() {
        let (old, new) = (
            Issuer::new(Algorithm::ES256, "old"),
            Issuer::new(Algorithm::ES256, "new"),
        );
        let verifier = verifier(&[&old]);
        let (by_old, by_new) = (old.sign(&claims()), new.sign(&claims()));
        assert!(result(&verifier, &by_old).is_ok());
        assert_eq!(result(&verifier, &by_new), Err(Refusal::UnknownKey));
        verifier.replace_keys(key_set(&[&new]));
        assert_eq!(result(&verifier, &by_old), Err(Refusal::UnknownKey));
        assert!(result(&verifier, &by_new).is_ok());
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let issuer = Issuer::new(Algorithm::ES256, "ec");
        let verifier = verifier(&[&issuer]);
        let token = issuer.sign(&claims());
        for text in [
            "",
            ".",
            "..",
            "a.b.c",
            "lg_one_x",
            &token[1..],
            &token.replace('.', ""),
            &"a".repeat(20_000),
        ] {
            assert_eq!(result(&verifier, text), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn a_key_set_may_hold_keys_of_other_kinds() {
        let issuer = Issuer::new(Algorithm::ES256, "ec");
        let set = json!({"keys": [
            issuer.jwk(), {"kty": "oct", "k": "AAAA", "kid": "secret"}, {"kty": "future"}, 7,
            {"kty": "RSA", "use": "enc", "kid": "enc", "n": "AQAB", "e": "AQAB"}]});
        let keys = KeySet::read(set.to_string().as_bytes()).unwrap();
        assert_eq!(keys.by_id.keys().collect::<Vec<_>>(), ["ec"]);
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"keys": []}"#,
            r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#,
        ] {
            assert!(KeySet::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_without_a_key_id_needs_a_set_of_one_key_without_one() {
        let issuer = Issuer::new(Algorithm::ES256, "");
        let mut jwk = issuer.jwk();
        jwk.as_object_mut().unwrap().remove("kid");
        let token = issuer.sign_with(&Header::new(Algorithm::ES256), &claims());
        let verifier = verifier(&[&issuer]);
        assert_eq!(result(&verifier, &token), Err(Refusal::UnknownKey));
        verifier.replace_keys(KeySet::read(json!({"keys": [&jwk]}).to_string().as_bytes()).unwrap());
        assert!(result(&verifier, &token).is_ok());
        // No token could be verified with such a set.
        for other in [jwk.clone(), json!({"kty": "future"})] {
            let set = json!({"keys": [jwk, other]});
            let error = KeySet::read(set.to_string().as_bytes()).unwrap_err();
            assert_eq!(error, "has 2 keys, so each key for tokens must have a kid");
        }
    }
}
