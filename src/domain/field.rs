//! The attributes of an account's leads, as its metadata describes them ([`Catalog`]), and the lists of attributes that
//! LeadSquared computes, tracks or has in every account. `attribute` has the standard attributes of the public contract.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use super::attribute::{PARTS, STANDARD};
use super::listed::{Listed, Unreadable};
use super::nearest;
use super::value::ValueKind;

/// Attributes that LeadSquared computes. The metadata does not mark them. Source: the attributes that are in LeadSquared's
/// read examples and in none of its write examples.
const READ_ONLY: [&str; 31] = [
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
    "Score",
    "EngagementScore",
    "LeadConversionDate",
    "LastVisitDate",
    "NotableEvent",
    "NotableEventdate",
    "StatusCode",
    "StatusReason",
    "DeletionStatusCode",
    "IsLead",
    "IsStarredLead",
    "IsTaggedLead",
    "CanUpdate",
];

/// Attributes that LeadSquared sets when it tracks the origin of a lead. Whether they can be written is not documented, so
/// LeadSquared decides. Values that were read are not written back.
const TRACKED: [&str; 8] = [
    "ConversionReferrerURL",
    "FirstLandingPageSubmissionDate",
    "FirstLandingPageSubmissionId",
    "RelatedLandingPageId",
    "RelatedProspectId",
    "SourceIPAddress",
    "Web_RefKeyword",
    "Web_Referrer",
];

/// Attributes that every account has, besides the standard fields, the computed attributes and the parts of a lead. Source:
/// the attributes in LeadSquared's read examples. The metadata may leave out some of them.
const SYSTEM: [&str; 31] = [
    "CanUpdate",
    "ConversionReferrerURL",
    "DeletionStatusCode",
    "EngagementScore",
    "Fax",
    "FirstLandingPageSubmissionDate",
    "FirstLandingPageSubmissionId",
    "Grade",
    "IsLead",
    "IsStarredLead",
    "IsTaggedLead",
    "LastVisitDate",
    "Latitude",
    "LeadConversionDate",
    "Longitude",
    "MXCProspectId",
    "NotableEvent",
    "NotableEventdate",
    "Origin",
    "ProspectId",
    "Region",
    "RelatedLandingPageId",
    "RelatedProspectId",
    "Revenue",
    "SourceIPAddress",
    "SourceReferrer",
    "SourceReferrerURL",
    "StatusCode",
    "StatusReason",
    "Web_RefKeyword",
    "Web_Referrer",
];

/// Attributes that are written as ids, while their options are texts for people. Their values are not checked against the
/// options.
const WRITTEN_BY_ID: [&str; 3] = ["LeadType", "OwnerId", "TimeZone"];

/// The documented render types with one line: all except `TextArea`.
const ONE_LINE_RENDER_TYPES: [&str; 12] = [
    "Textbox",
    "Email",
    "Phone",
    "URL",
    "Date",
    "DateTime",
    "Time",
    "RadioButton",
    "CheckBox",
    "Dropdown",
    "SearchableDropdown",
    "DropdownWithOthers",
];

/// Attributes whose texts have several lines. The metadata is ignored for them.
const MULTI_LINE_ATTRIBUTES: [&str; 3] = ["Notes", "mx_Street1", "mx_Street2"];

/// One attribute of the account's leads.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The schema name.
    pub schema_name: String,
    /// The name in the user interface of LeadSquared.
    pub display_name: String,
    /// The data type in LeadSquared: `Text`, `Email`, `Number`, ...
    pub data_type: String,
    /// The render type in LeadSquared: `Textbox`, `TextArea`, `Dropdown`, ... Empty if the metadata has none.
    pub render_type: String,
    /// The type of its values.
    pub kind: ValueKind,
    /// Whether the account has marked the attribute as mandatory.
    pub mandatory: bool,
    /// Maximum number of characters of a text.
    pub max_length: Option<usize>,
    /// The options of a dropdown.
    pub options: Vec<String>,
}

/// How many options a value of a dropdown may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One option.
    One,
    /// Some options, separated by semicolons.
    Many,
}

impl Field {
    /// Whether the values are email addresses.
    pub fn is_email(&self) -> bool {
        self.data_type.eq_ignore_ascii_case("email")
    }

    /// Whether the values are phone numbers.
    pub fn is_phone(&self) -> bool {
        self.data_type.eq_ignore_ascii_case("phone")
    }

    /// Whether the values are times of the day without a date.
    pub fn is_time_of_day(&self) -> bool {
        let is_date = ["date", "datetime"]
            .iter()
            .any(|name| self.data_type.eq_ignore_ascii_case(name));
        self.data_type.eq_ignore_ascii_case("time") || (is_date && self.render_type.eq_ignore_ascii_case("time"))
    }

    /// Whether texts have one line, according to the metadata.
    pub fn has_one_line(&self) -> bool {
        let is_one_of = |names: &[&str], text: &str| names.iter().any(|name| name.eq_ignore_ascii_case(text));
        is_one_of(&ONE_LINE_RENDER_TYPES, &self.render_type) && !is_one_of(&MULTI_LINE_ATTRIBUTES, &self.schema_name)
    }

    /// Returns how many options a value may have. `None` if values other than the options are allowed.
    pub fn choice(&self) -> Option<Choice> {
        let is_by_id = WRITTEN_BY_ID
            .iter()
            .any(|name| self.schema_name.eq_ignore_ascii_case(name));
        if self.options.is_empty() || self.kind != ValueKind::Text || is_by_id {
            return None;
        }
        let render_type = self.render_type.to_ascii_lowercase();
        if render_type.contains("multi") || self.data_type.to_ascii_lowercase().contains("multi") {
            return Some(Choice::Many);
        }
        match render_type.as_str() {
            "dropdown" | "searchabledropdown" | "radiobutton" => Some(Choice::One),
            "checkbox" => Some(Choice::Many),
            _ => None,
        }
    }
}

/// The attributes of an account's leads, at the time of `fetched`.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// The attributes, in LeadSquared's order.
    pub fields: Vec<Field>,
    /// The attributes whose descriptions cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// When the metadata was read.
    pub fetched: Timestamp,
    /// The indices of the attributes by name.
    by_name: HashMap<String, usize>,
    /// The indices of the attributes by lower-case name. `None` if several names differ only in case.
    by_folded_name: HashMap<String, Option<usize>>,
    /// The columns of a read without a mask. Made once and shared.
    all_columns: OnceLock<Arc<[String]>>,
    /// Simplified names of the attributes, for suggestions, with the schema name of each.
    simplified_names: OnceLock<Vec<(String, String)>>,
}

impl Catalog {
    /// Returns a catalog of these attributes.
    pub fn new(fields: impl Into<Listed<Field>>, fetched: Timestamp) -> Self {
        let Listed {
            records: fields,
            unreadable,
            ..
        } = fields.into();
        let mut by_name = HashMap::new();
        let mut by_folded_name: HashMap<String, Option<usize>> = HashMap::new();
        for (i, field) in fields.iter().enumerate() {
            // An attribute that is listed twice is one attribute.
            let is_new = by_name.insert(field.schema_name.clone(), i).is_none();
            by_folded_name
                .entry(fold(&field.schema_name))
                .and_modify(|known| *known = (!is_new).then_some(i).filter(|_| known.is_some()))
                .or_insert(Some(i));
        }
        Self {
            fields,
            unreadable,
            fetched,
            by_name,
            by_folded_name,
            all_columns: OnceLock::new(),
            simplified_names: OnceLock::new(),
        }
    }

    /// Returns the columns of a read without a mask, and makes them on the first call.
    pub(super) fn all_columns(&self, make: impl FnOnce() -> Vec<String>) -> Arc<[String]> {
        self.all_columns.get_or_init(|| make().into()).clone()
    }

    /// Finds an attribute by its schema name. The case is ignored if the name is unambiguous: whether LeadSquared
    /// distinguishes names by case is not known.
    pub fn get(&self, schema_name: &str) -> Option<&Field> {
        let exact = self.by_name.get(schema_name);
        let i = exact.or_else(|| self.by_folded_name.get(&fold(schema_name))?.as_ref())?;
        self.fields.get(*i)
    }

    /// Suggests an attribute for an unknown name, if exactly one is similar: `mx_City` for `City` or `city`, `EmailAddress`
    /// for `Email Address`.
    pub fn suggest(&self, name: &str) -> Option<&str> {
        let names = self.simplified_names.get_or_init(|| {
            let fields = self.fields.iter();
            let shown =
                fields.flat_map(|field| [&field.schema_name, &field.display_name].map(|name| (name.as_str(), field)));
            let own = STANDARD
                .iter()
                .filter_map(|own| Some((own.name, self.get(own.schema_name)?)));
            let names = shown.chain(own);
            names
                .map(|(name, field)| (simplify(name), field.schema_name.clone()))
                .collect()
        });
        let simplified = simplify(name);
        let only_match = |simplified: &str| {
            let mut matches = names
                .iter()
                .filter(|(name, _)| name == simplified)
                .map(|(_, matched)| matched);
            let first = matches.next()?;
            matches.all(|other| other == first).then_some(first.as_str())
        };
        let known: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        only_match(&simplified).or_else(|| only_match(nearest::of(&simplified, &known, 1).first()?))
    }

    /// Whether the account is known not to have the attribute. An attribute may exist if a record of the metadata cannot be
    /// read.
    pub fn lacks(&self, schema_name: &str) -> bool {
        let may_be = self.unreadable.iter().any(|one| one.id.is_none());
        self.get(schema_name).is_none() && self.unreadable_id(schema_name).is_none() && !may_be
    }

    /// Returns the name of an attribute that exists, but whose description cannot be read.
    pub fn unreadable_id(&self, schema_name: &str) -> Option<&str> {
        let mut ids = self.unreadable.iter().filter_map(|one| one.id.as_deref());
        ids.find(|id| id.eq_ignore_ascii_case(schema_name))
    }

    /// Returns the names of all attributes, for a read that must name its columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let unreadable = self.unreadable.iter().filter_map(|one| one.id.as_deref());
        let names = self.fields.iter().map(|field| field.schema_name.as_str());
        names.chain(unreadable)
    }
}

/// Whether the attribute cannot be written because LeadSquared computes it.
pub fn is_read_only(schema_name: &str) -> bool {
    READ_ONLY.iter().any(|name| name.eq_ignore_ascii_case(schema_name))
}

/// Whether LeadSquared sets the attribute. Reads return such attributes apart from those that can be written.
pub fn is_computed(schema_name: &str) -> bool {
    is_read_only(schema_name) || TRACKED.iter().any(|name| name.eq_ignore_ascii_case(schema_name))
}

/// Whether every account has the attribute. The metadata may leave it out.
pub fn is_system(schema_name: &str) -> bool {
    let is_it = |name: &&str| name.eq_ignore_ascii_case(schema_name);
    let standard = STANDARD.iter().map(|standard| standard.schema_name);
    let parts = PARTS.iter().map(|(_, name)| *name);
    let system = standard
        .filter(|name| !name.starts_with("mx_"))
        .chain(parts)
        .chain(SYSTEM);
    is_read_only(schema_name) || system.into_iter().any(|name| is_it(&name))
}

/// Simplifies a name for suggestions: without prefix, case, spaces and underscores.
fn simplify(name: &str) -> String {
    let name = fold(name);
    let name = name.strip_prefix("mx_").unwrap_or(&name);
    name.chars().filter(|c| c.is_alphanumeric()).collect()
}

fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(schema_name: &str, display_name: &str) -> Field {
        Field {
            schema_name: schema_name.into(),
            display_name: display_name.into(),
            data_type: "Text".into(),
            render_type: "Textbox".into(),
            kind: ValueKind::Text,
            mandatory: false,
            max_length: None,
            options: vec![],
        }
    }

    #[test]
    fn a_similar_attribute_is_suggested_if_it_is_unambiguous() {
        let fields = vec![
            field("EmailAddress", "Email"),
            field("mx_City", "City"),
            field("mx_Customer_Id", "Customer Number"),
            field("mx_Loan_Amount", "Amount"),
            field("mx_Loan_Amount_2", "Amount"),
        ];
        let catalog = Catalog::new(fields, Timestamp::UNIX_EPOCH);
        for (name, expected) in [
            ("City", Some("mx_City")),
            ("city", Some("mx_City")),
            ("mx_C7y8", None),
            ("mx_Cit7y", Some("mx_City")),
            ("email_address", Some("EmailAddress")),
            ("Email", Some("EmailAddress")),
            ("CustomerNumber", Some("mx_Customer_Id")),
            ("mx_Customer_ID_", Some("mx_Customer_Id")),
            ("Amount", None),
            ("Shoe_Size", None),
            ("", None),
        ] {
            assert_eq!(catalog.suggest(name), expected, "{name}");
        }
    }

    #[test]
    fn case_is_ignored_unless_names_differ_only_in_case() {
        let fields = ["mx_City", "mx_Pan", "mx_PAN", "mx_Zip", "mx_Zip"].map(|name| field(name, name));
        let catalog = Catalog::new(Vec::from(fields), Timestamp::UNIX_EPOCH);
        let found = |name: &str| catalog.get(name).map(|field| field.schema_name.as_str());
        assert_eq!((found("mx_city"), found("MX_ZIP")), (Some("mx_City"), Some("mx_Zip")));
        assert_eq!(
            (found("mx_Pan"), found("mx_PAN"), found("mx_pan")),
            (Some("mx_Pan"), Some("mx_PAN"), None)
        );
    }

    #[test]
    fn system_attributes_are_known_without_metadata() {
        for name in [
            "EmailAddress",
            "Score",
            "Fax",
            "ProspectID",
            "CreatedOn",
            "MXCProspectId",
        ] {
            assert!(is_system(name), "{name}");
        }
        for name in ["City", "mx_City", "Nonsense", ""] {
            assert!(!is_system(name), "{name}");
        }
    }

    #[test]
    fn render_types_determine_lines_and_allowed_values() {
        let of = |name: &str, data_type: &str, render_type: &str| Field {
            data_type: data_type.into(),
            render_type: render_type.into(),
            options: vec!["A".into()],
            ..field(name, name)
        };
        for (render_type, one_line, choice) in [
            ("Textbox", true, None),
            ("TextArea", false, None),
            ("", false, None),
            ("Dropdown", true, Some(Choice::One)),
            ("SearchableDropdown", true, Some(Choice::One)),
            ("RadioButton", true, Some(Choice::One)),
            ("CheckBox", true, Some(Choice::Many)),
            ("MultiSelect", false, Some(Choice::Many)),
            ("Something new", false, None),
            ("DropdownWithOthers", true, None),
        ] {
            let field = of("mx_X", "Select", render_type);
            assert_eq!(
                (field.has_one_line(), field.choice()),
                (one_line, choice),
                "{render_type}"
            );
        }
        assert!(!of("Notes", "Text", "Textbox").has_one_line());
        let of_boolean = Field {
            kind: ValueKind::Flag,
            ..of("mx_X", "Boolean", "CheckBox")
        };
        assert_eq!(of_boolean.choice(), None);
        assert_eq!(of("OwnerId", "Select", "Dropdown").choice(), None);
        assert!(of("mx_X", "Time", "Time").is_time_of_day() && of("mx_X", "Date", "Time").is_time_of_day());
        assert!(!of("mx_X", "Date", "Date").is_time_of_day());
    }
}
