//! The REST listener: clients of LeadSquared's REST API that use leadgate instead of LeadSquared. Their calls are passed on as they are,
//! within the quota and the permissions of their callers.
//!
//! * `server` accepts connections.
//! * `connection_clock` ends connections that are slow or idle.
//! * `handler` checks one request, and makes its call.
//! * `credentials` finds the keys of a request.
//! * `body` reads the body of a request.
//! * `cors` allows the requests of pages in browsers.
//! * `public_host` replaces the host in one response.
//! * `errors` has the errors of leadgate in the form of LeadSquared.

mod body;
mod connection_clock;
mod cors;
mod credentials;
mod errors;
mod handler;
mod public_host;
mod server;
mod settings;
mod shared;

pub use server::{RestParts, serve};
pub use settings::{REFUSAL_STATUSES, RestSettings};
