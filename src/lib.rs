//! leadgate: a gRPC gateway in front of LeadSquared. The modules, in the order in which a request meets them:
//! around, in, through, out.

#![cfg_attr(test, allow(clippy::unwrap_used))]

// Around.
pub mod app;
pub mod clock;
pub mod config;
pub mod error;
pub mod telemetry;

// In.
pub mod admin;
pub mod context;
pub mod grpc;

// Through.
pub mod cached;
pub mod domain;
pub mod gateway;
pub mod quota;
pub mod sharing;
pub mod store;
pub mod tenant;
pub mod users;

// Out.
pub mod crm;
