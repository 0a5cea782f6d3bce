//! The endpoints that find leads by something unique, or by a word.

use serde::Deserialize;

use crate::handlers::{Count, Desk};
use crate::http::response::{Answer, Exception, Failure, Result};
use crate::leads::lead::Row;
use crate::leads::phone;
use crate::state::Tenant;
use crate::{FieldSpec, Order};

/// Looked at by the quick search.
const SEARCHED: [&str; 8] = [
    "FirstName",
    "LastName",
    "EmailAddress",
    "Phone",
    "Mobile",
    "Company",
    "mx_City",
    "mx_Country",
];

/// Most ids in one call, as documented.
const MOST_IDS: usize = 10_000;

/// The columns a body asks for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Columns {
    #[serde(rename = "Include_CSV", default)]
    include_csv: Option<String>,
}

/// The page a body asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Paging {
    page_index: Option<Count>,
    page_size: Option<Count>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByIds {
    search_parameters: Option<Ids>,
    columns: Option<Columns>,
    paging: Option<Paging>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ids {
    lead_ids: Option<Vec<String>>,
}

impl Desk<'_> {
    pub(crate) fn get_by_id(self) -> Result<Answer> {
        let id = self.parameter("id")?;
        self.one(self.crm.by_id(id))
    }

    pub(crate) fn get_by_email(self) -> Result<Answer> {
        let email = self.parameter("emailaddress")?;
        self.one(self.crm.by_value("EmailAddress", email, self.tenant))
    }

    pub(crate) fn get_by_phone(self) -> Result<Answer> {
        let options = &self.tenant.options;
        let asked = self.parameter("phone")?;
        let spellings = phone::candidates(asked, &options.default_country_code, options.phone_lookup);
        let found = spellings.iter().find_map(|digits| self.crm.by_phone(digits));
        if found.is_none() && options.phone_miss_404 {
            return Err(Failure::Nothing);
        }
        self.one(found)
    }

    pub(crate) fn quick_search(self) -> Result<Answer> {
        let word = self.parameter("key")?.to_lowercase();
        let cap = match self.tenant.options.quick_search_cap {
            0 => usize::MAX,
            cap => cap as usize,
        };
        let holds = |value: Option<String>| value.is_some_and(|value| value.to_lowercase().contains(&word));
        let fields = all(self.tenant);
        let found = self
            .crm
            .leads()
            .filter(|lead| SEARCHED.iter().any(|name| holds(lead.stored(name, self.tenant))));
        let rows: Vec<_> = found.take(cap).map(|lead| lead.row(&fields, self.tenant)).collect();
        Ok(Answer::json(200, &rows))
    }

    pub(crate) fn get_by_ids(self) -> Result<Answer> {
        let asked: ByIds = self.body()?;
        let ids = asked.search_parameters.and_then(|parameters| parameters.lead_ids);
        let ids = ids.ok_or_else(|| Exception::missing("'LeadIds' is mandatory"))?;
        let columns = asked.columns.unwrap_or_default();
        if columns.include_csv.as_deref().unwrap_or_default().trim().is_empty() {
            return Err(Exception::missing("'Include_CSV' is mandatory"));
        }
        if ids.len() > MOST_IDS {
            let message = format!("Invalid Input! Parameter Name: LeadIds can not be more than {MOST_IDS}");
            return Err(Exception::invalid(message));
        }
        let fields = columns.fields(self.tenant)?;
        let mut numbers = Vec::with_capacity(ids.len());
        let mut seen = std::collections::HashSet::new();
        for id in &ids {
            numbers.extend(self.crm.by_id(id).filter(|number| seen.insert(*number)));
        }
        if self.tenant.options.by_ids_order == Order::Reversed {
            numbers.reverse();
        }
        let most = u64::from(self.tenant.options.by_ids_page_max);
        let page = asked.paging.unwrap_or_default().bounds(self.tenant, most);
        let rows: Vec<_> = page
            .of(&numbers)
            .iter()
            .filter_map(|number| self.crm.lead(*number))
            .map(|lead| lead.row(&fields, self.tenant))
            .collect();
        Ok(Answer::json(
            200,
            &serde_json::json!({"RecordCount": numbers.len(), "Leads": rows}),
        ))
    }

    /// An array of one, or of none.
    fn one(&self, number: Option<u64>) -> Result<Answer> {
        let lead = number.and_then(|number| self.crm.lead(number));
        let rows: Vec<Row> = lead
            .iter()
            .map(|lead| lead.row(&all(self.tenant), self.tenant))
            .collect();
        Ok(Answer::json(200, &rows))
    }
}

impl Columns {
    /// The fields named; all of them where none is.
    pub(crate) fn fields<'t>(&self, tenant: &'t Tenant) -> Result<Vec<&'t FieldSpec>> {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for name in self.names() {
            match tenant.schema.field(name) {
                Some(field) => known.push(field),
                None => unknown.push(name.to_owned()),
            }
        }
        if !unknown.is_empty() && tenant.options.unknown_column_fails {
            return Err(Exception::unknown_attributes(&unknown));
        }
        if known.is_empty() && unknown.is_empty() {
            return Ok(all(tenant));
        }
        Ok(known)
    }

    /// The names, whatever they are names of.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let named = self.include_csv.as_deref().unwrap_or_default();
        named.split(',').map(str::trim).filter(|name| !name.is_empty())
    }
}

/// A page as places in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    first: usize,
    size: usize,
}

impl Page {
    pub(crate) fn of<T>(self, rows: &[T]) -> &[T] {
        let rest = rows.get(self.first..).unwrap_or_default();
        &rest[..self.size.min(rest.len())]
    }
}

impl Paging {
    pub(crate) fn size(&self, tenant: &Tenant) -> u64 {
        self.page_size
            .map_or(u64::from(tenant.options.default_page_size), |size| size.0)
    }

    /// The page, of `most` rows at the most. Pages are numbered from one.
    pub(crate) fn bounds(&self, tenant: &Tenant, most: u64) -> Page {
        let size = self.size(tenant).min(most);
        let before = self.page_index.map_or(0, |index| index.0.saturating_sub(1));
        let place = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Page {
            first: place(before.saturating_mul(size)),
            size: place(size),
        }
    }
}

fn all(tenant: &Tenant) -> Vec<&FieldSpec> {
    tenant.schema.fields().iter().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::PhoneLookup;
    use crate::test_support::Bench;
    use serde_json::{Value, json};

    fn town(bench: &Bench) -> [String; 3] {
        [("Ann", "Pune"), ("Bob", "Goa"), ("Cid", "Pune")]
            .map(|(name, city)| bench.simulator.insert_lead(&[("FirstName", name), ("mx_City", city)]))
    }

    #[tokio::test]
    async fn a_read_is_an_array_of_strings_and_nulls() {
        let bench = Bench::new(|_| {});
        let id = bench
            .create(&[
                ("EmailAddress", "ann@x.co"),
                ("Phone", "9845098450"),
                ("mx_Consent", "true"),
            ])
            .await;
        let (status, answer) = bench.get("Leads.GetByEmailaddress?emailaddress=ANN@x.co").await;
        assert_eq!(status, 200);
        let lead = answer[0].as_object().unwrap();
        assert_eq!(lead["ProspectID"], json!(id));
        assert_eq!(lead["ProspectAutoId"], "1001");
        assert_eq!(lead["Phone"], "+91-9845098450");
        assert_eq!(lead["mx_Consent"], "1");
        assert_eq!(lead["Mobile"], Value::Null);
        assert_eq!(lead["OwnerIdName"], "Asha Admin");
        assert!(lead.values().all(|value| value.is_string() || value.is_null()));
        assert_eq!(bench.get(&format!("Leads.GetById?id={id}")).await.1, answer);
    }

    #[tokio::test]
    async fn nothing_found_is_an_empty_array() {
        let bench = Bench::new(|_| {});
        for name in [
            "Leads.GetById?id=x",
            "Leads.GetByEmailaddress?emailaddress=x",
            "RetrieveLeadByPhoneNumber?phone=1",
            "Leads.GetByQuickSearch?key=x",
        ] {
            assert_eq!(bench.get(name).await, (200, json!([])), "{name}");
        }
        bench.simulator.set_options(|options| options.phone_miss_404 = true);
        assert_eq!(bench.get("RetrieveLeadByPhoneNumber?phone=1").await, (404, Value::Null));
        assert_eq!(bench.get("Leads.GetById").await.0, 500);
    }

    #[tokio::test]
    async fn a_phone_is_found_by_the_spellings_chosen() {
        let bench = Bench::new(|_| {});
        bench.simulator.insert_lead(&[("Mobile", "9845098450")]);
        let spellings = ["9845098450", "%2B919845098450", "%2B91-9845098450", "98450%2098450"];
        for (lookup, expected) in [
            (PhoneLookup::Any, [1, 1, 1, 1]),
            (PhoneLookup::Compact, [1, 1, 0, 0]),
            (PhoneLookup::Hyphenated, [0, 0, 1, 0]),
        ] {
            bench.simulator.set_options(|options| options.phone_lookup = lookup);
            for (spelling, count) in spellings.iter().zip(expected) {
                let (_, found) = bench.get(&format!("RetrieveLeadByPhoneNumber?phone={spelling}")).await;
                assert_eq!(found.as_array().unwrap().len(), count, "{lookup:?} {spelling}");
            }
        }
    }

    #[tokio::test]
    async fn a_quick_search_looks_for_a_word_up_to_its_cap() {
        let bench = Bench::new(|_| {});
        town(&bench);
        let count = async || {
            bench
                .get("Leads.GetByQuickSearch?key=pUN")
                .await
                .1
                .as_array()
                .unwrap()
                .len()
        };
        assert_eq!(count().await, 2);
        bench.simulator.set_options(|options| options.quick_search_cap = 1);
        assert_eq!(count().await, 1);
    }

    #[tokio::test]
    async fn leads_come_by_ids_with_the_columns_asked() {
        let bench = Bench::new(|options| options.by_ids_page_max = 2);
        let [ann, bob, cid] = town(&bench);
        let ask = async |ids: &[&String], columns: &str, page: u32| {
            let body = json!({
                "SearchParameters": {"LeadIds": ids},
                "Columns": {"Include_CSV": columns},
                "Paging": {"PageIndex": page, "PageSize": "1000"},
            });
            bench.post("Leads/Retrieve/ByIds", body).await
        };
        let none = "nobody".to_owned();
        let (_, answer) = ask(&[&cid, &none, &ann, &cid, &bob], "FirstName, mx_City", 1).await;
        let rows = json!([{"FirstName": "Cid", "mx_City": "Pune"}, {"FirstName": "Ann", "mx_City": "Pune"}]);
        assert_eq!(answer, json!({"RecordCount": 3, "Leads": rows}));
        let (_, answer) = ask(&[&cid, &ann, &bob], "FirstName", 2).await;
        assert_eq!(answer["Leads"], json!([{"FirstName": "Bob"}]));
        bench
            .simulator
            .set_options(|options| options.by_ids_order = Order::Reversed);
        let (_, answer) = ask(&[&cid, &ann], "FirstName", 1).await;
        assert_eq!(answer["Leads"][0]["FirstName"], "Ann");

        let (status, answer) = ask(&[&ann], "", 1).await;
        assert_eq!(
            (status, &answer["ExceptionType"]),
            (500, &json!("MXMandatoryFieldMissingException"))
        );
        assert_eq!(ask(&[&ann], "Nonsense", 1).await.0, 500);
        bench
            .simulator
            .set_options(|options| options.unknown_column_fails = false);
        assert_eq!(ask(&[&ann], "Nonsense", 1).await.1["Leads"], json!([{}]));
    }
}
