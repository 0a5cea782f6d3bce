//! Several replicas: one replica at a time owns a tenant, by a lease in the database. Pure, with `now` as an argument: no I/O,
//! no locks that are held, no clock.
//!
//! * `machine` has the rules of the lease: what the database task of a replica does next.
//! * `lease` has the handle that each call to LeadSquared checks.
//! * `balance` decides which replica prefers which tenant.
//! * `directory` has the owner of each tenant, as far as this replica knows it.
//! * `handover` has the JSON form of the quota's state that an owner hands over.
//! * `replay` recognizes calls that another replica may have received before.

pub mod balance;
pub mod directory;
pub mod handover;
pub mod lease;
pub mod machine;
pub mod replay;
#[cfg(test)]
mod tests;

pub use directory::{Directory, Owner};
pub use lease::TenantLease;
pub use machine::{Action, Event, Replica, ReplicaSettings};
