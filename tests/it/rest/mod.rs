//! Calls of the REST API that are passed on.

mod call;
mod forwarding;
mod listener;
mod service;
