//! The JSON form of a log line. The fields are written in their order, without a copy of their values.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats an event as one line: `{"timestamp":...,"level":...,"message":..., fields, "target":...}`.
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        writer.write_str(match *metadata.level() {
            Level::ERROR => "\",\"level\":\"ERROR\"",
            Level::WARN => "\",\"level\":\"WARN\"",
            Level::INFO => "\",\"level\":\"INFO\"",
            Level::DEBUG => "\",\"level\":\"DEBUG\"",
            Level::TRACE => "\",\"level\":\"TRACE\"",
        })?;
        let mut fields = Fields {
            writer: writer.by_ref(),
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        writer.write_str(",\"target\":")?;
        write_string(&mut writer, metadata.target())?;
        writer.write_str("}\n")
    }
}

/// Writes each field as a name and a value.
struct Fields<'a> {
    writer: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let Self { writer, result } = self;
        if result.is_ok() {
            *result = write_name(writer, field.name()).and_then(|()| value(writer));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has neither infinity nor NaN.
        self.write(field, |writer| match value.is_finite() {
            true => write!(writer, "{value:?}"),
            false => writer.write_str("null"),
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |writer| write_string(writer, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, |writer| {
            writer.write_char('"')?;
            write!(Escaping(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

fn write_name(writer: &mut Writer<'_>, name: &str) -> fmt::Result {
    writer.write_char(',')?;
    // A field whose name is a keyword of Rust is a raw identifier.
    write_string(writer, name.strip_prefix("r#").unwrap_or(name))?;
    writer.write_char(':')
}

fn write_string(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    writer.write_char('"')?;
    Escaping(writer).write_str(text)?;
    writer.write_char('"')
}

/// Escapes what is written for a string of JSON.
struct Escaping<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        // The special characters have one byte, so the text is split at the borders of characters.
        while let Some(at) = rest.bytes().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')) {
            self.0.write_str(&rest[..at])?;
            match rest.as_bytes()[at] {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                b'\n' => self.0.write_str("\\n")?,
                b'\r' => self.0.write_str("\\r")?,
                b'\t' => self.0.write_str("\\t")?,
                byte => write!(self.0, "\\u{byte:04x}")?,
            }
            rest = &rest[at + 1..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The only line of a log.
    fn line(log: impl FnOnce()) -> Value {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(JsonLine)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.ends_with('\n') && !text[..text.len() - 1].contains('\n'),
            "{text:?}"
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_has_time_level_message_fields_and_target() {
        let absent = None::<u64>;
        let mut line = line(|| {
            tracing::warn!(
                target: "leadgate::rpc",
                text = "a",
                shown = %std::net::Ipv4Addr::LOCALHOST,
                debugged = ?Some("b"),
                unsigned = 1_u64,
                signed = -1_i64,
                fraction = 0.5,
                infinite = f64::INFINITY,
                flag = true,
                r#type = "c",
                absent,
                "rpc finished"
            );
        });
        let timestamp = line["timestamp"].take();
        assert!(
            timestamp.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(),
            "{timestamp}"
        );
        let expected = json!({
            "timestamp": null,
            "level": "WARN",
            "message": "rpc finished",
            "text": "a",
            "shown": "127.0.0.1",
            "debugged": "Some(\"b\")",
            "unsigned": 1,
            "signed": -1,
            "fraction": 0.5,
            "infinite": null,
            "flag": true,
            "type": "c",
            "target": "leadgate::rpc",
        });
        assert_eq!(line, expected);
    }

    proptest! {
        #[test]
        fn texts_of_any_characters_are_escaped(text in any::<String>()) {
            let line = line(|| tracing::error!(text, shown = %text, "a \"line\""));
            prop_assert_eq!(&line["text"], &json!(text));
            prop_assert_eq!(&line["shown"], &json!(text));
            prop_assert_eq!(&line["message"], "a \"line\"");
        }
    }
}
