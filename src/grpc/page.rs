//! Pages of lists: their sizes and tokens.

use crate::domain::listed::Listed;
use crate::error::{Error, Result};

/// The most of a page, by LeadSquared's own limit where it has one.
const MAX: usize = 1000;

/// The size of a page; 0 asks for the usual one.
pub(super) fn size(rpc: i32, usual: usize) -> Result<usize> {
    size_up_to(MAX, rpc, usual)
}

/// The size of a page where there is another limit to it.
pub(super) fn size_up_to(most: usize, rpc: i32, usual: usize) -> Result<usize> {
    match usize::try_from(rpc) {
        Ok(0) => Ok(usual),
        Ok(size) if size <= most => Ok(size),
        _ => Err(Error::invalid("page_size", format!("must be 0 to {most}"))),
    }
}

/// Where a response of a list begins whose upstream pages are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which upstream page, from 0.
    pub(super) number: usize,
    /// How many items the upstream page has at most.
    pub(super) size: usize,
    /// How many of its items were in a response before.
    pub(super) skip: usize,
}

impl Place {
    /// The beginning of a list in pages of that size.
    pub(super) fn first(size: usize) -> Self {
        Self {
            number: 0,
            size,
            skip: 0,
        }
    }

    /// The place that a token stands for; without one the beginning. `size` is the page size of this request.
    pub(super) fn read(token: &str, size: usize) -> Result<Self> {
        if token.is_empty() {
            return Ok(Self::first(size));
        }
        let number = |digits: &str| digits.parse::<u32>().ok().map(|number| number as usize);
        let place = token.strip_prefix('p').and_then(|rest| {
            let mut parts = rest.split('.').map(number);
            let page = parts.next()??;
            let (own, skip) = match parts.next() {
                // Only where fewer items fit into a response than were asked for.
                Some(own) => (own?, parts.next()??),
                None => (size, 0),
            };
            let is_one = parts.next().is_none() && (1..=MAX).contains(&own) && skip < own;
            is_one.then_some(Self {
                number: page,
                size: own,
                skip,
            })
        });
        place.ok_or_else(|| Error::invalid("page_token", "is not one that was given out"))
    }

    /// The place behind the whole page.
    pub(super) fn next(self) -> Self {
        Self {
            number: self.number + 1,
            skip: 0,
            ..self
        }
    }

    /// The place behind the first `count` items from here, where no more fit into a response. Later pages are smaller, and
    /// begin behind the last item where some size allows that, so that few items are read twice.
    pub(super) fn behind(self, count: usize) -> Self {
        let position = self.number * self.size + self.skip + count;
        let most = count.clamp(1, self.size);
        let sizes = most - most / 4..=most;
        let size = sizes.rev().min_by_key(|size| position % size).unwrap_or(most);
        Self {
            number: position / size,
            size,
            skip: position % size,
        }
    }

    /// The token of the place, for a request with that page size.
    pub(super) fn token(self, size: usize) -> String {
        if self.size == size && self.skip == 0 {
            format!("p{}", self.number)
        } else {
            format!("p{}.{}.{}", self.number, self.size, self.skip)
        }
    }
}

/// Leaves those items of a page that fit into a response, without those that were in one before. Returns the place behind them
/// if not all fit. An unreadable item has a position, too.
pub(super) fn cut<T>(
    place: Place,
    items: &mut Listed<T>,
    fitting: impl FnOnce(&[T]) -> Result<usize>,
) -> Result<Option<Place>> {
    let positions: Vec<usize> = (0..items.records.len()).map(|index| items.position(index)).collect();
    let given = positions.partition_point(|position| *position < place.skip);
    items.records.drain(..given);
    items.unreadable.retain(|one| one.position >= place.skip);
    let count = fitting(&items.records)?;
    if count == items.records.len() {
        return Ok(None);
    }
    // Pages of so many should fit although some have longer items.
    let count = (count - count / 10).max(1);
    items.records.truncate(count);
    let end = positions.get(given + count).copied().unwrap_or(place.size);
    items.unreadable.retain(|one| one.position < end);
    Ok(Some(place.behind(end - place.skip)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::listed::Unreadable;

    #[test]
    fn tokens_are_read_back_and_others_are_not() {
        let place = |number, size, skip| Place { number, size, skip };
        for place in [place(7, 100, 0), place(7, 40, 0), place(7, 40, 39)] {
            assert_eq!(Place::read(&place.token(100), 100), Ok(place));
        }
        assert_eq!(Place::read("", 100), Ok(place(0, 100, 0)));
        assert_eq!(Place::read("p7", 25), Ok(place(7, 25, 0)));
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
            assert!(Place::read(wrong, 100).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_place_behind_some_items_is_behind_exactly_these(
            number in 0..1000_usize,
            size in 1..=MAX,
            skip in 0..MAX,
            count in 1..=MAX,
        ) {
            let (skip, count) = (skip % size, count.min(size - skip % size));
            let place = Place { number, size, skip };
            let behind = place.behind(count);
            let begin = |place: Place| place.number * place.size + place.skip;
            proptest::prop_assert_eq!(begin(behind), begin(place) + count);
            proptest::prop_assert!(behind.skip < behind.size && behind.size <= count);
            proptest::prop_assert_eq!(Place::read(&behind.token(1), 1), Ok(behind));
        }
    }

    #[test]
    fn a_page_is_cut_behind_an_item_and_the_unreadable_ones_before_it() {
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
        let next = cut(Place::first(6), &mut items, |_| Ok(2)).unwrap().unwrap();
        assert_eq!(
            (items.records, items.unreadable),
            (vec!["a", "c"], vec![unreadable(1), unreadable(3)])
        );
        assert_eq!(next.number * next.size + next.skip, 4);
        let mut items = page();
        let place = Place {
            skip: 4,
            ..Place::first(6)
        };
        assert_eq!(cut(place, &mut items, |items| Ok(items.len())), Ok(None));
        assert_eq!((items.records, items.unreadable), (vec!["e", "f"], vec![]));
    }

    #[test]
    fn sizes_have_a_limit() {
        assert_eq!(size(0, 25), Ok(25));
        assert_eq!(size(1000, 25), Ok(1000));
        assert!(size(1001, 25).is_err() && size(-1, 25).is_err());
        assert_eq!(size_up_to(5000, 1001, 25), Ok(1001));
        assert!(size_up_to(5000, 5001, 25).is_err());
    }
}
