//! JSON Web Tokens for tests: issuers, the keys of issuers, and a server of keys.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

/// A key of an issuer.
pub struct TokenKey {
    algorithm: Algorithm,
    pair: KeyPair,
    id: &'static str,
}

impl TokenKey {
    pub fn new(algorithm: Algorithm, id: &'static str) -> Self {
        let pair = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Algorithm::EdDSA => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            _ => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
        };
        let pair = pair.unwrap();
        Self { algorithm, pair, id }
    }

    /// The public key.
    fn jwk(&self) -> Json {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let raw = self.pair.public_key_raw();
        match self.algorithm {
            // An uncompressed point: 4, x, y.
            Algorithm::ES256 => json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig",
                "x": text(&raw[1..33]), "y": text(&raw[33..])}),
            Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": text(raw)}),
            // DER: the modulus, then the exponent 65537 in 5 bytes.
            _ => {
                let end = raw.len() - 5;
                json!({"kty": "RSA", "kid": self.id, "alg": "RS256", "e": "AQAB", "n": text(&raw[end - 256..end])})
            }
        }
    }

    pub fn sign(&self, claims: &Json) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.to_owned());
        let pem = self.pair.serialize_pem();
        let key = match self.algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        encode(&header, claims, &key.unwrap()).unwrap()
    }

    /// A token with the public key as the secret of an HMAC.
    pub fn sign_with_public_key(&self, claims: &Json) -> String {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.id.to_owned());
        let key = EncodingKey::from_secret(self.pair.public_key_raw());
        encode(&header, claims, &key).unwrap()
    }

    /// A token without a signature.
    pub fn unsigned(&self, claims: &Json) -> String {
        let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.", part(&json!({"alg": "none", "kid": self.id})), part(claims))
    }
}

/// A JWK Set with these keys.
pub fn key_set(keys: &[&TokenKey]) -> String {
    let keys: Vec<Json> = keys.iter().map(|key| key.jwk()).collect();
    json!({"keys": keys}).to_string()
}

/// Seconds since 1970, as tokens have them.
pub fn in_seconds(seconds: i64) -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap() + seconds
}

/// A server of an issuer's keys.
#[derive(Clone)]
pub struct KeyServer {
    pub address: SocketAddr,
    /// The JWK Set, or `None` for HTTP 500.
    keys: Arc<Mutex<Option<String>>>,
    requests: Arc<Mutex<usize>>,
}

impl KeyServer {
    pub async fn start(keys: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            keys: Arc::new(Mutex::new(Some(keys))),
            requests: Arc::default(),
        };
        let state = server.clone();
        let respond = move || async move {
            *state.requests.lock().unwrap() += 1;
            let keys = state.keys.lock().unwrap().clone();
            keys.ok_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR)
        };
        let router = axum::Router::new().route("/jwks.json", axum::routing::get(respond));
        tokio::spawn(axum::serve(listener, router).into_future());
        server
    }

    pub fn set(&self, keys: Option<String>) {
        *self.keys.lock().unwrap() = keys;
    }

    /// The number of requests so far.
    pub fn requests(&self) -> usize {
        *self.requests.lock().unwrap()
    }
}
