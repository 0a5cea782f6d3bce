//! What attributes the leads of an account have.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use super::lead::STANDARD;
use super::listed::{Listed, Unreadable};
use super::mask::PARTS;
use super::nearest;
use super::value::ValueKind;

/// Attributes that LeadSquared computes. The metadata does not mark them; source: the attributes which the vendor's
/// read samples have and no write sample.
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

/// Attributes that LeadSquared fills in itself when it tracks where a lead comes from. Whether a write may set them is not
/// documented, so LeadSquared decides; what was read is not written back.
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

/// Attributes that every account has, beside those with a field in the public contract, those that are computed and the
/// parts of a lead. Source: the attributes in the vendor's read samples. The metadata may leave some of them out.
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

/// The attributes that are written by an id while people choose a text, so that their options say nothing about values.
const BY_ID: [&str; 3] = ["LeadType", "OwnerId", "TimeZone"];

/// The documented render types of one line: all but `TextArea`.
const OF_ONE_LINE: [&str; 12] = [
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

/// The attributes whose texts have several lines by their nature, whatever the metadata says.
const OF_LINES: [&str; 3] = ["Notes", "mx_Street1", "mx_Street2"];

/// One attribute of the account's leads.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The vendor's name of it.
    pub schema_name: String,
    /// The name that people see.
    pub display_name: String,
    /// The vendor's data type: `Text`, `Email`, `Number`, ...
    pub data_type: String,
    /// The vendor's way of showing it: `Textbox`, `TextArea`, `Dropdown`, ...; empty where the metadata does not say.
    pub render_type: String,
    /// How its values are typed.
    pub kind: ValueKind,
    /// Whether the account marked it as mandatory.
    pub mandatory: bool,
    /// The most characters of a text.
    pub max_length: Option<usize>,
    /// The options of a dropdown.
    pub options: Vec<String>,
}

/// The values that a dropdown takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One of its options.
    One,
    /// Some of its options, separated by semicolons.
    Many,
}

impl Field {
    /// Whether it holds email addresses.
    pub fn is_email(&self) -> bool {
        self.data_type.eq_ignore_ascii_case("email")
    }

    /// Whether it holds phone numbers.
    pub fn is_phone(&self) -> bool {
        self.data_type.eq_ignore_ascii_case("phone")
    }

    /// Whether it holds times of the day without a date.
    pub fn is_time_of_day(&self) -> bool {
        let is_date = ["date", "datetime"]
            .iter()
            .any(|name| self.data_type.eq_ignore_ascii_case(name));
        self.data_type.eq_ignore_ascii_case("time") || (is_date && self.render_type.eq_ignore_ascii_case("time"))
    }

    /// Whether its texts have one line, as far as the metadata says.
    pub fn has_one_line(&self) -> bool {
        let is_one_of = |names: &[&str], text: &str| names.iter().any(|name| name.eq_ignore_ascii_case(text));
        is_one_of(&OF_ONE_LINE, &self.render_type) && !is_one_of(&OF_LINES, &self.schema_name)
    }

    /// Which of its options a value may name; `None` where other values are allowed too.
    pub fn choice(&self) -> Option<Choice> {
        let is_by_id = BY_ID.iter().any(|name| self.schema_name.eq_ignore_ascii_case(name));
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

/// All attributes of the account's leads, as of some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// The attributes, in the vendor's order.
    pub fields: Vec<Field>,
    /// The attributes that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// When LeadSquared was asked.
    pub fetched: Timestamp,
    /// By name as it is written.
    by_name: HashMap<String, usize>,
    /// By name in lower case; `None` where names differ in case alone.
    by_folded_name: HashMap<String, Option<usize>>,
    /// The columns of a read that wants everything: one list for all of them.
    wide: OnceLock<Arc<[String]>>,
    /// The names by which attributes are known, without what people leave out, and the schema name of each.
    bare_names: OnceLock<Vec<(String, String)>>,
}

impl Catalog {
    /// A catalog of these attributes.
    pub fn new(fields: impl Into<Listed<Field>>, fetched: Timestamp) -> Self {
        let Listed {
            records: fields,
            unreadable,
            ..
        } = fields.into();
        let mut by_name = HashMap::new();
        let mut by_folded_name: HashMap<String, Option<usize>> = HashMap::new();
        for (i, field) in fields.iter().enumerate() {
            // A name that comes twice is one attribute.
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
            wide: OnceLock::new(),
            bare_names: OnceLock::new(),
        }
    }

    /// The columns of a read that wants everything, made once.
    pub(super) fn wide_columns(&self, make: impl FnOnce() -> Vec<String>) -> Arc<[String]> {
        self.wide.get_or_init(|| make().into()).clone()
    }

    /// The attribute of that schema name, in whatever case it is written if only one can be meant: whether case matters to
    /// LeadSquared is not known.
    pub fn get(&self, schema_name: &str) -> Option<&Field> {
        let exact = self.by_name.get(schema_name);
        let i = exact.or_else(|| self.by_folded_name.get(&fold(schema_name))?.as_ref())?;
        self.fields.get(*i)
    }

    /// The one attribute that somebody may have meant who wrote a name that is none: `City` or `city` for `mx_City`, `Email
    /// Address` for `EmailAddress`.
    pub fn suggest(&self, name: &str) -> Option<&str> {
        let names = self.bare_names.get_or_init(|| {
            let fields = self.fields.iter();
            let shown =
                fields.flat_map(|field| [&field.schema_name, &field.display_name].map(|name| (name.as_str(), field)));
            let own = STANDARD
                .iter()
                .filter_map(|own| Some((own.name, self.get(own.schema_name)?)));
            let names = shown.chain(own);
            names
                .map(|(name, field)| (bare(name), field.schema_name.clone()))
                .collect()
        });
        let wanted = bare(name);
        let one = |wanted: &str| {
            let mut meant = names.iter().filter(|(name, _)| name == wanted).map(|(_, meant)| meant);
            let first = meant.next()?;
            meant.all(|other| other == first).then_some(first.as_str())
        };
        let known: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        one(&wanted).or_else(|| one(nearest::of(&wanted, &known, 1).first()?))
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
    READ_ONLY.iter().any(|name| name.eq_ignore_ascii_case(schema_name))
}

/// Whether LeadSquared itself gives the attribute its value, so that reads return it apart from those that can be written.
pub fn is_computed(schema_name: &str) -> bool {
    is_read_only(schema_name) || TRACKED.iter().any(|name| name.eq_ignore_ascii_case(schema_name))
}

/// Whether every account has the attribute, so that the metadata may leave it out.
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

/// A name without what people leave out or write otherwise: its prefix, case, spaces and underscores.
fn bare(name: &str) -> String {
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
    fn the_attribute_that_was_meant_is_suggested_if_there_is_only_one() {
        let fields = vec![
            field("EmailAddress", "Email"),
            field("mx_City", "City"),
            field("mx_Customer_Id", "Customer Number"),
            field("mx_Loan_Amount", "Amount"),
            field("mx_Loan_Amount_2", "Amount"),
        ];
        let catalog = Catalog::new(fields, Timestamp::UNIX_EPOCH);
        for (name, meant) in [
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
            assert_eq!(catalog.suggest(name), meant, "{name}");
        }
    }

    #[test]
    fn case_matters_only_between_names_that_differ_in_it_alone() {
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
    fn render_types_tell_how_many_lines_and_which_values_there_are() {
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
