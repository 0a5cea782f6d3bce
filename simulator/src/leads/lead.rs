//! A stored lead and its form in reads.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use crate::leads::draft::Draft;
use crate::leads::fields::FieldKind;
use crate::leads::value::{format_date_time, format_timestamp};
use crate::state::Tenant;
use crate::{FieldSetForm, FieldSpec, UserSpec};

/// A stored lead.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) sets: BTreeMap<String, BTreeMap<String, String>>,
}

impl Lead {
    pub(crate) fn new(id: String, number: u64, now: Timestamp) -> Self {
        Self {
            id,
            number,
            created: now,
            modified: now,
            values: BTreeMap::new(),
            sets: BTreeMap::new(),
        }
    }

    /// Sets the default values of a new lead.
    pub(crate) fn set_defaults(&mut self, tenant: &Tenant) {
        let owner = tenant.options.users.first().map_or("", |user| user.id.as_str());
        let defaults = [
            ("ProspectStage", "Prospect"),
            ("Origin", "API"),
            ("OwnerId", owner),
            ("CreatedBy", owner),
            ("ModifiedBy", owner),
            ("Score", "0"),
            ("StatusCode", "0"),
            ("DeletionStatusCode", "0"),
            ("IsLead", "1"),
            ("CanUpdate", "1"),
            ("IsStarredLead", "0"),
            ("IsTaggedLead", "0"),
            ("DoNotEmail", "0"),
            ("DoNotCall", "0"),
            ("DoNotSMS", "0"),
            ("DoNotTrack", "0"),
        ];
        for (name, value) in defaults {
            self.values.entry(name.into()).or_insert_with(|| value.into());
        }
    }

    pub(crate) fn apply(&mut self, draft: &Draft, now: Timestamp, tenant: &Tenant) {
        for (name, value) in &draft.values {
            set_or_remove(&mut self.values, name, value.as_deref());
        }
        for (name, members) in &draft.sets {
            let Some(members) = members else {
                self.sets.remove(name);
                continue;
            };
            let set = self.sets.entry(name.clone()).or_default();
            if tenant.options.field_set_replaces {
                set.clear();
            }
            for (member, value) in members {
                set_or_remove(set, member, value.as_deref());
            }
        }
        self.modified = now;
    }

    /// Returns the stored value of an attribute. `None` if the attribute is unset or unknown.
    pub(crate) fn stored(&self, attribute: &str, tenant: &Tenant) -> Option<String> {
        let user = |attribute: &str| -> Option<&UserSpec> {
            let id = self.values.get(attribute)?;
            tenant.options.users.iter().find(|user| user.id == *id)
        };
        match attribute {
            "ProspectID" => Some(self.id.clone()),
            "ProspectAutoId" => Some(self.number.to_string()),
            "CreatedOn" => Some(format_timestamp(self.created)),
            "ModifiedOn" | "LeadLastModifiedOn" => Some(format_timestamp(self.modified)),
            "OwnerIdName" => user("OwnerId").map(UserSpec::name),
            "OwnerIdEmailAddress" => user("OwnerId").map(|user| user.email_address.clone()),
            "CreatedByName" => user("CreatedBy").map(UserSpec::name),
            "ModifiedByName" => user("ModifiedBy").map(UserSpec::name),
            _ => match self.sets.get(attribute) {
                Some(set) => serde_json::to_string(set).ok(),
                None => self.values.get(attribute).cloned(),
            },
        }
    }

    /// Returns the stored values of all attributes.
    pub(crate) fn snapshot(&self, tenant: &Tenant) -> BTreeMap<String, Option<String>> {
        let names = tenant.schema.fields().iter().map(|field| field.schema_name.clone());
        let mut all: BTreeMap<_, _> = names
            .map(|name| {
                let value = self.stored(&name, tenant);
                (name, value)
            })
            .collect();
        // An inserted lead may have attributes that no field describes.
        for (name, value) in &self.values {
            all.entry(name.clone()).or_insert_with(|| Some(value.clone()));
        }
        all
    }

    /// Returns a JSON object with the fields in the given order.
    pub(crate) fn row(&self, fields: &[&FieldSpec], tenant: &Tenant) -> LeadRow {
        let options = &tenant.options;
        let mut row: Vec<_> = fields
            .iter()
            .filter_map(|field| Some((field.schema_name.clone(), self.read_value(field, tenant)?)))
            .filter(|(_, value)| !(options.omit_null_keys && value.is_null()))
            .collect();
        if options.shuffle_keys {
            row.reverse();
        }
        LeadRow(row)
    }

    /// Returns the value of a field in a read. `None` if the read does not contain the field.
    fn read_value(&self, field: &FieldSpec, tenant: &Tenant) -> Option<Value> {
        let name = &field.schema_name;
        let stored = self.stored(name, tenant);
        if stored.is_none() && tenant.options.unset_as.is_some() {
            return Some(json!(tenant.options.unset_as));
        }
        Some(match (field.kind(), tenant.options.field_sets_in_reads) {
            (FieldKind::FieldSet, FieldSetForm::Absent) => return None,
            (FieldKind::FieldSet, FieldSetForm::Object) => json!(self.sets.get(name)),
            (FieldKind::Date, _) => {
                json!(stored.map(|stored| format_date_time(&stored, name, tenant.options.date_forms)))
            }
            _ => json!(stored),
        })
    }
}

/// A JSON object that preserves the order of its keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LeadRow(pub(crate) Vec<(String, Value)>);

impl Serialize for LeadRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn set_or_remove(values: &mut BTreeMap<String, String>, name: &str, value: Option<&str>) {
    match value {
        Some(value) => values.insert(name.into(), value.into()),
        None => values.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    fn lead() -> Lead {
        let mut lead = Lead::new("id".into(), 7, Timestamp::UNIX_EPOCH);
        lead.values.insert("mx_City".into(), "Pune".into());
        let members = BTreeMap::from([("Status".to_owned(), "Pending".to_owned())]);
        lead.sets.insert("mx_KYC".into(), members);
        lead
    }

    fn row(options: Options, names: &[&str]) -> String {
        let tenant = Tenant::new(options);
        let fields: Vec<_> = names.iter().filter_map(|name| tenant.schema.field(name)).collect();
        serde_json::to_string(&lead().row(&fields, &tenant)).unwrap_or_default()
    }

    #[test]
    fn a_row_has_strings_and_nulls_in_the_order_of_the_fields() {
        let fields = ["mx_City", "ProspectAutoId", "FirstName", "CreatedOn"];
        assert_eq!(
            row(Options::default(), &fields),
            r#"{"mx_City":"Pune","ProspectAutoId":"7","FirstName":null,"CreatedOn":"1970-01-01 00:00:00.000"}"#
        );
        let other = Options {
            shuffle_keys: true,
            omit_null_keys: true,
            ..Options::default()
        };
        assert_eq!(
            row(other, &fields),
            r#"{"CreatedOn":"1970-01-01 00:00:00.000","ProspectAutoId":"7","mx_City":"Pune"}"#
        );
    }

    #[test]
    fn a_field_set_has_the_configured_form_in_reads() {
        let read = |form| {
            row(
                Options {
                    field_sets_in_reads: form,
                    ..Options::default()
                },
                &["mx_KYC"],
            )
        };
        assert_eq!(read(FieldSetForm::Json), r#"{"mx_KYC":"{\"Status\":\"Pending\"}"}"#);
        assert_eq!(read(FieldSetForm::Object), r#"{"mx_KYC":{"Status":"Pending"}}"#);
        assert_eq!(read(FieldSetForm::Absent), "{}");
    }
}
