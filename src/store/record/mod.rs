//! Records: the stored forms of domain values. A record defines the JSON of its documents, so a domain type can be renamed or
//! changed without a change of the store. Every conversion names all variants and fields. A new variant or field of a domain type
//! does not compile until its record has it. The records are independent of the tables.
//!
//! All records have version 1, the form of all stores until now. Their documents have no field `version`: a document without it
//! has version 1. The field is not written, since the results of mutations are enums, which cannot contain it. A document with
//! another version is not read.
//!
//! A new optional field does not need a new version. With `default` and `skip_serializing_if`, old rows are read, and they are
//! written as before. An older leadgate ignores the field. A new variant does not need a new version either, but for an older
//! leadgate the rows with this variant are damaged. A change of the meaning of an old document needs version 2:
//!
//! 1. The record of version 2 is a struct with the field `version`, beside the record of version 1. Both are read, according to
//!    the version of the document. Version 1 is converted to the domain type as before. Only version 2 is written.
//! 2. A migration is added, an empty one if no table changes. Then an older leadgate does not open the file. Otherwise it would
//!    treat new rows as damaged.
//! 3. `sqlite/damaged.rs` accepts both forms of a result.
//! 4. The golden rows in `tests/golden/records` stay unchanged, with the tests that read them. Version 2 gets its own rows.

pub(super) mod change;
pub(super) mod error;
pub(super) mod result;
#[cfg(test)]
mod samples;
pub(super) mod share;
#[cfg(test)]
mod tests;
pub(super) mod usage;
mod value;

use serde::{Deserialize, Deserializer};

pub use result::StoredResult;

/// The version of a document with version 1.
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

/// Declares the record of an enum without fields: for each variant its stored name and the variant of the domain type.
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
