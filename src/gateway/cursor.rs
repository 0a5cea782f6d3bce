//! Which page of a list to read next, while rows leave the list or come into it between the pages. Knows positions alone,
//! not what stands there.

use std::ops::Range;

/// A walk over the pages of a list. LeadSquared gives pages by their number: when a row leaves the list, all behind it move
/// forward, and one that stood first on the next page now stands last on the page before, where it would be missed.
///
/// How many rows there are in all comes with each page. So many less than before have left, and nobody knows where, so a row
/// that is now at position p was at p to p + left; so many more have come, and it was at p - come to p. From this follows
/// what of the list as it is now has surely been read, and the walk goes on until that is all of it. It is exact where,
/// between two pages, rows only leave or only come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageCursor {
    size: usize,
    /// How many rows there were when the last page was read; `None` before the first.
    total: Option<usize>,
    /// Every row at a position before this one has been read.
    covered: usize,
    /// So have those at these positions, behind rows that may have been missed.
    ahead: Range<usize>,
    /// Whether the page with the first position that has not been read was given in part, so that it is read again at once.
    is_partial: bool,
}

/// Which rows of a page are to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageRead {
    /// The walk before anything of the page was given.
    cursor: PageCursor,
    /// Where the page begins.
    first: usize,
    rows: usize,
    /// The rows of the page before this one have been given before.
    pub(super) fresh: usize,
}

impl PageRead {
    /// The walk after all rows of the page were given.
    pub(super) fn whole(&self) -> PageCursor {
        let mut cursor = self.cursor.clone();
        cursor.is_partial = false;
        cursor.cover(self.first..self.first + self.rows);
        cursor
    }

    /// The walk after the rows of the page up to this one were given, and those before `fresh` left out. Later pages have at
    /// most `most` rows, and begin behind the last row given where some smaller size allows that.
    pub(super) fn part(&self, end: usize, most: usize) -> PageCursor {
        let mut cursor = self.cursor.clone();
        let end = self.first + end.min(self.rows);
        cursor.cover(self.first + self.fresh..end);
        let most = most.clamp(1, cursor.size);
        // The less of a page was given before, the fewer rows LeadSquared sends twice.
        let sizes = most - most / 4..=most;
        cursor.size = sizes.rev().min_by_key(|size| end % size).unwrap_or(most);
        cursor.is_partial = true;
        cursor
    }
}

impl PageCursor {
    /// From the beginning, in pages of that size.
    pub(super) fn new(size: usize) -> Self {
        Self {
            size: size.max(1),
            total: None,
            covered: 0,
            ahead: 0..0,
            is_partial: false,
        }
    }

    /// How many rows a page has.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many rows there are in all, as of the last page.
    pub(super) fn total(&self) -> usize {
        self.total.unwrap_or_default()
    }

    /// The number of the page to read next, from 1; `None` when all has been read.
    pub(super) fn next_page(&self) -> Option<usize> {
        let Some(total) = self.total else {
            return Some(1);
        };
        if self.covered >= total {
            return None;
        }
        // While rows keep leaving, there is something missing at the end of each page. To read on first, and to go back then,
        // takes two pages for each; the other way round it would take three.
        let onward = self.covered.div_ceil(self.size);
        let page = if !self.is_partial && self.ahead.is_empty() && onward * self.size < total {
            onward
        } else {
            self.covered / self.size
        };
        Some(page + 1)
    }

    /// How many rows that page should have where there are so many in all.
    pub(super) fn expected(&self, page: usize, total: usize) -> usize {
        total.saturating_sub(self.first(page)).min(self.size)
    }

    /// That page was read: so many rows, of so many in all. What of it is given is still to be said.
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

    /// Whether the next page was given in part.
    pub(super) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Takes into account how many rows there are in all now.
    fn count(&mut self, first: usize, rows: usize, total: usize) {
        let total = match (rows, total) {
            // Behind the last page, a count of nothing may only say that the page is empty.
            (0, 0) => first,
            (0, total) => total,
            (rows, total) => total.max(first + rows),
        };
        let before = self.total.replace(total).unwrap_or(total);
        let (left, came) = (before.saturating_sub(total), total.saturating_sub(before));
        self.covered = self.covered.saturating_sub(left);
        self.ahead = self.ahead.start.saturating_add(came)..self.ahead.end.saturating_sub(left);
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
            // Of two that do not touch, the later one is read once more.
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

    /// The walk as numbers, from which it can go on.
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

    /// The walk that those numbers stand for; `None` where they are none of a walk.
    pub(super) fn from_numbers([size, total, covered, start, end, is_partial]: [usize; 6]) -> Option<Self> {
        let most = u32::MAX as usize;
        let is_one = size > 0 && [size, total, covered, end].iter().all(|number| *number < most);
        let is_gap = (start, end) == (0, 0) || (covered < start && start < end);
        let ahead = start..end;
        (is_one && is_gap && is_partial <= 1).then(|| Self {
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

    /// Reads to the end; before each page but the first the list is changed by the next of these.
    fn cursor(
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
    fn a_list_that_stays_is_read_once() {
        for (count, pages) in [
            (0, vec![1]),
            (1, vec![1]),
            (10, vec![1]),
            (11, vec![1, 2]),
            (30, vec![1, 2, 3]),
        ] {
            let (read, rows) = cursor(&mut list(count), 10, |_| {});
            assert_eq!(read, pages, "{count}");
            assert_eq!(rows.len(), count as usize);
        }
    }

    #[test]
    fn after_rows_have_left_it_goes_back_to_where_others_may_have_moved() {
        let mut first = Some(0);
        let (pages, rows) = cursor(&mut list(40), 10, |list| {
            first.take().map(|row| list.remove(&row));
        });
        assert_eq!(pages, [1, 2, 1, 3, 4]);
        assert!(rows.contains(&10));
    }

    #[test]
    fn it_goes_back_as_far_as_rows_may_have_moved() {
        let mut once = true;
        let (pages, rows) = cursor(&mut list(60), 10, |list| {
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
    fn while_a_row_leaves_before_each_page_it_takes_two_for_each() {
        let mut next = 0;
        let (pages, rows) = cursor(&mut list(1000), 100, |list| {
            list.remove(&next);
            next += 1;
        });
        assert!(pages.len() <= 21, "{pages:?}");
        assert!((next..1000).all(|row| rows.contains(&row)));
    }

    #[test]
    fn a_page_behind_the_end_that_counts_nothing_is_no_end() {
        let mut cursor = PageCursor::new(10);
        cursor = cursor.read(1, 10, 11).whole();
        assert_eq!(cursor.next_page(), Some(2));
        cursor = cursor.read(2, 0, 0).whole();
        assert_eq!(cursor.next_page(), Some(1));
        cursor = cursor.read(1, 10, 10).whole();
        assert_eq!(cursor.next_page(), None);
    }

    #[test]
    fn numbers_that_are_no_walk_are_refused() {
        assert_eq!(PageCursor::from_numbers([0, 1, 0, 0, 0, 0]), None);
        assert_eq!(PageCursor::from_numbers([10, usize::MAX, 0, 0, 0, 0]), None);
        assert_eq!(PageCursor::from_numbers([10, 5, 0, 7, 3, 0]), None);
        assert_eq!(PageCursor::from_numbers([10, 5, 8, 7, 9, 0]), None);
        assert_eq!(PageCursor::from_numbers([10, 5, 8, 0, 0, 2]), None);
    }

    /// Reads to the end while no more rows are given at a time than the next of these says. The pages with their sizes, and
    /// the rows given.
    fn walk_in_parts(
        list: &mut BTreeSet<u32>,
        size: usize,
        mut room: impl FnMut() -> usize,
        mut changes: impl FnMut(&mut BTreeSet<u32>),
    ) -> (Vec<(usize, usize)>, Vec<u32>) {
        let mut cursor = PageCursor::new(size);
        let (mut pages, mut given) = (vec![], vec![]);
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
                given.extend(&rows[skipped..]);
                reading.whole()
            } else if fresh.len() <= room {
                given.extend(fresh);
                reading.whole()
            } else {
                given.extend(&fresh[..room]);
                reading.part(reading.fresh + room, room)
            };
            assert_eq!(PageCursor::from_numbers(cursor.to_numbers()), Some(cursor.clone()));
            pages.push((page, size));
            assert!(pages.len() < 10_000, "no end");
        }
        (pages, given)
    }

    #[test]
    fn a_page_that_does_not_fit_is_given_in_parts_and_its_rest_is_asked_for_in_pages_that_fit() {
        let (pages, rows) = walk_in_parts(&mut list(100), 50, || 20, |_| {});
        assert_eq!(pages, [(1, 50), (2, 20), (3, 20), (4, 20), (5, 20)]);
        assert_eq!(rows, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_row_that_left_before_the_rest_of_a_page_hides_no_other() {
        let mut once = Some(3);
        let (_, rows) = walk_in_parts(
            &mut list(40),
            40,
            || 10,
            |list| {
                once.take().map(|row| list.remove(&row));
            },
        );
        assert!((0..40).all(|row| rows.contains(&row)), "{rows:?}");
    }

    /// What happens to a list between two pages.
    #[derive(Clone, Debug)]
    enum Change {
        Leave(Vec<prop::sample::Index>),
        Come(Vec<u32>),
    }

    fn change() -> impl Strategy<Value = Change> {
        let some = 0..6_usize;
        prop_oneof![
            prop::collection::vec(any::<prop::sample::Index>(), some.clone()).prop_map(Change::Leave),
            prop::collection::vec(0..2000_u32, some).prop_map(Change::Come),
        ]
    }

    fn apply(change: &Change, list: &mut BTreeSet<u32>) {
        match change {
            Change::Come(rows) => list.extend(rows),
            Change::Leave(which) => {
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
        fn what_stays_is_read(
            rows in prop::collection::btree_set(0..2000_u32, 0..120),
            size in 1..25_usize,
            changes in prop::collection::vec(change(), 0..20),
        ) {
            let mut list = rows.clone();
            let mut stays = rows;
            let mut changes = changes.into_iter();
            let (_, read) = cursor(&mut list, size, |list| {
                if let Some(change) = changes.next() {
                    apply(&change, list);
                    stays.retain(|row| list.contains(row));
                }
            });
            let read: HashSet<u32> = read.into_iter().collect();
            prop_assert!(stays.iter().all(|row| read.contains(row)));
        }

        #[test]
        fn what_stays_is_given_however_little_fits(
            rows in prop::collection::btree_set(0..2000_u32, 0..120),
            size in 1..60_usize,
            rooms in prop::collection::vec(1..70_usize, 1..20),
            changes in prop::collection::vec(change(), 0..20),
        ) {
            let mut list = rows.clone();
            let mut stays = rows;
            let mut changes = changes.into_iter();
            let mut rooms = rooms.into_iter().cycle();
            let (_, given) = walk_in_parts(&mut list, size, || rooms.next().unwrap(), |list| {
                if let Some(change) = changes.next() {
                    apply(&change, list);
                    stays.retain(|row| list.contains(row));
                }
            });
            let given: HashSet<u32> = given.into_iter().collect();
            prop_assert!(stays.iter().all(|row| given.contains(row)));
        }

        #[test]
        fn each_row_of_a_list_that_stays_is_given_once_however_little_fits(
            count in 0..200_u32,
            size in 1..60_usize,
            rooms in prop::collection::vec(1..70_usize, 1..20),
        ) {
            let mut rooms = rooms.into_iter().cycle();
            let (_, given) = walk_in_parts(&mut list(count), size, || rooms.next().unwrap(), |_| {});
            prop_assert_eq!(given, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn a_walk_goes_on_from_its_numbers(
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
                    apply(&Change::Leave(vec![index]), &mut list);
                }
            }
        }
    }
}
