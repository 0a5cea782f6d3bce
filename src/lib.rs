//! leadgate: a gRPC gateway in front of LeadSquared. `tests/it/architecture.rs` has the layers of the modules, and checks them.

#![cfg_attr(test, allow(clippy::unwrap_used))]

// The process: wiring, configuration, logs and metrics.
pub mod app;
pub mod clock;
pub mod config;
pub mod error;
pub mod telemetry;

// The servers: admin pages and gRPC, and which callers may use them.
pub mod admin;
pub mod audit;
pub mod context;
pub mod files;
pub mod grpc;
pub mod identity;
pub mod tls;

// The operations on leads, users and shares, and what they require.
pub mod cached;
pub mod cluster;
pub mod domain;
pub mod gateway;
pub mod quota;
pub mod rest;
pub mod sharing;
pub mod store;
pub mod tenant;
pub mod users;

// The measurement of an account.
pub mod probe;

// The client of LeadSquared.
pub mod crm;

// The targets of the fuzz tests.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
