//! The standard attributes of a lead, which have fields of their own in the public contract, and their names there and in
//! LeadSquared. `field` has all attributes of an account, as its metadata describes them.

use std::collections::BTreeMap;

use super::value::ValueKind;

/// Calls the given macro with each attribute that has its own field in the public contract: the name of the field and the
/// schema name. The conversions, masks and tables of these attributes are made from this list. It has the same attributes as
/// `LeadFields` in `lead.proto`: otherwise the conversions do not compile.
macro_rules! standard_fields {
    ($use:ident) => {
        $use! {
            text: first_name "FirstName", last_name "LastName", email_address "EmailAddress", phone "Phone",
                mobile "Mobile", company "Company", job_title "JobTitle", website "Website", source "Source",
                source_medium "SourceMedium", source_campaign "SourceCampaign", source_content "SourceContent",
                stage "ProspectStage", owner_id "OwnerId", notes "Notes", lead_type "LeadType",
                time_zone "TimeZone", street1 "mx_Street1", street2 "mx_Street2", city "mx_City",
                state "mx_State", country "mx_Country", zip "mx_Zip";
            flag: do_not_email "DoNotEmail", do_not_call "DoNotCall", do_not_sms "DoNotSMS",
                do_not_track "DoNotTrack"
        }
    };
}
pub(crate) use standard_fields;

macro_rules! as_table {
    (text: $($text:ident $text_schema:literal),*; flag: $($flag:ident $flag_schema:literal),*) => {
        &[
            $(StandardField { name: stringify!($text), schema_name: $text_schema, kind: ValueKind::Text },)*
            $(StandardField { name: stringify!($flag), schema_name: $flag_schema, kind: ValueKind::Flag },)*
        ]
    };
}

/// Every attribute that has its own field in the public contract.
pub const STANDARD: &[StandardField] = standard_fields!(as_table);

/// The schema name of the lead's id.
pub const LEAD_ID: &str = "ProspectID";
/// The lead's id as LeadSquared spells it in `SearchBy`.
pub const SEARCH_BY_LEAD_ID: &str = "ProspectId";
/// The schema name of the email address.
pub const EMAIL: &str = "EmailAddress";
/// The schema name of the lead number.
pub const LEAD_NUMBER: &str = "ProspectAutoId";

/// An attribute that has its own field in the public contract.
#[derive(Clone, Copy, Debug)]
pub struct StandardField {
    /// The name of the field.
    pub name: &'static str,
    /// The schema name of the attribute.
    pub schema_name: &'static str,
    /// The type of its values.
    pub kind: ValueKind,
}

/// The parts of a lead outside of `Lead.fields`: the name in the public contract and the schema name.
pub const PARTS: [(&str, &str); 7] = [
    ("lead_id", LEAD_ID),
    ("lead_number", LEAD_NUMBER),
    ("owner_name", "OwnerIdName"),
    ("owner_email_address", "OwnerIdEmailAddress"),
    ("score", "Score"),
    ("create_time", "CreatedOn"),
    ("update_time", "ModifiedOn"),
];

/// The fields of a record as LeadSquared returns them: texts by schema name. `None` is a field without a value.
pub type RawFields = BTreeMap<String, Option<String>>;

/// Returns the schema name for a schema name or for the name of a field.
pub fn schema_name(name: &str) -> &str {
    STANDARD
        .iter()
        .find(|standard| standard.name == name)
        .map_or(name, |standard| standard.schema_name)
}

macro_rules! as_match {
    (text: $($text:ident $text_schema:literal),*; flag: $($flag:ident $flag_schema:literal),*) => {
        /// Returns the field of the public contract that holds the attribute, if there is one.
        // A search of the table would compare each attribute of each lead with all names.
        pub fn standard(schema_name: &str) -> Option<&'static StandardField> {
            match schema_name {
                $($text_schema => Some(&StandardField {
                    name: stringify!($text),
                    schema_name: $text_schema,
                    kind: ValueKind::Text,
                }),)*
                $($flag_schema => Some(&StandardField {
                    name: stringify!($flag),
                    schema_name: $flag_schema,
                    kind: ValueKind::Flag,
                }),)*
                _ => None,
            }
        }
    };
}
standard_fields!(as_match);

/// Returns the path of an attribute in a request: `lead.first_name` or `lead.custom["mx_KYC"]`.
pub fn path(schema_name: &str) -> String {
    match standard(schema_name) {
        Some(standard) => format!("lead.{}", standard.name),
        None => format!("lead.custom[\"{schema_name}\"]"),
    }
}

/// Returns the attribute of a [`path`]. `None` for other texts.
pub fn attribute_at(path: &str) -> Option<&str> {
    let field = path.strip_prefix("lead.")?;
    let custom = field
        .strip_prefix("custom[\"")
        .and_then(|rest| rest.strip_suffix("\"]"));
    custom.or_else(|| {
        let standard = STANDARD.iter().find(|standard| standard.name == field)?;
        Some(standard.schema_name)
    })
}

/// Returns the schema name for any name of an attribute: a schema name, the name of a field, or the name of a part of a lead
/// outside of `Lead.fields`.
pub fn resolve(name: &str) -> &str {
    part(name).unwrap_or_else(|| schema_name(name))
}

/// Returns the name in the public contract of an attribute that has its own field. The case is ignored.
pub fn field_name(schema_name: &str) -> Option<&'static str> {
    let standard = STANDARD.iter().map(|standard| (standard.name, standard.schema_name));
    let found = standard
        .chain(PARTS)
        .find(|(_, name)| name.eq_ignore_ascii_case(schema_name));
    found.map(|(name, _)| name)
}

/// Returns the attribute that a computed attribute shows in another form, such as the owner by name. `None` for other
/// attributes.
pub fn shown_attribute(computed: &str) -> Option<&'static str> {
    const SHOWN: [(&str, &str); 4] = [
        ("OwnerIdName", "OwnerId"),
        ("OwnerIdEmailAddress", "OwnerId"),
        ("CreatedByName", "CreatedBy"),
        ("ModifiedByName", "ModifiedBy"),
    ];
    let found = SHOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(computed));
    found.map(|(_, shown)| *shown)
}

/// Returns the schema name of a part of a lead outside of `Lead.fields`.
pub(super) fn part(name: &str) -> Option<&'static str> {
    let found = PARTS.iter().find(|(part, _)| *part == name);
    found.map(|(_, schema_name)| *schema_name)
}

/// Whether a text can be the name of an attribute or of a field of an activity.
pub(super) fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_name_and_its_schema_name_mean_the_same_attribute() {
        assert_eq!(schema_name("city"), "mx_City");
        assert_eq!(schema_name("mx_City"), "mx_City");
        assert_eq!(path("ProspectStage"), "lead.stage");
        assert_eq!(path("mx_KYC"), "lead.custom[\"mx_KYC\"]");
        assert_eq!(
            ["city", "owner_name", "mx_KYC"].map(resolve),
            ["mx_City", "OwnerIdName", "mx_KYC"]
        );
        assert_eq!(
            ["MX_city", "owneridname", "mx_KYC"].map(field_name),
            [Some("city"), Some("owner_name"), None]
        );
    }

    #[test]
    fn the_attribute_of_a_path_is_found() {
        for name in STANDARD
            .iter()
            .map(|standard| standard.schema_name)
            .chain(["mx_KYC", "Fax"])
        {
            assert_eq!(attribute_at(&path(name)), Some(name));
        }
        for other in [
            "lead",
            "lead.",
            "lead.none",
            "lead_id",
            "lead.custom[\"x\"].field_set.value",
            "value",
        ] {
            assert_eq!(attribute_at(other), None, "{other}");
        }
    }
}
