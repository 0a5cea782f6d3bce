//! The text of statements. All values are literals in the text, so that a whole transaction is one message to the server and one
//! round trip, also through PgBouncer.

use std::fmt::Write;
use std::time::Duration;

use crate::domain::lease::Fence;

/// A value of a statement. Each literal has its type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// A missing value, of the type that its place needs.
    Null,
    Text(Option<&'a str>),
    Integer(Option<i64>),
    Boolean(bool),
    Bytes(&'a [u8]),
    Texts(&'a [String]),
    Integers(&'a [i64]),
    Interval(Duration),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a [String]> for Value<'a> {
    fn from(texts: &'a [String]) -> Self {
        Self::Texts(texts)
    }
}

impl<'a> From<&'a [i64]> for Value<'a> {
    fn from(numbers: &'a [i64]) -> Self {
        Self::Integers(numbers)
    }
}

impl From<Duration> for Value<'_> {
    fn from(duration: Duration) -> Self {
        Self::Interval(duration)
    }
}

/// The values of a statement, in their order: `values![a, b]` are `$1` and `$2`.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::postgres::statement::Value::from($value)),*]
    };
}
pub(super) use values;

/// The reason why a statement has no text.
const NULL_CHARACTER: &str = "a text has the character U+0000, which PostgreSQL cannot store";

/// The expression for the history of the database: the server and its timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HistoryExpression {
    /// The system identifier and the timeline. A restart does not change it.
    Timeline,
    /// The address of the server and its start time, if the role may not read the timeline. Each restart changes it.
    StartTime,
}

impl HistoryExpression {
    fn text(self) -> &'static str {
        match self {
            Self::Timeline => {
                "((pg_control_system()).system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8))"
            }
            Self::StartTime => {
                "(coalesce(host(inet_server_addr()), '') || '/' || extract(epoch from pg_postmaster_start_time()))"
            }
        }
    }
}

/// The clock of the database in milliseconds since 1970. It is read once for each place in a statement.
const NOW: &str = "(SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)";

/// Builds the text of statements.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatementBuilder<'a> {
    pub(super) history: HistoryExpression,
    /// The fence of the writes. `None`: they are executed only for tenants without an owner.
    pub(super) fence: Option<&'a Fence>,
}

impl StatementBuilder<'_> {
    /// Replaces the parameters of a statement: `$1`, `$2` and so on with the values; `$HERE` with the expression for the history of
    /// the database; `$NOW` with the time of the database in milliseconds. `FENCE($n)` becomes the common table expression `l`: the lease of the tenant `$n`, locked, or no row if writes
    /// for the tenant are not allowed. Fails if a value cannot be written.
    pub(super) fn build(self, template: &str, values: &[Value<'_>]) -> Result<String, &'static str> {
        let mut text = String::with_capacity(template.len() + 64 * values.len());
        let mut rest = template;
        loop {
            let next = rest.find('$').into_iter().chain(rest.find("FENCE("));
            let Some(at) = next.min() else {
                text.push_str(rest);
                return Ok(text);
            };
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$HERE") {
                text.push_str(self.history.text());
                rest = after;
            } else if let Some(after) = rest.strip_prefix("$NOW") {
                text.push_str(NOW);
                rest = after;
            } else if let Some(after) = rest.strip_prefix("FENCE($") {
                let (tenant, after) = parameter(after, values);
                self.push_fence(&mut text, tenant)?;
                rest = after.strip_prefix(')').expect("the templates are constants");
            } else {
                let (value, after) = parameter(&rest[1..], values);
                push(&mut text, value)?;
                rest = after;
            }
        }
    }

    fn push_fence(self, text: &mut String, tenant: Value<'_>) -> Result<(), &'static str> {
        let built = match self.fence {
            Some(fence) => self.build(
                "l AS MATERIALIZED (SELECT tenant FROM tenant_lease
                 WHERE tenant = $1 AND owner = $2 AND epoch = $3 AND $HERE = $4 FOR SHARE)",
                &[
                    tenant,
                    (&*fence.owner).into(),
                    fence.epoch.into(),
                    (&*fence.history).into(),
                ],
            ),
            None => self.build(
                "r AS MATERIALIZED (SELECT owner FROM tenant_lease WHERE tenant = $1 FOR SHARE),
                 l AS MATERIALIZED (SELECT $1 AS tenant WHERE NOT EXISTS (SELECT FROM r WHERE owner IS NOT NULL))",
                &[tenant],
            ),
        };
        text.push_str(&built?);
        Ok(())
    }
}

/// Returns the parameter with the number at the beginning of a text, and the rest of the text.
fn parameter<'a, 't>(text: &'t str, values: &[Value<'a>]) -> (Value<'a>, &'t str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..end].parse().expect("the templates are constants");
    (values[number - 1], &text[end..])
}

/// Writes a literal.
fn push(text: &mut String, value: Value<'_>) -> Result<(), &'static str> {
    // Writing to a text does not fail.
    match value {
        Value::Null => text.push_str("NULL"),
        Value::Text(None) => text.push_str("NULL::text"),
        Value::Text(Some(value)) => {
            push_quoted(text, value)?;
            text.push_str("::text");
        }
        Value::Integer(None) => text.push_str("NULL::bigint"),
        Value::Integer(Some(number)) => {
            let _ = write!(text, "'{number}'::bigint");
        }
        Value::Boolean(boolean) => text.push_str(if boolean { "true" } else { "false" }),
        Value::Bytes(bytes) => {
            text.push_str("decode('");
            for byte in bytes {
                let _ = write!(text, "{byte:02x}");
            }
            text.push_str("', 'hex')");
        }
        Value::Texts(values) => {
            text.push_str("ARRAY[");
            for (index, value) in values.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                push_quoted(text, value)?;
            }
            text.push_str("]::text[]");
        }
        Value::Integers(numbers) => {
            text.push_str("ARRAY[");
            for (index, number) in numbers.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                let _ = write!(text, "{comma}{number}");
            }
            text.push_str("]::bigint[]");
        }
        Value::Interval(duration) => {
            let _ = write!(text, "'{} microseconds'::interval", duration.as_micros());
        }
    }
    Ok(())
}

/// Writes a text with quotes. The escapes hold whatever `standard_conforming_strings` is.
fn push_quoted(text: &mut String, value: &str) -> Result<(), &'static str> {
    if value.contains('\0') {
        return Err(NULL_CHARACTER);
    }
    text.push_str("E'");
    for c in value.chars() {
        // Each is escaped by itself.
        if matches!(c, '\'' | '\\') {
            text.push(c);
        }
        text.push(c);
    }
    text.push('\'');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(template: &str, values: &[Value<'_>]) -> Result<String, &'static str> {
        let builder = StatementBuilder {
            history: HistoryExpression::Timeline,
            fence: None,
        };
        builder.build(template, values)
    }

    #[test]
    fn values_are_literals_and_are_not_read_as_parameters() {
        let built = build(
            "SELECT $2, $1, $3",
            values!["it's $2 \\ $HERE FENCE($1)", Some("x"), -5_i64],
        );
        assert_eq!(
            built.as_deref(),
            Ok("SELECT E'x'::text, E'it''s $2 \\\\ $HERE FENCE($1)'::text, '-5'::bigint")
        );
        let built = build("($1, $2, $3)", values![None::<&str>, &[1_u8, 255][..], true]);
        assert_eq!(built.as_deref(), Ok("(NULL::text, decode('01ff', 'hex'), true)"));
        let texts = ["a".to_owned(), "b'".to_owned()];
        let built = build(
            "$1 $2 $3",
            values![&texts[..], &[-1_i64, 2][..], Duration::from_millis(1500)],
        );
        assert_eq!(
            built.as_deref(),
            Ok("ARRAY[E'a', E'b''']::text[] ARRAY[-1, 2]::bigint[] '1500000 microseconds'::interval")
        );
        assert_eq!(build("$1", values!["\0"]), Err(NULL_CHARACTER));
    }

    #[test]
    fn a_fence_names_owner_epoch_and_history() {
        let fence = Fence {
            owner: "me".into(),
            epoch: 7,
            history: "1/2".into(),
        };
        let builder = StatementBuilder {
            history: HistoryExpression::StartTime,
            fence: Some(&fence),
        };
        let built = builder
            .build("WITH FENCE($1) SELECT $2", values!["acme", 1_i64])
            .unwrap();
        for part in [
            "E'acme'::text",
            "E'me'::text",
            "'7'::bigint",
            "E'1/2'::text",
            "FOR SHARE",
            "pg_postmaster",
        ] {
            assert!(built.contains(part), "{built}");
        }
        assert!(built.ends_with("SELECT '1'::bigint"), "{built}");
    }
}
