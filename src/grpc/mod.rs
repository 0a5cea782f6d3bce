//! The gRPC server: decodes requests, calls the gateway, and encodes responses. The only module that uses tonic.

mod accept;
mod activity;
mod authorization;
mod body;
mod bulk;
mod client;
mod client_certificate;
mod connection;
mod connection_activity;
mod convert;
mod elements;
mod forwarding;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guarded_stream;
mod import;
mod keyed_limit;
mod lead;
mod limits;
mod metadata;
mod mutation;
mod page;
pub mod pb;
mod peer_connections;
mod permits;
mod quota;
mod read;
mod refusals;
mod remove;
mod request_filter;
mod response_budget;
mod response_stream;
mod rest;
mod rpc;
mod rpc_log;
mod search;
mod server;
mod services;
mod settings;
mod share;
mod status;
mod unary_limit;
mod unfinished;
mod user;
mod violations;
mod web;
mod web_body;
mod write;
mod write_order;

pub use accept::{Handshakes, accept};
pub use client::{ClientTls, connect, describe_failure, parse_address};
pub use convert::{attributes, lead_fields, timestamp};
pub use forwarding::{
    ExecuteRest, ForwardedRestCall, HelloResponse, PeerEvents, PeerSettings, PeerTls, Peers, RestCalls, RestForwarding,
    RestFuture, RestOutcome, RestReply, RestToDispatch, is_of_replica,
};
pub use limits::{ConnectionPermit, RequestPermit, SharedLimits};
pub(crate) use metadata::{CRITICALITY, REASON, tenant as tenant_name};
pub use mutation::{is_mutation, part};
pub use server::{ClusterParts, Server, ServerParts};
pub use services::rpc_paths;
pub use settings::ServerSettings;
pub use status::reason as error_reason;
pub use unfinished::UnfinishedMessage;
