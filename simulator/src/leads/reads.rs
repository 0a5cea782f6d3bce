//! The endpoints that read leads by id, email, phone, word or a list of ids.

use serde::Deserialize;

use crate::handlers::{Handler, LenientU64};
use crate::http::response::{Exception, Failure, Response, Result};
use crate::leads::lead::LeadRow;
use crate::leads::phone;
use crate::state::Tenant;
use crate::{FieldSpec, Order};

/// Attributes that the quick search compares with the word.
const QUICK_SEARCH_ATTRIBUTES: [&str; 8] = [
    "FirstName",
    "LastName",
    "EmailAddress",
    "Phone",
    "Mobile",
    "Company",
    "mx_City",
    "mx_Country",
];

/// The requested columns.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Columns {
    #[serde(rename = "Include_CSV", default)]
    include_csv: Option<String>,
}

/// The requested page.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Paging {
    page_index: Option<LenientU64>,
    page_size: Option<LenientU64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByIdsRequest {
    search_parameters: Option<LeadIds>,
    columns: Option<Columns>,
    paging: Option<Paging>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LeadIds {
    lead_ids: Option<Vec<String>>,
}

impl Handler<'_> {
    pub(crate) fn get_by_id(self) -> Result<Response> {
        let id = self.parameter("id")?;
        self.lead_or_empty(self.leads.by_id(id))
    }

    pub(crate) fn get_by_email(self) -> Result<Response> {
        let email = self.parameter("emailaddress")?;
        self.lead_or_empty(self.leads.by_value("EmailAddress", email, self.tenant))
    }

    pub(crate) fn get_by_phone(self) -> Result<Response> {
        let options = &self.tenant.options;
        let number = self.parameter("phone")?;
        let forms = phone::candidates(number, &options.default_country_code, options.phone_lookup);
        let found = forms.iter().find_map(|digits| self.leads.by_phone(digits));
        if found.is_none() && options.phone_miss_404 {
            return Err(Failure::NotFound);
        }
        self.lead_or_empty(found)
    }

    pub(crate) fn quick_search(self) -> Result<Response> {
        let word = self.parameter("key")?.to_lowercase();
        let cap = match self.tenant.options.quick_search_cap {
            0 => usize::MAX,
            cap => cap as usize,
        };
        let contains = |value: Option<String>| value.is_some_and(|value| value.to_lowercase().contains(&word));
        let fields = all_fields(self.tenant);
        let found = self.leads.iter().filter(|lead| {
            QUICK_SEARCH_ATTRIBUTES
                .iter()
                .any(|name| contains(lead.stored(name, self.tenant)))
        });
        let rows: Vec<_> = found.take(cap).map(|lead| lead.row(&fields, self.tenant)).collect();
        Ok(Response::json(200, &rows))
    }

    pub(crate) fn get_by_ids(self) -> Result<Response> {
        let request: ByIdsRequest = self.body()?;
        let ids = request.search_parameters.and_then(|parameters| parameters.lead_ids);
        let ids = ids.ok_or_else(|| Exception::missing("'LeadIds' is mandatory"))?;
        let columns = request.columns.unwrap_or_default();
        if columns.include_csv.as_deref().unwrap_or_default().trim().is_empty() {
            return Err(Exception::missing("'Include_CSV' is mandatory"));
        }
        let max_ids = self.tenant.options.by_ids_max;
        if ids.len() > max_ids {
            let message = format!("Invalid Input! Parameter Name: LeadIds can not be more than {max_ids}");
            return Err(Exception::invalid(message));
        }
        let fields = columns.fields(self.tenant)?;
        let mut numbers = Vec::with_capacity(ids.len());
        let mut seen = std::collections::HashSet::new();
        for id in &ids {
            numbers.extend(self.leads.by_id(id).filter(|number| seen.insert(*number)));
        }
        if self.tenant.options.by_ids_order == Order::Reversed {
            numbers.reverse();
        }
        let max = u64::from(self.tenant.options.by_ids_page_max);
        let page = request.paging.unwrap_or_default().bounds(self.tenant, max);
        let rows: Vec<_> = page
            .slice(&numbers)
            .iter()
            .filter_map(|number| self.leads.get(*number))
            .map(|lead| lead.row(&fields, self.tenant))
            .collect();
        Ok(Response::json(
            200,
            &serde_json::json!({"RecordCount": numbers.len(), "Leads": rows}),
        ))
    }

    /// Returns a response with an array that contains the lead, or that is empty.
    fn lead_or_empty(&self, number: Option<u64>) -> Result<Response> {
        let lead = number.and_then(|number| self.leads.get(number));
        let rows: Vec<LeadRow> = lead
            .iter()
            .map(|lead| lead.row(&all_fields(self.tenant), self.tenant))
            .collect();
        Ok(Response::json(200, &rows))
    }
}

impl Columns {
    /// Returns the requested fields, or all fields if the request names none.
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
            return Ok(all_fields(tenant));
        }
        Ok(known)
    }

    /// Returns the requested names without validation.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let named = self.include_csv.as_deref().unwrap_or_default();
        named.split(',').map(str::trim).filter(|name| !name.is_empty())
    }
}

/// A page as a range of row positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    first: usize,
    size: usize,
}

impl Page {
    pub(crate) fn slice<T>(self, rows: &[T]) -> &[T] {
        let rest = rows.get(self.first..).unwrap_or_default();
        &rest[..self.size.min(rest.len())]
    }
}

impl Paging {
    pub(crate) fn size(&self, tenant: &Tenant) -> u64 {
        self.page_size
            .map_or(u64::from(tenant.options.default_page_size), |size| size.0)
    }

    /// Returns the requested page with at most `max` rows. Pages are numbered from 1.
    pub(crate) fn bounds(&self, tenant: &Tenant, max: u64) -> Page {
        let size = self.size(tenant).min(max);
        let before = self.page_index.map_or(0, |index| index.0.saturating_sub(1));
        let to_usize = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Page {
            first: to_usize(before.saturating_mul(size)),
            size: to_usize(size),
        }
    }
}

fn all_fields(tenant: &Tenant) -> Vec<&FieldSpec> {
    tenant.schema.fields().iter().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::PhoneLookup;
    use crate::test_support::TestServer;
    use serde_json::{Value, json};

    fn sample_leads(server: &TestServer) -> [String; 3] {
        [("Ann", "Pune"), ("Bob", "Goa"), ("Cid", "Pune")]
            .map(|(name, city)| server.simulator.insert_lead(&[("FirstName", name), ("mx_City", city)]))
    }

    #[tokio::test]
    async fn the_values_of_a_read_lead_are_strings_or_null() {
        let server = TestServer::new(|_| {});
        let id = server
            .create(&[
                ("EmailAddress", "ann@x.co"),
                ("Phone", "9845098450"),
                ("mx_Consent", "true"),
            ])
            .await;
        let (status, response) = server.get("Leads.GetByEmailaddress?emailaddress=ANN@x.co").await;
        assert_eq!(status, 200);
        let lead = response[0].as_object().unwrap();
        assert_eq!(lead["ProspectID"], json!(id));
        assert_eq!(lead["ProspectAutoId"], "1001");
        assert_eq!(lead["Phone"], "+91-9845098450");
        assert_eq!(lead["mx_Consent"], "1");
        assert_eq!(lead["Mobile"], Value::Null);
        assert_eq!(lead["OwnerIdName"], "Asha Admin");
        assert!(lead.values().all(|value| value.is_string() || value.is_null()));
        assert_eq!(server.get(&format!("Leads.GetById?id={id}")).await.1, response);
    }

    #[tokio::test]
    async fn a_read_without_a_result_is_an_empty_array() {
        let server = TestServer::new(|_| {});
        for name in [
            "Leads.GetById?id=x",
            "Leads.GetByEmailaddress?emailaddress=x",
            "RetrieveLeadByPhoneNumber?phone=1",
            "Leads.GetByQuickSearch?key=x",
        ] {
            assert_eq!(server.get(name).await, (200, json!([])), "{name}");
        }
        server.simulator.set_options(|options| options.phone_miss_404 = true);
        assert_eq!(
            server.get("RetrieveLeadByPhoneNumber?phone=1").await,
            (404, Value::Null)
        );
        assert_eq!(server.get("Leads.GetById").await.0, 500);
    }

    #[tokio::test]
    async fn a_phone_is_found_in_the_configured_forms() {
        let server = TestServer::new(|_| {});
        server.simulator.insert_lead(&[("Mobile", "9845098450")]);
        let forms = ["9845098450", "%2B919845098450", "%2B91-9845098450", "98450%2098450"];
        for (lookup, expected) in [
            (PhoneLookup::Any, [1, 1, 1, 1]),
            (PhoneLookup::Compact, [1, 1, 0, 0]),
            (PhoneLookup::Hyphenated, [0, 0, 1, 0]),
        ] {
            server.simulator.set_options(|options| options.phone_lookup = lookup);
            for (form, count) in forms.iter().zip(expected) {
                let (_, found) = server.get(&format!("RetrieveLeadByPhoneNumber?phone={form}")).await;
                assert_eq!(found.as_array().unwrap().len(), count, "{lookup:?} {form}");
            }
        }
    }

    #[tokio::test]
    async fn a_quick_search_returns_rows_up_to_its_maximum() {
        let server = TestServer::new(|_| {});
        sample_leads(&server);
        let count = async || {
            server
                .get("Leads.GetByQuickSearch?key=pUN")
                .await
                .1
                .as_array()
                .unwrap()
                .len()
        };
        assert_eq!(count().await, 2);
        server.simulator.set_options(|options| options.quick_search_cap = 1);
        assert_eq!(count().await, 1);
    }

    #[tokio::test]
    async fn leads_are_read_by_ids_with_the_requested_columns() {
        let server = TestServer::new(|options| options.by_ids_page_max = 2);
        let [ann, bob, cid] = sample_leads(&server);
        let read = async |ids: &[&String], columns: &str, page: u32| {
            let body = json!({
                "SearchParameters": {"LeadIds": ids},
                "Columns": {"Include_CSV": columns},
                "Paging": {"PageIndex": page, "PageSize": "1000"},
            });
            server.post("Leads/Retrieve/ByIds", body).await
        };
        let none = "nobody".to_owned();
        let (_, response) = read(&[&cid, &none, &ann, &cid, &bob], "FirstName, mx_City", 1).await;
        let rows = json!([{"FirstName": "Cid", "mx_City": "Pune"}, {"FirstName": "Ann", "mx_City": "Pune"}]);
        assert_eq!(response, json!({"RecordCount": 3, "Leads": rows}));
        let (_, response) = read(&[&cid, &ann, &bob], "FirstName", 2).await;
        assert_eq!(response["Leads"], json!([{"FirstName": "Bob"}]));
        server
            .simulator
            .set_options(|options| options.by_ids_order = Order::Reversed);
        let (_, response) = read(&[&cid, &ann], "FirstName", 1).await;
        assert_eq!(response["Leads"][0]["FirstName"], "Ann");

        let (status, response) = read(&[&ann], "", 1).await;
        assert_eq!(
            (status, &response["ExceptionType"]),
            (500, &json!("MXMandatoryFieldMissingException"))
        );
        assert_eq!(read(&[&ann], "Nonsense", 1).await.0, 500);
        server
            .simulator
            .set_options(|options| options.unknown_column_fails = false);
        assert_eq!(read(&[&ann], "Nonsense", 1).await.1["Leads"], json!([{}]));
    }
}
