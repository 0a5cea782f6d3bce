//! Numbers as texts. They are compared by their exact values, without rounding.

/// The exact value of a decimal text: digits after a decimal point, times a power of ten.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    /// The digits, without leading and trailing zeros. Empty for zero.
    digits: String,
    exponent: i64,
}

/// The text of the violation for a text that is not a plain number.
pub const FORM: &str = "must be a number such as -12.50: digits with an optional fraction, without separators";

/// From this value on, a double cannot represent every integer (2^53).
const FIRST_INEXACT: f64 = 9_007_199_254_740_992.0;

/// Whether the text can be sent to LeadSquared unchanged: `12`, `-0.5`, `12345678901234567890`. Exponents, plus signs and
/// separators are rejected, because programs interpret them differently.
pub fn is_plain(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

/// Returns the violation of a double that is written.
pub fn violation(number: f64) -> Option<&'static str> {
    if !number.is_finite() {
        return Some("must be a finite number");
    }
    // The double may be the rounded value of another number.
    let text = "must be between -9007199254740992 and 9007199254740992 (2^53), exclusive: a double cannot represent every \
                integer beyond; use integer or text";
    (number.abs() >= FIRST_INEXACT).then_some(text)
}

/// Returns the integer with exactly the value of the text.
pub fn integer(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// Returns the double with exactly the value of the text. `None` if a digit would be lost.
pub fn double(text: &str) -> Option<f64> {
    let text = text.trim();
    let exact = Decimal::parse(text)?;
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    (Decimal::parse(&number.to_string())? == exact).then_some(number)
}

/// Whether both texts are numbers with the same value.
pub fn same(a: &str, b: &str) -> bool {
    matches!((Decimal::parse(a.trim()), Decimal::parse(b.trim())), (Some(a), Some(b)) if a == b)
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_number = mantissa.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !fraction.contains('.');
        if !is_number || whole.len() + fraction.len() == 0 {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0');
        let exponent = significant.len() as i64 - fraction.len() as i64 + i64::from(power);
        let digits = significant.trim_end_matches('0').to_owned();
        Some(if digits.is_empty() {
            Self {
                is_negative: false,
                digits,
                exponent: 0,
            }
        } else {
            Self {
                is_negative,
                digits,
                exponent,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_digits_are_accepted() {
        for text in [
            "0",
            "-10",
            "12.50",
            "007",
            "12345678901234567890",
            "0.1000000000000000055",
        ] {
            assert!(is_plain(text), "{text}");
        }
        for text in [
            "", " 5", "5 ", "+5", "1,234", "1 234", "1.234,5", "1e5", "1e400", ".5", "5.", "--5", "1.2.3", "٣", "0x10",
            "NaN", "Infinity", "inf", "₹5", "5%", "1_000", "−5", "(5)",
        ] {
            assert!(!is_plain(text), "{text:?}");
        }
    }

    #[test]
    fn a_double_has_the_exact_value_of_its_text() {
        for (text, number) in [("12.50", 12.5), ("0.1", 0.1), ("-1e3", -1000.0), ("5.00", 5.0)] {
            assert_eq!(double(text), Some(number), "{text}");
        }
        for text in [
            "0.1000000000000000055",
            "12345678901234567890",
            "9007199254740993",
            "1e400",
            "NaN",
            "inf",
            "1,5",
            ".",
            "",
            "3.14159265358979323846",
        ] {
            assert_eq!(double(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_compared_to_the_last_digit() {
        for (a, b) in [
            ("2.5", "2.50"),
            ("007", "7"),
            ("-0", "0.000"),
            ("1e3", "1000"),
            (" 5", "5"),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("12345678901234567890", "12345678901234567891"),
            ("1", "-1"),
            ("1", "10"),
            ("x", "x"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn a_double_that_may_have_lost_a_digit_is_rejected() {
        for number in [
            f64::NAN,
            f64::INFINITY,
            12_345_678_901_234_567_890.0,
            -9_007_199_254_740_992.0,
            1e21,
        ] {
            assert!(violation(number).is_some(), "{number}");
        }
        for number in [0.0, -0.5, 250_000.5, 9_007_199_254_740_991.0, 1e-300] {
            assert_eq!(violation(number), None, "{number}");
        }
    }

    proptest! {
        #[test]
        fn every_double_is_parsed_from_its_own_text(number in proptest::num::f64::NORMAL) {
            prop_assert_eq!(double(&number.to_string()), Some(number));
        }

        #[test]
        fn a_parsed_number_has_every_digit_of_its_text(text in "-?[0-9]{1,30}(\\.[0-9]{1,30})?") {
            prop_assert!(is_plain(&text));
            if let Some(number) = double(&text) {
                prop_assert!(same(&number.to_string(), &text));
            }
            if let Some(number) = integer(&text) {
                prop_assert!(same(&number.to_string(), &text));
            }
        }
    }
}
