//! Leads, and requests to write them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::attribute::is_name;
pub use super::attribute::{
    EMAIL, LEAD_ID, LEAD_NUMBER, RawFields, SEARCH_BY_LEAD_ID, STANDARD, StandardField, attribute_at, field_name, path,
    resolve, schema_name, shown_attribute, standard,
};
use super::field::Catalog;
use super::value::{Value, ValueKind, is_absent};
use super::{phone, time};
use crate::error::Violation;

/// Maximum number of digits of a lead number. LeadSquared numbers leads from 1 on.
const MAX_NUMBER_LENGTH: usize = 20;

/// The attributes that a write sets, in the order of the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(String, Value)>);

/// A request to write one lead.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteRequest {
    /// The operation.
    pub action: WriteAction,
    /// The attributes to set.
    pub attributes: Attributes,
    /// The attributes to clear, by schema name.
    pub cleared: Vec<String>,
    /// The violations that were found when the message was converted.
    pub violations: Vec<Violation>,
}

/// The operation of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteAction {
    /// Creates a lead.
    Create,
    /// Updates a lead.
    Update {
        /// The id of the lead.
        lead_id: String,
        /// Whether LeadSquared starts the automations for lead updates.
        run_automations: bool,
    },
    /// Updates the lead that matches, or creates a lead.
    Upsert {
        /// The attribute to match by. `None`: by email address, then by phone number.
        match_by: Option<String>,
        /// Whether LeadSquared starts the automations for lead updates.
        run_automations: bool,
    },
    /// Captures a lead like a web form.
    Capture {
        /// The attribute to match by. `None`: by tracking id, then by email address, then by phone number.
        match_by: Option<String>,
        /// What to do with an existing lead.
        behavior: CaptureBehavior,
    },
}

/// What a capture does with an existing lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureBehavior {
    /// The lead is updated.
    Update,
    /// The lead is not changed.
    DoNotUpdate,
    /// Only attributes that are empty are set.
    UpdateOnlyEmptyFields,
    /// All attributes except the unique ones are updated.
    DoNotUpdateUniqueFields,
}

/// The result of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteResult {
    /// The id of the lead.
    pub lead_id: String,
    /// The number of affected rows that LeadSquared returns.
    pub affected_rows: i32,
    /// Whether a lead was created, if it is known.
    pub created: Option<bool>,
}

/// A key to look up a lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeadKey {
    /// The id.
    Id(String),
    /// The lead number.
    Number(String),
    /// The email address.
    Email(String),
    /// The phone or mobile number.
    Phone(String),
}

/// A lead that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lead {
    /// The id.
    pub id: String,
    /// The lead number.
    pub number: String,
    /// The name of the owner.
    pub owner_name: String,
    /// The email address of the owner.
    pub owner_email_address: String,
    /// The score.
    pub score: Option<f64>,
    /// When the lead was created.
    pub created: Option<Timestamp>,
    /// When the lead was last changed.
    pub updated: Option<Timestamp>,
    /// All other attributes that have a value.
    pub attributes: BTreeMap<String, Value>,
}

impl Attributes {
    /// Returns the attributes with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Returns the value of an attribute as text. `None` if it is empty.
    pub fn text(&self, schema_name: &str) -> Option<String> {
        let (_, value) = self.iter().find(|(name, _)| *name == schema_name)?;
        Some(value.to_text()).filter(|text| !text.trim().is_empty())
    }

    /// Whether the attribute has a value that is not empty. The case of the name is ignored.
    fn has_text(&self, schema_name: &str) -> bool {
        self.iter()
            .any(|(name, value)| name.eq_ignore_ascii_case(schema_name) && !value.to_text().trim().is_empty())
    }

    /// Whether a lead already has the value of the attribute.
    pub fn is_held_by(&self, schema_name: &str, row: &RawFields) -> bool {
        let value = self
            .iter()
            .find(|(name, _)| *name == schema_name)
            .map(|(_, value)| value);
        let read = row.get(schema_name).and_then(Option::as_deref);
        matches!((value, read), (Some(value), Some(read)) if value.reads_back_as(read) == Some(true))
    }

    /// Whether no attribute is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a copy without one attribute.
    pub fn without(&self, schema_name: &str) -> Self {
        self.0.iter().filter(|(name, _)| name != schema_name).cloned().collect()
    }
}

impl FromIterator<(String, Value)> for Attributes {
    fn from_iter<T: IntoIterator<Item = (String, Value)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl WriteRequest {
    /// Returns the schema names of the attributes that are set or cleared.
    pub fn field_names(&self) -> Vec<String> {
        let set = self.attributes.iter().map(|(name, _)| name.to_owned());
        set.chain(self.cleared.iter().cloned()).collect()
    }

    /// Returns the violations that are found without the account's metadata.
    pub fn check(&self) -> Vec<Violation> {
        let has = |name: &str| self.attributes.text(name).is_some();
        let mut violations = self.violations.clone();
        match &self.action {
            WriteAction::Create => {
                if !["FirstName", "LastName", "EmailAddress", "Phone"].into_iter().any(has) {
                    let text = "must have at least one of first_name, last_name, email_address and phone";
                    violations.push(Violation::new("lead", text));
                }
                if has(LEAD_ID) {
                    let text = "must not be set: LeadSquared chooses the id of a new lead";
                    violations.push(Violation::new(path(LEAD_ID), text));
                }
            }
            WriteAction::Update { lead_id, .. } => {
                violations.extend(check_id("lead_id", lead_id));
                if self.attributes.is_empty() && self.cleared.is_empty() {
                    violations.push(Violation::new("lead", "must set or clear at least one attribute"));
                }
                if has(LEAD_ID) {
                    violations.push(Violation::new(
                        path(LEAD_ID),
                        "must not be set: the id of the lead is in lead_id",
                    ));
                }
            }
            WriteAction::Upsert { match_by, .. } | WriteAction::Capture { match_by, .. } => {
                if self.attributes.is_empty() {
                    violations.push(Violation::new("lead", "must set at least one attribute"));
                } else if match_by.is_none()
                    && !["FirstName", "LastName", "EmailAddress", "Phone", "Mobile", LEAD_ID]
                        .into_iter()
                        .any(has)
                {
                    let text =
                        "must have at least one of first_name, last_name, email_address, phone and mobile, or match_by";
                    violations.push(Violation::new("lead", text));
                }
                if let Some(match_by) = match_by {
                    let attribute = matched_attribute(match_by);
                    if !is_name(attribute) {
                        violations.push(Violation::new("match_by", "is not the name of an attribute"));
                    } else if !self.attributes.has_text(attribute) {
                        let text = format!("requires a value of {attribute} in lead");
                        violations.push(Violation::new("match_by", text));
                    }
                }
            }
        }
        // An empty value would remove the value of an existing lead.
        if self.action != WriteAction::Create {
            let empty = self
                .attributes
                .iter()
                .filter(|(_, value)| **value == Value::Text(String::new()));
            violations.extend(empty.map(|(name, _)| Violation::new(path(name), self.empty())));
        }
        for (i, name) in self.cleared.iter().enumerate() {
            if self.attributes.iter().any(|(set, _)| set.eq_ignore_ascii_case(name)) {
                let text = format!("conflict: {name} is both set and cleared");
                violations.push(Violation::new(format!("clear_fields[{i}]"), text));
            }
        }
        violations
    }

    /// Returns a copy that matches only the lead that was found by `attribute`. `stored` is the value of that lead.
    pub fn matched_to(&self, attribute: &str, lead_id: &str, stored: &str) -> Option<Self> {
        let mut matched = self.matched_by(SEARCH_BY_LEAD_ID)?;
        if matches!(matched.action, WriteAction::Capture { .. }) {
            // With id, email address and phone number, LeadSquared has its own rules, so the stored spelling of the value
            // is used.
            matched = self.matched_by(attribute)?;
            let stored = (attribute.to_owned(), Value::Text(stored.to_owned()));
            let others = self.attributes.0.iter().filter(|(name, _)| name != attribute).cloned();
            matched.attributes = others.chain([stored]).collect();
            return Some(matched);
        }
        matched
            .attributes
            .0
            .push((LEAD_ID.to_owned(), Value::Text(lead_id.to_owned())));
        Some(matched)
    }

    /// Returns the text of the violation for an empty value.
    fn empty(&self) -> &'static str {
        match self.action {
            WriteAction::Update { .. } => {
                "must not be empty: leave it out to keep the value, or use clear_fields to clear it"
            }
            _ => "must not be empty: leave it out to keep the value; UpdateLead can clear it",
        }
    }

    /// Returns a copy that matches by an attribute. `None` if the write has a `match_by`, or matches no lead.
    pub fn matched_by(&self, attribute: &str) -> Option<Self> {
        let mut matched = self.clone();
        // A tracking id has precedence.
        let has_id = self.attributes.text(LEAD_ID).is_some();
        match &mut matched.action {
            WriteAction::Upsert { match_by, .. } | WriteAction::Capture { match_by, .. }
                if match_by.is_none() && !has_id =>
            {
                *match_by = Some(attribute.to_owned());
                Some(matched)
            }
            _ => None,
        }
    }

    /// Spells the names of attributes as in the account's metadata. Whether LeadSquared distinguishes names by case is not
    /// known.
    pub fn spell(&mut self, catalog: &Catalog) {
        let known = |name: &mut String| {
            if let Some(field) = catalog.get(name).filter(|field| field.schema_name != *name) {
                name.clone_from(&field.schema_name);
            }
        };
        self.attributes.0.iter_mut().for_each(|(name, _)| known(name));
        self.cleared.iter_mut().for_each(known);
        match &mut self.action {
            // The id of the lead has another spelling in `SearchBy`.
            WriteAction::Upsert {
                match_by: Some(name), ..
            }
            | WriteAction::Capture {
                match_by: Some(name), ..
            } if name != SEARCH_BY_LEAD_ID => {
                known(name);
            }
            _ => {}
        }
    }

    /// Sets the paths of violations that LeadSquared reported. LeadSquared does not return whether an attribute was set or
    /// cleared.
    pub fn locate(&self, violations: &mut [Violation]) {
        for violation in violations {
            let is_it = |name: &str| violation.field == path(name);
            let at = self.cleared.iter().position(|name| is_it(name));
            if let Some(i) = at.filter(|_| !self.attributes.iter().any(|(name, _)| is_it(name))) {
                violation.field = format!("clear_fields[{i}]");
            }
        }
    }

    /// Whether the write starts automations. If so, executing it twice has an effect even if it changes nothing.
    pub fn runs_automations(&self) -> bool {
        match self.action {
            WriteAction::Create | WriteAction::Capture { .. } => true,
            WriteAction::Update { run_automations, .. } | WriteAction::Upsert { run_automations, .. } => {
                run_automations
            }
        }
    }

    /// Returns the keys to look up the lead of this write, the most reliable first.
    pub fn lookup_keys(&self) -> Vec<LeadKey> {
        let value = |name: &str| self.attributes.text(name);
        let by = |name: &str| match name {
            LEAD_ID => value(LEAD_ID).map(LeadKey::Id),
            "EmailAddress" => value("EmailAddress").map(LeadKey::Email),
            "Phone" | "Mobile" => value(name)
                .filter(|number| phone::violation(number).is_none())
                .map(LeadKey::Phone),
            _ => None,
        };
        match &self.action {
            WriteAction::Update { lead_id, .. } => vec![LeadKey::Id(lead_id.clone())],
            WriteAction::Upsert {
                match_by: Some(name), ..
            }
            | WriteAction::Capture {
                match_by: Some(name), ..
            } if by(matched_attribute(name)).is_some() => by(matched_attribute(name)).into_iter().collect(),
            // A lead with the written email address is the lead of this write, no matter which attribute matched.
            WriteAction::Create | WriteAction::Upsert { .. } | WriteAction::Capture { .. } => {
                ["EmailAddress", "Phone"].into_iter().filter_map(by).collect()
            }
        }
    }

    /// Returns the attributes by which the lead of an upsert or capture is found, with their paths in the request.
    pub fn matched_attributes(&self) -> Vec<(&str, String)> {
        let (WriteAction::Upsert { match_by, .. } | WriteAction::Capture { match_by, .. }) = &self.action else {
            return vec![];
        };
        let given = match_by.as_deref().map(matched_attribute);
        let is_set = |name: &&str| self.attributes.has_text(name);
        // LeadSquared ignores the given attribute if a capture has all of these.
        let is_ignored =
            matches!(self.action, WriteAction::Capture { .. }) && [LEAD_ID, "EmailAddress", "Phone"].iter().all(is_set);
        let mut found: Vec<_> = given.map(|name| (name, "match_by".to_owned())).into_iter().collect();
        if given.is_none() || is_ignored {
            let contacts = ["EmailAddress", "Phone", "Mobile"].into_iter().filter(is_set);
            found.extend(contacts.map(|name| (name, path(name))));
        }
        found
    }

    /// Returns the keys of this write, normalized. Writes with a common key are executed in order.
    pub fn order_keys(&self) -> Vec<String> {
        let matched = match &self.action {
            WriteAction::Upsert { match_by, .. } | WriteAction::Capture { match_by, .. } => {
                match_by.as_deref().map(matched_attribute)
            }
            WriteAction::Create | WriteAction::Update { .. } => None,
        };
        let is_other = |name: &&str| !["EmailAddress", "Phone", "Mobile", LEAD_ID].contains(name);
        let matched = matched.filter(is_other);
        let matched = matched.and_then(|name| Some(order_key(name, self.attributes.text(name)?.trim())));
        let lead = match &self.action {
            WriteAction::Update { lead_id, .. } => Some(lead_id.clone()),
            _ => self.attributes.text(LEAD_ID),
        };
        let lead = lead.map(|id| order_key("lead", id.trim()));
        contacts(|name| self.attributes.text(name))
            .chain(lead)
            .chain(matched)
            .collect()
    }

    /// Whether a lead has the values that this write sets. `None` if no value can be compared.
    pub fn is_seen_in(&self, row: &RawFields) -> Option<bool> {
        let set = self.attributes.iter().filter_map(|(name, value)| {
            let read = row.get(name)?.as_deref().unwrap_or_default();
            value.reads_back_as(read)
        });
        let cleared = self.cleared.iter().filter_map(|name| {
            let read = row.get(name)?.as_deref().unwrap_or_default();
            Some(is_absent(read))
        });
        set.chain(cleared).reduce(|all, one| all && one)
    }
}

/// Returns the order keys of the email address and the phone numbers of a lead.
pub fn contacts_of(row: &RawFields) -> impl Iterator<Item = String> {
    contacts(|name| row.get(name).cloned().flatten())
}

fn contacts(text: impl Fn(&str) -> Option<String>) -> impl Iterator<Item = String> {
    ["EmailAddress", "Phone", "Mobile"].into_iter().flat_map(move |name| {
        let text = text(name).unwrap_or_default();
        let (kind, mut values) = match name {
            "EmailAddress" => ("email", vec![text.trim().to_owned()]),
            _ => ("phone", super::phone::keys(&text)),
        };
        values.retain(|value| !value.is_empty());
        values.into_iter().map(move |value| order_key(kind, &value))
    })
}

/// Returns the key that keeps writes in order: a kind, and a normalized value.
pub fn order_key(kind: &str, value: &str) -> String {
    format!("{kind}:{}", value.to_ascii_lowercase())
}

impl LeadKey {
    /// Normalizes the key.
    pub fn folded(&self) -> Self {
        match self {
            Self::Id(id) => Self::Id(id.to_ascii_lowercase()),
            Self::Email(email) => Self::Email(email.to_ascii_lowercase()),
            Self::Number(_) | Self::Phone(_) => self.clone(),
        }
    }

    /// Returns the attribute of the key. `None` for a phone number, which may be in two attributes.
    pub fn attribute(&self) -> Option<&'static str> {
        match self {
            Self::Id(_) => Some(LEAD_ID),
            Self::Number(_) => Some(LEAD_NUMBER),
            Self::Email(_) => Some("EmailAddress"),
            Self::Phone(_) => None,
        }
    }
}

impl Lead {
    /// Converts the fields of a lead by the types in the metadata. Without metadata, only standard attributes have types.
    pub fn from_row(mut row: RawFields, catalog: Option<&Catalog>) -> Self {
        let mut take = |name: &str| row.remove(name).flatten();
        let mut lead = Self {
            id: take(LEAD_ID).unwrap_or_default(),
            number: take(LEAD_NUMBER).unwrap_or_default(),
            owner_name: take("OwnerIdName").unwrap_or_default(),
            owner_email_address: take("OwnerIdEmailAddress").unwrap_or_default(),
            score: take("Score")
                .and_then(|text| text.trim().parse().ok())
                .filter(|score: &f64| score.is_finite()),
            created: take("CreatedOn").and_then(|text| time::read(&text)),
            updated: take("ModifiedOn").and_then(|text| time::read(&text)),
            attributes: BTreeMap::new(),
        };
        let attribute = |(name, text): (String, Option<String>)| {
            let text = text?;
            let value = Value::from_text(kind_of(&name, catalog), text)?;
            Some((name, value))
        };
        lead.attributes = row.into_iter().filter_map(attribute).collect();
        lead
    }
}

/// Checks an id. LeadSquared documents GUIDs, and may be stricter than this check.
pub fn check_id(field: &str, id: &str) -> Option<Violation> {
    let is_valid = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_valid {
        return Some(Violation::new(
            field,
            "must be an id: 1 to 64 letters, digits and hyphens",
        ));
    }
    is_nil(id).then(|| Violation::new(field, "must not be the nil UUID, the zero value of some languages"))
}

/// Checks a lead number.
pub fn check_number(field: &str, number: &str) -> Option<Violation> {
    let is_valid = (1..=MAX_NUMBER_LENGTH).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    (!is_valid).then(|| Violation::new(field, format!("must be 1 to {MAX_NUMBER_LENGTH} digits")))
}

/// Whether an id is the nil UUID.
pub(super) fn is_nil(id: &str) -> bool {
    id.len() >= 32 && id.bytes().all(|byte| matches!(byte, b'0' | b'-'))
}

/// Returns the schema name of a `SearchBy`. The id of the lead has two spellings.
fn matched_attribute(match_by: &str) -> &str {
    if match_by == SEARCH_BY_LEAD_ID {
        LEAD_ID
    } else {
        match_by
    }
}

fn kind_of(name: &str, catalog: Option<&Catalog>) -> ValueKind {
    match standard(name) {
        Some(standard) => standard.kind,
        None => catalog
            .and_then(|catalog| catalog.get(name))
            .map_or(ValueKind::Text, |field| field.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(action: WriteAction, pairs: &[(&str, &str)]) -> WriteRequest {
        WriteRequest {
            action,
            attributes: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::Text((*value).to_owned())))
                .collect(),
            cleared: vec![],
            violations: vec![],
        }
    }

    fn upsert(match_by: &str) -> WriteAction {
        WriteAction::Upsert {
            match_by: Some(match_by.to_owned()),
            run_automations: false,
        }
    }

    fn row(pairs: &[(&str, Option<&str>)]) -> RawFields {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn a_create_requires_a_name_an_email_address_or_a_phone() {
        assert_eq!(write(WriteAction::Create, &[("mx_City", "Pune")]).check().len(), 1);
        assert_eq!(write(WriteAction::Create, &[("LastName", " ")]).check().len(), 1);
        assert!(write(WriteAction::Create, &[("LastName", "Smith")]).check().is_empty());
    }

    #[test]
    fn an_upsert_requires_the_value_that_it_matches_by() {
        let pairs = [("EmailAddress", "a@b.co"), ("ProspectID", "x")];
        assert!(write(upsert("EmailAddress"), &pairs).check().is_empty());
        assert!(write(upsert("ProspectId"), &pairs).check().is_empty());
        assert_eq!(write(upsert("Phone"), &pairs).check()[0].field, "match_by");
    }

    #[test]
    fn the_lead_of_an_upsert_is_found_by_the_given_attribute_or_by_its_contacts() {
        let pairs = [("EmailAddress", "a@b.co"), ("Phone", "98450"), ("ProspectID", "x")];
        let names = |write: &WriteRequest| -> Vec<String> {
            let found = write.matched_attributes().into_iter();
            found.map(|(name, field)| format!("{name} {field}")).collect()
        };
        let by = |match_by: Option<&str>| match_by.map(str::to_owned);
        let upsert = |match_by| WriteAction::Upsert {
            match_by: by(match_by),
            run_automations: false,
        };
        let capture = |match_by| WriteAction::Capture {
            match_by: by(match_by),
            behavior: CaptureBehavior::Update,
        };
        let contacts = ["EmailAddress lead.email_address", "Phone lead.phone"];
        assert_eq!(names(&write(upsert(None), &pairs)), contacts);
        assert_eq!(names(&write(upsert(Some("mx_Pan")), &pairs)), ["mx_Pan match_by"]);
        assert_eq!(
            names(&write(upsert(Some("ProspectId")), &pairs)),
            ["ProspectID match_by"]
        );
        assert_eq!(names(&write(capture(Some("mx_Pan")), &pairs[..2])), ["mx_Pan match_by"]);
        // LeadSquared ignores the attribute.
        assert_eq!(
            names(&write(capture(Some("mx_Pan")), &pairs))[1..],
            contacts.map(str::to_owned)
        );
        assert!(names(&write(WriteAction::Create, &pairs)).is_empty());
    }

    #[test]
    fn setting_and_clearing_the_same_attribute_is_a_violation() {
        let mut write = write(
            WriteAction::Update {
                lead_id: "x".into(),
                run_automations: false,
            },
            &[("mx_City", "Pune")],
        );
        write.cleared = vec!["Phone".into(), "mx_City".into()];
        assert_eq!(write.check()[0].field, "clear_fields[1]");
    }

    #[test]
    fn a_write_is_looked_up_by_the_attribute_it_matches_by() {
        let number = "98450 98450";
        let pairs = [("Phone", number), ("EmailAddress", "a@b.co"), ("mx_Pan", "P")];
        assert_eq!(
            write(WriteAction::Create, &pairs).lookup_keys(),
            [LeadKey::Email("a@b.co".into()), LeadKey::Phone(number.into())]
        );
        assert_eq!(
            write(upsert("Phone"), &pairs).lookup_keys(),
            [LeadKey::Phone(number.into())]
        );
        for number in ["N/A", "9.19845E+11", "212-555-0100 x12"] {
            assert!(
                write(WriteAction::Create, &[("Phone", number)])
                    .lookup_keys()
                    .is_empty(),
                "{number}"
            );
        }
        for text in ["N/A", "9.19845E+11", "abc"] {
            assert!(
                write(WriteAction::Create, &[("Phone", text), ("Mobile", text)])
                    .order_keys()
                    .is_empty(),
                "{text}"
            );
        }
        assert_eq!(
            write(upsert("mx_Pan"), &pairs).lookup_keys(),
            write(WriteAction::Create, &pairs).lookup_keys()
        );
    }

    #[test]
    fn a_write_is_seen_if_all_comparable_values_are_equal() {
        let write = write(WriteAction::Create, &[("FirstName", "Asha"), ("Phone", "9845098450")]);
        let seen = row(&[("FirstName", Some("Asha")), ("Phone", Some("+91-9845098450"))]);
        let other = row(&[("FirstName", Some("Asha")), ("Phone", None)]);
        assert_eq!(write.is_seen_in(&seen), Some(true));
        assert_eq!(write.is_seen_in(&other), Some(false));
        assert_eq!(write.is_seen_in(&row(&[("Company", None)])), None);
    }

    #[test]
    fn a_lead_keeps_attributes_without_a_standard_field() {
        let lead = Lead::from_row(
            row(&[
                ("ProspectID", Some("id")),
                ("Score", Some("-10")),
                ("CreatedOn", Some("2017-11-30 07:38:00.000")),
                ("DoNotEmail", Some("0")),
                ("EngagementScore", Some("7")),
                ("Mobile", None),
            ]),
            None,
        );
        assert_eq!(lead.id, "id");
        assert_eq!(lead.score, Some(-10.0));
        assert_eq!(lead.created, Some("2017-11-30T07:38:00Z".parse().unwrap()));
        assert_eq!(
            lead.attributes,
            BTreeMap::from([
                ("DoNotEmail".to_owned(), Value::Flag(false)),
                ("EngagementScore".to_owned(), Value::Text("7".to_owned())),
            ])
        );
    }
}
