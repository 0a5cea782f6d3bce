//! Values: validation for a field, the stored form, and the formats of date-times in reads.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::http::response::{Exception, Result};
use crate::leads::fields::{FieldKind, FieldSpec};
use crate::leads::phone;
use crate::{DateForm, Options};

/// The format of stored date-times.
const STORED_FORMAT: &str = "%Y-%m-%d %H:%M:%S%.3f";

/// Converts a value to the stored form. Returns an error if it is invalid for the field.
pub(crate) fn to_stored(field: &FieldSpec, value: &str, options: &Options) -> Result<String> {
    let name = &field.schema_name;
    let wrong_type =
        |wanted: &str| Exception::wrong_type(format!("Value of attribute '{name}' is not a valid {wanted}"));
    match field.kind() {
        FieldKind::Number => {
            let number = value.trim().parse::<f64>();
            number
                .ok()
                .filter(|number| number.is_finite())
                .ok_or_else(|| wrong_type("number"))?;
            return Ok(value.trim().into());
        }
        FieldKind::Boolean => return Ok(parse_boolean(value).ok_or_else(|| wrong_type("boolean"))?.into()),
        FieldKind::Date => {
            let time = parse_date_time(value).ok_or_else(|| wrong_type("date"))?;
            return Ok(time.strftime(STORED_FORMAT).to_string());
        }
        FieldKind::Email if options.formats_checked && !is_email(value) => {
            return Err(Exception::invalid("Invalid Email format"));
        }
        FieldKind::Phone if options.formats_checked && !phone::is_number(value) => {
            return Err(Exception::invalid("Invalid Phone format"));
        }
        _ => {}
    }
    let max = field
        .max_length
        .filter(|_| options.max_length_enforced || options.max_length_cuts);
    if let Some(max) = max
        && value.chars().count() > max as usize
    {
        if options.max_length_cuts {
            return Ok(value.chars().take(max as usize).collect());
        }
        let message = format!("Length of attribute '{name}' can not be more than {max}");
        return Err(Exception::invalid(message));
    }
    Ok(match field.kind() {
        FieldKind::Phone => phone::to_stored(value, &options.default_country_code),
        _ => value.into(),
    })
}

/// Parses a boolean to `1` or `0`. It accepts the forms that were observed in writes.
pub(crate) fn parse_boolean(value: &str) -> Option<&'static str> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Some("1"),
        "0" | "false" => Some("0"),
        _ => None,
    }
}

/// Parses a date or a date-time.
pub(crate) fn parse_date_time(value: &str) -> Option<DateTime> {
    let value = value.trim();
    let (date, time) = value.split_once([' ', 'T']).unwrap_or((value, "00:00:00"));
    let date = date.parse::<jiff::civil::Date>().ok()?;
    let time = time.parse::<jiff::civil::Time>().ok()?;
    Some(date.to_datetime(time))
}

/// Parses a date or a date-time in UTC to a timestamp.
pub(crate) fn parse_timestamp(value: &str) -> Option<Timestamp> {
    let zoned = parse_date_time(value)?.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp())
}

/// Formats a timestamp as a stored date-time.
pub(crate) fn format_timestamp(timestamp: Timestamp) -> String {
    timestamp.strftime(STORED_FORMAT).to_string()
}

/// Formats a stored date-time for a read. `attribute` selects the format if `form` is [`DateForm::Mixed`].
pub(crate) fn format_date_time(stored: &str, attribute: &str, form: DateForm) -> String {
    let Some(time) = parse_date_time(stored) else {
        return stored.into();
    };
    let form = match form {
        DateForm::Mixed => {
            let sum: usize = attribute.bytes().map(usize::from).sum();
            [DateForm::Millis, DateForm::Plain, DateForm::Us][sum % 3]
        }
        other => other,
    };
    match form {
        DateForm::Us => time.strftime("%-m/%-d/%Y %-I:%M:%S %p").to_string(),
        DateForm::Ticks => {
            let zoned = time.to_zoned(TimeZone::UTC);
            let millis = zoned
                .map(|zoned| zoned.timestamp().as_millisecond())
                .unwrap_or_default();
            format!("/Date({millis}+0000)/")
        }
        DateForm::Plain => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        DateForm::Millis | DateForm::Mixed => time.strftime(STORED_FORMAT).to_string(),
    }
}

fn is_email(value: &str) -> bool {
    let parts = value.split_once('@');
    parts.is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.'))
        && !value.contains(char::is_whitespace)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http::response::Failure;
    use crate::leads::fields::Schema;

    fn keep(name: &str, value: &str) -> std::result::Result<String, &'static str> {
        let options = Options::default();
        let schema = Schema::new(&options);
        to_stored(schema.field(name).unwrap(), value, &options).map_err(|failure| match failure {
            Failure::Exception(exception) => exception.kind,
            _ => "another failure",
        })
    }

    #[test]
    fn valid_values_are_converted_to_the_stored_form() {
        for (name, given, stored) in [
            ("FirstName", "Ann", "Ann"),
            ("mx_Consent", "true", "1"),
            ("mx_Consent", "0", "0"),
            ("mx_Loan_Amount", " 12.50", "12.50"),
            ("mx_DOB", "1990-02-28", "1990-02-28 00:00:00.000"),
            ("mx_Next_Call", "2026-07-31 05:33:50", "2026-07-31 05:33:50.000"),
            ("mx_Next_Call", "2026-07-31 05:33:50.25", "2026-07-31 05:33:50.250"),
            ("mx_Segment", "not an option", "not an option"),
            ("Phone", "9845098450", "+91-9845098450"),
        ] {
            assert_eq!(keep(name, given), Ok(stored.into()), "{name} {given}");
        }
    }

    #[test]
    fn each_kind_of_invalid_value_has_its_exception() {
        for (name, given, kind) in [
            ("mx_Consent", "maybe", "MXInvalidDataTypeException"),
            ("mx_Loan_Amount", "much", "MXInvalidDataTypeException"),
            ("mx_Loan_Amount", "NaN", "MXInvalidDataTypeException"),
            ("mx_DOB", "28.2.1990", "MXInvalidDataTypeException"),
            ("mx_DOB", "1990-02-30", "MXInvalidDataTypeException"),
            ("EmailAddress", "ann", "MXInvalidInputException"),
            ("Phone", "call me", "MXInvalidInputException"),
        ] {
            assert_eq!(keep(name, given), Err(kind), "{name} {given}");
        }
        assert_eq!(keep("mx_City", &"ü".repeat(256)), Ok("ü".repeat(256)));
        assert_eq!(keep("mx_City", &"ü".repeat(257)), Err("MXInvalidInputException"));
    }

    #[test]
    fn date_times_have_the_configured_format() {
        let stored = "2026-07-31 05:33:50.120";
        assert_eq!(format_date_time(stored, "CreatedOn", DateForm::Millis), stored);
        assert_eq!(
            format_date_time(stored, "CreatedOn", DateForm::Plain),
            "2026-07-31 05:33:50"
        );
        assert_eq!(
            format_date_time(stored, "CreatedOn", DateForm::Us),
            "7/31/2026 5:33:50 AM"
        );
        assert_eq!(
            format_date_time("2026-07-31 17:00:00", "x", DateForm::Us),
            "7/31/2026 5:00:00 PM"
        );
        assert_eq!(
            format_date_time(stored, "x", DateForm::Ticks),
            "/Date(1785476030120+0000)/"
        );
        assert_eq!(format_date_time("soon", "x", DateForm::Us), "soon");
    }

    #[test]
    fn mixed_formats_differ_by_attribute_but_not_by_call() {
        let stored = "2026-07-31 05:33:50.120";
        let names = ["CreatedOn", "ModifiedOn", "mx_DOB", "mx_Next_Call", "LastVisitDate"];
        let forms: std::collections::BTreeSet<_> =
            names.map(|name| format_date_time(stored, name, DateForm::Mixed)).into();
        assert!(forms.len() > 1);
        assert_eq!(
            format_date_time(stored, "mx_DOB", DateForm::Mixed),
            format_date_time(stored, "mx_DOB", DateForm::Mixed)
        );
    }
}
