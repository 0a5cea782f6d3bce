//! Leads that were modified in a range of time: page by page (listing), or all of them (export).

use std::sync::Arc;

use jiff::Timestamp;

use super::cursor::{PageCursor, PageRead};
use super::fields::{visible_error, visible_leads};
use super::lookup::{columns, id_of};
use super::{Gateway, or_invalid};
use crate::context::RequestContext;
use crate::crm::retry::{Decision, decide_incomplete_page};
use crate::crm::search::{MODIFIED, ModifiedLeadsPage, RecentlyModifiedLeads};
use crate::domain::field::Catalog;
use crate::domain::lead::{Lead, RawFields};
use crate::domain::lead_id_set::LeadIdSet;
use crate::domain::listed::{Listed, Unreadable};
use crate::domain::mask::ReadMask;
use crate::domain::time;
use crate::error::{ErrorKind, Result};

/// Maximum number of leads of a page, a limit of LeadSquared.
pub const MAX: usize = 5_000;
/// Minimum number of leads of an export's page.
const MIN_EXPORT_PAGE: usize = 500;
/// Approximate maximum number of values of an export's page. It limits a response to some tens of megabytes.
const MAX_VALUES: usize = 250_000;
/// The first letter of every token. Another format has another letter.
const TOKEN_PREFIX: char = 'm';

/// The state of a listing of modified leads. Between two pages, callers keep its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The start of the range, included.
    pub start: Timestamp,
    /// The end of the range, excluded.
    pub end: Timestamp,
    /// The requested number of leads of a page. The cursor may have fewer, if more do not fit into a response.
    size: usize,
    cursor: PageCursor,
}

/// A page of a listing.
#[derive(Clone, Debug)]
pub struct ListedPage {
    /// The leads.
    pub leads: Vec<Lead>,
    /// The unreadable leads.
    pub unreadable: Vec<Unreadable>,
    /// The position of each lead on LeadSquared's page.
    positions: Vec<usize>,
    reading: PageRead,
}

/// A page of rows.
struct ReadPage {
    rows: Listed<RawFields>,
    /// The position of each readable row on LeadSquared's page.
    positions: Vec<usize>,
    reading: PageRead,
}

impl ReadPage {
    /// The rows for which `is_wanted` is true.
    fn of(rows: Listed<RawFields>, reading: PageRead, mut is_wanted: impl FnMut(&RawFields) -> bool) -> Self {
        let positions = (0..rows.records.len()).map(|index| rows.position(index)).collect();
        let mut page = Self {
            rows,
            positions,
            reading,
        };
        page.retain(|_, row| is_wanted(row), |_| true);
        page
    }

    /// Keeps the rows for which `is_wanted` is true, and the unreadable ones for which `unreadable` is true.
    fn retain(
        &mut self,
        mut is_wanted: impl FnMut(usize, &RawFields) -> bool,
        unreadable: impl FnMut(&Unreadable) -> bool,
    ) {
        let rows = std::mem::take(&mut self.rows.records).into_iter();
        let positions = std::mem::take(&mut self.positions).into_iter();
        let kept = positions.zip(rows).filter(|(position, row)| is_wanted(*position, row));
        (self.positions, self.rows.records) = kept.unzip();
        self.rows.unreadable.retain(unreadable);
    }
}

impl ListedPage {
    /// Removes the leads that were returned before, and those that do not fit: `fit` returns how many leads fit. The listing continues
    /// behind the last remaining lead.
    pub fn cut<T>(
        &mut self,
        listing: &mut Listing,
        leads: &mut Vec<T>,
        fit: impl FnOnce(&[T]) -> Result<usize>,
    ) -> Result<()> {
        let returned = self
            .positions
            .partition_point(|position| *position < self.reading.fresh);
        leads.drain(..returned.min(leads.len()));
        self.unreadable.retain(|one| one.position >= self.reading.fresh);
        self.positions.drain(..returned);
        let count = fit(leads)?;
        if count < leads.len() {
            // Smaller pages, so that pages with longer leads fit too and are not read twice.
            let count = (count - count / 10).max(1);
            leads.truncate(count);
            let end = self.positions.get(count).copied().unwrap_or_default();
            self.unreadable.retain(|one| one.position < end);
            listing.cursor = self.reading.part(end, count);
        }
        Ok(())
    }
}

impl Listing {
    /// A listing from the beginning, with pages of `size` leads.
    pub fn new(start: Timestamp, end: Timestamp, size: usize) -> Self {
        Self {
            start,
            end,
            size,
            cursor: PageCursor::new(size),
        }
    }

    /// The listing that continues at the token. `None` if the token is invalid.
    pub fn from_token(token: &str) -> Option<Self> {
        let mut parts = token.strip_prefix(TOKEN_PREFIX)?.split('.');
        let mut instant = || Timestamp::from_nanosecond(parts.next()?.parse().ok()?).ok();
        let (start, end) = (instant()?, instant()?);
        let mut numbers: Vec<usize> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        // The requested page size is in the token only if pages have become smaller.
        let size = match numbers.len() {
            5 => {
                numbers.push(0);
                numbers[0]
            }
            7 => numbers.pop()?,
            _ => return None,
        };
        let cursor = PageCursor::from_numbers(numbers.try_into().ok()?)?;
        let is_valid = start < end && cursor.size() <= size && size <= MAX;
        is_valid.then_some(Self {
            start,
            end,
            size,
            cursor,
        })
    }

    /// The token from which the listing continues.
    pub fn token(&self) -> String {
        let mut token = format!(
            "{TOKEN_PREFIX}{}.{}",
            self.start.as_nanosecond(),
            self.end.as_nanosecond()
        );
        let [numbers @ .., is_partial] = self.cursor.to_numbers();
        for number in numbers {
            token.push_str(&format!(".{number}"));
        }
        if self.cursor.size() != self.size || is_partial != 0 {
            token.push_str(&format!(".{is_partial}.{}", self.size));
        }
        token
    }

    /// Maximum number of leads of a page.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The approximate total number of leads. LeadSquared also counts leads up to two seconds outside of the range.
    pub fn total(&self) -> usize {
        self.cursor.total()
    }

    /// Whether all leads have been listed.
    pub fn is_over(&self) -> bool {
        self.cursor.next_page().is_none()
    }

    /// Whether a lead is in the range. A lead without a time is in the range, because LeadSquared has listed it.
    fn contains(&self, row: &RawFields) -> bool {
        let at = row.get(MODIFIED).and_then(Option::as_deref).and_then(time::read);
        at.is_none_or(|at| self.start <= at && at < self.end)
    }
}

/// An export in progress: every lead of a range, once.
pub struct Export {
    gateway: Arc<Gateway>,
    context: RequestContext,
    listing: Listing,
    mask: ReadMask,
    catalog: Option<Arc<Catalog>>,
    columns: Vec<String>,
    seen: LeadIdSet,
    /// The unreadable leads that were returned.
    seen_unreadable: LeadIdSet,
}

impl Gateway {
    /// Returns the next page of a listing. `None` if all pages have been read. A lead may be on several pages. A lead that stays in the
    /// range is not missed.
    pub async fn modified_leads(
        &self,
        context: &RequestContext,
        listing: &mut Listing,
        mask: &ReadMask,
    ) -> Result<Option<ListedPage>> {
        let catalog = self.metadata.get_if_available(context).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let columns = columns(mask, catalog.as_deref());
        let is_partial = listing.cursor.is_partial();
        let Some(mut page) = self.next_rows(context, listing, &columns).await? else {
            return Ok(None);
        };
        let returned = if is_partial { page.reading.fresh } else { 0 };
        page.retain(|position, _| position >= returned, |one| one.position >= returned);
        let listed = visible_leads(context, mask, page.rows, catalog.as_deref());
        Ok(Some(ListedPage {
            leads: listed.records,
            unreadable: listed.unreadable,
            positions: page.positions,
            reading: page.reading,
        }))
    }

    /// Begins or continues an export.
    pub async fn export_leads(
        self: &Arc<Self>,
        context: &RequestContext,
        from: ExportFrom,
        mask: ReadMask,
    ) -> Result<Export> {
        let catalog = self.metadata.get_if_available(context).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let columns = columns(&mask, catalog.as_deref());
        let listing = match from {
            ExportFrom::Range(start, end) => Listing::new(start, end, page_size(columns.len())),
            ExportFrom::Listing(listing) => listing,
        };
        Ok(Export {
            gateway: self.clone(),
            context: context.clone(),
            listing,
            mask,
            catalog,
            columns,
            seen: LeadIdSet::default(),
            seen_unreadable: LeadIdSet::default(),
        })
    }

    /// Returns the leads of the next page that are in the range, with their positions. `None` if all pages have been read.
    async fn next_rows(
        &self,
        context: &RequestContext,
        listing: &mut Listing,
        columns: &[String],
    ) -> Result<Option<ReadPage>> {
        let Some(page) = listing.cursor.next_page() else {
            return Ok(None);
        };
        let operation = RecentlyModifiedLeads {
            start: listing.start,
            end: listing.end,
            columns: columns.to_vec(),
            page,
            size: listing.cursor.size(),
        };
        for reads in 1.. {
            let page_read = self.crm.call(context, &operation).await;
            let ModifiedLeadsPage { rows, total } = page_read.map_err(|error| visible_error(context, &[], error))?;
            let expected = listing.cursor.expected(page, total);
            let count = match rows.is_count_uncertain {
                // The page is assumed to be complete. Otherwise it would be read again forever.
                true => expected.max(rows.count().min(listing.cursor.size())),
                false => rows.count(),
            };
            // Fewer rows than expected: leads were removed meanwhile, or LeadSquared did not return all of them.
            if count >= expected {
                let reading = listing.cursor.read(page, count, total);
                listing.cursor = reading.whole();
                return Ok(Some(ReadPage::of(rows, reading, |row| listing.contains(row))));
            }
            if decide_incomplete_page(reads) != Decision::Retry {
                break;
            }
        }
        let path = "Leads".to_owned();
        Err(ErrorKind::Unreadable { path }.into())
    }
}

/// The beginning of an export.
#[derive(Clone, Debug)]
pub enum ExportFrom {
    /// A new export of a range. The start is included, the end is excluded.
    Range(Timestamp, Timestamp),
    /// An export that was interrupted.
    Listing(Listing),
}

impl Export {
    /// Returns the leads of the next page that were not returned before. `None` if all have been returned.
    pub async fn next(&mut self) -> Result<Option<Listed<Lead>>> {
        let read = self.gateway.next_rows(&self.context, &mut self.listing, &self.columns);
        let Some(mut page) = read.await? else {
            return Ok(None);
        };
        let seen_unreadable = &mut self.seen_unreadable;
        page.retain(
            |_, row| id_of(row).is_none_or(|id| self.seen.insert(id)),
            |one| one.id.as_deref().is_none_or(|id| seen_unreadable.insert(id)),
        );
        let catalog = self.catalog.as_deref();
        Ok(Some(visible_leads(&self.context, &self.mask, page.rows, catalog)))
    }

    /// The state of the export.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }
}

/// The number of leads of an export's page if each lead has `columns` columns.
fn page_size(columns: usize) -> usize {
    (MAX_VALUES / columns.max(1)).clamp(MIN_EXPORT_PAGE, MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let (start, end) = ("2026-09-01T00:00:00.5Z", "2026-09-02T00:00:00.25Z");
        Listing::new(start.parse().unwrap(), end.parse().unwrap(), 10)
    }

    #[test]
    fn a_listing_continues_from_its_token() {
        let mut listing = listing();
        assert_eq!(Listing::from_token(&listing.token()).as_ref(), Some(&listing));
        listing.cursor = listing.cursor.read(1, 10, 95).whole();
        listing.cursor = listing.cursor.read(2, 10, 90).whole();
        let again = Listing::from_token(&listing.token()).unwrap();
        assert_eq!(again, listing);
        assert_eq!((again.total(), again.cursor.next_page()), (90, Some(1)));
    }

    #[test]
    fn a_listing_continues_behind_the_last_lead_of_a_partial_page() {
        let mut listing = listing();
        let reading = listing.cursor.read(1, 10, 95);
        listing.cursor = reading.whole();
        let mut page = ListedPage {
            unreadable: vec![],
            leads: vec![],
            // The fourth row is not in the range.
            positions: (0..10).filter(|position| *position != 3).collect(),
            reading,
        };
        let mut leads: Vec<usize> = page.positions.clone();
        page.cut(&mut listing, &mut leads, |leads| Ok(leads.len().min(5)))
            .unwrap();
        assert_eq!(leads, [0, 1, 2, 4, 5]);
        let again = Listing::from_token(&listing.token()).unwrap();
        assert_eq!(again, listing);
        assert_eq!(
            (again.size(), again.cursor.size(), again.cursor.next_page()),
            (10, 5, Some(2))
        );
    }

    #[test]
    fn an_invalid_token_is_none() {
        let good = listing().token();
        let (start, end) = (listing().start.as_nanosecond(), listing().end.as_nanosecond());
        for invalid in [
            String::new(),
            "p2".to_owned(),
            good[1..].to_owned(),
            format!("{good}.1"),
            good.rsplit_once('.').unwrap().0.to_owned(),
            format!("m{end}.{start}.10.0.0.0.0"),
            format!("m{start}.{end}.5001.0.0.0.0"),
            format!("m{start}.{end}.10.-1.0.0.0"),
            format!("m{start}.{}.10.0.0.0.0", "9".repeat(30)),
        ] {
            assert_eq!(Listing::from_token(&invalid), None, "{invalid}");
        }
    }

    #[test]
    fn the_range_includes_its_start_and_excludes_its_end() {
        let contains =
            |at: Option<&str>| listing().contains(&RawFields::from([(MODIFIED.to_owned(), at.map(str::to_owned))]));
        assert!(!contains(Some("2026-09-01 00:00:00.499")));
        assert!(contains(Some("2026-09-01 00:00:00.500")));
        assert!(contains(Some("2026-09-02 00:00:00.249")));
        assert!(!contains(Some("2026-09-02 00:00:00.250")));
        assert!(contains(Some("yesterday")) && contains(None));
    }

    #[test]
    fn pages_of_many_columns_have_fewer_leads() {
        assert_eq!(page_size(0), 5_000);
        assert_eq!(page_size(50), 5_000);
        assert_eq!(page_size(200), 1_250);
        assert_eq!(page_size(10_000), 500);
    }
}
