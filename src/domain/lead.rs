//! A lead, and what can be asked of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::field::Catalog;
use super::value::{Value, ValueKind, is_absent};
use super::{phone, time};
use crate::error::Violation;

/// Calls the given macro with every attribute that has a field of its own in the public contract: the field's name there
/// and the vendor's name of it. The one list of them.
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
            $(Standard { name: stringify!($text), schema_name: $text_schema, kind: ValueKind::Text },)*
            $(Standard { name: stringify!($flag), schema_name: $flag_schema, kind: ValueKind::Flag },)*
        ]
    };
}

/// Every attribute that has a field of its own in the public contract.
pub const STANDARD: &[Standard] = standard_fields!(as_table);

/// The lead's own id: the attribute's spelling.
pub const LEAD_ID: &str = "ProspectID";
/// The lead's own id: the spelling that LeadSquared wants in `SearchBy`.
pub const SEARCH_BY_LEAD_ID: &str = "ProspectId";
/// The email address.
pub const EMAIL: &str = "EmailAddress";
/// The lead number.
pub const LEAD_NUMBER: &str = "ProspectAutoId";

/// More digits than a count of leads has.
const MAX_NUMBER_LENGTH: usize = 20;

/// An attribute with a field of its own.
#[derive(Clone, Copy, Debug)]
pub struct Standard {
    /// The field's name.
    pub name: &'static str,
    /// The vendor's name.
    pub schema_name: &'static str,
    /// How its values are typed.
    pub kind: ValueKind,
}

/// The attributes of a lead that are to be written, in the caller's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(String, Value)>);

/// A write of one lead.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// What to do.
    pub action: Action,
    /// The attributes to set.
    pub attributes: Attributes,
    /// The attributes to clear, by schema name.
    pub cleared: Vec<String>,
    /// What was found wrong when the message was read.
    pub faults: Vec<Violation>,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates a lead.
    Create,
    /// Updates a lead.
    Update {
        /// Which one.
        lead_id: String,
        /// Whether automations that listen to updates are started.
        run_automations: bool,
    },
    /// Updates the lead that matches, or creates one.
    Upsert {
        /// The attribute to match by; `None`: by email, then by phone.
        match_by: Option<String>,
        /// Whether automations that listen to updates are started.
        run_automations: bool,
    },
    /// Captures a lead as a web form does.
    Capture {
        /// The attribute to match by; `None`: by tracking id, then by email, then by phone.
        match_by: Option<String>,
        /// What may be done to a lead that is there.
        behavior: Behavior,
    },
}

/// What a capture may do to a lead that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// Update it.
    Update,
    /// Leave it as it is.
    DoNotUpdate,
    /// Fill what is empty.
    UpdateOnlyEmptyFields,
    /// Update all but what is unique.
    DoNotUpdateUniqueFields,
}

/// What a write did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The lead.
    pub lead_id: String,
    /// The vendor's count.
    pub affected_rows: i32,
    /// Whether the lead is new, where that is known.
    pub created: Option<bool>,
}

/// What a lead may be looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Its id.
    Id(String),
    /// Its lead number.
    Number(String),
    /// Its email address.
    Email(String),
    /// Its phone or mobile number.
    Phone(String),
}

/// A lead as LeadSquared tells it: attributes as text, `None` for those without a value.
pub type Row = BTreeMap<String, Option<String>>;

/// A lead as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lead {
    /// Its id.
    pub id: String,
    /// Its lead number.
    pub number: String,
    /// The owner's name.
    pub owner_name: String,
    /// The owner's email address.
    pub owner_email_address: String,
    /// Its score.
    pub score: Option<f64>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it was last changed.
    pub updated: Option<Timestamp>,
    /// All other attributes that have a value.
    pub attributes: BTreeMap<String, Value>,
}

impl Attributes {
    /// The attributes with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value to be set, if it is not empty.
    pub fn text(&self, schema_name: &str) -> Option<String> {
        let (_, value) = self.iter().find(|(name, _)| *name == schema_name)?;
        Some(value.to_text()).filter(|text| !text.trim().is_empty())
    }

    /// Whether there is a value for it that is not empty, in whatever case its name is written.
    fn has_text(&self, schema_name: &str) -> bool {
        self.iter()
            .any(|(name, value)| name.eq_ignore_ascii_case(schema_name) && !value.to_text().trim().is_empty())
    }

    /// Whether the lead has the value that is to be set.
    pub fn is_held_by(&self, schema_name: &str, row: &Row) -> bool {
        let value = self
            .iter()
            .find(|(name, _)| *name == schema_name)
            .map(|(_, value)| value);
        let read = row.get(schema_name).and_then(Option::as_deref);
        matches!((value, read), (Some(value), Some(read)) if value.reads_back_as(read) == Some(true))
    }

    /// Whether nothing is to be set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same without one attribute.
    pub fn without(&self, schema_name: &str) -> Self {
        self.0.iter().filter(|(name, _)| name != schema_name).cloned().collect()
    }
}

impl FromIterator<(String, Value)> for Attributes {
    fn from_iter<T: IntoIterator<Item = (String, Value)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Write {
    /// The faults of the write that are known without knowledge of the account.
    pub fn check(&self) -> Vec<Violation> {
        let has = |name: &str| self.attributes.text(name).is_some();
        let mut violations = self.faults.clone();
        match &self.action {
            Action::Create => {
                if !["FirstName", "LastName", "EmailAddress", "Phone"].into_iter().any(has) {
                    let text = "needs at least one of first_name, last_name, email_address and phone";
                    violations.push(Violation::new("lead", text));
                }
                if has(LEAD_ID) {
                    let text = "the id of a new lead is chosen by LeadSquared";
                    violations.push(Violation::new(path(LEAD_ID), text));
                }
            }
            Action::Update { lead_id, .. } => {
                violations.extend(check_id("lead_id", lead_id));
                if self.attributes.is_empty() && self.cleared.is_empty() {
                    violations.push(Violation::new("lead", "has nothing to set or to clear"));
                }
                if has(LEAD_ID) {
                    violations.push(Violation::new(path(LEAD_ID), "is given as lead_id"));
                }
            }
            Action::Upsert { match_by, .. } | Action::Capture { match_by, .. } => {
                if self.attributes.is_empty() {
                    violations.push(Violation::new("lead", "has nothing to set"));
                } else if match_by.is_none()
                    && !["FirstName", "LastName", "EmailAddress", "Phone", "Mobile", LEAD_ID]
                        .into_iter()
                        .any(has)
                {
                    let text =
                        "needs at least one of first_name, last_name, email_address, phone and mobile, or match_by";
                    violations.push(Violation::new("lead", text));
                }
                if let Some(match_by) = match_by {
                    let attribute = matched_attribute(match_by);
                    if !super::check::is_name(attribute) {
                        violations.push(Violation::new("match_by", "is not an attribute"));
                    } else if !self.attributes.has_text(attribute) {
                        let text = format!("the lead has no value of {attribute} to match by");
                        violations.push(Violation::new("match_by", text));
                    }
                }
            }
        }
        // A lead that is there would lose the value.
        if self.action != Action::Create {
            let empty = self
                .attributes
                .iter()
                .filter(|(_, value)| **value == Value::Text(String::new()));
            violations.extend(empty.map(|(name, _)| Violation::new(path(name), self.empty())));
        }
        for (i, name) in self.cleared.iter().enumerate() {
            if self.attributes.iter().any(|(set, _)| set.eq_ignore_ascii_case(name)) {
                let text = format!("{name} is to be set and to be cleared");
                violations.push(Violation::new(format!("clear_fields[{i}]"), text));
            }
        }
        violations
    }

    /// The same write of the lead that was found by that attribute, and of no other one.
    pub fn matched_to(&self, attribute: &str, lead_id: &str, stored: &str) -> Option<Self> {
        let mut matched = self.matched_by(SEARCH_BY_LEAD_ID)?;
        if matches!(matched.action, Action::Capture { .. }) {
            // With id, email address and phone LeadSquared goes by rules of its own, so the stored spelling has to do.
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

    /// What is wrong with an empty text.
    fn empty(&self) -> &'static str {
        match self.action {
            Action::Update { .. } => {
                "is empty: leave it out to leave the attribute alone, or name it in clear_fields to clear it"
            }
            _ => "is empty: leave it out to leave the attribute alone; UpdateLead can clear it",
        }
    }

    /// The same write, matched by that attribute; `None` where it says itself what it is matched by, or is not matched.
    pub fn matched_by(&self, attribute: &str) -> Option<Self> {
        let mut matched = self.clone();
        // A tracking id goes before all else.
        let has_id = self.attributes.text(LEAD_ID).is_some();
        match &mut matched.action {
            Action::Upsert { match_by, .. } | Action::Capture { match_by, .. } if match_by.is_none() && !has_id => {
                *match_by = Some(attribute.to_owned());
                Some(matched)
            }
            _ => None,
        }
    }

    /// Puts the names of attributes into the spelling of the account's metadata: whether case matters to LeadSquared is not
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
            // The lead's id has a spelling of its own there.
            Action::Upsert {
                match_by: Some(name), ..
            }
            | Action::Capture {
                match_by: Some(name), ..
            } if name != SEARCH_BY_LEAD_ID => {
                known(name);
            }
            _ => {}
        }
    }

    /// The violations that LeadSquared found, with the places where the caller named the attributes: LeadSquared does not
    /// tell whether an attribute was set or cleared.
    pub fn locate(&self, violations: &mut [Violation]) {
        for violation in violations {
            let is_it = |name: &str| violation.field == path(name);
            let at = self.cleared.iter().position(|name| is_it(name));
            if let Some(i) = at.filter(|_| !self.attributes.iter().any(|(name, _)| is_it(name))) {
                violation.field = format!("clear_fields[{i}]");
            }
        }
    }

    /// Whether the write starts automations, so that doing it twice shows even where it changes nothing.
    pub fn runs_automations(&self) -> bool {
        match self.action {
            Action::Create | Action::Capture { .. } => true,
            Action::Update { run_automations, .. } | Action::Upsert { run_automations, .. } => run_automations,
        }
    }

    /// What the lead that this write is about can be looked up by, the surest first.
    pub fn lookup_keys(&self) -> Vec<Key> {
        let value = |name: &str| self.attributes.text(name);
        let by = |name: &str| match name {
            LEAD_ID => value(LEAD_ID).map(Key::Id),
            "EmailAddress" => value("EmailAddress").map(Key::Email),
            "Phone" | "Mobile" => value(name)
                .filter(|number| phone::violation(number).is_none())
                .map(Key::Phone),
            _ => None,
        };
        match &self.action {
            Action::Update { lead_id, .. } => vec![Key::Id(lead_id.clone())],
            Action::Upsert {
                match_by: Some(name), ..
            }
            | Action::Capture {
                match_by: Some(name), ..
            } if by(matched_attribute(name)).is_some() => by(matched_attribute(name)).into_iter().collect(),
            // A lead that has the written address is the one that was written, whatever it was matched by.
            Action::Create | Action::Upsert { .. } | Action::Capture { .. } => {
                ["EmailAddress", "Phone"].into_iter().filter_map(by).collect()
            }
        }
    }

    /// What this write is about, in one form each: writes that have one of them in common may not overtake each other.
    pub fn order_keys(&self) -> Vec<String> {
        let matched = match &self.action {
            Action::Upsert { match_by, .. } | Action::Capture { match_by, .. } => {
                match_by.as_deref().map(matched_attribute)
            }
            Action::Create | Action::Update { .. } => None,
        };
        let is_other = |name: &&str| !["EmailAddress", "Phone", "Mobile", LEAD_ID].contains(name);
        let matched = matched.filter(is_other);
        let matched = matched.and_then(|name| Some(order_key(name, self.attributes.text(name)?.trim())));
        let lead = match &self.action {
            Action::Update { lead_id, .. } => Some(lead_id.clone()),
            _ => self.attributes.text(LEAD_ID),
        };
        let lead = lead.map(|id| order_key("lead", id.trim()));
        contacts(|name| self.attributes.text(name))
            .chain(lead)
            .chain(matched)
            .collect()
    }

    /// Whether the lead has the values that this write sets: `None` where not one of them can be compared.
    pub fn is_seen_in(&self, row: &Row) -> Option<bool> {
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

/// The order keys of the email address and the phone numbers of a lead.
pub fn contacts_of(row: &Row) -> impl Iterator<Item = String> {
    contacts(|name| row.get(name).cloned().flatten())
}

fn contacts(text: impl Fn(&str) -> Option<String>) -> impl Iterator<Item = String> {
    ["EmailAddress", "Phone", "Mobile"].into_iter().filter_map(move |name| {
        let text = text(name)?;
        let (kind, value) = match name {
            "EmailAddress" => ("email", text.trim().to_owned()),
            _ => ("phone", super::phone::subscriber(&text)),
        };
        (!value.is_empty()).then(|| order_key(kind, &value))
    })
}

/// What writes are kept in order by: what it is, and its value in one form.
pub fn order_key(kind: &str, value: &str) -> String {
    format!("{kind}:{}", value.to_ascii_lowercase())
}

impl Key {
    /// The same in one form for all who mean the same.
    pub fn folded(&self) -> Self {
        match self {
            Self::Id(id) => Self::Id(id.to_ascii_lowercase()),
            Self::Email(email) => Self::Email(email.to_ascii_lowercase()),
            Self::Number(_) | Self::Phone(_) => self.clone(),
        }
    }

    /// The attribute that it is a value of; a phone may also be a mobile.
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
    /// Types a row by the account's metadata; without it, by the standard attributes alone.
    pub fn from_row(mut row: Row, catalog: Option<&Catalog>) -> Self {
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
        for (name, text) in row {
            let kind = kind_of(&name, catalog);
            if let Some(value) = text.and_then(|text| Value::from_text(kind, text)) {
                lead.attributes.insert(name, value);
            }
        }
        lead
    }
}

/// Whether a text can be a lead's id. Documented are GUIDs; stricter than this only LeadSquared can be.
pub fn check_id(field: &str, id: &str) -> Option<Violation> {
    let good = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !good {
        return Some(Violation::new(field, "must be a lead's id"));
    }
    is_nil(id).then(|| Violation::new(field, "is the nil UUID, the zero value of some languages"))
}

/// Whether a text can be a lead number: LeadSquared counts its leads.
pub fn check_number(field: &str, number: &str) -> Option<Violation> {
    let good = (1..=MAX_NUMBER_LENGTH).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    (!good).then(|| Violation::new(field, format!("must be 1 to {MAX_NUMBER_LENGTH} digits")))
}

/// Whether an id is the nil UUID.
pub(super) fn is_nil(id: &str) -> bool {
    id.len() >= 32 && id.bytes().all(|byte| matches!(byte, b'0' | b'-'))
}

/// The schema name meant by a schema name or a name of a field.
pub fn schema_name(name: &str) -> &str {
    STANDARD
        .iter()
        .find(|standard| standard.name == name)
        .map_or(name, |standard| standard.schema_name)
}

/// The field that the attribute has, if it has one.
pub fn standard(schema_name: &str) -> Option<&'static Standard> {
    STANDARD.iter().find(|standard| standard.schema_name == schema_name)
}

/// Where in a request the attribute stands: `lead.first_name` or `lead.custom["mx_KYC"]`.
pub fn path(schema_name: &str) -> String {
    match standard(schema_name) {
        Some(standard) => format!("lead.{}", standard.name),
        None => format!("lead.custom[\"{schema_name}\"]"),
    }
}

/// The attribute that a `SearchBy` looks at: the two spellings of the lead's id differ.
fn matched_attribute(match_by: &str) -> &str {
    if match_by == SEARCH_BY_LEAD_ID {
        LEAD_ID
    } else {
        match_by
    }
}

fn kind_of(name: &str, catalog: Option<&Catalog>) -> ValueKind {
    match (standard(name), catalog.and_then(|catalog| catalog.get(name))) {
        (Some(standard), _) => standard.kind,
        (None, Some(field)) => field.kind,
        (None, None) => ValueKind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(action: Action, pairs: &[(&str, &str)]) -> Write {
        Write {
            action,
            attributes: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::Text((*value).to_owned())))
                .collect(),
            cleared: vec![],
            faults: vec![],
        }
    }

    fn upsert(match_by: &str) -> Action {
        Action::Upsert {
            match_by: Some(match_by.to_owned()),
            run_automations: false,
        }
    }

    fn row(pairs: &[(&str, Option<&str>)]) -> Row {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn a_create_needs_something_to_know_the_lead_by() {
        assert_eq!(write(Action::Create, &[("mx_City", "Pune")]).check().len(), 1);
        assert_eq!(write(Action::Create, &[("LastName", " ")]).check().len(), 1);
        assert!(write(Action::Create, &[("LastName", "Smith")]).check().is_empty());
    }

    #[test]
    fn an_upsert_needs_the_value_that_it_matches_by() {
        let pairs = [("EmailAddress", "a@b.co"), ("ProspectID", "x")];
        assert!(write(upsert("EmailAddress"), &pairs).check().is_empty());
        assert!(write(upsert("ProspectId"), &pairs).check().is_empty());
        assert_eq!(write(upsert("Phone"), &pairs).check()[0].field, "match_by");
    }

    #[test]
    fn setting_and_clearing_the_same_attribute_is_a_fault() {
        let mut write = write(
            Action::Update {
                lead_id: "x".into(),
                run_automations: false,
            },
            &[("mx_City", "Pune")],
        );
        write.cleared = vec!["Phone".into(), "mx_City".into()];
        assert_eq!(write.check()[0].field, "clear_fields[1]");
    }

    #[test]
    fn a_write_is_looked_up_by_what_it_matches_by() {
        let number = "98450 98450";
        let pairs = [("Phone", number), ("EmailAddress", "a@b.co"), ("mx_Pan", "P")];
        assert_eq!(
            write(Action::Create, &pairs).lookup_keys(),
            [Key::Email("a@b.co".into()), Key::Phone(number.into())]
        );
        assert_eq!(
            write(upsert("Phone"), &pairs).lookup_keys(),
            [Key::Phone(number.into())]
        );
        for number in ["N/A", "9.19845E+11", "212-555-0100 x12"] {
            assert!(
                write(Action::Create, &[("Phone", number)]).lookup_keys().is_empty(),
                "{number}"
            );
        }
        for text in ["N/A", "9.19845E+11", "abc"] {
            assert!(
                write(Action::Create, &[("Phone", text), ("Mobile", text)])
                    .order_keys()
                    .is_empty(),
                "{text}"
            );
        }
        assert_eq!(
            write(upsert("mx_Pan"), &pairs).lookup_keys(),
            write(Action::Create, &pairs).lookup_keys()
        );
    }

    #[test]
    fn a_write_is_seen_where_all_that_can_be_compared_is_equal() {
        let write = write(Action::Create, &[("FirstName", "Asha"), ("Phone", "9845098450")]);
        let seen = row(&[("FirstName", Some("Asha")), ("Phone", Some("+91-9845098450"))]);
        let other = row(&[("FirstName", Some("Asha")), ("Phone", None)]);
        assert_eq!(write.is_seen_in(&seen), Some(true));
        assert_eq!(write.is_seen_in(&other), Some(false));
        assert_eq!(write.is_seen_in(&row(&[("Company", None)])), None);
    }

    #[test]
    fn a_row_keeps_what_has_no_field_of_its_own() {
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

    #[test]
    fn names_of_fields_and_of_the_vendor_mean_the_same() {
        assert_eq!(schema_name("city"), "mx_City");
        assert_eq!(schema_name("mx_City"), "mx_City");
        assert_eq!(path("ProspectStage"), "lead.stage");
        assert_eq!(path("mx_KYC"), "lead.custom[\"mx_KYC\"]");
    }
}
