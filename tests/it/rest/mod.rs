//! Calls of the REST API that are passed on.

mod call;
mod listener;
mod service;
