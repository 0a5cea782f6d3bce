//! Forms of a phone number. Real numbering plans are not considered.

use crate::PhoneLookup;

/// Assumed number of digits of a national number.
const NATIONAL_DIGITS: usize = 10;

/// Converts a number to the stored form: `9845098450` and `+919845098450` become `+91-9845098450`. A number with `+`
/// and a hyphen is unchanged.
pub(crate) fn to_stored(number: &str, country: &str) -> String {
    let number = number.trim();
    if number.starts_with('+') && number.contains('-') {
        return number.into();
    }
    let all = digits(number);
    if all.is_empty() {
        return number.into();
    }
    if number.starts_with('+') {
        return match split(&all, country) {
            Some((code, national)) => format!("+{code}-{national}"),
            None => format!("+{all}"),
        };
    }
    match all.strip_prefix(country) {
        Some(national) if national.len() == NATIONAL_DIGITS => format!("+{country}-{national}"),
        _ => format!("+{country}-{all}"),
    }
}

/// Returns the digits of a number.
pub(crate) fn digits(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

/// Whether the text has at least one digit, and only characters that occur in phone numbers.
pub(crate) fn is_number(number: &str) -> bool {
    let allowed = |c: char| c.is_ascii_digit() || "+-() .".contains(c);
    number.chars().all(allowed) && number.contains(|c: char| c.is_ascii_digit())
}

/// Returns the digits to look up, in the order of priority. Empty if this lookup does not find the form of `number`.
pub(crate) fn candidates(number: &str, country: &str, lookup: PhoneLookup) -> Vec<String> {
    let all = digits(number);
    let spaced = number.contains(['-', ' ']);
    match lookup {
        _ if all.is_empty() => Vec::new(),
        PhoneLookup::Compact if spaced => Vec::new(),
        PhoneLookup::Hyphenated if !(number.starts_with('+') && number.contains('-')) => Vec::new(),
        PhoneLookup::Hyphenated => vec![all],
        PhoneLookup::Any | PhoneLookup::Compact => {
            let with_country = format!("{country}{all}");
            vec![all, with_country]
        }
    }
}

/// Splits digits into the country code and the national number.
fn split<'a>(all: &'a str, country: &str) -> Option<(&'a str, &'a str)> {
    let at = if all.starts_with(country) && !country.is_empty() {
        country.len()
    } else {
        all.len().checked_sub(NATIONAL_DIGITS)?
    };
    let (code, national) = all.split_at(at);
    (!code.is_empty() && !national.is_empty()).then_some((code, national))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stored_with_country_code_and_hyphen() {
        for (given, stored) in [
            ("9845098450", "+91-9845098450"),
            ("+919845098450", "+91-9845098450"),
            ("919845098450", "+91-9845098450"),
            ("98450 98450", "+91-9845098450"),
            ("+91-9845098450", "+91-9845098450"),
            ("+1-4155550123", "+1-4155550123"),
            ("+14155550123", "+1-4155550123"),
            ("+6581234567", "+6581234567"),
            ("+", "+"),
            ("", ""),
        ] {
            assert_eq!(to_stored(given, "91"), stored, "{given}");
        }
    }

    #[test]
    fn each_lookup_finds_its_forms() {
        let forms = [
            "9845098450",
            "919845098450",
            "+919845098450",
            "+91-9845098450",
            "98450 98450",
        ];
        let finds = |lookup| {
            let stored = "919845098450".to_owned();
            forms.map(|form| candidates(form, "91", lookup).contains(&stored))
        };
        assert_eq!(finds(PhoneLookup::Any), [true; 5]);
        assert_eq!(finds(PhoneLookup::Compact), [true, true, true, false, false]);
        assert_eq!(finds(PhoneLookup::Hyphenated), [false, false, false, true, false]);
    }

    #[test]
    fn a_text_with_letters_is_not_a_number() {
        assert!(is_number("+91-98450 98450"));
        assert!(!is_number("call me"));
        assert!(!is_number("+-"));
    }
}
