//! The commands that are clients of a running gateway, the simulator as a process, and the demo.

pub(crate) mod client;
#[cfg(feature = "simulator")]
pub(crate) mod demo;
pub(crate) mod shares;
#[cfg(feature = "simulator")]
pub(crate) mod simulate;
pub(crate) mod transfer;
