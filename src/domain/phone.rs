//! Phone numbers: validity, equality, and the forms in which LeadSquared may have stored a number. This module uses the
//! lengths of country codes, but no other numbering rules.

use serde::Deserialize;

use super::characters::{self, TextForm, describe};

/// The country calling codes of two digits. 1 and 7 have one digit, all others three (ITU-T E.164).
const TWO_DIGIT_CODES: [&str; 44] = [
    "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49", "51",
    "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82", "84", "86", "90",
    "91", "92", "93", "94", "95", "98",
];

/// The country codes whose national numbers keep a leading zero. In other countries it is a trunk prefix.
const ZERO_KEEPING_CODES: [&str; 6] = ["39", "225", "241", "242", "378", "379"];

/// Maximum number of digits, including the country code (ITU-T E.164).
const MAX_DIGITS: usize = 15;
/// Minimum number of digits. The shortest national numbers in use have 5 or 6, the shortest with a country code 7.
const MIN_NATIONAL_DIGITS: usize = 6;
const MIN_INTERNATIONAL_DIGITS: usize = 7;
/// A number without a plus sign and with fewer digits has no country code.
const MIN_DIGITS_WITH_BARE_CODE: usize = 11;
/// The number of last digits that identify a subscriber.
const SUBSCRIBER_DIGITS: usize = 9;

/// A parsed phone number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PhoneNumber {
    /// Whether the number has a country code, after a plus sign or 00.
    is_international: bool,
    /// The digits, with the country code if there is one, without a trunk prefix.
    digits: String,
    /// The number as written, without separators and extension.
    written: String,
    /// The extension. Empty if there is none.
    extension: String,
}

/// Returns the violation of a phone number, or `None`.
///
/// Accepted are digits with spaces, hyphens, dots and parentheses between them, after an optional plus sign or 00.
/// Extensions are rejected, because LeadSquared ignores them in look-ups and would find another person at the same number.
pub fn violation(text: &str) -> Option<String> {
    match PhoneNumber::parse(text) {
        Ok(number) if !number.extension.is_empty() => Some("must be one phone number without an extension".to_owned()),
        Ok(_) => None,
        Err(text) => Some(format!("must be one phone number: {text}")),
    }
}

/// Returns the forms to look a number up by, the most likely first, at most three: without separators, as LeadSquared
/// documents, and with a hyphen after the country code, as LeadSquared stores it, and the only form that some accounts
/// find. A number without a country code has the second form only if the country code of the account is known. Empty for an
/// invalid number.
pub fn lookup_forms(phone: &str, country: &str) -> Vec<String> {
    let Some(number) = PhoneNumber::parse(phone)
        .ok()
        .filter(|number| number.extension.is_empty())
    else {
        return vec![];
    };
    let hyphenated = |digits: &str| {
        let (code, national) = split(digits)?;
        Some(format!("+{code}-{national}"))
    };
    let digits = number.digits.as_str();
    let candidates = if number.is_international {
        vec![
            Some(format!("+{digits}")),
            hyphenated(digits),
            Some(number.written.clone()),
        ]
    } else if digits == number.written {
        // The number may have a country code without a plus sign.
        let bare = Some(digits).filter(|digits| digits.len() >= MIN_DIGITS_WITH_BARE_CODE);
        let own = match country {
            "" => bare.and_then(hyphenated),
            country => {
                let national = bare.and_then(|digits| digits.strip_prefix(country)).unwrap_or(digits);
                Some(format!("+{country}-{national}"))
            }
        };
        vec![Some(digits.to_owned()), own]
    } else {
        // A leading zero is a trunk prefix in most countries.
        let keeps_zero = ZERO_KEEPING_CODES.contains(&country);
        let national = if keeps_zero { number.written.as_str() } else { digits };
        let own = Some(format!("+{country}-{national}")).filter(|_| !country.is_empty());
        vec![Some(national.to_owned()), own, Some(number.written.clone())]
    };
    let mut forms: Vec<String> = Vec::new();
    for form in candidates.into_iter().flatten() {
        // With the country code, a long number may become invalid, and one with a zero after its own code another number.
        if same(&form, phone) && !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// Whether two texts are the same number. One of them may have no country code. An invalid number equals only the same text.
pub fn same(a: &str, b: &str) -> bool {
    let (Ok(a), Ok(b)) = (PhoneNumber::parse(a), PhoneNumber::parse(b)) else {
        return a.trim() == b.trim();
    };
    a.extension == b.extension && (a.digits == b.digits || a.is_national_of(&b) || b.is_national_of(&a))
}

/// Whether a stored text contains the number. LeadSquared may have stored texts that are invalid here: several numbers, or
/// a number with a word.
pub fn holds(stored: &str, number: &str) -> bool {
    let digits: String = stored.chars().filter(char::is_ascii_digit).collect();
    let is_in = |number: PhoneNumber| {
        let national = split(&number.digits).filter(|_| number.is_international);
        let national = national.map_or(number.digits.as_str(), |(_, national)| national);
        national.len() >= SUBSCRIBER_DIGITS && digits.contains(national) && number.extension.is_empty()
    };
    same(stored, number) || (PhoneNumber::parse(stored).is_err() && PhoneNumber::parse(number).is_ok_and(is_in))
}

/// Returns the keys of a number. Texts that are the same number have a common key. A key is the last digits, which are the same
/// with and without a country code. A short number with a country code has two keys: without the code, and with it. Empty for an
/// invalid number.
pub fn keys(text: &str) -> Vec<String> {
    let Ok(number) = PhoneNumber::parse(text) else {
        return vec![];
    };
    let last = |digits: &str| digits[digits.len().saturating_sub(SUBSCRIBER_DIGITS)..].to_owned();
    let mut keys: Vec<String> = number.national().map(last).into_iter().collect();
    let whole = last(&number.digits);
    if !keys.contains(&whole) {
        keys.push(whole);
    }
    keys
}

/// A country calling code, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CountryCode(String);

impl CountryCode {
    /// The digits. Empty if there is no country code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CountryCode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.strip_prefix('+').unwrap_or(&text);
        let is_code = digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        match is_code && digits.is_empty() == text.is_empty() {
            true => Ok(Self(digits.to_owned())),
            false => Err("must be a country calling code such as \"91\", or empty"),
        }
    }
}

impl PhoneNumber {
    /// Parses a text. The error is the text of a violation.
    fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim_matches(' ');
        if trimmed.is_empty() {
            return Err("it is empty".to_owned());
        }
        if is_shortened(trimmed) {
            return Err(
                "a spreadsheet (Excel) has shortened it to a decimal number and dropped digits; format the column as \
                 text and enter the number again"
                    .to_owned(),
            );
        }
        let (main, extension) = extension(trimmed).unwrap_or((trimmed, ""));
        if let Some(text) = character_violation(text, main, extension) {
            return Err(text);
        }
        let digits: String = main.chars().filter(char::is_ascii_digit).collect();
        let has_plus = main.contains('+');
        let rest = match digits.strip_prefix("00") {
            Some(rest) if !has_plus && rest.len() >= MIN_INTERNATIONAL_DIGITS => Some(rest),
            _ if has_plus => Some(digits.as_str()),
            _ => None,
        };
        let extension = extension.to_owned();
        match rest {
            Some(rest) => {
                let digits = without_trunk_prefix(rest);
                check_count(digits.len(), MIN_INTERNATIONAL_DIGITS)?;
                if digits.starts_with('0') {
                    return Err("no country code begins with 0".to_owned());
                }
                if split(rest).is_some_and(|(_, national)| national.starts_with("00")) {
                    return Err("no number begins with 00 after its country code".to_owned());
                }
                Ok(Self {
                    is_international: true,
                    written: format!("{}{rest}", if has_plus { "+" } else { "00" }),
                    digits,
                    extension,
                })
            }
            None => {
                let national = digits.trim_start_matches('0');
                check_count(digits.len() - usize::from(digits.starts_with('0')), MIN_NATIONAL_DIGITS)?;
                if national.len() < MIN_NATIONAL_DIGITS - 1 {
                    return Err("it has too few digits other than leading zeros".to_owned());
                }
                Ok(Self {
                    is_international: false,
                    digits: national.to_owned(),
                    written: digits,
                    extension,
                })
            }
        }
    }

    /// Returns the digits without the country code, if the number may have one, and without leading zeros.
    fn national(&self) -> Option<&str> {
        let has_code = self.is_international || self.digits.len() >= MIN_DIGITS_WITH_BARE_CODE;
        let (_, national) = split(&self.digits).filter(|_| has_code)?;
        Some(national.trim_start_matches('0')).filter(|national| !national.is_empty())
    }

    /// Whether this is the other number without its country code.
    fn is_national_of(&self, whole: &Self) -> bool {
        !self.is_international && whole.national() == Some(&self.digits)
    }
}

/// Whether a spreadsheet has converted the number to a decimal number: `9.19845E+11`, or `919845098450.0`.
fn is_shortened(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if let Some((mantissa, power)) = text.split_once(['e', 'E']) {
        let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
        return digits(whole) && digits(fraction) && digits(power.trim_start_matches(['+', '-']));
    }
    let fraction = text.split_once(['.', ',']);
    fraction.is_some_and(|(whole, fraction)| digits(whole) && digits(fraction) && fraction.bytes().all(|b| b == b'0'))
}

/// Splits off an extension: `+1 212 555 0100 ext. 12`, `x12`, `#12`, `;ext=12`.
fn extension(text: &str) -> Option<(&str, &str)> {
    let at = text.find(|c: char| c.is_ascii_alphabetic() || matches!(c, '#' | ';'))?;
    let (main, tail) = text.split_at(at);
    let lower = tail.to_ascii_lowercase();
    let marks = [";ext=", "extension", "extn", "ext", "x", "#"];
    let mark = marks.into_iter().find(|mark| lower.starts_with(mark))?;
    let digits = tail[mark.len()..].trim_start_matches(['.', ':', ' ']);
    let is_extension = (1..=7).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    is_extension.then(|| (main.trim_end_matches([' ', ',']), digits))
}

/// Returns the violation of the first character that is not allowed, or not allowed at its position.
fn character_violation(text: &str, main: &str, extension: &str) -> Option<String> {
    if let Some(text) = characters::violation(text, TextForm::Key) {
        return Some(text);
    }
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '+' | ' ' | '-' | '.' | '(' | ')');
    // If there is an extension, the characters around it were checked already.
    let unchecked = if extension.is_empty() { text } else { main };
    if let Some((at, c)) = unchecked.chars().enumerate().find(|(_, c)| !is_part(*c)) {
        let hint = match c {
            ',' | ';' | '/' | '|' | '&' => " (several numbers?)",
            _ => "",
        };
        return Some(format!("must not contain {}{hint}", describe(c, at)));
    }
    let begins = main.strip_prefix('(').unwrap_or(main);
    if begins.strip_prefix('+').unwrap_or(begins).contains('+') {
        return Some("has a plus sign that is not at its beginning (several numbers?)".to_owned());
    }
    if !main.starts_with(['+', '(']) && !main.starts_with(|c: char| c.is_ascii_digit()) {
        return Some("must begin with a digit, a plus sign or a parenthesis".to_owned());
    }
    if !main.ends_with(')') && !main.ends_with(|c: char| c.is_ascii_digit()) {
        return Some("must end with a digit".to_owned());
    }
    let mut is_open = false;
    for c in main.chars().filter(|c| matches!(c, '(' | ')')) {
        if is_open == (c == '(') {
            return Some("has parentheses that do not match".to_owned());
        }
        is_open = !is_open;
    }
    is_open.then(|| "has parentheses that do not match".to_owned())
}

fn check_count(digits: usize, min: usize) -> Result<(), String> {
    if digits < min {
        return Err(format!("it has {digits} digits; at least {min} are needed"));
    }
    if digits > MAX_DIGITS {
        return Err(format!(
            "it has {digits} digits; at most {MAX_DIGITS} are possible (several numbers?)"
        ));
    }
    Ok(())
}

/// Returns the digits after a plus sign or 00, without the zero of `+44 (0)20 ...` and `+91 098450...`.
fn without_trunk_prefix(digits: &str) -> String {
    match split(digits) {
        Some((code, national)) if !ZERO_KEEPING_CODES.contains(&code) => {
            format!("{code}{}", national.strip_prefix('0').unwrap_or(national))
        }
        _ => digits.to_owned(),
    }
}

/// Splits digits into the country code and the national number.
fn split(digits: &str) -> Option<(&str, &str)> {
    let (code, national) = digits.split_at_checked(country_code_length(digits))?;
    (!national.is_empty()).then_some((code, national))
}

fn country_code_length(digits: &str) -> usize {
    match digits.as_bytes() {
        [b'1' | b'7', ..] => 1,
        _ if digits.get(..2).is_some_and(|two| TWO_DIGIT_CODES.contains(&two)) => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_with_the_usual_separators_are_valid() {
        for text in [
            "9845098450",
            "09845098450",
            "+91-9845098450",
            "+91 98450 98450",
            "+91-98450-98450",
            "(+91) 98450 98450",
            "0091 98450 98450",
            "(0)98450 98450",
            "+44 (0)20 7946 0958",
            "+1 (212) 555-0100",
            "212.555.0100",
            " 9845098450 ",
            "312345",
            "+6834000",
            "123456789012345",
            "8888888888",
        ] {
            assert_eq!(violation(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_not_one_phone_number_is_rejected() {
        for text in [
            "",
            " ",
            "abc",
            "N/A",
            "-",
            "+",
            "()",
            "none",
            "123",
            "12345",
            "+91",
            "+91 9845",
            "0000000000",
            "1234567890123456",
            "+1234567890123456",
            "98450 98450 / 98451 98451",
            "9845098450,9845198451",
            "9845098450; 9845198451",
            "98450 98450 98451 98451",
            "+919845098450 +919845198451",
            "98450 or 98451",
            "98450x98450x1",
            "++919845098450",
            "-9845098450",
            "9845098450-",
            "(98450 98450",
            "98450) 98450",
            "((98450)) 98450",
            "+0 98450 98450",
            "+91-00919845098450",
            "'9845098450",
            "=9845098450",
            "tel:+919845098450",
            "98450\u{a0}98450",
            "98450\u{2011}98450",
            "98450\t98450",
            "9845098450\u{200b}",
            "\u{202a}+919845098450\u{202c}",
            "९८४५०९८४५०",
            "９８４５０９８４５０",
            "9845098450 home",
            "1/2/2026 10:00",
        ] {
            assert!(violation(text).is_some(), "{text:?}");
            assert!(keys(text).is_empty(), "{text:?}");
            assert!(lookup_forms(text, "91").is_empty(), "{text:?}");
        }
    }

    #[test]
    fn a_number_that_a_spreadsheet_has_shortened_has_its_own_error() {
        for text in [
            "9.19845E+11",
            "9,19845E+11",
            "9E+11",
            "9.19845e11",
            "+9.19845E+11",
            "919845098450.0",
            "9845098450.00",
        ] {
            let text = violation(text).unwrap();
            assert!(text.contains("spreadsheet (Excel) has shortened"), "{text}: {text}");
        }
        assert!(!violation("9.19845F+11").unwrap().contains("spreadsheet"));
    }

    #[test]
    fn the_invalid_character_is_described() {
        assert_eq!(
            violation("98450 98450 / 98451").as_deref(),
            Some("must be one phone number: must not contain U+002F at position 13 (several numbers?)")
        );
        assert_eq!(
            violation("abc").as_deref(),
            Some("must be one phone number: must not contain U+0061 at position 1")
        );
    }

    #[test]
    fn a_country_code_is_one_to_three_digits_or_none() {
        let read = |text: &str| CountryCode::try_from(text.to_owned()).map(|code| code.0);
        for (text, digits) in [("", ""), ("91", "91"), ("+91", "91"), ("1", "1"), ("971", "971")] {
            assert_eq!(read(text).as_deref(), Ok(digits), "{text}");
        }
        for text in ["+", "091", "0", "9191", "IN", "91 ", "٩١"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn both_forms_of_an_international_number_are_tried() {
        for text in ["+91 98450-98450", "(+91) 9845098450", "+919845098450"] {
            assert_eq!(lookup_forms(text, ""), ["+919845098450", "+91-9845098450"], "{text}");
        }
        // LeadSquared may have stored these forms.
        for (text, written) in [
            ("0091 98450 98450", "00919845098450"),
            ("+91 (0)98450 98450", "+9109845098450"),
            ("+91 098450 98450", "+9109845098450"),
        ] {
            assert_eq!(
                lookup_forms(text, ""),
                ["+919845098450", "+91-9845098450", written],
                "{text}"
            );
        }
        assert_eq!(
            lookup_forms("+1 (212) 555 0100", "91"),
            ["+12125550100", "+1-2125550100"]
        );
        assert_eq!(lookup_forms("+971501234567", ""), ["+971501234567", "+971-501234567"]);
        assert_eq!(lookup_forms("+39 06 698 1234", ""), ["+39066981234", "+39-066981234"]);
    }

    #[test]
    fn a_national_number_is_tried_as_it_is_and_with_the_accounts_country_code() {
        assert_eq!(lookup_forms("88888 88888", ""), ["8888888888"]);
        assert_eq!(lookup_forms("88888 88888", "91"), ["8888888888", "+91-8888888888"]);
        assert_eq!(lookup_forms("919845098450", "91"), ["919845098450", "+91-9845098450"]);
        assert_eq!(lookup_forms("919845098450", ""), ["919845098450", "+91-9845098450"]);
        // With a plus sign, the zero would be a trunk prefix.
        assert_eq!(lookup_forms("9109845098450", "91"), ["9109845098450"]);
    }

    #[test]
    fn a_leading_zero_is_a_trunk_prefix_or_part_of_the_number() {
        for text in ["09845098450", "(0)98450 98450", "0 98450-98450"] {
            assert_eq!(lookup_forms(text, ""), ["9845098450", "09845098450"], "{text}");
            assert_eq!(
                lookup_forms(text, "91"),
                ["9845098450", "+91-9845098450", "09845098450"],
                "{text}"
            );
        }
        assert_eq!(lookup_forms("06 698 1234", "39"), ["066981234", "+39-066981234"]);
    }

    #[test]
    fn numbers_are_the_same_with_and_without_country_code() {
        for (a, b) in [
            ("+91-9845098450", "9845098450"),
            ("09845098450", "+919845098450"),
            ("0091 98450 98450", "+91-9845098450"),
            ("919845098450", "+91-9845098450"),
            ("919845098450", "9845098450"),
            ("(0)98450 98450", "98450-98450"),
            ("+91-09845098450", "09845098450"),
            ("+39 06 698 1234", "06 698 1234"),
            ("212-555-0100 x12", "+1 212 555 0100 ext. 12"),
        ] {
            assert!(same(a, b) && same(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("9845098450", "9845098451"),
            ("50", "9845098450"),
            ("5098450", "9845098450"),
            ("+1-9845098450", "+91-9845098450"),
            ("919845098450", "+1-9845098450"),
            ("212-555-0100 x12", "212-555-0100 x13"),
            ("212-555-0100 x12", "212-555-0100"),
            ("9.19845E+11", "91984511"),
            ("N/A", "abc"),
        ] {
            assert!(!same(a, b) && !same(b, a), "{a} {b}");
        }
        assert!(same("9.19845E+11", "9.19845E+11 "));
    }

    #[test]
    fn a_number_with_an_extension_is_rejected_and_not_looked_up() {
        for number in [
            "+1 212 555 0100 ext. 12",
            "+1 212 555 0100, Ext 12",
            "212-555-0100 x1234",
            "212-555-0100 #7",
            "+1-212-555-0100;ext=123",
        ] {
            assert!(violation(number).unwrap().contains("without an extension"), "{number}");
            assert!(lookup_forms(number, "1").is_empty());
        }
        assert_eq!(violation("+1 212 555 0100"), None);
        assert!(violation("abc").is_some());
    }

    #[test]
    fn a_stored_text_may_have_more_than_the_number() {
        for stored in [
            "98450 98450 / 98451 98451",
            "9845098450 (office)",
            "+91-9845098450",
            "tel: 098450 98450",
            "+91-00919845098450",
        ] {
            for number in ["9845098450", "+91-9845098450", "09845098450"] {
                assert!(holds(stored, number), "{stored} {number}");
            }
            assert!(!holds(stored, "9845098459"), "{stored}");
        }
        assert!(!holds("9.19845E+11", "91984511") && !holds("+1-9845098450", "+91-9845098450"));
        assert!(!holds("9845098450 (office)", "9845098450 ext 5"));
    }

    #[test]
    fn all_forms_of_a_number_have_a_common_key() {
        for text in [
            "9845098450",
            "09845098450",
            "+91-9845098450",
            "0091 98450 98450",
            "+91 (0)98450 98450 ext 7",
        ] {
            assert_eq!(keys(text), ["845098450"], "{text}");
        }
        // Numbers with fewer digits.
        assert_eq!(keys("81234567"), ["81234567"]);
        assert_eq!(keys("+65-81234567"), ["81234567", "581234567"]);
        assert_eq!(keys("6581234567"), ["581234567"]);
        assert_eq!(keys("+372 12345"), ["12345", "37212345"]);
    }

    proptest! {
        #[test]
        fn separators_change_nothing(national in "[1-9][0-9]{9}", separators in "[ .-]{9}") {
            let spread: String = national.chars().zip(separators.chars().chain([' '])).flat_map(|(d, s)| [d, s]).collect();
            let text = format!("+91 {}", spread.trim_end());
            let plain = format!("+91-{national}");
            prop_assert_eq!(violation(&text), None);
            prop_assert!(same(&text, &plain));
            prop_assert_eq!(lookup_forms(&text, ""), lookup_forms(&plain, ""));
            prop_assert_eq!(keys(&text), keys(&national));
        }

        #[test]
        fn only_valid_numbers_are_looked_up(text in any::<String>()) {
            prop_assert_eq!(violation(&text).is_none(), !keys(&text).is_empty());
            prop_assert_eq!(violation(&text).is_none(), !lookup_forms(&text, "91").is_empty());
            prop_assert!(lookup_forms(&text, "91").len() <= 3);
        }

        #[test]
        fn texts_of_the_same_number_have_a_common_key(
            national in "0{0,2}[1-9][0-9]{3,10}",
            code in "[1-9][0-9]{0,2}",
            forms in prop::array::uniform2(0..5),
        ) {
            let [a, b] = forms.map(|form| match form {
                0 => national.clone(),
                1 => format!("{code}{national}"),
                2 => format!("+{code}{national}"),
                3 => format!("00{code}-{national}"),
                _ => format!("+{code} (0){national}"),
            });
            let common = keys(&a).iter().any(|key| keys(&b).contains(key));
            prop_assert!(common || violation(&a).is_some() || !same(&a, &b), "{a} {b}");
        }

        #[test]
        fn texts_of_phone_characters_never_panic(text in "[+0-9 ().xE,-]{0,24}") {
            let forms = lookup_forms(&text, "91");
            prop_assert_eq!(violation(&text).is_none(), !forms.is_empty());
            prop_assert!(forms.iter().all(|form| same(form, &text)), "{:?}", forms);
        }
    }
}
