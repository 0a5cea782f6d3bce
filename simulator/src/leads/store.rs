//! The stored leads, their index, and the rules for writing a lead.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::DuplicateMessage;
use crate::http::response::{Exception, Failure, Result};
use crate::leads::draft::Draft;
use crate::leads::fields::FieldKind;
use crate::leads::lead::Lead;
use crate::leads::{phone, value};
use crate::random::Random;
use crate::state::Tenant;

/// Attributes by which leads are looked up, in addition to the unique attributes.
const LOOKUP_ATTRIBUTES: [&str; 3] = ["EmailAddress", "Phone", "Mobile"];

/// All leads of the account.
#[derive(Clone, Debug)]
pub(crate) struct Leads {
    leads: BTreeMap<u64, Lead>,
    numbers: HashMap<String, u64>,
    index: Index,
    last_number: u64,
    random: Random,
    /// Number of conflicts over unique attributes.
    pub(crate) duplicates: u64,
    /// Number of fired automations.
    pub(crate) automations: u64,
}

impl Leads {
    pub(crate) fn new(tenant: &Tenant) -> Self {
        let mut leads = Self {
            leads: BTreeMap::new(),
            numbers: HashMap::new(),
            index: HashMap::new(),
            last_number: 1_000,
            random: Random::new(tenant.options.seed),
            duplicates: 0,
            automations: 0,
        };
        leads.reindex(tenant);
        leads
    }

    /// Rebuilds the index after a change of the options.
    pub(crate) fn reindex(&mut self, tenant: &Tenant) {
        let unique = tenant.options.unique.iter().map(String::as_str);
        self.index = LOOKUP_ATTRIBUTES
            .into_iter()
            .chain(unique)
            .map(|name| (name.into(), HashMap::new()))
            .collect();
        for lead in self.leads.values() {
            add_to_index(&mut self.index, lead, tenant);
        }
    }

    /// Creates a lead from the draft, with `id` or with a random id. Fails if the id or a unique value already exists,
    /// or if a mandatory value is missing.
    pub(crate) fn create(&mut self, draft: &Draft, id: Option<String>, now: Timestamp, tenant: &Tenant) -> Result<u64> {
        let names_of_lead = ["FirstName", "LastName", "EmailAddress", "Phone"];
        if !names_of_lead.iter().any(|name| draft.value(name).is_some()) {
            let message = format!("At least one of {} is mandatory", names_of_lead.join(", "));
            return Err(Exception::missing(message));
        }
        let missing: Vec<_> = tenant.mandatory().filter(|name| draft.value(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(mandatory_missing(&missing, tenant));
        }
        self.check_unique(draft, None, tenant)?;
        if id.as_deref().is_some_and(|id| self.by_id(id).is_some()) {
            self.duplicates += 1;
            return Err(Exception::duplicate("A Lead with same ProspectID already exists."));
        }
        Ok(self.insert(id, now, tenant, |lead| lead.apply(draft, now, tenant)))
    }

    /// Inserts a lead without validation.
    pub(crate) fn insert(
        &mut self,
        id: Option<String>,
        now: Timestamp,
        tenant: &Tenant,
        set: impl FnOnce(&mut Lead),
    ) -> u64 {
        let id = id.unwrap_or_else(|| self.new_id());
        let number = self.last_number + 1;
        let mut lead = Lead::new(id, number, now);
        set(&mut lead);
        lead.set_defaults(tenant);
        self.add(lead, tenant);
        number
    }

    /// Adds a lead as it is. Later leads have higher numbers.
    pub(crate) fn add(&mut self, lead: Lead, tenant: &Tenant) {
        self.last_number = self.last_number.max(lead.number);
        add_to_index(&mut self.index, &lead, tenant);
        self.numbers.insert(lead.id.to_ascii_lowercase(), lead.number);
        self.leads.insert(lead.number, lead);
    }

    /// Returns a random id that no lead has. Without the check, the first lead after a start with leads would get the id
    /// that the first lead of the run had in which these leads were created.
    pub(crate) fn new_id(&mut self) -> String {
        loop {
            let id = self.random.guid();
            if self.by_id(&id).is_none() {
                return id;
            }
        }
    }

    /// Updates a lead with the draft.
    pub(crate) fn update(&mut self, number: u64, draft: &Draft, now: Timestamp, tenant: &Tenant) -> Result<()> {
        if !self.leads.contains_key(&number) {
            return Err(Exception::lead_not_found());
        }
        if let Some(name) = tenant.mandatory().find(|name| draft.clears(name)) {
            return Err(mandatory_missing(&[name], tenant));
        }
        self.check_unique(draft, Some(number), tenant)?;
        if let Some(lead) = self.leads.get_mut(&number) {
            remove_from_index(&mut self.index, lead, tenant);
            lead.apply(draft, now, tenant);
            add_to_index(&mut self.index, lead, tenant);
        }
        Ok(())
    }

    /// Removes and returns a lead.
    pub(crate) fn remove(&mut self, number: u64, tenant: &Tenant) -> Option<Lead> {
        let lead = self.leads.remove(&number)?;
        self.numbers.remove(&lead.id.to_ascii_lowercase());
        remove_from_index(&mut self.index, &lead, tenant);
        Some(lead)
    }

    /// Copies the values of a removed lead to the unset attributes of another one.
    pub(crate) fn merge(&mut self, number: u64, child: Lead, now: Timestamp, tenant: &Tenant) {
        if let Some(lead) = self.leads.get_mut(&number) {
            remove_from_index(&mut self.index, lead, tenant);
            for (name, value) in child.values {
                lead.values.entry(name).or_insert(value);
            }
            for (name, set) in child.sets {
                lead.sets.entry(name).or_insert(set);
            }
            lead.modified = now;
            add_to_index(&mut self.index, lead, tenant);
        }
    }

    /// Returns a random number that is not 0.
    pub(crate) fn nonzero_random(&mut self) -> u64 {
        self.random.next() | 1
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Lead> {
        self.leads.get(&number)
    }

    /// Returns the highest number of a lead so far.
    pub(crate) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Returns the id of a lead. Empty if the lead does not exist.
    pub(crate) fn id(&self, number: u64) -> &str {
        self.leads.get(&number).map_or("", |lead| &lead.id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lead> {
        self.leads.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.leads.len()
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<u64> {
        self.numbers.get(&id.to_ascii_lowercase()).copied()
    }

    /// Finds the lead with this stored value of an indexed attribute. If several leads match, returns the one that was
    /// modified last.
    pub(crate) fn by_value(&self, attribute: &str, value: &str, tenant: &Tenant) -> Option<u64> {
        self.by_key(attribute, &key(attribute, value, tenant))
    }

    /// Finds the lead with these digits as `Phone` or `Mobile`. If several leads match, returns the one that was
    /// modified last.
    pub(crate) fn by_phone(&self, digits: &str) -> Option<u64> {
        let found = ["Phone", "Mobile"]
            .into_iter()
            .filter_map(|name| self.by_key(name, digits));
        found.max_by_key(|number| self.leads.get(number).map(|lead| (lead.modified, lead.number)))
    }

    fn by_key(&self, attribute: &str, key: &str) -> Option<u64> {
        let holders = self.index.get(attribute)?.get(key)?.iter();
        holders
            .max_by_key(|number| self.leads.get(number).map(|lead| (lead.modified, lead.number)))
            .copied()
    }

    fn check_unique(&mut self, draft: &Draft, own: Option<u64>, tenant: &Tenant) -> Result<()> {
        for attribute in &tenant.options.unique {
            let Some(value) = draft.value(attribute).filter(|value| !value.is_empty()) else {
                continue;
            };
            let key = key(attribute, value, tenant);
            let holders = self.index.get(attribute).and_then(|keys| keys.get(&key));
            let taken = holders.is_some_and(|holders| {
                let resent = tenant.options.own_unique_resend_fails;
                holders.iter().any(|&holder| resent || Some(holder) != own)
            });
            if taken {
                self.duplicates += 1;
                return Err(duplicate(attribute, value, tenant));
            }
        }
        Ok(())
    }
}

fn mandatory_missing(names: &[&str], tenant: &Tenant) -> Failure {
    let message = format!("Mandatory field(s) missing - {}", names.join(","));
    match tenant.options.mandatory_is_attribute {
        true => Exception::missing_parameter(message),
        false => Exception::missing(message),
    }
}

/// Returns the error for a duplicate unique value, with the configured text.
pub(crate) fn duplicate(attribute: &str, value: &str, tenant: &Tenant) -> Failure {
    if tenant.options.duplicate_message == DuplicateMessage::Database {
        let message = format!("Duplicate entry '{value}' for key 'UQ_Prospect_Base_{attribute}'");
        return Exception::duplicate(message);
    }
    let display = tenant
        .schema
        .field(attribute)
        .map_or(attribute, |field| &field.display_name);
    Exception::duplicate(format!("A Lead with same {display} already exists."))
}

/// Returns the key of a value in the index. Values that are duplicates of each other have the same key.
pub(crate) fn key(attribute: &str, value: &str, tenant: &Tenant) -> String {
    match tenant.schema.field(attribute).map(|field| field.kind()) {
        Some(FieldKind::Email) if !tenant.options.email_case_sensitive => value.trim().to_lowercase(),
        Some(FieldKind::Phone) => phone::digits(value),
        _ => value.into(),
    }
}

/// Converts a lookup value to the stored form. A value that is invalid for the field is unchanged.
pub(crate) fn lookup(attribute: &str, value: &str, tenant: &Tenant) -> String {
    let field = tenant.schema.field(attribute);
    let stored = field.and_then(|field| value::to_stored(field, value, &tenant.options).ok());
    stored.unwrap_or_else(|| value.into())
}

/// Lead numbers by attribute and by the key of the value.
type Index = HashMap<String, HashMap<String, BTreeSet<u64>>>;

fn add_to_index(index: &mut Index, lead: &Lead, tenant: &Tenant) {
    for (attribute, keys) in index {
        if let Some(value) = lead.values.get(attribute).filter(|value| !value.is_empty()) {
            keys.entry(key(attribute, value, tenant))
                .or_default()
                .insert(lead.number);
        }
    }
}

fn remove_from_index(index: &mut Index, lead: &Lead, tenant: &Tenant) {
    for (attribute, keys) in index {
        let Some(value) = lead.values.get(attribute) else {
            continue;
        };
        let key = key(attribute, value, tenant);
        if let Some(holders) = keys.get_mut(&key) {
            holders.remove(&lead.number);
            if holders.is_empty() {
                keys.remove(&key);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crate::Options;

    pub(crate) struct TestTenant {
        pub(crate) tenant: Tenant,
        pub(crate) leads: Leads,
    }

    impl TestTenant {
        pub(crate) fn new(options: Options) -> Self {
            let tenant = Tenant::new(options);
            let leads = Leads::new(&tenant);
            Self { tenant, leads }
        }

        pub(crate) fn draft(&self, pairs: &[(&str, &str)]) -> Draft {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(attribute, value)| serde_json::json!({"Attribute": attribute, "Value": value}))
                .collect();
            let pairs: Vec<crate::leads::draft::Pair> = serde_json::from_value(pairs.into()).unwrap();
            Draft::read(&pairs, &self.tenant).unwrap()
        }

        pub(crate) fn create(&mut self, pairs: &[(&str, &str)]) -> Result<u64> {
            let draft = self.draft(pairs);
            self.leads.create(&draft, None, Timestamp::UNIX_EPOCH, &self.tenant)
        }

        pub(crate) fn update(&mut self, number: u64, pairs: &[(&str, &str)]) -> Result<()> {
            let draft = self.draft(pairs);
            self.leads.update(number, &draft, Timestamp::UNIX_EPOCH, &self.tenant)
        }
    }

    fn message(failure: Failure) -> String {
        match failure {
            Failure::Exception(exception) => exception.message,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn different_forms_of_a_phone_or_an_email_are_duplicates() {
        let mut test = TestTenant::new(Options::default());
        test.create(&[("Phone", "9845098450"), ("EmailAddress", "Ann@X.co")])
            .unwrap();
        for (pair, text) in [
            (
                ("Phone", "+91-9845098450"),
                "A Lead with same Phone Number already exists.",
            ),
            (
                ("Phone", "98450 98450"),
                "A Lead with same Phone Number already exists.",
            ),
            (("EmailAddress", "ann@x.co"), "A Lead with same Email already exists."),
        ] {
            assert_eq!(message(test.create(&[pair]).unwrap_err()), text);
        }
        assert!(test.create(&[("FirstName", "Mob"), ("Mobile", "9845098450")]).is_ok());
        assert_eq!(test.leads.duplicates, 3);
    }

    #[test]
    fn the_database_text_of_a_duplicate_names_the_key() {
        let options = Options {
            duplicate_message: DuplicateMessage::Database,
            ..Options::default()
        };
        let mut test = TestTenant::new(options);
        test.create(&[("EmailAddress", "a@x.co")]).unwrap();
        let failure = test.create(&[("EmailAddress", "a@x.co")]).unwrap_err();
        assert_eq!(
            message(failure),
            "Duplicate entry 'a@x.co' for key 'UQ_Prospect_Base_EmailAddress'"
        );
    }

    #[test]
    fn a_unique_value_can_be_used_again_after_its_removal() {
        let mut test = TestTenant::new(Options::default());
        let one = test
            .create(&[("FirstName", "One"), ("EmailAddress", "a@x.co")])
            .unwrap();
        test.update(one, &[("EmailAddress", "b@x.co")]).unwrap();
        let two = test.create(&[("EmailAddress", "a@x.co")]).unwrap();
        assert!(test.update(one, &[("EmailAddress", "a@x.co")]).is_err());
        test.leads.remove(two, &test.tenant);
        assert!(test.update(one, &[("EmailAddress", "a@x.co")]).is_ok());
    }

    #[test]
    fn an_update_with_unchanged_unique_values_succeeds_unless_configured_otherwise() {
        for fails in [false, true] {
            let options = Options {
                own_unique_resend_fails: fails,
                ..Options::default()
            };
            let mut test = TestTenant::new(options);
            let lead = test.create(&[("EmailAddress", "a@x.co")]).unwrap();
            assert_eq!(test.update(lead, &[("EmailAddress", "a@x.co")]).is_err(), fails);
        }
    }

    #[test]
    fn unique_attributes_are_configurable() {
        let mut test = TestTenant::new(Options {
            unique: vec!["mx_Zip".into()],
            ..Options::default()
        });
        test.create(&[("EmailAddress", "a@x.co"), ("mx_Zip", "1")]).unwrap();
        test.create(&[("EmailAddress", "a@x.co"), ("mx_Zip", "2")]).unwrap();
        let failure = test.create(&[("FirstName", "x"), ("mx_Zip", "1")]).unwrap_err();
        assert_eq!(message(failure), "A Lead with same Zip already exists.");
    }

    #[test]
    fn an_attribute_that_becomes_unique_is_checked_against_existing_leads() {
        let mut test = TestTenant::new(Options::default());
        test.create(&[("FirstName", "x"), ("mx_Zip", "1")]).unwrap();
        let mut options = test.tenant.options.clone();
        options.unique.push("mx_Zip".into());
        test.tenant = Tenant::new(options);
        test.leads.reindex(&test.tenant);
        assert!(test.create(&[("FirstName", "y"), ("mx_Zip", "1")]).is_err());
    }

    #[test]
    fn a_lead_without_a_name_or_without_a_mandatory_field_is_rejected() {
        let mut test = TestTenant::new(Options {
            mandatory: vec!["mx_City".into()],
            ..Options::default()
        });
        assert!(test.create(&[("mx_City", "Pune")]).is_err());
        assert!(test.create(&[("FirstName", "Ann")]).is_err());
        let lead = test.create(&[("FirstName", "Ann"), ("mx_City", "Pune")]).unwrap();
        assert!(test.update(lead, &[("mx_City", "")]).is_err());
    }

    #[test]
    fn an_update_changes_no_other_attribute() {
        let mut test = TestTenant::new(Options::default());
        let number = test.create(&[("FirstName", "Ann"), ("mx_City", "Pune")]).unwrap();
        test.update(number, &[("FirstName", ""), ("LastName", "Lee")]).unwrap();
        let lead = test.leads.get(number).unwrap();
        let value = |name| lead.stored(name, &test.tenant);
        assert_eq!(value("FirstName"), None);
        assert_eq!(value("LastName").as_deref(), Some("Lee"));
        assert_eq!(value("mx_City").as_deref(), Some("Pune"));
    }
}
