//! Fuzz targets: tokens, key sets, API keys and client certificates.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use serde_json::{Value as Json, json};
use x509_parser::extensions::GeneralName;

use crate::identity::api_key::{self, KeyHash};
use crate::identity::certificate::{SubjectName, subject_names};
use crate::identity::jwt::{Expected, KeySet, Verifier};
use crate::identity::permission::MethodPattern;
use crate::identity::{AuthConfig, AuthMode, Authenticator, CallerIdentity, Credential, Identification, Registry};
use crate::tls;

/// The present, in seconds since 1970.
const NOW: u64 = 1_800_000_000;
const LEEWAY: u64 = 30;
const ISSUER: &str = "https://idp.example";
const AUDIENCE: &str = "leadgate";
/// The id of the key of the issuer.
const KEY_ID: &str = "ed";
/// The API key of the only caller.
const API_KEY: &str = "lg_one_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// An issuer with a key that is the same in each run. A signature of Ed25519 depends on the key and the text only.
struct TestIssuer {
    pair: Ed25519KeyPair,
    verifier: Verifier,
    /// A valid token.
    token: String,
}

static TEST_ISSUER: LazyLock<TestIssuer> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("the seed has 32 bytes");
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": KEY_ID, "x": public_key(&pair)}]});
    let keys = KeySet::read(set.to_string().as_bytes()).expect("the key is usable");
    let claims = json!({"iss": ISSUER, "aud": [AUDIENCE], "sub": "checkout@prod", "exp": NOW + 60});
    let header = json!({"alg": "EdDSA", "kid": KEY_ID});
    TestIssuer {
        verifier: Verifier::new(expected(), keys),
        token: sign(&pair, header.to_string().as_bytes(), claims.to_string().as_bytes()),
        pair,
    }
});

fn expected() -> Expected {
    Expected {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        caller_claim: "sub".to_owned(),
        leeway: Duration::from_secs(LEEWAY),
    }
}

fn public_key(pair: &Ed25519KeyPair) -> String {
    URL_SAFE_NO_PAD.encode(pair.public_key().as_ref())
}

fn sign(pair: &Ed25519KeyPair, header: &[u8], claims: &[u8]) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()).as_ref());
    format!("{text}.{signature}")
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Verifies a token without its signature: a text, or the valid token with changed bytes. Only the valid token is accepted. The
/// first byte of the input decides: after `e`, three bytes each are a change.
pub(super) fn token_text(data: &[u8]) {
    let issuer = &*TEST_ISSUER;
    let text = match data.split_first() {
        Some((b'e', changes)) => changed(issuer.token.as_bytes(), changes),
        Some((_, text)) => text.to_vec(),
        None => return,
    };
    let Ok(text) = std::str::from_utf8(&text) else {
        return;
    };
    let is_accepted = issuer.verifier.verify(text, now()).is_ok();
    assert_eq!(is_accepted, text == issuer.token, "{text}");
}

/// Replaces, inserts and removes bytes.
fn changed(text: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0] & 0x3f, change[1]])) % (text.len() + 1);
        match change[0] >> 6 {
            0 => text.insert(at, change[2]),
            1 if at < text.len() => drop(text.remove(at)),
            _ if at < text.len() => text[at] = change[2],
            _ => {}
        }
    }
    text
}

/// Verifies a token with a valid signature. The input is the JSON of its header in the first line, and the JSON of its claims.
pub(super) fn token_claims(data: &[u8]) {
    let issuer = &*TEST_ISSUER;
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, claims) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let token = sign(&issuer.pair, header, claims);
    let Ok(credential) = issuer.verifier.verify(&token, now()) else {
        return;
    };
    let header: Json = serde_json::from_slice(header).expect("an accepted header is JSON");
    assert_eq!(
        (header["alg"].as_str(), header["kid"].as_str()),
        (Some("EdDSA"), Some(KEY_ID))
    );
    assert!(header["crit"].is_null(), "{header}");
    let claims: Json = serde_json::from_slice(claims).expect("accepted claims are JSON");
    let has = |name: &str, text: &str| match &claims[name] {
        Json::Array(texts) => texts.iter().any(|one| one == text),
        one => one == text,
    };
    assert_eq!(claims["iss"], ISSUER, "{claims}");
    assert!(has("aud", AUDIENCE), "{claims}");
    let expiry = claims["exp"].as_f64().expect("exp is a number");
    assert!(expiry + LEEWAY as f64 > NOW as f64, "{claims}");
    if let Some(not_before) = claims.get("nbf").and_then(Json::as_f64) {
        assert!(not_before - LEEWAY as f64 <= NOW as f64, "{claims}");
    }
    let Credential::Subject { subject, expires } = credential else {
        panic!("{credential:?}");
    };
    assert!(!subject.is_empty() && claims["sub"] == subject.as_str(), "{claims}");
    assert!(expires > now());
}

/// Reads a JWK Set. A token of another issuer is not accepted, and neither is a token without a signature.
pub(super) fn key_set(data: &[u8]) {
    let Ok(keys) = KeySet::read(data) else {
        return;
    };
    assert!(!keys.is_empty());
    let verifier = Verifier::new(expected(), keys);
    let issuer = &*TEST_ISSUER;
    if verifier.verify(&issuer.token, now()).is_ok() {
        let set: Json = serde_json::from_slice(data).expect("a key set is JSON");
        assert!(set.to_string().contains(&public_key(&issuer.pair)), "a key of nobody");
    }
    let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "forged", "exp": NOW + 60}).to_string();
    let ids = verifier.key_ids().into_iter().take(3).map(Some);
    for id in ids.chain([None]) {
        for (algorithm, bytes) in [("EdDSA", 64), ("ES256", 64), ("RS256", 256), ("RS256", 1), ("none", 0)] {
            let mut header = json!({"alg": algorithm});
            if let Some(id) = &id {
                header["kid"] = json!(id);
            }
            let [header, claims] = [&header.to_string(), &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
            let token = format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(vec![0; bytes]));
            assert!(verifier.verify(&token, now()).is_err(), "{token}");
        }
    }
}

/// Reads a text as an API key, its hash, the name in a certificate, a pattern of RPCs, and the metadata `authorization`.
pub(super) fn credential_text(data: &[u8]) {
    static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
        let identity = CallerIdentity {
            api_keys: vec![KeyHash::of(API_KEY)],
            ..CallerIdentity::default()
        };
        let registry = Registry::new([("one", &identity)].into_iter()).expect("there is one caller");
        let auth = AuthConfig {
            mode: AuthMode::Callers,
            jwt: None,
        };
        Authenticator::new(&auth, registry).expect("there is no issuer")
    });
    if let Identification::Caller(caller) = AUTHENTICATOR.identify(Some(data), None, now()) {
        let text = std::str::from_utf8(data).expect("an accepted credential is a text");
        assert_eq!((&*caller.name, text[7..].trim()), ("one", API_KEY));
        assert!(text[..7].eq_ignore_ascii_case("bearer "));
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(Credential::ApiKey { caller, hash }) = api_key::credential(text) {
        let secret = text.strip_prefix(&format!("lg_{caller}_"));
        assert_eq!(secret.map(str::len), Some(43));
        assert!(!caller.is_empty() && hash.is(&KeyHash::of(text)));
    }
    let hash = text.parse::<KeyHash>();
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    let is_hash = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert_eq!(
        hash.map(|hash| hash.to_string()).ok(),
        is_hash.then(|| text.to_ascii_lowercase())
    );
    if let Ok(name) = text.parse::<SubjectName>() {
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    if let Ok(pattern) = text.parse::<MethodPattern>() {
        assert_eq!(pattern.to_string().parse(), Ok(pattern));
    }
}

/// Reads the names and the expiry of a client certificate. Another parser finds each name, too.
pub(super) fn certificate(data: &[u8]) {
    let certificate = CertificateDer::from(data);
    let _ = tls::earliest_expiry(std::slice::from_ref(&certificate));
    let names = subject_names(&certificate);
    let is_dns = |name: &SubjectName| matches!(name, SubjectName::Dns(_));
    assert!(names.is_sorted_by_key(is_dns), "{names:?}");
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(data) else {
        return;
    };
    let Ok(extension) = parsed.subject_alternative_name() else {
        return;
    };
    let known = extension.map_or(&[][..], |extension| &extension.value.general_names);
    for name in names {
        let is_known = known.iter().any(|known| match (&name, known) {
            (SubjectName::Uri(uri), GeneralName::URI(known)) => uri == known,
            (SubjectName::Dns(name), GeneralName::DNSName(known)) => *name == known.to_ascii_lowercase(),
            _ => false,
        });
        assert!(is_known, "{name:?} is not in {known:?}");
    }
}
