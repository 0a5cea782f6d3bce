//! The gRPC server: decodes requests, calls the gateway, and encodes responses. The only module that uses tonic.

mod activity;
mod authorization;
mod body;
mod bulk;
mod client;
mod client_certificate;
mod connection;
mod convert;
mod elements;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod import;
mod keyed_limit;
mod lead;
mod metadata;
mod mutation;
mod page;
pub mod pb;
mod permits;
mod quota;
mod read;
mod remove;
mod request_filter;
mod response_budget;
mod response_stream;
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
mod write;
mod write_order;

pub use client::{connect, health};
pub use convert::{attributes, lead_fields};
pub use mutation::part;
pub use server::serve;
pub use services::rpc_paths;
pub use settings::ServerSettings;
