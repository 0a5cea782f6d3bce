//! The tenant's leads and what is unique among them. Knows the rules of writing a lead, not
//! the endpoints that write one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::DuplicateMessage;
use crate::clock::Dice;
use crate::http::response::{Exception, Failure, Result};
use crate::leads::draft::Draft;
use crate::leads::fields::Kind;
use crate::leads::lead::Lead;
use crate::leads::{phone, value};
use crate::state::Tenant;

/// Looked up by, whether unique or not.
const LOOKED_UP: [&str; 3] = ["EmailAddress", "Phone", "Mobile"];

/// All leads of the tenant.
#[derive(Debug)]
pub(crate) struct Crm {
    leads: BTreeMap<u64, Lead>,
    numbers: HashMap<String, u64>,
    index: HashMap<String, HashMap<String, BTreeSet<u64>>>,
    last_number: u64,
    dice: Dice,
    /// Conflicts answered so far.
    pub(crate) duplicates: u64,
    /// Automations fired so far.
    pub(crate) automations: u64,
}

impl Crm {
    pub(crate) fn new(tenant: &Tenant) -> Self {
        let mut crm = Self {
            leads: BTreeMap::new(),
            numbers: HashMap::new(),
            index: HashMap::new(),
            last_number: 1_000,
            dice: Dice::new(tenant.options.seed),
            duplicates: 0,
            automations: 0,
        };
        crm.reindex(tenant);
        crm
    }

    /// Builds the index anew, for when the tenant's rules have changed.
    pub(crate) fn reindex(&mut self, tenant: &Tenant) {
        let unique = tenant.options.unique.iter().map(String::as_str);
        self.index = LOOKED_UP
            .into_iter()
            .chain(unique)
            .map(|name| (name.into(), HashMap::new()))
            .collect();
        for lead in self.leads.values() {
            enter(&mut self.index, lead, tenant);
        }
    }

    /// Makes a lead of the draft, with `id` if it is given and free.
    pub(crate) fn create(&mut self, draft: &Draft, id: Option<String>, now: Timestamp, tenant: &Tenant) -> Result<u64> {
        let named = ["FirstName", "LastName", "EmailAddress", "Phone"];
        if !named.iter().any(|name| draft.value(name).is_some()) {
            let message = format!("At least one of {} is mandatory", named.join(", "));
            return Err(Exception::missing(message));
        }
        let missing: Vec<_> = tenant.mandatory().filter(|name| draft.value(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(without(&missing, tenant));
        }
        self.check_unique(draft, None, tenant)?;
        if id.as_deref().is_some_and(|id| self.by_id(id).is_some()) {
            self.duplicates += 1;
            return Err(Exception::duplicate("A Lead with same ProspectID already exists."));
        }
        Ok(self.insert(id, now, tenant, |lead| lead.apply(draft, now, tenant)))
    }

    /// Puts a lead in without any check.
    pub(crate) fn insert(
        &mut self,
        id: Option<String>,
        now: Timestamp,
        tenant: &Tenant,
        shape: impl FnOnce(&mut Lead),
    ) -> u64 {
        let id = id.unwrap_or_else(|| self.dice.guid());
        self.last_number += 1;
        let number = self.last_number;
        let mut lead = Lead::new(id, number, now);
        shape(&mut lead);
        lead.fill(tenant);
        enter(&mut self.index, &lead, tenant);
        self.numbers.insert(lead.id.to_ascii_lowercase(), number);
        self.leads.insert(number, lead);
        number
    }

    /// Writes the draft over a lead.
    pub(crate) fn update(&mut self, number: u64, draft: &Draft, now: Timestamp, tenant: &Tenant) -> Result<()> {
        if !self.leads.contains_key(&number) {
            return Err(Exception::lead_not_found());
        }
        if let Some(name) = tenant.mandatory().find(|name| draft.clears(name)) {
            return Err(without(&[name], tenant));
        }
        self.check_unique(draft, Some(number), tenant)?;
        if let Some(lead) = self.leads.get_mut(&number) {
            leave(&mut self.index, lead, tenant);
            lead.apply(draft, now, tenant);
            enter(&mut self.index, lead, tenant);
        }
        Ok(())
    }

    /// Takes a lead out.
    pub(crate) fn remove(&mut self, number: u64, tenant: &Tenant) -> Option<Lead> {
        let lead = self.leads.remove(&number)?;
        self.numbers.remove(&lead.id.to_ascii_lowercase());
        leave(&mut self.index, &lead, tenant);
        Some(lead)
    }

    /// Fills what a lead has empty with what a lead taken out had.
    pub(crate) fn absorb(&mut self, number: u64, child: Lead, now: Timestamp, tenant: &Tenant) {
        if let Some(lead) = self.leads.get_mut(&number) {
            leave(&mut self.index, lead, tenant);
            for (name, value) in child.values {
                lead.values.entry(name).or_insert(value);
            }
            for (name, set) in child.sets {
                lead.sets.entry(name).or_insert(set);
            }
            lead.modified = now;
            enter(&mut self.index, lead, tenant);
        }
    }

    /// A throw of the dice, never nothing.
    pub(crate) fn throw(&mut self) -> u64 {
        self.dice.next() | 1
    }

    pub(crate) fn lead(&self, number: u64) -> Option<&Lead> {
        self.leads.get(&number)
    }

    /// The id of a lead, empty when there is none.
    pub(crate) fn id(&self, number: u64) -> &str {
        self.leads.get(&number).map_or("", |lead| &lead.id)
    }

    pub(crate) fn leads(&self) -> impl Iterator<Item = &Lead> {
        self.leads.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.leads.len()
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<u64> {
        self.numbers.get(&id.to_ascii_lowercase()).copied()
    }

    /// The lead that holds this kept value of a looked-up or unique attribute; the one modified
    /// last where several do.
    pub(crate) fn by_value(&self, attribute: &str, value: &str, tenant: &Tenant) -> Option<u64> {
        self.by_key(attribute, &key(attribute, value, tenant))
    }

    /// The lead with this phone, by one of the spellings, as `Phone` or `Mobile`.
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

fn without(names: &[&str], tenant: &Tenant) -> Failure {
    let message = format!("Mandatory field(s) missing - {}", names.join(","));
    match tenant.options.mandatory_is_attribute {
        true => Exception::missing_parameter(message),
        false => Exception::missing(message),
    }
}

/// The conflict over a unique attribute, in the wording chosen.
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

/// What two values of a unique attribute must share to be the same.
pub(crate) fn key(attribute: &str, value: &str, tenant: &Tenant) -> String {
    match tenant.schema.field(attribute).map(|field| field.kind()) {
        Some(Kind::Email) if !tenant.options.email_case_sensitive => value.trim().to_lowercase(),
        Some(Kind::Phone) => phone::digits(value),
        _ => value.into(),
    }
}

/// A value given for looking something up, in the form in which values are kept; as it is where
/// the field would not take it.
pub(crate) fn lookup(attribute: &str, asked: &str, tenant: &Tenant) -> String {
    let field = tenant.schema.field(attribute);
    let kept = field.and_then(|field| value::stored(field, asked, &tenant.options).ok());
    kept.unwrap_or_else(|| asked.into())
}

type Index = HashMap<String, HashMap<String, BTreeSet<u64>>>;

fn enter(index: &mut Index, lead: &Lead, tenant: &Tenant) {
    for (attribute, keys) in index {
        if let Some(value) = lead.values.get(attribute).filter(|value| !value.is_empty()) {
            keys.entry(key(attribute, value, tenant))
                .or_default()
                .insert(lead.number);
        }
    }
}

fn leave(index: &mut Index, lead: &Lead, tenant: &Tenant) {
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

    pub(crate) struct Bench {
        pub(crate) tenant: Tenant,
        pub(crate) crm: Crm,
    }

    impl Bench {
        pub(crate) fn new(options: Options) -> Self {
            let tenant = Tenant::new(options);
            let crm = Crm::new(&tenant);
            Self { tenant, crm }
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
            self.crm.create(&draft, None, Timestamp::UNIX_EPOCH, &self.tenant)
        }

        pub(crate) fn update(&mut self, number: u64, pairs: &[(&str, &str)]) -> Result<()> {
            let draft = self.draft(pairs);
            self.crm.update(number, &draft, Timestamp::UNIX_EPOCH, &self.tenant)
        }
    }

    fn message(failure: Failure) -> String {
        match failure {
            Failure::Exception(exception) => exception.message,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn spellings_of_one_phone_or_email_are_one_value() {
        let mut bench = Bench::new(Options::default());
        bench
            .create(&[("Phone", "9845098450"), ("EmailAddress", "Ann@X.co")])
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
            assert_eq!(message(bench.create(&[pair]).unwrap_err()), text);
        }
        assert!(bench.create(&[("FirstName", "Mob"), ("Mobile", "9845098450")]).is_ok());
        assert_eq!(bench.crm.duplicates, 3);
    }

    #[test]
    fn an_older_wording_of_a_conflict_names_the_key() {
        let options = Options {
            duplicate_message: DuplicateMessage::Database,
            ..Options::default()
        };
        let mut bench = Bench::new(options);
        bench.create(&[("EmailAddress", "a@x.co")]).unwrap();
        let failure = bench.create(&[("EmailAddress", "a@x.co")]).unwrap_err();
        assert_eq!(
            message(failure),
            "Duplicate entry 'a@x.co' for key 'UQ_Prospect_Base_EmailAddress'"
        );
    }

    #[test]
    fn a_freed_value_can_be_taken_again() {
        let mut bench = Bench::new(Options::default());
        let one = bench
            .create(&[("FirstName", "One"), ("EmailAddress", "a@x.co")])
            .unwrap();
        bench.update(one, &[("EmailAddress", "b@x.co")]).unwrap();
        let two = bench.create(&[("EmailAddress", "a@x.co")]).unwrap();
        assert!(bench.update(one, &[("EmailAddress", "a@x.co")]).is_err());
        bench.crm.remove(two, &bench.tenant);
        assert!(bench.update(one, &[("EmailAddress", "a@x.co")]).is_ok());
    }

    #[test]
    fn a_lead_may_resend_its_own_values_unless_chosen_otherwise() {
        for fails in [false, true] {
            let options = Options {
                own_unique_resend_fails: fails,
                ..Options::default()
            };
            let mut bench = Bench::new(options);
            let lead = bench.create(&[("EmailAddress", "a@x.co")]).unwrap();
            assert_eq!(bench.update(lead, &[("EmailAddress", "a@x.co")]).is_err(), fails);
        }
    }

    #[test]
    fn uniqueness_follows_the_tenant() {
        let mut bench = Bench::new(Options {
            unique: vec!["mx_Zip".into()],
            ..Options::default()
        });
        bench.create(&[("EmailAddress", "a@x.co"), ("mx_Zip", "1")]).unwrap();
        bench.create(&[("EmailAddress", "a@x.co"), ("mx_Zip", "2")]).unwrap();
        let failure = bench.create(&[("FirstName", "x"), ("mx_Zip", "1")]).unwrap_err();
        assert_eq!(message(failure), "A Lead with same Zip already exists.");
    }

    #[test]
    fn what_becomes_unique_later_is_known_of_older_leads() {
        let mut bench = Bench::new(Options::default());
        bench.create(&[("FirstName", "x"), ("mx_Zip", "1")]).unwrap();
        let mut options = bench.tenant.options.clone();
        options.unique.push("mx_Zip".into());
        bench.tenant = Tenant::new(options);
        bench.crm.reindex(&bench.tenant);
        assert!(bench.create(&[("FirstName", "y"), ("mx_Zip", "1")]).is_err());
    }

    #[test]
    fn a_nameless_lead_and_a_missing_mandatory_field_are_refused() {
        let mut bench = Bench::new(Options {
            mandatory: vec!["mx_City".into()],
            ..Options::default()
        });
        assert!(bench.create(&[("mx_City", "Pune")]).is_err());
        assert!(bench.create(&[("FirstName", "Ann")]).is_err());
        let lead = bench.create(&[("FirstName", "Ann"), ("mx_City", "Pune")]).unwrap();
        assert!(bench.update(lead, &[("mx_City", "")]).is_err());
    }

    #[test]
    fn an_update_leaves_the_rest_alone() {
        let mut bench = Bench::new(Options::default());
        let number = bench.create(&[("FirstName", "Ann"), ("mx_City", "Pune")]).unwrap();
        bench.update(number, &[("FirstName", ""), ("LastName", "Lee")]).unwrap();
        let lead = bench.crm.lead(number).unwrap();
        let value = |name| lead.stored(name, &bench.tenant);
        assert_eq!(value("FirstName"), None);
        assert_eq!(value("LastName").as_deref(), Some("Lee"));
        assert_eq!(value("mx_City").as_deref(), Some("Pune"));
    }
}
