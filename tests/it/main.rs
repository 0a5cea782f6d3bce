//! The whole gateway over real sockets, against the simulator.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod account;
mod certificates;
mod harness;
#[path = "../../benches/probe/caller.rs"]
#[allow(dead_code, reason = "the bench uses all of it")]
mod measured_account;
#[path = "../postgres/mod.rs"]
#[allow(dead_code, reason = "the tests of the store use all of it")]
mod server;
mod tokens;

mod activity;
mod architecture;
mod audit;
mod auth;
mod batch;
mod breaker;
mod callers;
mod canary;
mod checks;
mod commands;
mod database;
mod deadlines;
mod duplicates;
mod edge;
mod errors;
mod forwarding;
mod golden;
mod health;
mod hostile;
mod interleavings;
mod keys;
mod lead;
mod lengths;
mod load;
mod matching;
mod measured_limit;
mod neighbours;
mod operations;
mod order;
mod outage;
mod permissions;
mod probe;
mod process;
mod queries;
mod quota;
mod records;
mod removal;
mod replicas;
mod requests;
mod rest;
mod restart;
mod scenarios;
mod search;
mod share;
mod shares;
mod simulate;
mod sizes;
mod steering;
mod store;
mod tls;
mod top;
mod traces;
mod transfer;
mod uncertain;
mod unreadable;
mod web;
