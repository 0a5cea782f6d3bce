//! Fuzz target: the tokens of a listing, which callers keep between two pages.

use super::cursor::PageCursor;
use super::modified::{Listing, MAX};

/// From this number of rows on, only tokens that leadgate did not make have such numbers.
const MAX_ROWS: usize = 1 << 31;

/// Continues a listing at a token. The input is the token in the first line, and four bytes for each page that is read next.
pub(crate) fn listing_token(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Ok(token) = std::str::from_utf8(&data[..end]) else {
        return;
    };
    let Some(listing) = Listing::from_token(token) else {
        return;
    };
    assert_eq!(Listing::from_token(&listing.token()).as_ref(), Some(&listing));
    assert!(listing.start < listing.end && (1..=MAX).contains(&listing.size()));
    let _ = listing.is_over();
    read_pages(token, data.get(end + 1..).unwrap_or_default());
}

fn read_pages(token: &str, pages: &[u8]) {
    // The numbers behind the two times. A token of a listing with smaller pages has the requested size at its end.
    let mut numbers: Vec<usize> = token.split('.').skip(2).filter_map(|part| part.parse().ok()).collect();
    numbers.resize(6, 0);
    let Some(mut cursor) = numbers.try_into().ok().and_then(PageCursor::from_numbers) else {
        return;
    };
    for page in pages.chunks_exact(4) {
        let [rows, low, high, flags] = [page[0], page[1], page[2], page[3]].map(usize::from);
        let Some(number) = cursor.next_page() else {
            return;
        };
        // LeadSquared may return more rows than requested, and any total.
        let rows = rows * 32;
        let total = (high << 8 | low) << (flags & 0x0f);
        let _ = cursor.expected(number, total);
        let read = cursor.read(number, rows, total);
        assert!(read.fresh <= rows);
        cursor = match flags & 0x80 {
            0 => read.whole(),
            _ => read.part(low, high.max(1)),
        };
        if cursor.total() < MAX_ROWS {
            let again = PageCursor::from_numbers(cursor.to_numbers());
            assert_eq!(again.as_ref(), Some(&cursor), "a token that was returned is invalid");
        }
    }
}
