//! The commands: the gateway itself, its checks, the probe of an account, keys of callers, the clients of a running gateway, the
//! simulator as a process, the demo, and files for shells and for `man`.

pub(crate) mod admin;
pub(crate) mod backup;
pub(crate) mod caller;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod completions;
#[cfg(feature = "simulator")]
pub(crate) mod demo;
pub(crate) mod open_files;
pub(crate) mod output;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod progress;
pub(crate) mod reconnect;
pub(crate) mod serve;
pub(crate) mod shares;
#[cfg(feature = "simulator")]
pub(crate) mod simulate;
pub(crate) mod store;
pub(crate) mod top;
pub(crate) mod transfer;
