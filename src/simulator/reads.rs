//! The endpoints that find leads by something unique, or by a word.

use serde::Deserialize;

use super::{
    FieldSpec, Order, Tenant,
    answer::{Answer, Exception, Failure, Result},
    desk::{Count, Desk},
    lead::Row,
    phone,
};

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
pub(super) struct Columns {
    #[serde(rename = "Include_CSV", default)]
    include_csv: Option<String>,
}

/// The page a body asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Paging {
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
    pub(super) fn get_by_id(self) -> Result<Answer> {
        let id = self.parameter("id")?;
        self.one(self.crm.by_id(id))
    }

    pub(super) fn get_by_email(self) -> Result<Answer> {
        let email = self.parameter("emailaddress")?;
        self.one(self.crm.by_value("EmailAddress", email, self.tenant))
    }

    pub(super) fn get_by_phone(self) -> Result<Answer> {
        let options = &self.tenant.options;
        let asked = self.parameter("phone")?;
        let spellings =
            phone::candidates(asked, &options.default_country_code, options.phone_lookup);
        let found = spellings
            .iter()
            .find_map(|digits| self.crm.by_phone(digits));
        if found.is_none() && options.phone_miss_404 {
            return Err(Failure::Nothing);
        }
        self.one(found)
    }

    pub(super) fn quick_search(self) -> Result<Answer> {
        let word = self.parameter("key")?.to_lowercase();
        let cap = match self.tenant.options.quick_search_cap {
            0 => usize::MAX,
            cap => cap as usize,
        };
        let holds =
            |value: Option<String>| value.is_some_and(|value| value.to_lowercase().contains(&word));
        let fields = all(self.tenant);
        let found = self.crm.leads().filter(|lead| {
            SEARCHED
                .iter()
                .any(|name| holds(lead.stored(name, self.tenant)))
        });
        let rows: Vec<_> = found
            .take(cap)
            .map(|lead| lead.row(&fields, self.tenant))
            .collect();
        Ok(Answer::json(200, &rows))
    }

    pub(super) fn get_by_ids(self) -> Result<Answer> {
        let asked: ByIds = self.body()?;
        let ids = asked
            .search_parameters
            .and_then(|parameters| parameters.lead_ids);
        let ids = ids.ok_or_else(|| Exception::missing("'LeadIds' is mandatory"))?;
        let columns = asked.columns.unwrap_or_default();
        if columns
            .include_csv
            .as_deref()
            .unwrap_or_default()
            .trim()
            .is_empty()
        {
            return Err(Exception::missing("'Include_CSV' is mandatory"));
        }
        if ids.len() > MOST_IDS {
            let message =
                format!("Invalid Input! Parameter Name: LeadIds can not be more than {MOST_IDS}");
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
    pub(super) fn fields<'t>(&self, tenant: &'t Tenant) -> Result<Vec<&'t FieldSpec>> {
        let named = self.include_csv.as_deref().unwrap_or_default();
        let names = named
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for name in names {
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
}

/// A page as places in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    first: usize,
    size: usize,
}

impl Page {
    pub(super) fn of<T>(self, rows: &[T]) -> &[T] {
        let rest = rows.get(self.first..).unwrap_or_default();
        &rest[..self.size.min(rest.len())]
    }
}

impl Paging {
    pub(super) fn size(&self, tenant: &Tenant) -> u64 {
        self.page_size
            .map_or(u64::from(tenant.options.default_page_size), |size| size.0)
    }

    /// The page, of `most` rows at the most. Pages are numbered from one.
    pub(super) fn bounds(&self, tenant: &Tenant, most: u64) -> Page {
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
