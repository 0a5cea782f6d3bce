//! The attributes of the account's leads, found by schema name, by the name in LeadFields, or by the label in LeadSquared.

use std::collections::HashMap;
use std::error::Error;

use leadgate::domain::attribute::PARTS;
use leadgate::domain::lead::{LEAD_ID, STANDARD, schema_name};
use leadgate::domain::value::ValueKind;
use leadgate::grpc::pb;
use pb::lead_service_client::LeadServiceClient;
use tonic::{Code, Status};

use crate::cli::client::{GatewayClient, explain, note};

/// The attributes of leads.
#[derive(Default)]
pub(super) struct AttributeCatalog {
    all: Vec<Attribute>,
    /// Indexes by schema name, and by name in LeadFields.
    names: HashMap<String, usize>,
    /// Indexes by label, and by name in lower case.
    labels: HashMap<String, Vec<usize>>,
    /// Indexes by all of these names in lower case and without spaces.
    loose: HashMap<String, Vec<usize>>,
    /// The number of attributes that the account returned. `None`: the list is not known, and any name may be an attribute.
    account_count: Option<usize>,
    /// Whether the account has more attributes, whose names cannot be read.
    is_incomplete: bool,
}

/// One attribute of leads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attribute {
    /// The vendor's name of the attribute.
    pub(super) schema_name: String,
    /// The label in LeadSquared; empty if it is not known.
    pub(super) label: String,
    /// The type of the values; `None` if it is not known.
    pub(super) kind: Option<ValueKind>,
    /// The kind of text of the values.
    pub(super) text: TextKind,
    /// Whether LeadSquared computes the values, so that they cannot be written.
    pub(super) is_computed: bool,
    /// Whether no two leads have the same value.
    pub(super) is_unique: bool,
}

/// The kind of text of the values of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    Line,
    Lines,
    Email,
    Phone,
}

/// The attributes that a name matches.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AttributeMatch {
    One(Attribute),
    None,
    /// Several attributes have this label.
    Several(Vec<String>),
}

impl AttributeCatalog {
    /// Requests the attributes from the gateway. If LeadSquared is unavailable, returns the attributes that every account has.
    pub(super) async fn request(gateway: &GatewayClient) -> Result<Self, String> {
        let request = gateway.request(pb::DescribeLeadFieldsRequest::default());
        let response = LeadServiceClient::new(gateway.channel())
            .max_decoding_message_size(usize::MAX)
            .describe_lead_fields(request)
            .await;
        match response {
            Ok(response) => Ok(Self::of_response(response.into_inner())),
            // Without a response of a gateway, nothing else succeeds.
            Err(status) if is_transient(&status) && status.source().is_none() => {
                let reason = explain(&status);
                note(&format!("Requesting the attributes of the account failed ({reason})."));
                Ok(Self::standard())
            }
            Err(status) => Err(explain(&status)),
        }
    }

    /// Returns the attributes of a response. An attribute whose description cannot be read is one of them.
    fn of_response(response: pb::DescribeLeadFieldsResponse) -> Self {
        let mut fields = response.fields;
        let (named, nameless): (Vec<_>, Vec<_>) = response.unreadable.into_iter().partition(|one| !one.id.is_empty());
        fields.extend(named.into_iter().map(|one| pb::LeadField {
            schema_name: one.id,
            ..Default::default()
        }));
        Self {
            is_incomplete: !nameless.is_empty(),
            ..Self::of_account(fields)
        }
    }

    /// Returns the attributes of the account, and those that every account has.
    pub(super) fn of_account(fields: Vec<pb::LeadField>) -> Self {
        let count = fields.len();
        let attributes = fields.into_iter().map(|field| Attribute {
            kind: kind(field.kind()),
            text: text(&field.schema_name, &field.data_type),
            is_computed: field.read_only || is_part(&field.schema_name),
            is_unique: field.unique,
            label: field.display_name,
            schema_name: field.schema_name,
        });
        let mut attributes = Self::of(attributes);
        attributes.account_count = Some(count);
        attributes
    }

    /// Returns the attributes that every account has.
    pub(super) fn standard() -> Self {
        Self::of(std::iter::empty())
    }

    fn of(account: impl Iterator<Item = Attribute>) -> Self {
        let mut attributes = Self::default();
        let standard = STANDARD
            .iter()
            .map(|field| Attribute::known(field.schema_name, Some(field.kind), false));
        let parts = PARTS
            .iter()
            .map(|(_, schema_name)| Attribute::known(schema_name, Some(ValueKind::Text), true));
        for attribute in account.chain(standard).chain(parts) {
            let at = attributes.all.len();
            let known = attributes.names.entry(attribute.schema_name.clone());
            if *known.or_insert(at) == at {
                attributes.all.push(attribute);
            }
        }
        let short = STANDARD.iter().map(|field| (field.name, field.schema_name));
        for (name, schema_name) in short.chain(PARTS) {
            let at = attributes.names[schema_name];
            attributes.names.entry(name.to_owned()).or_insert(at);
        }
        let labels = attributes.all.iter().enumerate();
        let labels = labels.map(|(at, attribute)| (attribute.label.trim().to_owned(), at));
        let labels: Vec<_> = labels.filter(|(label, _)| !label.is_empty()).collect();
        let names: Vec<_> = attributes.names.iter().map(|(name, at)| (name.clone(), *at)).collect();
        for (label, at) in &labels {
            add(&mut attributes.labels, label.clone(), *at);
        }
        for (name, at) in &names {
            add(&mut attributes.labels, fold(name), *at);
        }
        for (name, at) in labels.iter().chain(&names) {
            add(&mut attributes.loose, loose(name), *at);
        }
        attributes
    }

    /// Returns the attributes of the account, if they are known.
    pub(super) fn all(&self) -> Option<&[Attribute]> {
        self.account_count.and_then(|count| self.all.get(..count))
    }

    /// Returns the attribute of a name. If the attributes of the account are not known, any name is one.
    pub(super) fn find(&self, name: &str) -> AttributeMatch {
        let exact = self.names.get(name).map(std::slice::from_ref);
        let labels = [
            self.labels.get(name),
            self.labels.get(&fold(name)),
            self.loose.get(&loose(name)),
        ];
        let found = exact.or_else(|| labels.into_iter().flatten().next().map(Vec::as_slice));
        match found {
            Some([at]) => AttributeMatch::One(self.all[*at].clone()),
            Some(several) => {
                AttributeMatch::Several(several.iter().map(|at| self.all[*at].schema_name.clone()).collect())
            }
            None if self.account_count.is_some() && !self.is_incomplete => AttributeMatch::None,
            None => AttributeMatch::One(Attribute::known(schema_name(name), None, false)),
        }
    }

    /// Whether a text is the name of an attribute, without regard to case, and not only a label.
    pub(super) fn is_name(&self, name: &str) -> bool {
        self.names.contains_key(name) || self.names.keys().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Returns the attribute that has the name of another attribute as its label.
    pub(super) fn label_of_another(&self, name: &str) -> Option<&Attribute> {
        let own = self.names.get(name)?;
        let other = self.labels.get(name)?.iter().find(|at| *at != own)?;
        self.all.get(*other).filter(|other| other.label.trim() == name)
    }
}

impl Attribute {
    fn known(schema_name: &str, kind: Option<ValueKind>, is_computed: bool) -> Self {
        Self {
            text: text(schema_name, ""),
            schema_name: schema_name.to_owned(),
            label: String::new(),
            kind,
            is_computed,
            is_unique: matches!(schema_name, "EmailAddress" | "Phone"),
        }
    }

    /// Whether it is the id of the lead.
    pub(super) fn is_lead_id(&self) -> bool {
        self.schema_name == LEAD_ID
    }
}

/// Whether the error may disappear, and the request is valid.
fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Internal
    )
}

fn is_part(schema_name: &str) -> bool {
    PARTS.iter().any(|(_, part)| *part == schema_name)
}

fn kind(kind: pb::FieldKind) -> Option<ValueKind> {
    match kind {
        pb::FieldKind::Unspecified => None,
        pb::FieldKind::Text => Some(ValueKind::Text),
        pb::FieldKind::Number => Some(ValueKind::Number),
        pb::FieldKind::Flag => Some(ValueKind::Flag),
        pb::FieldKind::Time => Some(ValueKind::Time),
        pb::FieldKind::FieldSet => Some(ValueKind::FieldSet),
    }
}

fn text(schema_name: &str, data_type: &str) -> TextKind {
    let data_type = data_type.to_ascii_lowercase();
    match (schema_name, data_type.as_str()) {
        ("EmailAddress", _) | (_, "email") => TextKind::Email,
        ("Phone" | "Mobile", _) | (_, "phone") => TextKind::Phone,
        ("Notes", _) | (_, "textarea" | "multilinetext" | "longtext") => TextKind::Lines,
        _ => TextKind::Line,
    }
}

fn add(places: &mut HashMap<String, Vec<usize>>, name: String, at: usize) {
    let places = places.entry(name).or_default();
    if !places.contains(&at) {
        places.push(at);
        places.sort_unstable();
    }
}

fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn loose(name: &str) -> String {
    let kept = name.chars().filter(|character| !character.is_whitespace());
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(schema_name: &str, label: &str, kind: pb::FieldKind, read_only: bool) -> pb::LeadField {
        pb::LeadField {
            schema_name: schema_name.to_owned(),
            display_name: label.to_owned(),
            kind: kind.into(),
            read_only,
            ..Default::default()
        }
    }

    fn found(attributes: &AttributeCatalog, name: &str) -> Option<Attribute> {
        match attributes.find(name) {
            AttributeMatch::One(attribute) => Some(attribute),
            AttributeMatch::None => None,
            AttributeMatch::Several(names) => panic!("{name}: {names:?}"),
        }
    }

    #[test]
    fn an_attribute_is_found_by_either_name_in_any_case() {
        let attributes = AttributeCatalog::of_account(vec![field("mx_Amount", "Amount", pb::FieldKind::Number, false)]);
        let found = |name| found(&attributes, name);
        let schema_name = |name| found(name).map(|found| found.schema_name);
        for name in ["city", "mx_City", "MX_CITY"] {
            assert_eq!(schema_name(name).as_deref(), Some("mx_City"), "{name}");
        }
        assert_eq!(schema_name("mx_amount").as_deref(), Some("mx_Amount"));
        assert_eq!(found("mx_Amount").and_then(|found| found.kind), Some(ValueKind::Number));
        for name in ["lead_id", "ProspectID", "prospectid"] {
            assert!(found(name).is_some_and(|found| found.is_lead_id()), "{name}");
        }
        assert_eq!(schema_name("mx_Other"), None);
    }

    #[test]
    fn an_attribute_is_found_by_its_label() {
        let text = pb::FieldKind::Text;
        let attributes = AttributeCatalog::of_account(vec![
            field("EmailAddress", "Email", text, false),
            field("Phone", "Phone Number", text, false),
            field("CreatedBy", "Created By Id", text, true),
            field("CreatedByName", "Created By", text, true),
            field("mx_Plan", "Plan", text, false),
            field("mx_Other_Plan", "Plan", text, false),
            field("mx_Alt", "Phone", text, false),
            field("mx_Straße", "Größe der Straße", text, false),
        ]);
        for (name, schema_name) in [
            ("Email", "EmailAddress"),
            ("Email Address", "EmailAddress"),
            ("email address", "EmailAddress"),
            ("First Name", "FirstName"),
            ("phone number", "Phone"),
            ("Created By", "CreatedByName"),
            ("größe der straße", "mx_Straße"),
            ("mx_Plan", "mx_Plan"),
            // A schema name takes precedence over a label.
            ("Phone", "Phone"),
        ] {
            let found = found(&attributes, name).map(|found| found.schema_name);
            assert_eq!(found.as_deref(), Some(schema_name), "{name}");
        }
        let several = AttributeMatch::Several(vec!["mx_Plan".to_owned(), "mx_Other_Plan".to_owned()]);
        assert_eq!(
            (attributes.find("Plan"), attributes.find("plan")),
            (several.clone(), several)
        );
        let other = attributes
            .label_of_another("Phone")
            .map(|other| other.schema_name.as_str());
        assert_eq!(other, Some("mx_Alt"));
        assert_eq!(attributes.label_of_another("mx_Plan"), None);
        assert!(attributes.is_name("PHONE") && !attributes.is_name("Phone Number"));
    }

    #[test]
    fn a_computed_attribute_is_known_with_and_without_the_account() {
        let attributes = AttributeCatalog::of_account(vec![
            field("TotalVisits", "", pb::FieldKind::Number, true),
            field("Score", "", pb::FieldKind::Number, false),
        ]);
        for name in ["TotalVisits", "score", "lead_number", "CreatedOn"] {
            assert!(
                found(&attributes, name).is_some_and(|found| found.is_computed),
                "{name}"
            );
        }
        assert!(found(&attributes, "notes").is_some_and(|found| !found.is_computed));
    }

    #[test]
    fn without_the_account_any_name_is_an_attribute() {
        let attributes = AttributeCatalog::standard();
        let other = found(&attributes, "mx_Other").unwrap();
        assert_eq!((other.schema_name.as_str(), other.kind), ("mx_Other", None));
        assert_eq!(found(&attributes, "do_not_call").unwrap().kind, Some(ValueKind::Flag));
        assert_eq!(found(&attributes, "Email Address").unwrap().schema_name, "EmailAddress");
    }
}
