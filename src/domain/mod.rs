//! The domain types: leads, activities, users and shares. They do not depend on protobuf, HTTP or LeadSquared's JSON.

pub mod activity;
pub mod attribute;
pub mod characters;
pub mod check;
pub mod criterion;
pub mod email;
pub mod field;
pub mod handover;
pub mod json;
pub mod lead;
pub mod lead_id_set;
pub mod lease;
pub mod listed;
pub mod mask;
mod nearest;
pub mod number;
pub mod pause;
pub mod phone;
pub mod rest;
pub mod share;
pub mod time;
pub mod usage;
pub mod user;
pub mod value;
