//! Connects to a running gateway, for the commands that are clients of it.

use std::error::Error;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;

/// Connects to a gateway at a URL, or at `host:port` without TLS.
///
/// `https` is TLS. The certificate of the gateway must be issued by an authority that the system trusts, or by one of
/// `authorities`, certificates as PEM, if they are given.
pub async fn connect(address: &str, authorities: Option<&[u8]>, limit: Duration) -> Result<Channel, String> {
    let url = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    let invalid_address = || "is not an address of the form http://HOST:PORT or https://HOST:PORT".to_owned();
    let url = url::Url::parse(&url).map_err(|_| invalid_address())?;
    // Endpoint::new would load the authorities of the system by itself.
    let endpoint = Endpoint::from_shared(String::from(url.clone())).map_err(|_| invalid_address())?;
    let endpoint = match (url.scheme(), authorities) {
        ("http", None) => endpoint,
        ("http", Some(_)) => {
            return Err("is an address without TLS: --ca-file requires https://".to_owned());
        }
        ("https", authorities) => {
            let tls = match authorities {
                Some(authorities) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            let config = endpoint.tls_config(tls.timeout(limit));
            config.map_err(|error| format!("has an invalid TLS configuration: {}", root_cause(&error)))?
        }
        _ => return Err(invalid_address()),
    };
    let channel = endpoint.connect_timeout(limit).connect().await;
    channel.map_err(|error| {
        let cause = root_cause(&error);
        let hint = match url.scheme() {
            "https" if cause.contains("InvalidContentType") => ": the server does not use TLS; try http://",
            "https" if cause.contains("UnknownIssuer") => {
                ": the authority of the certificate is not trusted; --ca-file can add it"
            }
            _ => "",
        };
        format!("cannot be reached: {cause}{hint}")
    })
}

/// Checks the health of a running gateway, for `leadgate health`. Returns an error unless it is SERVING.
pub async fn health(address: &str, authorities: Option<&[u8]>, limit: Duration) -> Result<(), String> {
    let channel = connect(address, authorities, limit).await?;
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let mut request = tonic::Request::new(tonic_health::pb::HealthCheckRequest::default());
    request.set_timeout(limit);
    let response = client
        .check(request)
        .await
        .map_err(|status| status.message().to_owned())?;
    match response.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        _ => Err("is not serving".to_owned()),
    }
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
