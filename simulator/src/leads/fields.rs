//! The fields of a lead: the standard ones, the tenant's own, and which of them nobody can
//! write. Does not know any lead.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::Options;

/// A lead field of the tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FieldSpec {
    /// The name in the API, as `mx_City`.
    pub schema_name: String,
    /// The name people see.
    pub display_name: String,
    /// `Text`, `Number`, `Email`, `Phone`, `Website`, `Date`, `DateTime`, `Time`, `Select`,
    /// `Boolean` or `CustomObject` (a custom field set).
    pub data_type: String,
    /// `RenderTypeTextValue`: `Textbox`, `Dropdown`, `DateTime`, ...
    pub render_type: String,
    /// The longest text; unset: not limited.
    pub max_length: Option<u32>,
    /// The values of a dropdown; of a custom field set, the names of its members.
    pub options: Vec<String>,
    /// Whether a create must have it.
    pub mandatory: bool,
}

/// What a field holds, as far as the simulator treats it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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

    fn longest(mut self, length: u32) -> Self {
        self.max_length = Some(length);
        self
    }

    fn options<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.options = options.map(String::from).into();
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.data_type.as_str() {
            "Number" => Kind::Number,
            "Email" => Kind::Email,
            "Phone" => Kind::Phone,
            "Boolean" => Kind::Boolean,
            "Date" | "DateTime" => Kind::Date,
            "CustomObject" => Kind::FieldSet,
            _ => Kind::Text,
        }
    }

    /// Whether the vendor computes it, so that it can be read but not written.
    pub(crate) fn is_computed(&self) -> bool {
        COMPUTED.contains(&self.schema_name.as_str())
    }

    /// Whether its options are the values of a dropdown.
    pub(crate) fn is_dropdown(&self) -> bool {
        self.kind() != Kind::FieldSet && !self.options.is_empty()
    }
}

/// The fields of a tenant, by name.
#[derive(Debug)]
pub(crate) struct Schema {
    fields: Vec<FieldSpec>,
    places: HashMap<String, usize>,
    any_case: bool,
}

impl Schema {
    pub(crate) fn new(options: &Options) -> Self {
        let any_case = !options.attribute_case_sensitive;
        let mut schema = Self {
            fields: Vec::new(),
            places: HashMap::new(),
            any_case,
        };
        for field in standard().into_iter().chain(options.fields.iter().cloned()) {
            let key = schema.key(&field.schema_name);
            // A field given again stands in for the standard one.
            match schema.places.get(&key) {
                Some(&place) => schema.fields[place] = field,
                None => {
                    schema.places.insert(key, schema.fields.len());
                    schema.fields.push(field);
                }
            }
        }
        schema
    }

    pub(crate) fn field(&self, name: &str) -> Option<&FieldSpec> {
        let place = *self.places.get(&self.key(name))?;
        self.fields.get(place)
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

/// Read but never written.
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

/// Fields of one kind: data type, render type, and for each its schema name and display name.
type Alike = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The standard fields.
const STANDARD: [Alike; 8] = [
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

/// The fields every tenant has. The lengths of the short ones are assumptions; 256 is the usual
/// cap of a text.
fn standard() -> Vec<FieldSpec> {
    let mut fields = Vec::new();
    for (data_type, render_type, names) in STANDARD {
        for (schema_name, display_name) in names {
            let field = FieldSpec::new(schema_name, display_name, data_type, render_type);
            fields.push(match *schema_name {
                "FirstName" | "LastName" | "JobTitle" | "Company" => field.longest(128),
                "Phone" | "Mobile" | "Fax" => field.longest(50),
                "Notes" | "SourceReferrerURL" | "ConversionReferrerURL" => field.longest(2_000),
                _ if matches!(data_type, "Text" | "Email" | "Website") => field.longest(256),
                _ => field,
            });
        }
    }
    fields
}

/// The custom fields of the default tenant: one of each kind.
pub(crate) fn default_custom_fields() -> Vec<FieldSpec> {
    let text = |name: &str, display: &str| FieldSpec::new(name, display, "Text", "Textbox").longest(256);
    vec![
        text("mx_Street1", "Address 1"),
        text("mx_Street2", "Address 2"),
        text("mx_City", "City"),
        text("mx_State", "State"),
        text("mx_Country", "Country"),
        text("mx_Zip", "Zip").longest(20),
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
            .longest(256)
            .options(["Retail", "SME", "Corporate"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_computed_attribute_is_a_field() {
        let schema = Schema::new(&Options::default());
        for name in COMPUTED {
            assert!(schema.field(name).is_some_and(FieldSpec::is_computed), "{name}");
        }
    }

    #[test]
    fn names_are_exact_unless_chosen_otherwise() {
        let mut options = Options::default();
        assert!(Schema::new(&options).field("emailaddress").is_none());
        options.attribute_case_sensitive = false;
        let schema = Schema::new(&options);
        let found = schema.field("emailaddress").map(|field| field.schema_name.as_str());
        assert_eq!(found, Some("EmailAddress"));
    }

    #[test]
    fn a_tenant_can_restate_a_standard_field() {
        let mut options = Options::default();
        let before = Schema::new(&options).fields().len();
        options
            .fields
            .push(FieldSpec::new("FirstName", "Vorname", "Text", "Textbox").longest(5));
        let schema = Schema::new(&options);
        assert_eq!(schema.fields().len(), before);
        assert_eq!(schema.field("FirstName").map(|field| field.max_length), Some(Some(5)));
    }
}
