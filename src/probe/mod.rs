//! Measures how LeadSquared behaves where its documentation leaves it open.
//!
//! * `call` is the border between a measurement and the client that sends its calls.
//! * `limit` measures the rate limit of the account.

pub mod call;
pub mod limit;
