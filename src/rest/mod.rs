//! The REST listener: clients of LeadSquared's REST API that use leadgate instead of LeadSquared. Their calls are passed on as they are,
//! within the quota and the permissions of their callers.
//!
//! * `server` accepts connections.
//! * `connection_clock` ends connections that are slow or idle.
//! * `handler` checks one request.
//! * `execution` makes its call, in this process or at the replica that owns the account.
//! * `peer` makes the calls that other replicas forward.
//! * `credentials` finds the keys of a request.
//! * `body` reads the body of a request.
//! * `cors` allows the requests of pages in browsers.
//! * `request_log` ends each request in the log, the metrics and the traces.
//! * `public_host` replaces the host in one response.
//! * `errors` has the errors of leadgate in the form of LeadSquared.

mod body;
mod connection_clock;
mod cors;
mod credentials;
mod errors;
mod execution;
mod handler;
mod peer;
mod public_host;
mod request_log;
mod server;
mod settings;
mod shared;

pub use peer::PeerCalls;
pub use server::serve;
pub use settings::{MAX_DURATION, REFUSAL_STATUSES, RestSettings};
pub use shared::RestParts;
