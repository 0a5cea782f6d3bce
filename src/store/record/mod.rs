//! Records: the form in which domain values are stored. A record fixes the JSON of its documents, so a type of the domain can
//! be renamed or changed without a change of the store. Every conversion names all variants and fields, so one that is new in
//! the domain does not compile until the record knows it. Knows nothing of the tables.
//!
//! All records have version 1, the form in which stores have been written from the beginning. Their documents have no field
//! `version`: a document without it has version 1. It is not written, since the answers of request ids are enums that cannot
//! carry it. A document with another version is not read.
//!
//! A new optional field does not need a new version: with `default` and `skip_serializing_if`, old rows are read, and written
//! as before. An older leadgate ignores it. A new variant does not need a new version either, but an older leadgate takes the
//! rows that have it for damaged ones. A change that would give an old document another meaning needs version 2:
//!
//! 1. The record of version 2 is a struct with the field `version`, beside the record of version 1. Both are read, by the
//!    version of the document; version 1 is converted to the domain as before. Only version 2 is written.
//! 2. A migration comes with it, an empty one if no table changes. Then an older leadgate refuses the whole file instead of
//!    taking new rows for damaged ones.
//! 3. `sqlite/damaged.rs` accepts both forms of an answer.
//! 4. The golden rows in `tests/golden/records` stay as they are, with tests that read them. Version 2 gets its own.

pub(super) mod answer;
pub(super) mod change;
pub(super) mod error;
#[cfg(test)]
mod samples;
pub(super) mod share;
#[cfg(test)]
mod tests;
pub(super) mod usage;
mod value;

use serde::{Deserialize, Deserializer};

pub use answer::Answer;

/// The version of a document whose record has version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Version1;

impl<'de> Deserialize<'de> for Version1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            1 => Ok(Self),
            version => Err(serde::de::Error::custom(format_args!("version {version} is unknown"))),
        }
    }
}

/// Declares the record of an enum without fields: the stored name of each variant, and its name in the domain.
macro_rules! names {
    ($(#[$doc:meta])* $record:ident of $domain:ty { $($name:literal = $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
        pub(in crate::store) enum $record {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl From<$domain> for $record {
            fn from(value: $domain) -> Self {
                type Domain = $domain;
                match value {
                    $(Domain::$variant => Self::$variant,)*
                }
            }
        }

        impl From<$record> for $domain {
            fn from(record: $record) -> Self {
                match record {
                    $($record::$variant => Self::$variant,)*
                }
            }
        }
    };
}
use names;
