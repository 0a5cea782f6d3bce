//! The matching rules of upsert and capture: they select the lead to write, but write nothing.

use crate::UpsertMatch;
use crate::http::response::{Exception, Result};
use crate::leads::draft::Draft;
use crate::leads::store::Leads;
use crate::state::Tenant;

/// The lead to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A new lead, with this id or with a random id.
    New(Option<String>),
    /// The existing lead with this number.
    Existing(u64),
}

use Target::{Existing, New};

/// Returns the lead to write for `Lead.CreateOrUpdate` and for each row of its bulk form.
pub(crate) fn upsert(draft: &Draft, leads: &Leads, tenant: &Tenant) -> Result<Target> {
    let new_id = || user_defined_id(draft, tenant);
    if let Some(by) = &draft.search_by {
        let found = find_by_search_by(by, draft, leads, tenant)?;
        if found.is_none() && by == "ProspectId" && !tenant.options.upsert_unknown_id_creates {
            return Err(Exception::lead_not_found());
        }
        return Ok(found.map_or_else(|| New(new_id()), Existing));
    }
    let by = |attribute| find_by_value(attribute, draft, leads, tenant);
    let email_decides = tenant.options.upsert_match == UpsertMatch::EmailDecides;
    let found = if email_decides && draft.value("EmailAddress").is_some() {
        by("EmailAddress")
    } else {
        by("EmailAddress").or_else(|| by("Phone"))
    };
    Ok(found.map_or_else(|| New(new_id()), Existing))
}

/// Returns the lead to write for `Lead.Capture`, by the eight documented rules.
///
/// If the lead with the id has another email, the documentation says "new lead". Two cases are assumptions: an email of
/// a third lead selects the third lead, and a missing email is not another email.
pub(crate) fn capture(draft: &Draft, leads: &Leads, tenant: &Tenant) -> Result<Target> {
    let email = draft.value("EmailAddress");
    let has_all_keys = draft.id.is_some() && email.is_some() && draft.value("Phone").is_some();
    if let Some(by) = draft.search_by.as_ref().filter(|_| !has_all_keys) {
        let found = find_by_search_by(by, draft, leads, tenant)?;
        return Ok(found.map_or_else(|| New(user_defined_id(draft, tenant)), Existing));
    }
    if let Some(id) = &draft.id {
        if let Some(number) = leads.by_id(id) {
            let same_email = email.is_none_or(|email| {
                leads.get(number).is_some_and(|lead| {
                    let stored = lead.values.get("EmailAddress").map(String::as_str);
                    let key = |value| crate::leads::store::key("EmailAddress", value, tenant);
                    stored.is_none_or(|stored| key(stored) == key(email))
                })
            });
            if same_email {
                return Ok(Existing(number));
            }
            return Ok(find_by_value("EmailAddress", draft, leads, tenant).map_or(New(None), Existing));
        }
        let visitors = &tenant.options.visitors;
        if let Some(visitor) = visitors.iter().find(|visitor| visitor.eq_ignore_ascii_case(id)) {
            return Ok(New(Some(visitor.clone())));
        }
    }
    let found =
        find_by_value("EmailAddress", draft, leads, tenant).or_else(|| find_by_value("Phone", draft, leads, tenant));
    Ok(found.map_or_else(|| New(user_defined_id(draft, tenant)), Existing))
}

/// Finds the lead by the control attribute `SearchBy`. Its value for the id must be `ProspectId`, unlike the name of
/// the attribute `ProspectID`.
fn find_by_search_by(by: &str, draft: &Draft, leads: &Leads, tenant: &Tenant) -> Result<Option<u64>> {
    if by == "ProspectId" {
        let id = draft.id.as_deref().ok_or_else(|| no_value(by))?;
        return Ok(leads.by_id(id));
    }
    let known = ["EmailAddress", "Phone", "Mobile"].contains(&by);
    if !known && !tenant.options.unique.iter().any(|name| name == by) {
        return Err(Exception::invalid("Invalid SearchBy value provided"));
    }
    let value = draft.value(by).ok_or_else(|| no_value(by))?;
    Ok(leads.by_value(by, value, tenant))
}

fn no_value(by: &str) -> crate::http::response::Failure {
    Exception::invalid(format!("SearchBy attribute '{by}' has no value"))
}

fn find_by_value(attribute: &str, draft: &Draft, leads: &Leads, tenant: &Tenant) -> Option<u64> {
    let value = draft.value(attribute).filter(|value| !value.is_empty())?;
    leads.by_value(attribute, value, tenant)
}

/// Returns the id from the request for a new lead, if the options allow it.
pub(crate) fn user_defined_id(draft: &Draft, tenant: &Tenant) -> Option<String> {
    let allowed = tenant.options.user_defined_guid && draft.has_user_defined_id;
    draft.id.clone().filter(|_| allowed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::leads::store::tests::TestTenant;

    const VISITOR: &str = "11111111-1111-4111-8111-111111111111";

    /// Creates an account with the leads Ann and Bob. Both have an email and a phone.
    fn sample_leads(options: Options) -> (TestTenant, u64, u64) {
        let mut test = TestTenant::new(options);
        let ann = test
            .create(&[("EmailAddress", "ann@x.co"), ("Phone", "9000000001")])
            .unwrap();
        let bob = test
            .create(&[("EmailAddress", "bob@x.co"), ("Phone", "9000000002")])
            .unwrap();
        (test, ann, bob)
    }

    fn upserted(test: &TestTenant, pairs: &[(&str, &str)]) -> Result<Target> {
        upsert(&test.draft(pairs), &test.leads, &test.tenant)
    }

    fn captured(test: &TestTenant, pairs: &[(&str, &str)]) -> Target {
        capture(&test.draft(pairs), &test.leads, &test.tenant).unwrap()
    }

    #[test]
    fn an_upsert_with_an_email_ignores_the_phone() {
        let (test, ann, bob) = sample_leads(Options::default());
        let both = [("EmailAddress", "ann@x.co"), ("Phone", "9000000002")];
        assert_eq!(upserted(&test, &both), Ok(Existing(ann)));
        let new_email = [("EmailAddress", "new@x.co"), ("Phone", "9000000002")];
        assert_eq!(upserted(&test, &new_email), Ok(New(None)));
        assert_eq!(upserted(&test, &[("Phone", "9000000002")]), Ok(Existing(bob)));
    }

    #[test]
    fn the_documented_upsert_matches_by_phone_after_the_email() {
        let options = Options {
            upsert_match: UpsertMatch::EmailThenPhone,
            ..Options::default()
        };
        let (test, _, bob) = sample_leads(options);
        let new_email = [("EmailAddress", "new@x.co"), ("Phone", "9000000002")];
        assert_eq!(upserted(&test, &new_email), Ok(Existing(bob)));
    }

    #[test]
    fn search_by_accepts_only_one_name_of_the_id() {
        let (test, ann, _) = sample_leads(Options::default());
        let id = test.leads.id(ann).to_owned();
        let by = |by: &str| upserted(&test, &[("ProspectID", &id), ("SearchBy", by)]);
        assert_eq!(by("ProspectId"), Ok(Existing(ann)));
        assert_eq!(
            by("ProspectID"),
            Err(Exception::invalid("Invalid SearchBy value provided"))
        );
        assert_eq!(
            by("mx_City"),
            Err(Exception::invalid("Invalid SearchBy value provided"))
        );
        assert!(by("EmailAddress").is_err());
    }

    #[test]
    fn an_unknown_id_creates_a_lead_or_fails_as_configured() {
        let pairs = [
            ("ProspectID", VISITOR),
            ("SearchBy", "ProspectId"),
            ("__UseUserDefinedGuid__", "true"),
        ];
        let (test, ..) = sample_leads(Options::default());
        assert_eq!(upserted(&test, &pairs), Ok(New(None)));
        let (test, ..) = sample_leads(Options {
            user_defined_guid: true,
            ..Options::default()
        });
        assert_eq!(upserted(&test, &pairs), Ok(New(Some(VISITOR.into()))));
        let (test, ..) = sample_leads(Options {
            upsert_unknown_id_creates: false,
            ..Options::default()
        });
        assert_eq!(upserted(&test, &pairs), Err(Exception::lead_not_found()));
    }

    #[test]
    fn capture_rule_1_creates_a_lead_without_a_key() {
        let (test, ..) = sample_leads(Options::default());
        assert_eq!(captured(&test, &[("FirstName", "x")]), New(None));
    }

    #[test]
    fn capture_rule_2_matches_by_id_then_email_then_phone() {
        let (test, ann, bob) = sample_leads(Options::default());
        let id = test.leads.id(ann).to_owned();
        assert_eq!(
            captured(&test, &[("ProspectID", &id), ("Phone", "9000000002")]),
            Existing(ann)
        );
        let both = [("EmailAddress", "ann@x.co"), ("Phone", "9000000002")];
        assert_eq!(captured(&test, &both), Existing(ann));
        let phone = [("EmailAddress", "new@x.co"), ("Phone", "9000000002")];
        assert_eq!(captured(&test, &phone), Existing(bob));
    }

    #[test]
    fn capture_rule_3_creates_a_lead_with_the_id_of_a_visitor() {
        let (test, ..) = sample_leads(Options {
            visitors: vec![VISITOR.into()],
            ..Options::default()
        });
        assert_eq!(captured(&test, &[("ProspectID", VISITOR)]), New(Some(VISITOR.into())));
    }

    #[test]
    fn capture_rule_4_creates_a_lead_for_another_email() {
        let (test, ann, bob) = sample_leads(Options::default());
        let id = test.leads.id(ann).to_owned();
        let other = [("ProspectID", id.as_str()), ("EmailAddress", "new@x.co")];
        assert_eq!(captured(&test, &other), New(None));
        let third = [("ProspectID", id.as_str()), ("EmailAddress", "bob@x.co")];
        assert_eq!(captured(&test, &third), Existing(bob));
        let own = [("ProspectID", id.as_str()), ("EmailAddress", "ANN@x.co")];
        assert_eq!(captured(&test, &own), Existing(ann));
    }

    #[test]
    fn capture_rule_5_updates_by_id_without_an_email() {
        let (test, _, bob) = sample_leads(Options::default());
        let id = test.leads.id(bob).to_owned();
        assert_eq!(
            captured(&test, &[("ProspectID", &id), ("FirstName", "x")]),
            Existing(bob)
        );
    }

    #[test]
    fn capture_rules_6_and_7_match_by_email_or_create_if_the_id_is_unknown() {
        let (test, ann, _) = sample_leads(Options::default());
        let known = [("ProspectID", VISITOR), ("EmailAddress", "ann@x.co")];
        assert_eq!(captured(&test, &known), Existing(ann));
        let unknown = [("ProspectID", VISITOR), ("EmailAddress", "new@x.co")];
        assert_eq!(captured(&test, &unknown), New(None));
    }

    #[test]
    fn capture_rule_8_matches_by_search_by_unless_all_keys_are_present() {
        let (test, ann, bob) = sample_leads(Options::default());
        let by_phone = [
            ("EmailAddress", "ann@x.co"),
            ("Phone", "9000000002"),
            ("SearchBy", "Phone"),
        ];
        assert_eq!(captured(&test, &by_phone), Existing(bob));
        let id = test.leads.id(ann).to_owned();
        let all_keys = [
            ("ProspectID", id.as_str()),
            ("EmailAddress", "ann@x.co"),
            ("Phone", "9000000002"),
            ("SearchBy", "Phone"),
        ];
        assert_eq!(captured(&test, &all_keys), Existing(ann));
    }
}
