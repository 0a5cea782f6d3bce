//! Which parts of a lead are wanted.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::field::{Catalog, is_computed};
use super::lead::{LEAD_ID, LEAD_NUMBER, Row, STANDARD, schema_name, standard};
use crate::error::Violation;

/// The parts of a lead outside of its fields: their names in the public contract and at the vendor.
pub const PARTS: [(&str, &str); 7] = [
    ("lead_id", LEAD_ID),
    ("lead_number", LEAD_NUMBER),
    ("owner_name", "OwnerIdName"),
    ("owner_email_address", "OwnerIdEmailAddress"),
    ("score", "Score"),
    ("create_time", "CreatedOn"),
    ("update_time", "ModifiedOn"),
];

/// Which attributes are wanted. The lead's id always is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mask {
    /// By schema name; `None`: every one.
    names: Option<BTreeSet<String>>,
    /// Every attribute that has no field of its own, too.
    custom: bool,
    /// Every one of them that LeadSquared itself gives its value.
    read_only: bool,
    /// The attributes without a field of their own that were named, with the places where they were.
    named: Vec<(usize, String)>,
}

impl Mask {
    /// Reads paths such as `lead_id`, `fields`, `fields.city`, `fields.custom`, `fields.custom.mx_KYC` and
    /// `read_only_fields.CreatedByName`. No paths, or `*`, want everything.
    pub fn parse(paths: &[String]) -> Result<Self, Vec<Violation>> {
        if paths.is_empty() || paths.iter().any(|path| path == "*") {
            return Ok(Self::default());
        }
        let mut names = BTreeSet::new();
        let (mut custom, mut read_only) = (false, false);
        let mut named = Vec::new();
        let mut violations = Vec::new();
        for (i, path) in paths.iter().enumerate() {
            let part = part(path);
            let field = path.strip_prefix("fields.").unwrap_or(path);
            let attribute = (field.strip_prefix("custom.")).or_else(|| path.strip_prefix("read_only_fields."));
            let attribute = attribute.map(|name| name.trim_matches(['`', '"']));
            if let Some(schema_name) = part {
                names.insert(schema_name.to_owned());
            } else if path == "fields" {
                names.extend(STANDARD.iter().map(|field| field.schema_name.to_owned()));
                custom = true;
            } else if field == "custom" {
                custom = true;
            } else if path == "read_only_fields" {
                read_only = true;
            } else if standard(schema_name(field)).is_some() {
                names.insert(schema_name(field).to_owned());
            } else if let Some(name) = attribute.filter(|name| is_name(name)) {
                names.insert(name.to_owned());
                named.push((i, name.to_owned()));
            } else {
                let text = "must be a field of Lead, such as lead_id, fields.city or fields.custom.mx_KYC";
                violations.push(Violation::new(format!("read_mask.paths[{i}]"), text));
            }
        }
        if !violations.is_empty() {
            return Err(violations);
        }
        Ok(Self {
            names: Some(names),
            custom,
            read_only,
            named,
        })
    }

    /// The faults of a mask that names what the account does not have. System attributes may be left out of the metadata.
    pub fn check(&self, catalog: Option<&Catalog>) -> Vec<Violation> {
        let is_unknown = |name: &str| name.starts_with("mx_") && catalog.is_some_and(|catalog| catalog.lacks(name));
        let unknown = self.named.iter().filter(|(_, name)| is_unknown(name));
        unknown
            .map(|(i, name)| {
                Violation::new(
                    format!("read_mask.paths[{i}]"),
                    format!("the account has no attribute {name}"),
                )
            })
            .collect()
    }

    /// Whether an endpoint that has to be told its columns can return all that is wanted: what is computed is not in the
    /// metadata, and may be none of its columns.
    pub fn is_of_columns(&self, catalog: &Catalog) -> bool {
        self.named.iter().all(|(_, name)| catalog.get(name).is_some())
    }

    /// The columns to ask for, in a list that all who want everything share.
    pub fn shared_columns(&self, catalog: &Catalog) -> Arc<[String]> {
        let make = || self.columns(catalog.names());
        match &self.names {
            None => catalog.wide_columns(make),
            Some(_) => make().into(),
        }
    }

    /// Whether what this one leaves in a row has all that the other one wants.
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.names, &other.names) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(names), Some(wanted)) => {
                let has_read_only = self.custom || self.read_only || !other.read_only;
                (self.custom || !other.custom) && has_read_only && names.is_superset(wanted)
            }
        }
    }

    /// The columns to ask for: of all that there are those that are wanted, and those wanted by name.
    pub fn columns<'a>(&self, all: impl Iterator<Item = &'a str>) -> Vec<String> {
        match &self.names {
            Some(names) if !self.custom && !self.read_only => names.iter().cloned().collect(),
            _ => {
                let mut columns: Vec<String> = all.filter(|name| self.wants(name)).map(str::to_owned).collect();
                let named = self.names.iter().flatten().filter(|name| standard(name).is_none());
                columns.extend(named.cloned());
                // The metadata may leave out what LeadSquared computes.
                let parts = PARTS.iter().map(|(_, name)| *name).filter(|name| self.wants(name));
                let missing: Vec<_> = parts.filter(|part| !columns.iter().any(|name| name == part)).collect();
                columns.extend(missing.into_iter().map(str::to_owned));
                columns
            }
        }
    }

    /// Leaves in the row what is wanted.
    pub fn apply(&self, row: &mut Row) {
        row.retain(|name, _| self.wants(name));
    }

    fn wants(&self, name: &str) -> bool {
        let is_part = PARTS.iter().any(|(_, part)| *part == name);
        match &self.names {
            None => true,
            Some(names) => {
                let is_custom = !is_part && standard(name).is_none();
                let is_wanted = self.custom || (self.read_only && is_computed(name));
                name == LEAD_ID || names.contains(name) || (is_custom && is_wanted)
            }
        }
    }
}

/// The vendor's name of a part of a lead outside of its fields.
pub(super) fn part(name: &str) -> Option<&'static str> {
    let found = PARTS.iter().find(|(part, _)| *part == name);
    found.map(|(_, schema_name)| *schema_name)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 5] = ["ProspectID", "FirstName", "Score", "mx_City", "mx_KYC"];

    #[test]
    fn attributes_that_cannot_be_written_are_wanted_by_one_path() {
        let mask = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            Mask::parse(&paths).unwrap()
        };
        let all = ["ProspectID", "FirstName", "Score", "CreatedByName", "mx_KYC"];
        let read_only = mask(&["read_only_fields"]);
        assert_eq!(read_only.columns(all.into_iter()), ["ProspectID", "CreatedByName"]);
        assert!(
            mask(&["fields"])
                .columns(all.into_iter())
                .contains(&"CreatedByName".to_owned())
        );
        assert!(mask(&["fields.custom"]).covers(&read_only) && !mask(&["fields.city"]).covers(&read_only));
        assert!(!read_only.covers(&mask(&["fields.custom"])));
    }

    fn columns(paths: &[&str]) -> Vec<String> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        Mask::parse(&paths).unwrap().columns(ALL.into_iter())
    }

    #[test]
    fn no_mask_wants_everything() {
        for paths in [&[][..], &["lead_id", "*"]] {
            let columns = columns(paths);
            assert_eq!(columns[..ALL.len()], ALL);
            // And what is computed, wherever the metadata leaves it out.
            assert_eq!(
                columns[ALL.len()..],
                [
                    "ProspectAutoId",
                    "OwnerIdName",
                    "OwnerIdEmailAddress",
                    "CreatedOn",
                    "ModifiedOn"
                ]
            );
        }
    }

    #[test]
    fn paths_want_what_they_name() {
        assert_eq!(columns(&["fields.first_name", "score"]), ["FirstName", "Score"]);
        assert_eq!(columns(&["fields.custom.mx_KYC"]), ["mx_KYC"]);
        assert_eq!(columns(&["fields.custom"]), ["ProspectID", "mx_KYC"]);
        assert_eq!(columns(&["fields"]), ["ProspectID", "FirstName", "mx_City", "mx_KYC"]);
        assert_eq!(columns(&["read_only_fields.NotableEvent"]), ["NotableEvent"]);
    }

    #[test]
    fn a_row_keeps_what_is_wanted_and_its_id() {
        let mut row: Row = ALL.iter().map(|name| ((*name).to_owned(), None)).collect();
        Mask::parse(&["fields.city".to_owned()]).unwrap().apply(&mut row);
        assert_eq!(row.keys().collect::<Vec<_>>(), ["ProspectID", "mx_City"]);
    }

    #[test]
    fn every_unknown_path_is_a_fault() {
        let paths = ["fields.firstname", "lead_id", "fields.custom."].map(str::to_owned);
        let faults = Mask::parse(&paths).unwrap_err();
        assert_eq!(faults.len(), 2);
        assert_eq!(faults[1].field, "read_mask.paths[2]");
    }
}
