//! Leads that were modified in a range of time: page by page, or all of them.

use std::sync::Arc;

use jiff::Timestamp;

use super::cursor::{PageCursor, PageRead};
use super::lookup::{columns, id_of};
use super::search::leads;
use super::{Gateway, or_invalid};
use crate::context::RequestContext;
use crate::crm::retry::{Decision, decide_incomplete_page};
use crate::crm::search::{MODIFIED, Page, RecentlyModified};
use crate::domain::field::Catalog;
use crate::domain::lead::{Lead, RawFields};
use crate::domain::lead_id_set::LeadIdSet;
use crate::domain::listed::{Listed, Unreadable};
use crate::domain::mask::ReadMask;
use crate::domain::time;
use crate::error::{ErrorKind, Result};

/// The most leads of a page, by LeadSquared's own limit.
pub const MAX: usize = 5_000;
/// The least of an export's pages, however many columns they have.
const LEAST: usize = 500;
/// About how many values a page of an export has at most, so that its answer stays some tens of megabytes long.
const MAX_VALUES: usize = 250_000;
/// What every token begins with; another form gets another letter.
const TOKEN: char = 'm';

/// How far the leads that were modified in a range have been listed. Its token is all that has to be kept between two pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// From then on.
    pub start: Timestamp,
    /// Before then.
    pub end: Timestamp,
    /// How many leads of a page were asked for; those of the walk may be fewer, if more do not fit into a response.
    size: usize,
    cursor: PageCursor,
}

/// A page of a listing.
#[derive(Clone, Debug)]
pub struct ListedPage {
    /// Its leads.
    pub leads: Vec<Lead>,
    /// Its leads that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// Where each of the leads stands on LeadSquared's page.
    positions: Vec<usize>,
    reading: PageRead,
}

/// A page as it was read.
struct ReadPage {
    rows: Listed<RawFields>,
    /// Where each of the readable rows stands on LeadSquared's page.
    positions: Vec<usize>,
    reading: PageRead,
}

impl ReadPage {
    /// Those rows that are wanted.
    fn of(rows: Listed<RawFields>, reading: PageRead, mut wanted: impl FnMut(&RawFields) -> bool) -> Self {
        let positions = (0..rows.records.len()).map(|index| rows.position(index)).collect();
        let mut page = Self {
            rows,
            positions,
            reading,
        };
        page.retain(|_, row| wanted(row), |_| true);
        page
    }

    /// Keeps those rows, by position and content, and those that cannot be read.
    fn retain(
        &mut self,
        mut wanted: impl FnMut(usize, &RawFields) -> bool,
        unreadable: impl FnMut(&Unreadable) -> bool,
    ) {
        let rows = std::mem::take(&mut self.rows.records).into_iter();
        let positions = std::mem::take(&mut self.positions).into_iter();
        let kept = positions.zip(rows).filter(|(position, row)| wanted(*position, row));
        (self.positions, self.rows.records) = kept.unzip();
        self.rows.unreadable.retain(unreadable);
    }
}

impl ListedPage {
    /// Gives the first of those leads that have not been given before, as many as `fit` says, where not all fit. The
    /// listing goes on behind the last one.
    pub fn cut<T>(
        &mut self,
        listing: &mut Listing,
        leads: &mut Vec<T>,
        fit: impl FnOnce(&[T]) -> Result<usize>,
    ) -> Result<()> {
        let known = self
            .positions
            .partition_point(|position| *position < self.reading.fresh);
        leads.drain(..known.min(leads.len()));
        self.unreadable.retain(|one| one.position >= self.reading.fresh);
        self.positions.drain(..known);
        let count = fit(leads)?;
        if count < leads.len() {
            // Pages of so many should fit although some have longer leads, so that none is read twice.
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
    /// From the beginning, in pages of that size.
    pub fn new(start: Timestamp, end: Timestamp, size: usize) -> Self {
        Self {
            start,
            end,
            size,
            cursor: PageCursor::new(size),
        }
    }

    /// The listing that goes on where that token was given out; `None` where it is no token.
    pub fn from_token(token: &str) -> Option<Self> {
        let mut parts = token.strip_prefix(TOKEN)?.split('.');
        let mut instant = || Timestamp::from_nanosecond(parts.next()?.parse().ok()?).ok();
        let (start, end) = (instant()?, instant()?);
        let mut numbers: Vec<usize> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        // The page size that was asked for is there only where pages have become smaller.
        let size = match numbers.len() {
            5 => {
                numbers.push(0);
                numbers[0]
            }
            7 => numbers.pop()?,
            _ => return None,
        };
        let cursor = PageCursor::from_numbers(numbers.try_into().ok()?)?;
        let is_one = start < end && cursor.size() <= size && size <= MAX;
        is_one.then_some(Self {
            start,
            end,
            size,
            cursor,
        })
    }

    /// A token from which the listing goes on.
    pub fn token(&self) -> String {
        let mut token = format!("{TOKEN}{}.{}", self.start.as_nanosecond(), self.end.as_nanosecond());
        let [numbers @ .., is_partial] = self.cursor.to_numbers();
        for number in numbers {
            token.push_str(&format!(".{number}"));
        }
        if self.cursor.size() != self.size || is_partial != 0 {
            token.push_str(&format!(".{is_partial}.{}", self.size));
        }
        token
    }

    /// How many leads a page has at most.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many leads there are in all, and a few more: LeadSquared counts those of the seconds around the range too.
    pub fn total(&self) -> usize {
        self.cursor.total()
    }

    /// Whether all have been listed.
    pub fn is_over(&self) -> bool {
        self.cursor.next_page().is_none()
    }

    /// Whether a lead belongs to the range. One that does not say when it was modified does: LeadSquared has listed it.
    fn holds(&self, row: &RawFields) -> bool {
        let at = row.get(MODIFIED).and_then(Option::as_deref).and_then(time::read);
        at.is_none_or(|at| self.start <= at && at < self.end)
    }
}

/// An export on its way: every lead of a range, each once.
pub struct Export {
    gateway: Arc<Gateway>,
    context: RequestContext,
    listing: Listing,
    mask: ReadMask,
    catalog: Option<Arc<Catalog>>,
    columns: Vec<String>,
    seen: LeadIdSet,
    /// The unreadable leads that have come.
    unread: LeadIdSet,
}

impl Gateway {
    /// The next page of a listing; `None` when all pages have been read. Between two pages leads may come again, and none
    /// that stays in the range is left out.
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
        let given = if is_partial { page.reading.fresh } else { 0 };
        page.retain(|position, _| position >= given, |one| one.position >= given);
        let listed = leads(page.rows, mask, catalog.as_deref());
        Ok(Some(ListedPage {
            leads: listed.records,
            unreadable: listed.unreadable,
            positions: page.positions,
            reading: page.reading,
        }))
    }

    /// Begins an export of a range, or goes on with one.
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
            unread: LeadIdSet::default(),
        })
    }

    /// Those leads of the next page that belong to the range, with their positions; `None` when all pages have been read.
    async fn next_rows(
        &self,
        context: &RequestContext,
        listing: &mut Listing,
        columns: &[String],
    ) -> Result<Option<ReadPage>> {
        let Some(page) = listing.cursor.next_page() else {
            return Ok(None);
        };
        let operation = RecentlyModified {
            start: listing.start,
            end: listing.end,
            columns: columns.to_vec(),
            page,
            size: listing.cursor.size(),
        };
        for reads in 1.. {
            let Page { rows, total } = self.crm.call(context, &operation).await?;
            let expected = listing.cursor.expected(page, total);
            let count = match rows.is_count_uncertain {
                // The page is taken for whole, so that it is not read for ever.
                true => expected.max(rows.count().min(listing.cursor.size())),
                false => rows.count(),
            };
            // Leads may have left between the count and the rows; if not, some are withheld, and nobody knows which.
            if count >= expected {
                let reading = listing.cursor.read(page, count, total);
                listing.cursor = reading.whole();
                return Ok(Some(ReadPage::of(rows, reading, |row| listing.holds(row))));
            }
            if decide_incomplete_page(reads) != Decision::Retry {
                break;
            }
        }
        let path = "Leads".to_owned();
        Err(ErrorKind::Unreadable { path }.into())
    }
}

/// Where an export begins.
#[derive(Clone, Debug)]
pub enum ExportFrom {
    /// At the beginning of a range: from the first time on, before the second.
    Range(Timestamp, Timestamp),
    /// Where another one broke off.
    Listing(Listing),
}

impl Export {
    /// The leads of the next page that have not come yet; `None` when all have come.
    pub async fn next(&mut self) -> Result<Option<Listed<Lead>>> {
        let read = self.gateway.next_rows(&self.context, &mut self.listing, &self.columns);
        let Some(mut page) = read.await? else {
            return Ok(None);
        };
        let unread = &mut self.unread;
        page.retain(
            |_, row| id_of(row).is_none_or(|id| self.seen.insert(id)),
            |one| one.id.as_deref().is_none_or(|id| unread.insert(id)),
        );
        Ok(Some(leads(page.rows, &self.mask, self.catalog.as_deref())))
    }

    /// How far it is.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }
}

/// How many leads a page of an export has where each has so many columns.
fn page_size(columns: usize) -> usize {
    (MAX_VALUES / columns.max(1)).clamp(LEAST, MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let (start, end) = ("2026-09-01T00:00:00.5Z", "2026-09-02T00:00:00.25Z");
        Listing::new(start.parse().unwrap(), end.parse().unwrap(), 10)
    }

    #[test]
    fn a_listing_goes_on_from_its_token() {
        let mut listing = listing();
        assert_eq!(Listing::from_token(&listing.token()).as_ref(), Some(&listing));
        listing.cursor = listing.cursor.read(1, 10, 95).whole();
        listing.cursor = listing.cursor.read(2, 10, 90).whole();
        let again = Listing::from_token(&listing.token()).unwrap();
        assert_eq!(again, listing);
        assert_eq!((again.total(), again.cursor.next_page()), (90, Some(1)));
    }

    #[test]
    fn a_listing_that_stopped_inside_of_a_page_goes_on_behind_the_last_lead() {
        let mut listing = listing();
        let reading = listing.cursor.read(1, 10, 95);
        listing.cursor = reading.whole();
        let mut page = ListedPage {
            unreadable: vec![],
            leads: vec![],
            // The fourth row does not belong to the range.
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
    fn what_is_no_token_is_none() {
        let good = listing().token();
        let (start, end) = (listing().start.as_nanosecond(), listing().end.as_nanosecond());
        for wrong in [
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
            assert_eq!(Listing::from_token(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_range_has_its_start_and_not_its_end() {
        let holds =
            |at: Option<&str>| listing().holds(&RawFields::from([(MODIFIED.to_owned(), at.map(str::to_owned))]));
        assert!(!holds(Some("2026-09-01 00:00:00.499")));
        assert!(holds(Some("2026-09-01 00:00:00.500")));
        assert!(holds(Some("2026-09-02 00:00:00.249")));
        assert!(!holds(Some("2026-09-02 00:00:00.250")));
        assert!(holds(Some("yesterday")) && holds(None));
    }

    #[test]
    fn pages_of_many_columns_have_fewer_leads() {
        assert_eq!(page_size(0), 5_000);
        assert_eq!(page_size(50), 5_000);
        assert_eq!(page_size(200), 1_250);
        assert_eq!(page_size(10_000), 500);
    }
}
