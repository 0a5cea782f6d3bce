//! Activities: storage, types, and the handlers of the endpoints that read and write them.

pub(crate) mod reads;
pub(crate) mod store;
pub(crate) mod types;
pub(crate) mod writes;
