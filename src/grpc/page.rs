//! Pages of lists: their sizes and tokens.

use crate::error::{Error, Result};

/// The most of a page, by LeadSquared's own limit where it has one.
const MOST: usize = 1000;

/// The size of a page; 0 asks for the usual one.
pub(super) fn size(asked: i32, usual: usize) -> Result<usize> {
    size_up_to(MOST, asked, usual)
}

/// The size of a page where there is another limit to it.
pub(super) fn size_up_to(most: usize, asked: i32, usual: usize) -> Result<usize> {
    match usize::try_from(asked) {
        Ok(0) => Ok(usual),
        Ok(size) if size <= most => Ok(size),
        _ => Err(Error::invalid("page_size", format!("must be 0 to {most}"))),
    }
}

/// Which page a token stands for, from 0; none is the first.
pub(super) fn number(token: &str) -> Result<usize> {
    if token.is_empty() {
        return Ok(0);
    }
    let number = token.strip_prefix('p').and_then(|digits| digits.parse::<u32>().ok());
    let number = number.ok_or_else(|| Error::invalid("page_token", "is not one that was given out"))?;
    Ok(number as usize)
}

/// The token of a page.
pub(super) fn token(number: usize) -> String {
    format!("p{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_others_are_not() {
        assert_eq!(number(&token(7)), Ok(7));
        assert_eq!(number(""), Ok(0));
        for wrong in ["7", "p", "p-1", "px", "p99999999999"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
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
