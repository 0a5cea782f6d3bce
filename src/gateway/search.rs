//! Searches for leads, by a criterion or by a word.

use super::fields::{visible_error, visible_leads};
use super::lookup::columns;
use super::{Gateway, or_invalid};
use crate::context::RequestContext;
use crate::crm::search as endpoint;
use crate::domain::criterion::{Criterion, Operator, SearchAttribute, SortOrder};
use crate::domain::field::Catalog;
use crate::domain::lead::Lead;
use crate::domain::listed::Listed;
use crate::domain::mask::ReadMask;
use crate::domain::value::Value;
use crate::error::{ErrorKind, Result, Violation};

/// A search for leads by a criterion.
#[derive(Clone, Debug)]
pub struct LeadSearch {
    /// The attribute: a schema name or the name of a field.
    pub field: String,
    /// How the attribute is compared with the value.
    pub operator: Operator,
    /// The value. `None` if it is missing or invalid; an invalid value is one of the violations.
    pub value: Option<Value>,
    /// The attribute by which the leads are ordered. Empty: by id.
    pub order_by: String,
    /// The number of the page, from 1.
    pub page: usize,
    /// The number of leads of a page.
    pub size: usize,
    /// The parts of the leads to return.
    pub mask: ReadMask,
    /// The violations that were found when the message was read.
    pub violations: Vec<Violation>,
}

impl Gateway {
    /// Returns a page of the leads that meet a criterion, and whether there may be a next page.
    pub async fn search_leads(&self, context: &RequestContext, search: LeadSearch) -> Result<(Listed<Lead>, bool)> {
        let catalog = match self.metadata.get_if_available(context).await {
            Some(catalog) => catalog,
            None => {
                // Violations that are already known need no call.
                or_invalid(search.violations.clone())?;
                // LeadSquared may return all leads for an unknown attribute, so the metadata is required.
                self.metadata.get(context).await?
            }
        };
        let (criterion, order) = search.read(&catalog)?;
        let operation = endpoint::SearchLeads {
            criterion,
            order,
            columns: columns(&search.mask, Some(&catalog)),
            page: search.page,
            size: search.size,
        };
        let rows = self.crm.call(context, &operation).await;
        let rows = rows.map_err(|error| visible_error(context, &[], error))?;
        rows.records.iter().for_each(|row| self.known_leads.learn_row(row));
        // LeadSquared returns no total.
        let has_more = rows.count() >= search.size || rows.is_count_uncertain;
        Ok((visible_leads(context, &search.mask, rows, Some(&catalog)), has_more))
    }

    /// Returns the leads with a word in one of the attributes that LeadSquared searches.
    pub async fn quick_search_leads(
        &self,
        context: &RequestContext,
        query: &str,
        mask: &ReadMask,
    ) -> Result<Listed<Lead>> {
        let catalog = self.metadata.get_if_available(context).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let rows = self
            .crm
            .call(context, &endpoint::QuickSearchLeads(query.to_owned()))
            .await;
        let rows = rows.map_err(|error| visible_error(context, &[], error))?;
        Ok(visible_leads(context, mask, rows, catalog.as_deref()))
    }
}

impl LeadSearch {
    /// Returns the criterion and the order, or all violations.
    fn read(&self, catalog: &Catalog) -> Result<(Criterion, SortOrder)> {
        let mut violations = self.violations.clone();
        let attribute = SearchAttribute::find(&self.field, catalog);
        if attribute.is_none() && !self.field.is_empty() {
            violations.push(Violation::new("field", "the account has no such attribute"));
        }
        let criterion = attribute.zip(self.value.as_ref()).and_then(|(attribute, value)| {
            let criterion = Criterion::new(attribute, self.operator, value);
            criterion
                .map_err(|text| violations.push(Violation::new("value", text)))
                .ok()
        });
        let order = SortOrder::read(&self.order_by, catalog);
        let order = order
            .map_err(|text| violations.push(Violation::new("order_by", text)))
            .ok();
        violations.extend(self.mask.check(Some(catalog)));
        match criterion.zip(order) {
            Some(both) if violations.is_empty() => Ok(both),
            _ => Err(ErrorKind::Invalid(violations).into()),
        }
    }
}
