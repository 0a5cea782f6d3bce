//! Pages of lists: page sizes, page tokens, and pages that do not fit into one response.

use crate::domain::listed::Listed;
use crate::error::{Error, Result};

/// Maximum page size. LeadSquared has this limit for most lists.
const MAX_PAGE_SIZE: usize = 1000;

/// Returns the page size of a request. 0 is the default.
pub(super) fn size(page_size: i32, default: usize) -> Result<usize> {
    size_with_max(MAX_PAGE_SIZE, page_size, default)
}

/// Returns the page size of a request, for a list with another maximum.
pub(super) fn size_with_max(max: usize, page_size: i32, default: usize) -> Result<usize> {
    match usize::try_from(page_size) {
        Ok(0) => Ok(default),
        Ok(size) if size <= max => Ok(size),
        _ => Err(Error::invalid("page_size", format!("must be 0 to {max}"))),
    }
}

/// The start of a page of a list whose upstream pages have numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PagePosition {
    /// The number of the upstream page, from 0.
    pub(super) number: usize,
    /// The size of the upstream page.
    pub(super) size: usize,
    /// How many of its items were in an earlier response.
    pub(super) skip: usize,
}

impl PagePosition {
    /// The start of a list with that page size.
    pub(super) fn first(size: usize) -> Self {
        Self {
            number: 0,
            size,
            skip: 0,
        }
    }

    /// Parses a page token. Without a token, it is the start of the list. `size` is the page size of the request.
    pub(super) fn parse(token: &str, size: usize) -> Result<Self> {
        if token.is_empty() {
            return Ok(Self::first(size));
        }
        let number = |digits: &str| digits.parse::<u32>().ok().map(|number| number as usize);
        let start = token.strip_prefix('p').and_then(|rest| {
            let mut parts = rest.split('.').map(number);
            let page = parts.next()??;
            let (own, skip) = match parts.next() {
                // Present only if fewer items than requested fit into a response.
                Some(own) => (own?, parts.next()??),
                None => (size, 0),
            };
            let is_valid = parts.next().is_none() && (1..=MAX_PAGE_SIZE).contains(&own) && skip < own;
            is_valid.then_some(Self {
                number: page,
                size: own,
                skip,
            })
        });
        start.ok_or_else(|| Error::invalid("page_token", "is not a page token of this rpc"))
    }

    /// The start of the next upstream page.
    pub(super) fn next(self) -> Self {
        Self {
            number: self.number + 1,
            skip: 0,
            ..self
        }
    }

    /// The start after the first `count` items, if no more fit into a response. Later upstream pages are smaller. If a size
    /// allows it, they start exactly after the last item, so that few items are read twice.
    pub(super) fn after_items(self, count: usize) -> Self {
        let position = self.number * self.size + self.skip + count;
        let max = count.clamp(1, self.size);
        let sizes = max - max / 4..=max;
        let size = sizes.rev().min_by_key(|size| position % size).unwrap_or(max);
        Self {
            number: position / size,
            size,
            skip: position % size,
        }
    }

    /// Returns the page token, for requests with that page size.
    pub(super) fn token(self, size: usize) -> String {
        if self.size == size && self.skip == 0 {
            format!("p{}", self.number)
        } else {
            format!("p{}.{}.{}", self.number, self.size, self.skip)
        }
    }
}

/// Removes the items of a page that were in an earlier response, and the items that do not fit into this one. Returns the
/// start of the next page if not all items fit. An unreadable item has a position, too.
pub(super) fn cut<T>(
    start: PagePosition,
    items: &mut Listed<T>,
    count_fitting: impl FnOnce(&[T]) -> Result<usize>,
) -> Result<Option<PagePosition>> {
    let positions: Vec<usize> = (0..items.records.len()).map(|index| items.position(index)).collect();
    let skipped = positions.partition_point(|position| *position < start.skip);
    items.records.drain(..skipped);
    items.unreadable.retain(|one| one.position >= start.skip);
    let count = count_fitting(&items.records)?;
    if count == items.records.len() {
        return Ok(None);
    }
    // 10 % fewer, so that pages with longer items also fit.
    let count = (count - count / 10).max(1);
    items.records.truncate(count);
    let end = positions.get(skipped + count).copied().unwrap_or(start.size);
    items.unreadable.retain(|one| one.position < end);
    Ok(Some(start.after_items(end - start.skip)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::listed::Unreadable;

    #[test]
    fn only_own_tokens_are_parsed() {
        let start = |number, size, skip| PagePosition { number, size, skip };
        for start in [start(7, 100, 0), start(7, 40, 0), start(7, 40, 39)] {
            assert_eq!(PagePosition::parse(&start.token(100), 100), Ok(start));
        }
        assert_eq!(PagePosition::parse("", 100), Ok(start(0, 100, 0)));
        assert_eq!(PagePosition::parse("p7", 25), Ok(start(7, 25, 0)));
        for wrong in [
            "7",
            "p",
            "p-1",
            "px",
            "p99999999999",
            "p1.2",
            "p1.0.0",
            "p1.5.5",
            "p1.1001.0",
            "p1.5.0.0",
            "p1..0",
        ] {
            assert!(PagePosition::parse(wrong, 100).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_position_after_some_items_skips_exactly_these(
            number in 0..1000_usize,
            size in 1..=MAX_PAGE_SIZE,
            skip in 0..MAX_PAGE_SIZE,
            count in 1..=MAX_PAGE_SIZE,
        ) {
            let (skip, count) = (skip % size, count.min(size - skip % size));
            let start = PagePosition { number, size, skip };
            let after = start.after_items(count);
            let begin = |start: PagePosition| start.number * start.size + start.skip;
            proptest::prop_assert_eq!(begin(after), begin(start) + count);
            proptest::prop_assert!(after.skip < after.size && after.size <= count);
            proptest::prop_assert_eq!(PagePosition::parse(&after.token(1), 1), Ok(after));
        }
    }

    #[test]
    fn a_page_is_cut_after_an_item_and_its_earlier_unreadable_items() {
        let unreadable = |position| Unreadable {
            id: None,
            position,
            path: String::new(),
        };
        let page = || Listed {
            records: vec!["a", "c", "e", "f"],
            unreadable: vec![unreadable(1), unreadable(3)],
            is_count_uncertain: false,
        };
        let mut items = page();
        let next = cut(PagePosition::first(6), &mut items, |_| Ok(2)).unwrap().unwrap();
        assert_eq!(
            (items.records, items.unreadable),
            (vec!["a", "c"], vec![unreadable(1), unreadable(3)])
        );
        assert_eq!(next.number * next.size + next.skip, 4);
        let mut items = page();
        let start = PagePosition {
            skip: 4,
            ..PagePosition::first(6)
        };
        assert_eq!(cut(start, &mut items, |items| Ok(items.len())), Ok(None));
        assert_eq!((items.records, items.unreadable), (vec!["e", "f"], vec![]));
    }

    #[test]
    fn page_sizes_are_limited() {
        assert_eq!(size(0, 25), Ok(25));
        assert_eq!(size(1000, 25), Ok(1000));
        assert!(size(1001, 25).is_err() && size(-1, 25).is_err());
        assert_eq!(size_with_max(5000, 1001, 25), Ok(1001));
        assert!(size_with_max(5000, 5001, 25).is_err());
    }
}
