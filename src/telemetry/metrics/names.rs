//! The values of labels that are not known at compile time. They are stored once, so that an observation allocates nothing.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// The value of a label. Clones share the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(Arc<str>);

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<Name> for Arc<str> {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(&self.0)
    }
}

/// Names from closed sets: of tenants, of methods, of files. They are never removed.
#[derive(Debug, Default)]
pub(super) struct NameTable(RwLock<HashSet<Name>>);

impl NameTable {
    /// Returns the name.
    pub(super) fn get(&self, text: &str) -> Name {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(text) {
            return name.clone();
        }
        drop(known);
        let name = Name::from(text);
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone());
        name
    }
}

/// The callers that have a label of their own. All other callers share one, since a caller may choose its name.
#[derive(Debug)]
pub(super) struct CallerNames {
    named: RwLock<HashSet<Name>>,
    gateway: Name,
    other: Name,
}

impl Default for CallerNames {
    fn default() -> Self {
        Self {
            named: RwLock::default(),
            gateway: Name::from("leadgate"),
            other: Name::from("other"),
        }
    }
}

impl CallerNames {
    /// Replaces the callers.
    pub(super) fn set<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let names = names.map(Name::from).collect();
        *self.named.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Returns the label of a caller.
    pub(super) fn get(&self, caller: &str) -> Name {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        match named.get(caller) {
            Some(name) => name.clone(),
            None if caller == &*self.gateway.0 => self.gateway.clone(),
            None => self.other.clone(),
        }
    }
}

/// The id of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TraceId(pub(super) u128);

impl EncodeLabelValue for TraceId {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        write!(encoder, "{:032x}", self.0)
    }
}
