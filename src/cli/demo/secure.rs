//! `leadgate demo --secure`: the certificates, keys and callers of a gateway with TLS, and a tour with each kind of credential.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use leadgate::clock;
use leadgate::grpc::pb;
use leadgate::identity::api_key::{self, KeyHash};
use pb::lead_service_client::LeadServiceClient;
use pb::quota_service_client::QuotaServiceClient;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use tonic::Status;

use super::rest::RestKeys;
use super::{code_name, unexpected};
use crate::cli::client::{ConnectionOptions, GatewayClient, GatewayOptions, explain};
use crate::cli::output::print_line;

const ISSUER: &str = "https://issuer.example";
const SUBJECT: &str = "support@demo";
const CERTIFICATE_NAME: &str = "spiffe://demo/reports";
/// The callers of the tour: their API key, token and certificate have different permissions.
const TOUR_CALLERS: &str = r#"
[callers.checkout]
api_keys = ["KEY_HASH"]
tenants = ["demo"]
allow = ["LeadService/*", "ShareService/*", "QuotaService/GetQuota"]
[callers.support]
subjects = ["support@demo"]
tenants = ["demo"]
allow = ["LeadService/*", "ShareService/*"]
deny_fields = ["EmailAddress"]
hide_fields = ["Phone"]
[callers.reports]
certificates = ["spiffe://demo/reports"]
tenants = ["demo"]
allow = ["LeadService/Get*", "ShareService/List*", "QuotaService/GetQuota"]
"#;
/// The caller of a quiet demo: each credential has all permissions.
const QUIET_CALLER: &str = r#"
[callers.tests]
api_keys = ["KEY_HASH"]
subjects = ["support@demo"]
certificates = ["spiffe://demo/reports"]
tenants = ["demo"]
allow = ["*/*"]
"#;
/// The time for which the token is valid.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The caller with an API key, and its file.
const CHECKOUT_KEY: &str = "checkout.key";
/// The token of the caller `support`.
const SUPPORT_TOKEN: &str = "support.jwt";
/// A key that the gateway does not know.
const UNKNOWN_KEY: &str = "unknown.key";

/// The files for the gateway and its callers. They are deleted with the value.
pub(super) struct SecureSetup {
    folder: TempDir,
    key_hash: KeyHash,
    callers: &'static str,
}

/// The credentials of a quiet demo.
#[derive(Serialize)]
pub(super) struct Credentials {
    ca_file: PathBuf,
    token: String,
    api_key: String,
    cert_file: PathBuf,
    key_file: PathBuf,
}

/// The credential of a caller.
#[derive(Clone, Copy)]
enum Credential {
    /// A file with an API key or a token.
    File(&'static str),
    Certificate,
}

type Result<T> = std::result::Result<T, String>;

impl SecureSetup {
    /// Makes all files. Only their owner may read them.
    pub(super) fn create(is_quiet: bool) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("leadgate-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| format!("creating a folder failed: {error}"))?;
        let name = if is_quiet { "tests" } else { "checkout" };
        let key = api_key::generate(name);
        let setup = Self {
            folder,
            key_hash: KeyHash::of(&key),
            callers: if is_quiet { QUIET_CALLER } else { TOUR_CALLERS },
        };
        setup.write(CHECKOUT_KEY, &key)?;
        setup.write(UNKNOWN_KEY, &api_key::generate("checkout"))?;
        let failed = |error: rcgen::Error| format!("making the certificates failed: {error}");
        for (name, pem) in certificates().map_err(failed)? {
            setup.write(name, &pem)?;
        }
        setup.write_token()?;
        Ok(setup)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{}", text.trim_end()));
        written.map_err(|error| format!("writing {} failed: {error}", path.display()))
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        let text = fs::read_to_string(&path);
        let text = text.map_err(|error| format!("reading {} failed: {error}", path.display()))?;
        Ok(text.trim_end().to_owned())
    }

    /// Makes the key of a token issuer, and a token of the caller `support`.
    fn write_token(&self) -> Result<()> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519);
        let pair = pair.map_err(|error| format!("making the key of the token issuer failed: {error}"))?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "demo", "x": public}]});
        self.write("jwks.json", &keys.to_string())?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("demo".to_owned());
        let expiry = clock::now()
            .saturating_add(TOKEN_LIFETIME)
            .unwrap_or(jiff::Timestamp::MAX);
        let claims = json!({"iss": ISSUER, "aud": "leadgate", "sub": SUBJECT, "exp": expiry.as_second()});
        let token =
            EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).and_then(|key| encode(&header, &claims, &key));
        let token = token.map_err(|error| format!("making a token failed: {error}"))?;
        self.write(SUPPORT_TOKEN, &token)
    }

    /// Returns the settings of `[server]`, and the tables of callers.
    pub(super) fn settings(&self) -> (String, String) {
        let path = |name: &str| self.path(name).display().to_string();
        let server = format!(
            "tls = {{ cert_file = {:?}, key_file = {:?}, client_ca_file = {:?} }}\nreflection = true\n",
            path("tls.crt"),
            path("tls.key"),
            path("ca.crt")
        );
        let callers = format!(
            "[auth]\nmode = \"callers\"\n[auth.jwt]\nissuer = \"{ISSUER}\"\njwks = {{ file = {:?} }}\n{}",
            path("jwks.json"),
            self.callers.replace("KEY_HASH", &self.key_hash.to_string()),
        );
        (server, callers)
    }

    /// A connection without credentials.
    pub(super) fn connection(&self, address: SocketAddr) -> ConnectionOptions {
        ConnectionOptions {
            addr: format!("https://{address}"),
            tls_ca: Some(self.path("ca.crt")),
            server_name: Some("localhost".to_owned()),
            ..ConnectionOptions::plaintext(address)
        }
    }

    /// What a client of a quiet demo needs.
    pub(super) fn credentials(&self) -> Result<Credentials> {
        Ok(Credentials {
            ca_file: self.path("ca.crt"),
            token: self.read(SUPPORT_TOKEN)?,
            api_key: self.read(CHECKOUT_KEY)?,
            cert_file: self.path("reports.crt"),
            key_file: self.path("reports.key"),
        })
    }

    async fn connect(&self, address: SocketAddr, credential: Credential) -> Result<GatewayClient> {
        let (token_file, cert, key) = match credential {
            Credential::File(name) => (Some(self.path(name)), None, None),
            Credential::Certificate => (None, Some(self.path("reports.crt")), Some(self.path("reports.key"))),
        };
        let connection = ConnectionOptions {
            token_file,
            cert,
            key,
            ..self.connection(address)
        };
        let options = GatewayOptions {
            connection,
            tenant: None,
        };
        options.connect().await
    }

    /// A curl command that reads a lead from the REST listener.
    pub(super) fn curl(&self, rest: SocketAddr, keys: &RestKeys, lead_id: &str) -> String {
        keys.curl(rest, Some(&self.path("ca.crt").display().to_string()), lead_id)
    }

    /// Shows each kind of credential, and returns the id of a lead.
    pub(super) async fn tour(&self, address: SocketAddr, rest: SocketAddr, keys: &RestKeys) -> Result<String> {
        print_line!(
            "leadgate {}: a gateway with TLS and four callers, and a simulated LeadSquared, in one process\n",
            env!("CARGO_PKG_VERSION")
        );
        print_line!("1. checkout creates a lead: its API key is in authorization");
        let checkout = self.connect(address, Credential::File(CHECKOUT_KEY)).await?;
        let lead_id = create(&checkout).await.map_err(unexpected)?;
        print_line!("   lead {lead_id}\n");

        print_line!(
            "2. support reads the lead: its JSON Web Token is in authorization. callers.support.hide_fields has Phone"
        );
        let support = self.connect(address, Credential::File(SUPPORT_TOKEN)).await?;
        let fields = get(&support, &lead_id).await.map_err(unexpected)?;
        let phone = fields.phone.as_deref().unwrap_or("no phone");
        print_line!("   {}, {phone}\n", fields.email_address.unwrap_or_default());

        print_line!("3. reports reads the quota: its client certificate has the name {CERTIFICATE_NAME}");
        let reports = self.connect(address, Credential::Certificate).await?;
        let mut client = QuotaServiceClient::new(reports.channel());
        let response = client.get_quota(reports.request(pb::GetQuotaRequest {})).await;
        let quota = response.map_err(unexpected)?.into_inner().quota.unwrap_or_default();
        let calls = quota.calls.unwrap_or_default();
        print_line!("   {} of {} calls of the window are used\n", calls.used, calls.limit);

        print_line!("4. reports creates a lead, which callers.reports.allow does not list");
        print_denied(create(&reports).await)?;

        print_line!("5. support changes the email address, which callers.support.deny_fields lists");
        let request = support.request(pb::UpdateLeadRequest {
            lead_id: lead_id.clone(),
            lead: Some(pb::LeadFields {
                email_address: Some("asha@example.org".into()),
                ..Default::default()
            }),
            ..Default::default()
        });
        print_denied(LeadServiceClient::new(support.channel()).update_lead(request).await)?;

        print_line!("6. An API key that the gateway does not know");
        let unknown = self.connect(address, Credential::File(UNKNOWN_KEY)).await?;
        print_denied(get(&unknown, &lead_id).await)?;

        print_line!(
            "7. legacy reads the lead with LeadSquared's own REST API: its pair of keys is where LeadSquared's keys were"
        );
        let ca = self.read("ca.crt")?;
        let lead = keys.client(rest, Some(&ca))?.get(&lead_id).await?;
        print_line!("   {} bytes of JSON\n", lead.len());
        Ok(lead_id)
    }

    pub(super) fn print_next_steps(&self, address: SocketAddr, curl: &str, admin: SocketAddr) {
        let (folder, port) = (self.folder.path().display(), address.port());
        print_line!(
            r#"The gateway and the simulated LeadSquared keep running until Ctrl-C, which deletes the keys and certificates in
{folder}. Try:

  leadgate shares list --addr https://{address} --tls-ca {folder}/ca.crt --token-file {folder}/{CHECKOUT_KEY}
  leadgate shares list --addr https://{address} --tls-ca {folder}/ca.crt --token-file {folder}/{SUPPORT_TOKEN}
  leadgate shares list --addr https://{address} --tls-ca {folder}/ca.crt \
      --cert {folder}/reports.crt --key {folder}/reports.key

  grpcurl -cacert {folder}/ca.crt -H "authorization: Bearer $(cat {folder}/{CHECKOUT_KEY})" localhost:{port} list

  {curl}

  State of the quota:          http://{admin}/
"#
        );
    }
}

/// Makes a certificate authority, and the certificates of the gateway and of the caller `reports`. Returns the names of files with
/// their contents.
fn certificates() -> std::result::Result<Vec<(&'static str, String)>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "leadgate demo");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let mut files = vec![("ca.crt", params.self_signed(&key)?.pem())];
    let issuer = Issuer::new(params, key);
    let server = vec![
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress([127, 0, 0, 1].into()),
    ];
    let client = vec![SanType::URI(CERTIFICATE_NAME.try_into()?)];
    for (certificate_file, key_file, names, usage) in [
        ("tls.crt", "tls.key", server, ExtendedKeyUsagePurpose::ServerAuth),
        (
            "reports.crt",
            "reports.key",
            client,
            ExtendedKeyUsagePurpose::ClientAuth,
        ),
    ] {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        let now = std::time::SystemTime::from(clock::now());
        params.not_before = (now - DAY).into();
        params.not_after = (now + 30 * DAY).into();
        let key = KeyPair::generate()?;
        files.push((certificate_file, params.signed_by(&key, &issuer)?.pem()));
        files.push((key_file, key.serialize_pem()));
    }
    Ok(files)
}

async fn create(gateway: &GatewayClient) -> std::result::Result<String, Status> {
    let lead = pb::LeadFields {
        first_name: Some("Asha".into()),
        email_address: Some("asha@example.com".into()),
        phone: Some("+91-9845098450".into()),
        ..Default::default()
    };
    let request = gateway.request(pb::CreateLeadRequest {
        lead: Some(lead),
        ..Default::default()
    });
    let response = LeadServiceClient::new(gateway.channel()).create_lead(request).await?;
    Ok(response.into_inner().lead_id)
}

/// Reads the fields of a lead.
async fn get(gateway: &GatewayClient, lead_id: &str) -> std::result::Result<pb::LeadFields, Status> {
    let request = gateway.request(pb::GetLeadRequest {
        key: Some(pb::get_lead_request::Key::LeadId(lead_id.to_owned())),
        ..Default::default()
    });
    let response = LeadServiceClient::new(gateway.channel()).get_lead(request).await?;
    let lead = response.into_inner().lead.unwrap_or_default();
    Ok(lead.fields.unwrap_or_default())
}

/// Prints an expected error.
fn print_denied<T>(result: std::result::Result<T, Status>) -> Result<()> {
    let Err(status) = result else {
        return Err("the tour failed: an error was expected".to_owned());
    };
    print_line!("   {}: {}\n", code_name(status.code()), explain(&status));
    Ok(())
}
