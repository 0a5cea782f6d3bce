//! What attributes the leads of an account have.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use super::listed::{Listed, Unreadable};
use super::value::Kind;

/// Attributes that LeadSquared computes. The metadata does not mark them; source: the attributes which the vendor's
/// read samples have and no write sample.
const READ_ONLY: [&str; 18] = [
    "ProspectAutoId",
    "OwnerIdName",
    "OwnerIdEmailAddress",
    "CreatedBy",
    "CreatedByName",
    "CreatedOn",
    "ModifiedBy",
    "ModifiedByName",
    "ModifiedOn",
    "LeadLastModifiedOn",
    "ProspectActivityId_Min",
    "ProspectActivityId_Max",
    "ProspectActivityDate_Min",
    "ProspectActivityDate_Max",
    "ProspectActivityName_Max",
    "TotalVisits",
    "PageViewsPerVisit",
    "AvgTimePerVisit",
];

/// One attribute of the account's leads.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The vendor's name of it.
    pub schema_name: String,
    /// The name that people see.
    pub display_name: String,
    /// The vendor's data type: `Text`, `Email`, `Number`, ...
    pub data_type: String,
    /// How its values are typed.
    pub kind: Kind,
    /// Whether the account marked it as mandatory.
    pub mandatory: bool,
    /// The most characters of a text.
    pub max_length: Option<usize>,
    /// The options of a dropdown.
    pub options: Vec<String>,
}

/// All attributes of the account's leads, as of some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// The attributes, in the vendor's order.
    pub fields: Vec<Field>,
    /// The attributes that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// When LeadSquared was asked.
    pub fetched: Timestamp,
    by_name: HashMap<String, usize>,
    /// The columns of a read that wants everything: one list for all of them.
    wide: OnceLock<Arc<[String]>>,
}

impl Catalog {
    /// A catalog of these attributes.
    pub fn new(fields: impl Into<Listed<Field>>, fetched: Timestamp) -> Self {
        let Listed {
            records: fields,
            unreadable,
            ..
        } = fields.into();
        let by_name = fields
            .iter()
            .enumerate()
            .map(|(i, field)| (fold(&field.schema_name), i))
            .collect();
        Self {
            fields,
            unreadable,
            fetched,
            by_name,
            wide: OnceLock::new(),
        }
    }

    /// The columns of a read that wants everything, made once.
    pub(super) fn wide_columns(&self, make: impl FnOnce() -> Vec<String>) -> Arc<[String]> {
        self.wide.get_or_init(|| make().into()).clone()
    }

    /// The attribute of that schema name. Case is folded: whether it matters to LeadSquared is not known.
    pub fn get(&self, schema_name: &str) -> Option<&Field> {
        self.by_name.get(&fold(schema_name)).and_then(|i| self.fields.get(*i))
    }

    /// Whether the account is known not to have the attribute. An attribute whose record could not be read is not known.
    pub fn lacks(&self, schema_name: &str) -> bool {
        let may_be = self.unreadable.iter().any(|one| one.id.is_none());
        self.get(schema_name).is_none() && self.unreadable_id(schema_name).is_none() && !may_be
    }

    /// The name of an attribute that is there, and whose description could not be read.
    pub fn unreadable_id(&self, schema_name: &str) -> Option<&str> {
        let mut ids = self.unreadable.iter().filter_map(|one| one.id.as_deref());
        ids.find(|id| id.eq_ignore_ascii_case(schema_name))
    }

    /// The names of all attributes, for a read that has to name its columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let unreadable = self.unreadable.iter().filter_map(|one| one.id.as_deref());
        let names = self.fields.iter().map(|field| field.schema_name.as_str());
        names.chain(unreadable)
    }
}

/// Whether LeadSquared computes the attribute, so that it cannot be written.
pub fn is_read_only(schema_name: &str) -> bool {
    READ_ONLY.contains(&schema_name)
}

fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}
