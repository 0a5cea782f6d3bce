//! Leads found by a criterion or by a word.

use super::lookup::columns;
use super::{Gateway, or_invalid};
use crate::context::RequestContext;
use crate::crm::search as endpoint;
use crate::domain::criterion::{Criterion, Operator, SearchAttribute, SortOrder};
use crate::domain::field::Catalog;
use crate::domain::lead::{Lead, RawFields};
use crate::domain::listed::Listed;
use crate::domain::mask::ReadMask;
use crate::domain::value::Value;
use crate::error::{ErrorKind, Result, Violation};

/// A search for leads, as it was asked for.
#[derive(Clone, Debug)]
pub struct Search {
    /// The attribute, by schema name or by name of a field.
    pub field: String,
    /// How it compares with the value.
    pub operator: Operator,
    /// The value; `None` where there is none, or none that can be read, which is then among the faults.
    pub value: Option<Value>,
    /// What the leads are ordered by; empty: by id.
    pub order_by: String,
    /// Which page, from 1.
    pub page: usize,
    /// How many leads a page has.
    pub size: usize,
    /// Which parts of the leads are wanted.
    pub mask: ReadMask,
    /// What was found wrong when the message was read.
    pub faults: Vec<Violation>,
}

impl Gateway {
    /// A page of the leads that meet a criterion, and whether there may be more behind it.
    pub async fn search_leads(&self, context: &RequestContext, asked: Search) -> Result<(Listed<Lead>, bool)> {
        let catalog = match self.metadata.get_if_available(context).await {
            Some(catalog) => catalog,
            None => {
                // What is wrong already is told without another call.
                or_invalid(asked.faults.clone())?;
                // What LeadSquared makes of an attribute that is none may be all leads, so nothing is asked blindly.
                self.metadata.get(context).await?
            }
        };
        let (criterion, order) = asked.read(&catalog)?;
        let operation = endpoint::Search {
            criterion,
            order,
            columns: columns(&asked.mask, Some(&catalog)),
            page: asked.page,
            size: asked.size,
        };
        let rows = self.crm.call(context, &operation).await?;
        rows.records.iter().for_each(|row| self.known_leads.learn_row(row));
        // LeadSquared tells no total.
        let has_more = rows.count() >= asked.size || rows.is_count_uncertain;
        Ok((leads(rows, &asked.mask, Some(&catalog)), has_more))
    }

    /// The leads that have a word in one of the attributes that LeadSquared looks at.
    pub async fn quick_search_leads(
        &self,
        context: &RequestContext,
        query: &str,
        mask: &ReadMask,
    ) -> Result<Listed<Lead>> {
        let catalog = self.metadata.get_if_available(context).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let rows = self.crm.call(context, &endpoint::QuickSearch(query.to_owned())).await?;
        Ok(leads(rows, mask, catalog.as_deref()))
    }
}

impl Search {
    /// The criterion and the order, or all that is wrong.
    fn read(&self, catalog: &Catalog) -> Result<(Criterion, SortOrder)> {
        let mut faults = self.faults.clone();
        let attribute = SearchAttribute::find(&self.field, catalog);
        if attribute.is_none() && !self.field.is_empty() {
            faults.push(Violation::new("field", "the account has no such attribute"));
        }
        let criterion = attribute.zip(self.value.as_ref()).and_then(|(attribute, value)| {
            let criterion = Criterion::new(attribute, self.operator, value);
            criterion
                .map_err(|text| faults.push(Violation::new("value", text)))
                .ok()
        });
        let order = SortOrder::read(&self.order_by, catalog);
        let order = order.map_err(|text| faults.push(Violation::new("order_by", text))).ok();
        faults.extend(self.mask.check(Some(catalog)));
        match criterion.zip(order) {
            Some(both) if faults.is_empty() => Ok(both),
            _ => Err(ErrorKind::Invalid(faults).into()),
        }
    }
}

/// The leads of rows, with the parts that are wanted.
pub(super) fn leads(rows: Listed<RawFields>, mask: &ReadMask, catalog: Option<&Catalog>) -> Listed<Lead> {
    let read = |mut row: RawFields| {
        mask.apply(&mut row);
        Lead::from_row(row, catalog)
    };
    rows.map(read)
}
