//! Read masks: the parts of a lead that a request returns.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attribute::{LEAD_ID, PARTS, RawFields, STANDARD, part, schema_name, standard};
use super::field::{Catalog, is_computed};
use crate::error::Violation;

/// A read mask. The id of the lead is always included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadMask {
    /// The included schema names. `None`: all attributes.
    names: Option<BTreeSet<String>>,
    /// Whether to include all attributes without a standard field.
    custom: bool,
    /// Whether to include all attributes that LeadSquared sets.
    read_only: bool,
    /// The attributes without a standard field that were named, with the indices of their paths.
    named: Vec<(usize, String)>,
}

impl ReadMask {
    /// Parses paths such as `lead_id`, `fields`, `fields.city`, `fields.custom`, `fields.custom.mx_KYC` and
    /// `read_only_fields.CreatedByName`. No paths, or `*`, include everything.
    pub fn parse(paths: &[String]) -> Result<Self, Vec<Violation>> {
        if paths.is_empty() || paths.iter().any(|path| path == "*") {
            return Ok(Self::default());
        }
        let mut names = BTreeSet::new();
        let (mut custom, mut read_only) = (false, false);
        let mut named = Vec::new();
        let mut violations = Vec::new();
        for (i, path) in paths.iter().enumerate() {
            let is_field = |name: &str| path.strip_prefix("fields.").unwrap_or(path) == name;
            if path == "fields" {
                names.extend(STANDARD.iter().map(|field| field.schema_name.to_owned()));
                custom = true;
            } else if is_field("custom") {
                custom = true;
            } else if path == "read_only_fields" {
                read_only = true;
            } else if let Some(name) = single_attribute(path) {
                names.insert(name.to_owned());
                if other_attribute(path).is_some() {
                    named.push((i, name.to_owned()));
                }
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

    /// Returns the violations of attributes that the account does not have. The metadata may leave out system attributes.
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

    /// Whether an endpoint that requires columns can return all included attributes. Computed attributes are not in the
    /// metadata, and may not be columns.
    pub fn is_of_columns(&self, catalog: &Catalog) -> bool {
        self.named.iter().all(|(_, name)| catalog.get(name).is_some())
    }

    /// Returns the columns to request. All reads without a mask share one list.
    pub fn shared_columns(&self, catalog: &Catalog) -> Arc<[String]> {
        let make = || self.columns(catalog.names());
        match &self.names {
            None => catalog.all_columns(make),
            Some(_) => make().into(),
        }
    }

    /// Whether the fields that this mask keeps include all fields of the other mask.
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.names, &other.names) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(names), Some(requested)) => {
                let has_read_only = self.custom || self.read_only || !other.read_only;
                (self.custom || !other.custom) && has_read_only && names.is_superset(requested)
            }
        }
    }

    /// Returns the columns to request: the included ones of `all`, and those that were named.
    pub fn columns<'a>(&self, all: impl Iterator<Item = &'a str>) -> Vec<String> {
        match &self.names {
            Some(names) if !self.custom && !self.read_only => names.iter().cloned().collect(),
            _ => {
                let mut columns: Vec<String> = all.filter(|name| self.includes(name)).map(str::to_owned).collect();
                let named = self.names.iter().flatten().filter(|name| standard(name).is_none());
                columns.extend(named.cloned());
                // The metadata may leave out computed attributes.
                let parts = PARTS.iter().map(|(_, name)| *name).filter(|name| self.includes(name));
                let missing: Vec<_> = parts.filter(|part| !columns.iter().any(|name| name == part)).collect();
                columns.extend(missing.into_iter().map(str::to_owned));
                columns
            }
        }
    }

    /// Removes the fields that are not included.
    pub fn apply(&self, row: &mut RawFields) {
        if self.names.is_some() {
            row.retain(|name, _| self.includes(name));
        }
    }

    fn includes(&self, name: &str) -> bool {
        match &self.names {
            None => true,
            Some(names) => {
                let is_part = PARTS.iter().any(|(_, part)| *part == name);
                let is_custom = !is_part && standard(name).is_none();
                let is_included = self.custom || (self.read_only && is_computed(name));
                name == LEAD_ID || names.contains(name) || (is_custom && is_included)
            }
        }
    }
}

/// Returns the attribute of a path that names a single one. `None` for a path that includes several attributes, such as
/// `fields`, and for an invalid path.
pub fn single_attribute(path: &str) -> Option<&str> {
    let field = path.strip_prefix("fields.").unwrap_or(path);
    let standard = || standard(schema_name(field)).map(|standard| standard.schema_name);
    part(path).or_else(standard).or_else(|| other_attribute(path))
}

/// Returns the attribute of a path such as `fields.custom.mx_KYC` or `read_only_fields.CreatedByName`.
fn other_attribute(path: &str) -> Option<&str> {
    let field = path.strip_prefix("fields.").unwrap_or(path);
    let name = (field.strip_prefix("custom.")).or_else(|| path.strip_prefix("read_only_fields."))?;
    Some(name.trim_matches(['`', '"'])).filter(|name| is_schema_name(name))
}

/// Whether the text consists of letters, digits and underscores.
fn is_schema_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 5] = ["ProspectID", "FirstName", "Score", "mx_City", "mx_KYC"];

    #[test]
    fn one_path_includes_all_computed_attributes() {
        let mask = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            ReadMask::parse(&paths).unwrap()
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
        ReadMask::parse(&paths).unwrap().columns(ALL.into_iter())
    }

    #[test]
    fn no_mask_includes_everything() {
        for paths in [&[][..], &["lead_id", "*"]] {
            let columns = columns(paths);
            assert_eq!(columns[..ALL.len()], ALL);
            // Computed attributes are added, because the metadata may leave them out.
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
    fn paths_include_what_they_name() {
        assert_eq!(columns(&["fields.first_name", "score"]), ["FirstName", "Score"]);
        assert_eq!(columns(&["fields.custom.mx_KYC"]), ["mx_KYC"]);
        assert_eq!(columns(&["fields.custom"]), ["ProspectID", "mx_KYC"]);
        assert_eq!(columns(&["fields"]), ["ProspectID", "FirstName", "mx_City", "mx_KYC"]);
        assert_eq!(columns(&["read_only_fields.NotableEvent"]), ["NotableEvent"]);
    }

    #[test]
    fn fields_that_are_included_and_the_id_are_kept() {
        let mut row: RawFields = ALL.iter().map(|name| ((*name).to_owned(), None)).collect();
        ReadMask::parse(&["fields.city".to_owned()]).unwrap().apply(&mut row);
        assert_eq!(row.keys().collect::<Vec<_>>(), ["ProspectID", "mx_City"]);
    }

    #[test]
    fn every_unknown_path_is_a_violation() {
        let paths = ["fields.firstname", "lead_id", "fields.custom."].map(str::to_owned);
        let violations = ReadMask::parse(&paths).unwrap_err();
        assert_eq!(violations.len(), 2);
        assert_eq!(violations[1].field, "read_mask.paths[2]");
    }
}
