//! Leads and their attributes as we speak of them: no protobuf, no HTTP, no vendor's JSON.

pub mod activity;
pub mod characters;
pub mod check;
pub mod criterion;
pub mod email;
pub mod field;
pub mod json;
pub mod lead;
pub mod listed;
pub mod mask;
mod nearest;
pub mod number;
pub mod phone;
pub mod seen;
pub mod share;
pub mod time;
pub mod usage;
pub mod user;
pub mod value;
