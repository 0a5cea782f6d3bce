//! Protobuf in, protobuf out: the server with its services. The only place that knows tonic.

mod activity;
mod arrivals;
mod body;
mod bulk;
mod connection;
mod convert;
mod edge;
mod elements;
mod in_flight;
mod lead;
mod mutation;
mod observe;
mod page;
mod places;
mod quota;
mod removal;
mod responses;
mod rpc;
mod search;
mod share;
mod size;
mod status;
mod unfinished;
mod user;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::server::HealthReporter;

use crate::telemetry::metrics::Metrics;
use crate::tenant::Tenants;
pub use convert::{attributes, lead_fields};
pub use mutation::part;
use pb::activity_service_server::ActivityServiceServer;
use pb::lead_service_server::LeadServiceServer;
use pb::quota_service_server::QuotaServiceServer;
use pb::share_service_server::ShareServiceServer;
use pb::user_service_server::UserServiceServer;

/// The public contract, as generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod pb {
    tonic::include_proto!("leadgate.v1");
}

/// The descriptors of the public contract, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// More requests at one time than memory should be spent on.
const MAX_IN_FLIGHT: u32 = 1_000_000;
/// Longer than anybody waits.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The range of `server.max_metadata_bytes`.
const METADATA_BYTES: std::ops::RangeInclusive<usize> = 1_024..=1_048_576;
/// How much more metadata than allowed the HTTP library takes, so that leadgate itself says what is wrong.
const METADATA_SLACK: usize = 16;
/// How long answers may take from the handler to the wire when the process ends.
const FLUSH: Duration = Duration::from_millis(250);

/// How the server behaves (`[server]`, but for its address).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// The longest request, in bytes.
    pub max_request_bytes: usize,
    /// Maximum number of repeated elements and map entries of a request message.
    pub max_message_elements: usize,
    /// Maximum size of all request messages together that are not complete, in bytes.
    pub max_unfinished_bytes: usize,
    /// The longest message of a response, in bytes.
    pub max_response_bytes: usize,
    /// The most metadata of a request, in bytes as HTTP/2 counts them.
    pub max_metadata_bytes: usize,
    /// Maximum number of open connections.
    pub max_connections: u32,
    /// Maximum number of open connections from one IP address.
    pub max_connections_per_address: u32,
    /// Maximum number of RPCs in progress on one connection.
    pub max_streams_per_connection: u32,
    /// Maximum number of streams (as for `max_streams`) of one caller.
    pub max_streams_per_caller: u32,
    /// How long a client may leave the responses of a stream unread.
    #[serde(with = "humantime_serde")]
    pub stream_read_timeout: Duration,
    /// The most requests in work at one time.
    pub max_in_flight: u32,
    /// The most streams (WatchShare, WatchQuota, RevokeShares, ExportLeads, ImportLeads) at one time.
    pub max_streams: u32,
    /// The longest time a call may take; longer deadlines are cut to it, and calls without one get it.
    #[serde(with = "humantime_serde")]
    pub max_deadline: Duration,
    /// How much before the caller's deadline a call ends, so that the answer reaches him in time.
    #[serde(with = "humantime_serde")]
    pub deadline_margin: Duration,
    /// How long calls in work may take to finish when the process is told to stop.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl ServerSettings {
    /// What is wrong with them: the key, and what would be right.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for (key, value) in [
            ("max_in_flight", self.max_in_flight),
            ("max_streams", self.max_streams),
            ("max_connections", self.max_connections),
            ("max_connections_per_address", self.max_connections_per_address),
            ("max_streams_per_connection", self.max_streams_per_connection),
            ("max_streams_per_caller", self.max_streams_per_caller),
        ] {
            if !(1..=MAX_IN_FLIGHT).contains(&value) {
                faults.push((key, format!("must be 1 to {MAX_IN_FLIGHT}")));
            }
        }
        if self.stream_read_timeout.is_zero() || self.stream_read_timeout > LONGEST {
            faults.push((
                "stream_read_timeout",
                "must be more than zero and at most a day".to_owned(),
            ));
        }
        if self.max_request_bytes == 0 {
            faults.push(("max_request_bytes", "must be at least 1".to_owned()));
        }
        if self.max_message_elements == 0 {
            faults.push(("max_message_elements", "must be at least 1".to_owned()));
        }
        if self.max_unfinished_bytes < self.max_request_bytes {
            let text = format!("must be at least server.max_request_bytes ({})", self.max_request_bytes);
            faults.push(("max_unfinished_bytes", text));
        }
        if !(size::LEAST..=size::MAX).contains(&self.max_response_bytes) {
            let text = format!("must be {} to {}", size::LEAST, size::MAX);
            faults.push(("max_response_bytes", text));
        }
        if !METADATA_BYTES.contains(&self.max_metadata_bytes) {
            let text = format!("must be {} to {}", METADATA_BYTES.start(), METADATA_BYTES.end());
            faults.push(("max_metadata_bytes", text));
        }
        if self.max_deadline.is_zero() || self.max_deadline > LONGEST {
            faults.push(("max_deadline", "must be more than zero and at most a day".to_owned()));
        }
        if self.drain > LONGEST {
            faults.push(("drain", "must be at most a day".to_owned()));
        }
        faults
    }
}

/// What every service needs.
#[derive(Clone)]
struct ServerContext {
    tenants: Tenants,
    settings: Arc<ServerSettings>,
    in_flight: Arc<in_flight::InFlight>,
    /// The places of RPCs with many answers, which last long and do little.
    streams: Arc<Semaphore>,
    draining: CancellationToken,
    tasks: TaskTracker,
}

/// Serves until `stop`: then health says NOT_SERVING, new calls are refused, and those in work end.
pub async fn serve(
    listener: TcpListener,
    tenants: Tenants,
    settings: ServerSettings,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<LeadServiceServer<lead::Service>>().await;
    health.set_serving::<ShareServiceServer<share::Service>>().await;
    health.set_serving::<ActivityServiceServer<activity::Service>>().await;
    health.set_serving::<UserServiceServer<user::Service>>().await;
    health.set_serving::<QuotaServiceServer<quota::Service>>().await;

    let drain = settings.drain;
    let max_request_bytes = settings.max_request_bytes;
    let in_flight = in_flight::InFlight::new(settings.max_in_flight);
    let descriptors = [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let edge = edge::Edge::new(settings.max_metadata_bytes, metrics.clone());
    let limits = body::Limits {
        bytes: max_request_bytes,
        elements: settings.max_message_elements,
        schema: elements::Schema::new(&descriptors),
        unfinished: unfinished::Unfinished::new(settings.max_unfinished_bytes),
    };
    let server = ServerContext {
        tenants,
        in_flight: in_flight.clone(),
        streams: Arc::new(Semaphore::new(settings.max_streams as usize)),
        settings: Arc::new(settings),
        draining: stop.clone(),
        tasks,
    };
    macro_rules! service {
        ($server:ident, $module:ident) => {
            $server::new($module::Service::new(server.clone()))
                .max_decoding_message_size(max_request_bytes)
                .max_encoding_message_size(usize::MAX)
                .accept_compressed(CompressionEncoding::Gzip)
        };
    }

    let routes = Routes::new(health_service.accept_compressed(CompressionEncoding::Gzip))
        .add_service(
            reflection()
                .build_v1()
                .expect("the build has checked the descriptors")
                .accept_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .expect("the build has checked the descriptors")
                .accept_compressed(CompressionEncoding::Gzip),
        )
        .add_service(service!(LeadServiceServer, lead))
        .add_service(service!(ShareServiceServer, share))
        .add_service(service!(ActivityServiceServer, activity))
        .add_service(service!(UserServiceServer, user))
        .add_service(service!(QuotaServiceServer, quota))
        .prepare();
    let server = connection::serve(listener, routes, server, edge, limits, metrics);

    // Connections that never speak, and streams that never end, would hold up the server's own end for ever.
    tokio::select! {
        () = server => {}
        () = drained(stop.clone(), &in_flight, drain) => {}
        () = told(stop, health) => {}
    }
}

/// Resolves when nothing is in work any more after `stop`, or has had its time.
async fn drained(stop: CancellationToken, in_flight: &in_flight::InFlight, limit: Duration) {
    stop.cancelled().await;
    if tokio::time::timeout(limit, in_flight.all_free()).await.is_err() {
        tracing::warn!("calls in work did not finish in time");
    }
    // The last answers are on their way through the connections.
    tokio::time::sleep(FLUSH).await;
}

/// Some services are described by their own crates.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

async fn told(stop: CancellationToken, health: HealthReporter) {
    stop.cancelled().await;
    health.set_not_serving::<LeadServiceServer<lead::Service>>().await;
    health.set_not_serving::<ShareServiceServer<share::Service>>().await;
    health
        .set_not_serving::<ActivityServiceServer<activity::Service>>()
        .await;
    health.set_not_serving::<UserServiceServer<user::Service>>().await;
    health.set_not_serving::<QuotaServiceServer<quota::Service>>().await;
    health
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
    std::future::pending().await
}

/// A connection to a running gateway, at a URL or at `host:port`, which is plaintext: for the commands that are its clients.
/// `https` is TLS. Then the gateway's certificate must be of an authority that the system trusts, or of one of those in
/// `authorities`, certificates as PEM, if they are given.
pub async fn connect(address: &str, authorities: Option<&[u8]>, limit: Duration) -> Result<Channel, String> {
    let url = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    let no_address = || "has no address of the form http://HOST:PORT or https://HOST:PORT".to_owned();
    let url = url::Url::parse(&url).map_err(|_| no_address())?;
    // Endpoint::new would look for the system's authorities by itself.
    let endpoint = Endpoint::from_shared(String::from(url.clone())).map_err(|_| no_address())?;
    let endpoint = match (url.scheme(), authorities) {
        ("http", None) => endpoint,
        ("http", Some(_)) => {
            return Err("is reached without TLS: certificates are of use with https:// only".to_owned());
        }
        ("https", authorities) => {
            let tls = match authorities {
                Some(authorities) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            let config = endpoint.tls_config(tls.timeout(limit));
            config.map_err(|error| format!("cannot be reached by TLS: {}", root_cause(&error)))?
        }
        _ => return Err(no_address()),
    };
    let channel = endpoint.connect_timeout(limit).connect().await;
    channel.map_err(|error| {
        let cause = root_cause(&error);
        let hint = match url.scheme() {
            "https" if cause.contains("InvalidContentType") => ": it does not speak TLS, and http:// is plaintext",
            "https" if cause.contains("UnknownIssuer") => ": its authority is not trusted, and --ca-file can name it",
            _ => "",
        };
        format!("cannot be reached: {cause}{hint}")
    })
}

/// Asks a running gateway for its health: for `leadgate health`.
pub async fn health(address: &str, authorities: Option<&[u8]>, limit: Duration) -> Result<(), String> {
    let channel = connect(address, authorities, limit).await?;
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let mut request = tonic::Request::new(tonic_health::pb::HealthCheckRequest::default());
    request.set_timeout(limit);
    let answer = client
        .check(request)
        .await
        .map_err(|status| status.message().to_owned())?;
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving;
    if answer.into_inner().status() == serving {
        Ok(())
    } else {
        Err("is not serving".to_owned())
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
