//! Phone numbers as far as looking one up needs them: the forms that LeadSquared may have stored.

/// The country calling codes of two digits; 1 and 7 have one digit, all others three (ITU-T E.164).
const TWO_DIGITS: [&str; 44] = [
    "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49", "51",
    "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82", "84", "86", "90",
    "91", "92", "93", "94", "95", "98",
];

/// The forms to look a number up by, the likeliest first: without separators, as the vendor's page asks, and with a
/// hyphen after the country code, as it is stored and as some accounts alone find it.
pub fn lookup_forms(phone: &str) -> Vec<String> {
    let compact: String = phone
        .trim()
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == '+')
        .collect();
    let hyphenated = compact.strip_prefix('+').and_then(|digits| {
        let (country, number) = digits.split_at_checked(country_code_length(digits))?;
        (!number.is_empty()).then(|| format!("+{country}-{number}"))
    });
    [Some(compact), hyphenated].into_iter().flatten().collect()
}

/// Whether two texts are the same number, one of them perhaps without its country code.
pub fn same(a: &str, b: &str) -> bool {
    let both_whole = [a, b].iter().all(|number| number.trim_start().starts_with('+'));
    let (a, b) = (digits(a), digits(b));
    if both_whole {
        return a == b;
    }
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    // Shorter than any subscriber number, it must be all equal.
    if short.len() < 7 {
        short == long
    } else {
        long.ends_with(&short)
    }
}

/// The last digits of a number, which are the same with and without its country code.
pub fn subscriber(text: &str) -> String {
    let digits = digits(text);
    digits[digits.len().saturating_sub(SUBSCRIBER)..].to_owned()
}

/// At least so many digits has a number that is told apart from others.
const SUBSCRIBER: usize = 9;

fn digits(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.trim_start_matches('0').to_owned()
}

fn country_code_length(digits: &str) -> usize {
    match digits.as_bytes() {
        [b'1' | b'7', ..] => 1,
        _ if digits.get(..2).is_some_and(|two| TWO_DIGITS.contains(&two)) => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_international_number_are_tried() {
        assert_eq!(lookup_forms("+91 98450-98450"), ["+919845098450", "+91-9845098450"]);
        assert_eq!(lookup_forms("+1 (212) 555 0100"), ["+12125550100", "+1-2125550100"]);
        assert_eq!(lookup_forms("+971501234567"), ["+971501234567", "+971-501234567"]);
    }

    #[test]
    fn a_national_number_has_one_form() {
        assert_eq!(lookup_forms("88888 88888"), ["8888888888"]);
    }

    #[test]
    fn a_country_code_alone_is_not_split() {
        assert_eq!(lookup_forms("+91"), ["+91"]);
        assert_eq!(lookup_forms("+"), ["+"]);
    }

    #[test]
    fn numbers_are_the_same_with_and_without_country_code() {
        assert!(same("+91-9845098450", "9845098450"));
        assert!(same("09845098450", "+919845098450"));
        assert!(!same("9845098450", "9845098451"));
        assert!(!same("50", "9845098450"));
        assert!(!same("+1-9845098450", "+91-9845098450"));
    }
}
