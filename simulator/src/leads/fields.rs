//! The lead fields: standard fields, custom fields, and computed fields, which are read-only.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::Options;

/// A lead field of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FieldSpec {
    /// The name in the API, such as `mx_City`.
    pub schema_name: String,
    /// The name in the user interface.
    pub display_name: String,
    /// `Text`, `Number`, `Email`, `Phone`, `Website`, `Date`, `DateTime`, `Time`, `Select`,
    /// `Boolean` or `CustomObject` (a custom field set).
    pub data_type: String,
    /// `RenderTypeTextValue`, such as `Textbox`, `Dropdown` or `DateTime`.
    pub render_type: String,
    /// Maximum number of characters of a text. Unset is unlimited.
    pub max_length: Option<u32>,
    /// The values of a dropdown, or the names of the members of a custom field set.
    pub options: Vec<String>,
    /// Whether a create must contain the field.
    pub mandatory: bool,
}

/// The kind of a field, as far as the simulator distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Text,
    Number,
    Email,
    Phone,
    Boolean,
    Date,
    FieldSet,
}

impl FieldSpec {
    fn new(schema_name: &str, display_name: &str, data_type: &str, render_type: &str) -> Self {
        Self {
            schema_name: schema_name.into(),
            display_name: display_name.into(),
            data_type: data_type.into(),
            render_type: render_type.into(),
            ..Self::default()
        }
    }

    fn with_max_length(mut self, length: u32) -> Self {
        self.max_length = Some(length);
        self
    }

    fn options<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.options = options.map(String::from).into();
        self
    }

    pub(crate) fn kind(&self) -> FieldKind {
        match self.data_type.as_str() {
            "Number" => FieldKind::Number,
            "Email" => FieldKind::Email,
            "Phone" => FieldKind::Phone,
            "Boolean" => FieldKind::Boolean,
            "Date" | "DateTime" => FieldKind::Date,
            "CustomObject" => FieldKind::FieldSet,
            _ => FieldKind::Text,
        }
    }

    /// Whether LeadSquared computes the field, so that it is read-only.
    pub(crate) fn is_computed(&self) -> bool {
        COMPUTED.contains(&self.schema_name.as_str())
    }

    /// Whether the field is a dropdown.
    pub(crate) fn is_dropdown(&self) -> bool {
        self.kind() != FieldKind::FieldSet && !self.options.is_empty()
    }
}

/// The lead fields of the account by name.
#[derive(Debug)]
pub(crate) struct Schema {
    fields: Vec<FieldSpec>,
    positions: HashMap<String, usize>,
    any_case: bool,
}

impl Schema {
    pub(crate) fn new(options: &Options) -> Self {
        let any_case = !options.attribute_case_sensitive;
        let mut schema = Self {
            fields: Vec::new(),
            positions: HashMap::new(),
            any_case,
        };
        for field in standard_fields().into_iter().chain(options.fields.iter().cloned()) {
            let key = schema.key(&field.schema_name);
            // A custom field replaces the standard field of the same name.
            match schema.positions.get(&key) {
                Some(&position) => schema.fields[position] = field,
                None => {
                    schema.positions.insert(key, schema.fields.len());
                    schema.fields.push(field);
                }
            }
        }
        schema
    }

    pub(crate) fn field(&self, name: &str) -> Option<&FieldSpec> {
        let position = *self.positions.get(&self.key(name))?;
        self.fields.get(position)
    }

    pub(crate) fn fields(&self) -> &[FieldSpec] {
        &self.fields
    }

    fn key(&self, name: &str) -> String {
        if self.any_case {
            name.to_ascii_lowercase()
        } else {
            name.into()
        }
    }
}

/// The computed fields, which are read-only.
const COMPUTED: [&str; 40] = [
    "ProspectID",
    "ProspectAutoId",
    "Score",
    "EngagementScore",
    "TotalVisits",
    "PageViewsPerVisit",
    "AvgTimePerVisit",
    "RelatedProspectId",
    "ProspectActivityId_Min",
    "ProspectActivityId_Max",
    "ProspectActivityDate_Min",
    "ProspectActivityDate_Max",
    "ProspectActivityName_Max",
    "Web_Referrer",
    "Web_RefKeyword",
    "ConversionReferrerURL",
    "RelatedLandingPageId",
    "FirstLandingPageSubmissionId",
    "FirstLandingPageSubmissionDate",
    "OwnerIdName",
    "OwnerIdEmailAddress",
    "CreatedBy",
    "CreatedByName",
    "CreatedOn",
    "ModifiedBy",
    "ModifiedByName",
    "ModifiedOn",
    "LeadLastModifiedOn",
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
    "SourceIPAddress",
];

/// Fields with the same type: the data type, the render type, and the schema name and display name of each field.
type FieldGroup = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The standard fields.
const STANDARD: [FieldGroup; 8] = [
    (
        "Text",
        "Textbox",
        &[
            ("ProspectID", "Lead Id"),
            ("ProspectAutoId", "Lead Number"),
            ("FirstName", "First Name"),
            ("LastName", "Last Name"),
        ],
    ),
    ("Email", "Email", &[("EmailAddress", "Email")]),
    (
        "Phone",
        "Phone",
        &[("Phone", "Phone Number"), ("Mobile", "Mobile Number"), ("Fax", "Fax")],
    ),
    ("Website", "URL", &[("Website", "Website")]),
    (
        "Text",
        "Textbox",
        &[
            ("Company", "Company"),
            ("JobTitle", "Job Title"),
            ("TimeZone", "Time Zone"),
            ("Source", "Lead Source"),
            ("SourceMedium", "Source Medium"),
            ("SourceCampaign", "Source Campaign"),
            ("SourceContent", "Source Content"),
            ("SourceReferrer", "Source Referrer"),
            ("SourceReferrerURL", "Source Referrer URL"),
            ("SourceIPAddress", "Source IP Address"),
            ("Origin", "Lead Origin"),
            ("Notes", "Notes"),
            ("ProspectStage", "Lead Stage"),
            ("Grade", "Lead Grade"),
            ("Region", "Region"),
            ("RelatedProspectId", "Related Lead"),
            ("MXCProspectId", "Tracking Id"),
            ("ProspectActivityId_Min", "First Activity Id"),
            ("ProspectActivityId_Max", "Last Activity Id"),
            ("ProspectActivityName_Max", "Last Activity"),
            ("Web_Referrer", "Web Referrer"),
            ("Web_RefKeyword", "Web Referrer Keyword"),
            ("ConversionReferrerURL", "Conversion Referrer URL"),
            ("RelatedLandingPageId", "Related Landing Page"),
            ("FirstLandingPageSubmissionId", "First Landing Page Submission"),
            ("OwnerId", "Owner"),
            ("OwnerIdName", "Owner Name"),
            ("OwnerIdEmailAddress", "Owner Email"),
            ("CreatedBy", "Created By Id"),
            ("CreatedByName", "Created By"),
            ("ModifiedBy", "Modified By Id"),
            ("ModifiedByName", "Modified By"),
            ("NotableEvent", "Notable Event"),
            ("StatusReason", "Status Reason"),
            ("LeadType", "Lead Type"),
        ],
    ),
    (
        "Number",
        "Textbox",
        &[
            ("Score", "Lead Score"),
            ("EngagementScore", "Engagement Score"),
            ("Revenue", "Revenue"),
            ("TotalVisits", "Total Visits"),
            ("PageViewsPerVisit", "Page Views Per Visit"),
            ("AvgTimePerVisit", "Average Time Per Visit"),
            ("StatusCode", "Status Code"),
            ("DeletionStatusCode", "Deletion Status Code"),
            ("Latitude", "Latitude"),
            ("Longitude", "Longitude"),
        ],
    ),
    (
        "Boolean",
        "CheckBox",
        &[
            ("DoNotEmail", "Do Not Email"),
            ("DoNotCall", "Do Not Call"),
            ("DoNotSMS", "Do Not SMS"),
            ("DoNotTrack", "Do Not Track"),
            ("IsLead", "Is Lead"),
            ("IsStarredLead", "Starred"),
            ("IsTaggedLead", "Tagged"),
            ("CanUpdate", "Can Update"),
        ],
    ),
    (
        "Date",
        "DateTime",
        &[
            ("ProspectActivityDate_Min", "First Activity Date"),
            ("ProspectActivityDate_Max", "Last Activity Date"),
            ("FirstLandingPageSubmissionDate", "First Landing Page Submission Date"),
            ("CreatedOn", "Created On"),
            ("ModifiedOn", "Modified On"),
            ("LeadLastModifiedOn", "Last Modified On"),
            ("LeadConversionDate", "Lead Conversion Date"),
            ("LastVisitDate", "Last Visit Date"),
            ("NotableEventdate", "Notable Event Date"),
        ],
    ),
];

/// Returns the standard fields. The maximum length of a text is usually 256. Other lengths are assumptions.
fn standard_fields() -> Vec<FieldSpec> {
    let mut fields = Vec::new();
    for (data_type, render_type, names) in STANDARD {
        for (schema_name, display_name) in names {
            let field = FieldSpec::new(schema_name, display_name, data_type, render_type);
            fields.push(match *schema_name {
                "FirstName" | "LastName" | "JobTitle" | "Company" => field.with_max_length(128),
                "Phone" | "Mobile" | "Fax" => field.with_max_length(50),
                "Notes" | "SourceReferrerURL" | "ConversionReferrerURL" => field.with_max_length(2_000),
                _ if matches!(data_type, "Text" | "Email" | "Website") => field.with_max_length(256),
                _ => field,
            });
        }
    }
    fields
}

/// Returns the default custom fields, at least one of each kind.
pub(crate) fn default_custom_fields() -> Vec<FieldSpec> {
    let text = |name: &str, display: &str| FieldSpec::new(name, display, "Text", "Textbox").with_max_length(256);
    vec![
        text("mx_Street1", "Address 1"),
        text("mx_Street2", "Address 2"),
        text("mx_City", "City"),
        text("mx_State", "State"),
        text("mx_Country", "Country"),
        text("mx_Zip", "Zip").with_max_length(20),
        FieldSpec::new("mx_KYC", "KYC", "CustomObject", "CustomObject").options([
            "Status",
            "mx_CustomObject_1",
            "mx_CustomObject_2",
            "mx_CustomObject_3",
            "mx_CustomObject_4",
            "mx_CustomObject_5",
        ]),
        FieldSpec::new("mx_Loan_Amount", "Loan Amount", "Number", "Textbox"),
        FieldSpec::new("mx_Consent", "Consent", "Boolean", "CheckBox"),
        FieldSpec::new("mx_DOB", "Date of Birth", "Date", "Date"),
        FieldSpec::new("mx_Next_Call", "Next Call", "Date", "DateTime"),
        FieldSpec::new("mx_Segment", "Segment", "Select", "Dropdown")
            .with_max_length(256)
            .options(["Retail", "SME", "Corporate"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_computed_field_exists() {
        let schema = Schema::new(&Options::default());
        for name in COMPUTED {
            assert!(schema.field(name).is_some_and(FieldSpec::is_computed), "{name}");
        }
    }

    #[test]
    fn names_are_case_sensitive_unless_configured_otherwise() {
        let mut options = Options::default();
        assert!(Schema::new(&options).field("emailaddress").is_none());
        options.attribute_case_sensitive = false;
        let schema = Schema::new(&options);
        let found = schema.field("emailaddress").map(|field| field.schema_name.as_str());
        assert_eq!(found, Some("EmailAddress"));
    }

    #[test]
    fn a_custom_field_can_replace_a_standard_field() {
        let mut options = Options::default();
        let before = Schema::new(&options).fields().len();
        options
            .fields
            .push(FieldSpec::new("FirstName", "Vorname", "Text", "Textbox").with_max_length(5));
        let schema = Schema::new(&options);
        assert_eq!(schema.fields().len(), before);
        assert_eq!(schema.field("FirstName").map(|field| field.max_length), Some(Some(5)));
    }
}
