//! Which lead an upsert or a capture changes: their matching rules. Only decides; writes nothing.

use crate::UpsertMatch;
use crate::http::response::{Exception, Result};
use crate::leads::draft::Draft;
use crate::leads::store::Leads;
use crate::state::Tenant;

/// The lead to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A new lead, with this id or a random one.
    New(Option<String>),
    /// The lead of this number.
    Known(u64),
}

use Target::{Known, New};

/// `Lead.CreateOrUpdate` and its bulk form.
pub(crate) fn upsert(draft: &Draft, leads: &Leads, tenant: &Tenant) -> Result<Target> {
    let own_id = || chosen_id(draft, tenant);
    if let Some(by) = &draft.search_by {
        let found = searched(by, draft, leads, tenant)?;
        if found.is_none() && by == "ProspectId" && !tenant.options.upsert_unknown_id_creates {
            return Err(Exception::lead_not_found());
        }
        return Ok(found.map_or_else(|| New(own_id()), Known));
    }
    let by = |attribute| held(attribute, draft, leads, tenant);
    let email_decides = tenant.options.upsert_match == UpsertMatch::EmailDecides;
    let found = if email_decides && draft.value("EmailAddress").is_some() {
        by("EmailAddress")
    } else {
        by("EmailAddress").or_else(|| by("Phone"))
    };
    Ok(found.map_or_else(|| New(own_id()), Known))
}

/// `Lead.Capture`: the eight rules of its page. Where the id's lead has another email, the page
/// says "new lead"; an email of a third lead selects that lead, and a missing email does not
/// count as another one.
pub(crate) fn capture(draft: &Draft, leads: &Leads, tenant: &Tenant) -> Result<Target> {
    let email = draft.value("EmailAddress");
    let everything = draft.id.is_some() && email.is_some() && draft.value("Phone").is_some();
    if let Some(by) = draft.search_by.as_ref().filter(|_| !everything) {
        let found = searched(by, draft, leads, tenant)?;
        return Ok(found.map_or_else(|| New(chosen_id(draft, tenant)), Known));
    }
    if let Some(id) = &draft.id {
        if let Some(number) = leads.by_id(id) {
            let own = email.is_none_or(|email| {
                leads.get(number).is_some_and(|lead| {
                    let stored = lead.values.get("EmailAddress").map(String::as_str);
                    let key = |value| crate::leads::store::key("EmailAddress", value, tenant);
                    stored.is_none_or(|stored| key(stored) == key(email))
                })
            });
            if own {
                return Ok(Known(number));
            }
            return Ok(held("EmailAddress", draft, leads, tenant).map_or(New(None), Known));
        }
        let visitors = &tenant.options.visitors;
        if let Some(visitor) = visitors.iter().find(|visitor| visitor.eq_ignore_ascii_case(id)) {
            return Ok(New(Some(visitor.clone())));
        }
    }
    let found = held("EmailAddress", draft, leads, tenant).or_else(|| held("Phone", draft, leads, tenant));
    Ok(found.map_or_else(|| New(chosen_id(draft, tenant)), Known))
}

/// The lead found by the control pair `SearchBy`. The id is spelt `ProspectId` there, unlike
/// the attribute, and no other way.
fn searched(by: &str, draft: &Draft, leads: &Leads, tenant: &Tenant) -> Result<Option<u64>> {
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

fn held(attribute: &str, draft: &Draft, leads: &Leads, tenant: &Tenant) -> Option<u64> {
    let value = draft.value(attribute).filter(|value| !value.is_empty())?;
    leads.by_value(attribute, value, tenant)
}

/// The id the caller chose for a new lead, if the options allow it.
pub(crate) fn chosen_id(draft: &Draft, tenant: &Tenant) -> Option<String> {
    let honoured = tenant.options.user_defined_guid && draft.own_id;
    draft.id.clone().filter(|_| honoured)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::leads::store::tests::TestTenant;

    const VISITOR: &str = "11111111-1111-4111-8111-111111111111";

    /// A tenant with Ann (email and phone) and Bob (email and phone).
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
    fn an_email_decides_an_upsert_alone() {
        let (test, ann, bob) = sample_leads(Options::default());
        let both = [("EmailAddress", "ann@x.co"), ("Phone", "9000000002")];
        assert_eq!(upserted(&test, &both), Ok(Known(ann)));
        let new_email = [("EmailAddress", "new@x.co"), ("Phone", "9000000002")];
        assert_eq!(upserted(&test, &new_email), Ok(New(None)));
        assert_eq!(upserted(&test, &[("Phone", "9000000002")]), Ok(Known(bob)));
    }

    #[test]
    fn the_documented_upsert_goes_on_to_the_phone() {
        let options = Options {
            upsert_match: UpsertMatch::EmailThenPhone,
            ..Options::default()
        };
        let (test, _, bob) = sample_leads(options);
        let new_email = [("EmailAddress", "new@x.co"), ("Phone", "9000000002")];
        assert_eq!(upserted(&test, &new_email), Ok(Known(bob)));
    }

    #[test]
    fn search_by_takes_the_id_in_one_spelling_only() {
        let (test, ann, _) = sample_leads(Options::default());
        let id = test.leads.id(ann).to_owned();
        let by = |by: &str| upserted(&test, &[("ProspectID", &id), ("SearchBy", by)]);
        assert_eq!(by("ProspectId"), Ok(Known(ann)));
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
    fn an_unknown_id_creates_a_lead_or_not_and_keeps_its_id_or_not() {
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
    fn capture_rule_1_without_any_key_creates() {
        let (test, ..) = sample_leads(Options::default());
        assert_eq!(captured(&test, &[("FirstName", "x")]), New(None));
    }

    #[test]
    fn capture_rule_2_matches_by_id_then_email_then_phone() {
        let (test, ann, bob) = sample_leads(Options::default());
        let id = test.leads.id(ann).to_owned();
        assert_eq!(
            captured(&test, &[("ProspectID", &id), ("Phone", "9000000002")]),
            Known(ann)
        );
        let both = [("EmailAddress", "ann@x.co"), ("Phone", "9000000002")];
        assert_eq!(captured(&test, &both), Known(ann));
        let phone = [("EmailAddress", "new@x.co"), ("Phone", "9000000002")];
        assert_eq!(captured(&test, &phone), Known(bob));
    }

    #[test]
    fn capture_rule_3_gives_a_visitor_its_id() {
        let (test, ..) = sample_leads(Options {
            visitors: vec![VISITOR.into()],
            ..Options::default()
        });
        assert_eq!(captured(&test, &[("ProspectID", VISITOR)]), New(Some(VISITOR.into())));
    }

    #[test]
    fn capture_rule_4_makes_a_new_lead_for_another_email() {
        let (test, ann, bob) = sample_leads(Options::default());
        let id = test.leads.id(ann).to_owned();
        let other = [("ProspectID", id.as_str()), ("EmailAddress", "new@x.co")];
        assert_eq!(captured(&test, &other), New(None));
        let third = [("ProspectID", id.as_str()), ("EmailAddress", "bob@x.co")];
        assert_eq!(captured(&test, &third), Known(bob));
        let own = [("ProspectID", id.as_str()), ("EmailAddress", "ANN@x.co")];
        assert_eq!(captured(&test, &own), Known(ann));
    }

    #[test]
    fn capture_rule_5_updates_by_id_without_an_email() {
        let (test, _, bob) = sample_leads(Options::default());
        let id = test.leads.id(bob).to_owned();
        assert_eq!(captured(&test, &[("ProspectID", &id), ("FirstName", "x")]), Known(bob));
    }

    #[test]
    fn capture_rules_6_and_7_go_by_email_or_create_when_the_id_is_unknown() {
        let (test, ann, _) = sample_leads(Options::default());
        let known = [("ProspectID", VISITOR), ("EmailAddress", "ann@x.co")];
        assert_eq!(captured(&test, &known), Known(ann));
        let unknown = [("ProspectID", VISITOR), ("EmailAddress", "new@x.co")];
        assert_eq!(captured(&test, &unknown), New(None));
    }

    #[test]
    fn capture_rule_8_puts_search_by_first_unless_everything_is_sent() {
        let (test, ann, bob) = sample_leads(Options::default());
        let by_phone = [
            ("EmailAddress", "ann@x.co"),
            ("Phone", "9000000002"),
            ("SearchBy", "Phone"),
        ];
        assert_eq!(captured(&test, &by_phone), Known(bob));
        let id = test.leads.id(ann).to_owned();
        let everything = [
            ("ProspectID", id.as_str()),
            ("EmailAddress", "ann@x.co"),
            ("Phone", "9000000002"),
            ("SearchBy", "Phone"),
        ];
        assert_eq!(captured(&test, &everything), Known(ann));
    }
}
