//! Leads: storage, matching, validation, and the handlers of the endpoints that read and write them.

mod bulk;
pub(crate) mod draft;
pub(crate) mod fields;
pub(crate) mod lead;
pub(crate) mod matching;
mod metadata;
mod phone;
pub(crate) mod reads;
pub(crate) mod search;
pub(crate) mod seed;
pub(crate) mod store;
mod update_v2;
pub(crate) mod value;
pub(crate) mod writes;
