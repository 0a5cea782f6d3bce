//! The REST listener of the demo: an integration that has its own pair of keys and LeadSquared's requests.

use std::net::SocketAddr;

use leadgate::identity::api_key::KeyHash;
use leadgate::identity::rest_key;

/// The caller of the requests.
const CALLER: &str = "legacy";
const GET_BY_ID: &str = "/v2/LeadManagement.svc/Leads.GetById";
const ACCESS_HEADER: &str = "x-LSQ-AccessKey";
const SECRET_HEADER: &str = "x-LSQ-SecretKey";

/// The pair of keys of the integration.
pub(super) struct RestKeys {
    pub(super) access: String,
    pub(super) secret: String,
}

/// A client of the listener.
#[derive(Clone)]
pub(super) struct RestClient {
    http: reqwest::Client,
    url: String,
    access: String,
    secret: String,
}

impl RestKeys {
    pub(super) fn generate() -> Self {
        let (access, secret) = rest_key::generate(CALLER);
        Self { access, secret }
    }

    /// Returns the table of the caller.
    pub(super) fn settings(&self) -> String {
        format!(
            "[callers.{CALLER}]\nrest_keys = [{{ access_key = {:?}, secret_key = \"{}\" }}]\ntenants = [\"demo\"]\nallow = [\"REST:*\"]\n",
            self.access,
            KeyHash::of(&self.secret)
        )
    }

    /// A client of the listener. `ca`: the authority of its certificate, in PEM form. `None`: plaintext.
    pub(super) fn client(&self, address: SocketAddr, ca: Option<&str>) -> Result<RestClient, String> {
        let failed = |error: reqwest::Error| format!("setting up the HTTP client failed: {error}");
        let builder = reqwest::Client::builder().no_proxy();
        let (scheme, builder) = match ca {
            None => ("http", builder),
            Some(ca) => {
                let ca = reqwest::Certificate::from_pem(ca.as_bytes()).map_err(failed)?;
                ("https", builder.tls_certs_only([ca]))
            }
        };
        Ok(RestClient {
            http: builder.build().map_err(failed)?,
            url: format!("{scheme}://{address}"),
            access: self.access.clone(),
            secret: self.secret.clone(),
        })
    }

    /// A curl command that reads a lead. `ca`: the file with the authority of the certificate.
    pub(super) fn curl(&self, address: SocketAddr, ca: Option<&str>, lead_id: &str) -> String {
        let (option, scheme) = match ca {
            None => (String::new(), "http"),
            Some(ca) => (format!(" --cacert {ca}"), "https"),
        };
        format!(
            "curl -s{option} -H '{ACCESS_HEADER}: {}' -H '{SECRET_HEADER}: {}' \\\n      '{scheme}://{address}{GET_BY_ID}?id={lead_id}'",
            self.access, self.secret
        )
    }
}

impl RestClient {
    /// Reads a lead as an integration that was written for LeadSquared. Returns the response.
    pub(super) async fn get(&self, lead_id: &str) -> Result<String, String> {
        let request = self.http.get(format!("{}{GET_BY_ID}?id={lead_id}", self.url));
        let request = request
            .header(ACCESS_HEADER, &self.access)
            .header(SECRET_HEADER, &self.secret);
        let failed = |error: reqwest::Error| format!("a REST request failed: {error}");
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.text().await.map_err(failed)?;
        match status.is_success() {
            true => Ok(body),
            false => Err(format!("a REST request failed: HTTP {status}: {body}")),
        }
    }
}
