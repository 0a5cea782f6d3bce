//! Decides which page of a list to read next while rows are added or removed between the pages. Uses
//! the positions of rows only, not their content.

use std::ops::Range;

/// The position in a paged list. LeadSquared numbers pages. When a row is removed, all rows behind it move forward: the first row
/// of the next page becomes the last row of the page that was just read, and would be missed.
///
/// Each page has the total number of rows. If `removed` fewer rows exist than before, their positions are not known: a row that is
/// now at position p was at a position from p to p + removed. If `added` more rows exist, it was at a position from p - added to p.
/// This shows which positions of the current list have certainly been read. The cursor continues until these are all positions. It
/// is exact if rows are only removed or only added between two pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageCursor {
    size: usize,
    /// The total number of rows when the last page was read. `None` before the first page.
    total: Option<usize>,
    /// All rows before this position have been read.
    covered: usize,
    /// The rows at these positions have been read, too. Rows between `covered` and them may have been missed.
    ahead: Range<usize>,
    /// Whether only a part of the current page was returned, so that the rest of it is read next.
    is_partial: bool,
}

/// A page that was read, before its rows are returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageRead {
    /// The cursor before any row of the page is returned.
    cursor: PageCursor,
    /// The position of the first row.
    first: usize,
    rows: usize,
    /// The index of the first row that was not returned before.
    pub(super) fresh: usize,
}

impl PageRead {
    /// The cursor after all rows of the page were returned.
    pub(super) fn whole(&self) -> PageCursor {
        let mut cursor = self.cursor.clone();
        cursor.is_partial = false;
        cursor.cover(self.first..self.first + self.rows);
        cursor
    }

    /// The cursor after the rows from `fresh` to `end` were returned. Later pages have at most `max` rows. If a page size allows it,
    /// the next page begins right behind `end`.
    pub(super) fn part(&self, end: usize, max: usize) -> PageCursor {
        let mut cursor = self.cursor.clone();
        let end = self.first + end.min(self.rows);
        cursor.cover(self.first + self.fresh..end);
        let max = max.clamp(1, cursor.size);
        // The size with the fewest rows that LeadSquared sends twice.
        let sizes = max - max / 4..=max;
        cursor.size = sizes.rev().min_by_key(|size| end % size).unwrap_or(max);
        cursor.is_partial = true;
        cursor
    }
}

impl PageCursor {
    /// A cursor at the beginning of a list, with pages of `size` rows.
    pub(super) fn new(size: usize) -> Self {
        Self {
            size: size.max(1),
            total: None,
            covered: 0,
            ahead: 0..0,
            is_partial: false,
        }
    }

    /// The number of rows of a page.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The total number of rows when the last page was read.
    pub(super) fn total(&self) -> usize {
        self.total.unwrap_or_default()
    }

    /// The number of the page to read next, from 1. `None` if all rows have been read.
    pub(super) fn next_page(&self) -> Option<usize> {
        let Some(total) = self.total else {
            return Some(1);
        };
        if self.covered >= total {
            return None;
        }
        // While rows are removed, rows at the end of each page may be missed. Reading the next page first and then going back needs
        // two reads per page. The other order needs three.
        let onward = self.covered.div_ceil(self.size);
        let page = if !self.is_partial && self.ahead.is_empty() && onward * self.size < total {
            onward
        } else {
            self.covered / self.size
        };
        Some(page + 1)
    }

    /// The number of rows that the page should have if the list has `total` rows.
    pub(super) fn expected(&self, page: usize, total: usize) -> usize {
        total.saturating_sub(self.first(page)).min(self.size)
    }

    /// Records that the page was read with `rows` rows, while the list had `total` rows.
    pub(super) fn read(&self, page: usize, rows: usize, total: usize) -> PageRead {
        let mut cursor = self.clone();
        let first = cursor.first(page);
        cursor.count(first, rows, total);
        let fresh = cursor.covered.saturating_sub(first).min(rows);
        PageRead {
            cursor,
            first,
            rows,
            fresh,
        }
    }

    /// Whether a part of the next page was returned before.
    pub(super) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Moves the known positions by the change of the total.
    fn count(&mut self, first: usize, rows: usize, total: usize) {
        let total = match (rows, total) {
            // Behind the last page, a count of 0 may be that of the page.
            (0, 0) => first,
            (0, total) => total,
            (rows, total) => total.max(first + rows),
        };
        let before = self.total.replace(total).unwrap_or(total);
        let (removed, added) = (before.saturating_sub(total), total.saturating_sub(before));
        self.covered = self.covered.saturating_sub(removed);
        self.ahead = self.ahead.start.saturating_add(added)..self.ahead.end.saturating_sub(removed);
        if self.ahead.is_empty() {
            self.ahead = 0..0;
        }
    }

    fn cover(&mut self, read: Range<usize>) {
        if read.is_empty() {
            return;
        }
        let touch = read.start <= self.ahead.end && self.ahead.start <= read.end;
        if self.ahead.is_empty() || !touch {
            // Only one range is kept. The later one is read again.
            let keeps_ahead = !self.ahead.is_empty() && read.start <= self.covered;
            if !keeps_ahead {
                self.ahead = read.clone();
            }
        } else {
            self.ahead = self.ahead.start.min(read.start)..self.ahead.end.max(read.end);
        }
        for known in [read, self.ahead.clone()] {
            if known.start <= self.covered {
                self.covered = self.covered.max(known.end);
            }
        }
        if self.ahead.end <= self.covered {
            self.ahead = 0..0;
        }
    }

    fn first(&self, page: usize) -> usize {
        page.saturating_sub(1).saturating_mul(self.size)
    }

    /// The cursor as numbers, for a token.
    pub(super) fn to_numbers(&self) -> [usize; 6] {
        let total = self.total.map_or(0, |total| total + 1);
        let is_partial = usize::from(self.is_partial);
        [
            self.size,
            total,
            self.covered,
            self.ahead.start,
            self.ahead.end,
            is_partial,
        ]
    }

    /// The cursor from the numbers of a token. `None` if they are invalid.
    pub(super) fn from_numbers([size, total, covered, start, end, is_partial]: [usize; 6]) -> Option<Self> {
        let max = u32::MAX as usize;
        let is_valid = size > 0 && [size, total, covered, end].iter().all(|number| *number < max);
        let is_gap = (start, end) == (0, 0) || (covered < start && start < end);
        let ahead = start..end;
        (is_valid && is_gap && is_partial <= 1).then(|| Self {
            size,
            total: total.checked_sub(1),
            covered,
            ahead,
            is_partial: is_partial == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use proptest::prelude::*;

    use super::*;

    /// Reads to the end. Changes the list before each page but the first.
    fn read_all(
        list: &mut BTreeSet<u32>,
        size: usize,
        mut changes: impl FnMut(&mut BTreeSet<u32>),
    ) -> (Vec<usize>, Vec<u32>) {
        let mut cursor = PageCursor::new(size);
        let (mut pages, mut rows) = (vec![], vec![]);
        while let Some(page) = cursor.next_page() {
            if !pages.is_empty() {
                changes(list);
            }
            let read: Vec<u32> = list.iter().copied().skip((page - 1) * size).take(size).collect();
            assert_eq!(read.len(), cursor.expected(page, list.len()));
            cursor = cursor.read(page, read.len(), list.len()).whole();
            pages.push(page);
            rows.extend(read);
            assert!(pages.len() < 10_000, "no end");
        }
        (pages, rows)
    }

    fn list(count: u32) -> BTreeSet<u32> {
        (0..count).collect()
    }

    #[test]
    fn an_unchanged_list_is_read_once() {
        for (count, pages) in [
            (0, vec![1]),
            (1, vec![1]),
            (10, vec![1]),
            (11, vec![1, 2]),
            (30, vec![1, 2, 3]),
        ] {
            let (read, rows) = read_all(&mut list(count), 10, |_| {});
            assert_eq!(read, pages, "{count}");
            assert_eq!(rows.len(), count as usize);
        }
    }

    #[test]
    fn after_a_removal_the_pages_before_are_read_again() {
        let mut first = Some(0);
        let (pages, rows) = read_all(&mut list(40), 10, |list| {
            first.take().map(|row| list.remove(&row));
        });
        assert_eq!(pages, [1, 2, 1, 3, 4]);
        assert!(rows.contains(&10));
    }

    #[test]
    fn after_many_removals_all_affected_pages_are_read_again() {
        let mut once = true;
        let (pages, rows) = read_all(&mut list(60), 10, |list| {
            if once && list.len() == 60 {
                once = false;
                list.retain(|row| *row >= 25);
            }
        });
        assert_eq!(pages[..2], [1, 2]);
        assert_eq!(pages[2], 1);
        assert!((25..60).all(|row| rows.contains(&row)));
    }

    #[test]
    fn one_removal_per_page_costs_two_reads_per_page() {
        let mut next = 0;
        let (pages, rows) = read_all(&mut list(1000), 100, |list| {
            list.remove(&next);
            next += 1;
        });
        assert!(pages.len() <= 21, "{pages:?}");
        assert!((next..1000).all(|row| rows.contains(&row)));
    }

    #[test]
    fn an_empty_page_without_a_count_does_not_end_the_list() {
        let mut cursor = PageCursor::new(10);
        cursor = cursor.read(1, 10, 11).whole();
        assert_eq!(cursor.next_page(), Some(2));
        cursor = cursor.read(2, 0, 0).whole();
        assert_eq!(cursor.next_page(), Some(1));
        cursor = cursor.read(1, 10, 10).whole();
        assert_eq!(cursor.next_page(), None);
    }

    #[test]
    fn invalid_numbers_are_rejected() {
        assert_eq!(PageCursor::from_numbers([0, 1, 0, 0, 0, 0]), None);
        assert_eq!(PageCursor::from_numbers([10, usize::MAX, 0, 0, 0, 0]), None);
        assert_eq!(PageCursor::from_numbers([10, 5, 0, 7, 3, 0]), None);
        assert_eq!(PageCursor::from_numbers([10, 5, 8, 7, 9, 0]), None);
        assert_eq!(PageCursor::from_numbers([10, 5, 8, 0, 0, 2]), None);
    }

    /// Reads to the end and returns at most `room` rows at a time. Returns the pages with their sizes, and the rows.
    fn read_in_parts(
        list: &mut BTreeSet<u32>,
        size: usize,
        mut room: impl FnMut() -> usize,
        mut changes: impl FnMut(&mut BTreeSet<u32>),
    ) -> (Vec<(usize, usize)>, Vec<u32>) {
        let mut cursor = PageCursor::new(size);
        let (mut pages, mut returned) = (vec![], vec![]);
        while let Some(page) = cursor.next_page() {
            if !pages.is_empty() {
                changes(list);
            }
            let size = cursor.size();
            let rows: Vec<u32> = list.iter().copied().skip((page - 1) * size).take(size).collect();
            let reading = cursor.read(page, rows.len(), list.len());
            let skipped = if cursor.is_partial() { reading.fresh } else { 0 };
            let room = room().max(1);
            let fresh = &rows[reading.fresh..];
            cursor = if rows.len() - skipped <= room {
                returned.extend(&rows[skipped..]);
                reading.whole()
            } else if fresh.len() <= room {
                returned.extend(fresh);
                reading.whole()
            } else {
                returned.extend(&fresh[..room]);
                reading.part(reading.fresh + room, room)
            };
            assert_eq!(PageCursor::from_numbers(cursor.to_numbers()), Some(cursor.clone()));
            pages.push((page, size));
            assert!(pages.len() < 10_000, "no end");
        }
        (pages, returned)
    }

    #[test]
    fn a_page_that_does_not_fit_is_continued_in_smaller_pages() {
        let (pages, rows) = read_in_parts(&mut list(100), 50, || 20, |_| {});
        assert_eq!(pages, [(1, 50), (2, 20), (3, 20), (4, 20), (5, 20)]);
        assert_eq!(rows, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_removal_within_a_partial_page_hides_no_row() {
        let mut once = Some(3);
        let (_, rows) = read_in_parts(
            &mut list(40),
            40,
            || 10,
            |list| {
                once.take().map(|row| list.remove(&row));
            },
        );
        assert!((0..40).all(|row| rows.contains(&row)), "{rows:?}");
    }

    /// A change of the list between two pages.
    #[derive(Clone, Debug)]
    enum Change {
        Remove(Vec<prop::sample::Index>),
        Add(Vec<u32>),
    }

    fn change() -> impl Strategy<Value = Change> {
        let some = 0..6_usize;
        prop_oneof![
            prop::collection::vec(any::<prop::sample::Index>(), some.clone()).prop_map(Change::Remove),
            prop::collection::vec(0..2000_u32, some).prop_map(Change::Add),
        ]
    }

    fn apply(change: &Change, list: &mut BTreeSet<u32>) {
        match change {
            Change::Add(rows) => list.extend(rows),
            Change::Remove(which) => {
                for index in which.iter().filter(|_| !list.is_empty()).collect::<Vec<_>>() {
                    if let Some(row) = list.iter().copied().nth(index.index(list.len().max(1))) {
                        list.remove(&row);
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn every_remaining_row_is_read(
            rows in prop::collection::btree_set(0..2000_u32, 0..120),
            size in 1..25_usize,
            changes in prop::collection::vec(change(), 0..20),
        ) {
            let mut list = rows.clone();
            let mut remaining = rows;
            let mut changes = changes.into_iter();
            let (_, read) = read_all(&mut list, size, |list| {
                if let Some(change) = changes.next() {
                    apply(&change, list);
                    remaining.retain(|row| list.contains(row));
                }
            });
            let read: HashSet<u32> = read.into_iter().collect();
            prop_assert!(remaining.iter().all(|row| read.contains(row)));
        }

        #[test]
        fn every_remaining_row_is_returned_in_parts_of_any_size(
            rows in prop::collection::btree_set(0..2000_u32, 0..120),
            size in 1..60_usize,
            rooms in prop::collection::vec(1..70_usize, 1..20),
            changes in prop::collection::vec(change(), 0..20),
        ) {
            let mut list = rows.clone();
            let mut remaining = rows;
            let mut changes = changes.into_iter();
            let mut rooms = rooms.into_iter().cycle();
            let (_, returned) = read_in_parts(&mut list, size, || rooms.next().unwrap(), |list| {
                if let Some(change) = changes.next() {
                    apply(&change, list);
                    remaining.retain(|row| list.contains(row));
                }
            });
            let returned: HashSet<u32> = returned.into_iter().collect();
            prop_assert!(remaining.iter().all(|row| returned.contains(row)));
        }

        #[test]
        fn an_unchanged_list_is_returned_once_in_parts_of_any_size(
            count in 0..200_u32,
            size in 1..60_usize,
            rooms in prop::collection::vec(1..70_usize, 1..20),
        ) {
            let mut rooms = rooms.into_iter().cycle();
            let (_, returned) = read_in_parts(&mut list(count), size, || rooms.next().unwrap(), |_| {});
            prop_assert_eq!(returned, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn a_cursor_can_be_restored_from_its_numbers(
            count in 0..100_u32,
            size in 1..25_usize,
            leave in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
        ) {
            let mut list = list(count);
            let mut cursor = PageCursor::new(size);
            let mut leave = leave.into_iter();
            while let Some(page) = cursor.next_page() {
                let rows = list.iter().skip((page - 1) * size).take(size).count();
                cursor = cursor.read(page, rows, list.len()).whole();
                prop_assert_eq!(PageCursor::from_numbers(cursor.to_numbers()), Some(cursor.clone()));
                if let Some(index) = leave.next() {
                    apply(&Change::Remove(vec![index]), &mut list);
                }
            }
        }
    }
}
