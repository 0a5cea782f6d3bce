//! The trace context that an RPC has brought with it (<https://www.w3.org/TR/trace-context/>).

use http::HeaderMap;
use opentelemetry::trace::{SpanId, TraceId};

use super::TRACEPARENT;

/// The span of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) is_sampled: bool,
}

impl Parent {
    /// Reads the header. `None`: it is absent or invalid, or there are several.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        Self::parse(value.to_str().ok()?)
    }

    /// Parses `VERSION-TRACE_ID-SPAN_ID-FLAGS`, in lower-case hexadecimal digits. Versions after 00 may have more parts.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = TraceId::from(hex(parts.next()?, 32)?);
        let span_id = SpanId::from(u64::try_from(hex(parts.next()?, 16)?).ok()?);
        let flags = hex(parts.next()?, 2)?;
        let is_valid = match version {
            0x00 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        (is_valid && trace_id != TraceId::INVALID && span_id != SpanId::INVALID).then_some(Self {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// Parses a number of that many digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let is_number = text.len() == digits && text.bytes().all(is_digit);
    u128::from_str_radix(text, 16).ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0b1902b7";

    #[test]
    fn the_parts_of_a_traceparent_are_read() {
        let parent = Parent::parse(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!(
            (parent.trace_id.to_string(), parent.span_id.to_string()),
            (TRACE.into(), SPAN.into())
        );
        for (flags, is_sampled) in [("01", true), ("00", false), ("02", false), ("03", true), ("ff", true)] {
            let parent = Parent::parse(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            assert_eq!(parent.is_sampled, is_sampled, "{flags}");
        }
        assert!(Parent::parse(&format!("cc-{TRACE}-{SPAN}-01-later")).is_some());
    }

    #[test]
    fn an_invalid_traceparent_is_ignored() {
        let (zeros, upper) = ("0".repeat(32), TRACE.to_uppercase());
        for text in [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-later"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{upper}-{SPAN}-01"),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
        ] {
            assert_eq!(Parent::parse(&text), None, "{text}");
        }
        let value = format!("00-{TRACE}-{SPAN}-01").parse::<http::HeaderValue>().unwrap();
        let mut headers = HeaderMap::from_iter([(TRACEPARENT, value.clone())]);
        assert!(Parent::read(&headers).is_some());
        headers.append(TRACEPARENT, value);
        assert_eq!(Parent::read(&headers), None, "two values");
    }
}
