//! Fuzz targets: page tokens, the fields of leads, the metadata of requests, and the framing of request messages.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use prost::Message;

use super::body::{Buffer, MessageLimits, PREFIX_BYTES};
use super::elements::MessageSchema;
use super::page::PagePosition;
use super::pb::{self, DESCRIPTORS};
use super::request_filter::RequestFilter;
use super::rpc_log::RpcLog;
use super::settings::{MAX_DURATION, ServerSettings};
use super::unfinished::UnfinishedMessages;
use super::web::Protocol;
use super::{convert, metadata, request_filter, status};
use crate::domain::check::WriteRules;
use crate::domain::lead::{WriteAction, WriteRequest};
use crate::domain::number;
use crate::domain::value::{Value, ValueKind};
use crate::error::Error;
use crate::telemetry::metrics::Metrics;

/// The limits of request messages.
const MAX_MESSAGE: usize = 2048;
const MAX_ELEMENTS: usize = 16;

/// Parses a page token. The input is the page size in two bytes, and the token.
pub(crate) fn page_token(data: &[u8]) {
    let Some(([low, high], token)) = data.split_first_chunk::<2>() else {
        return;
    };
    let size = usize::from(u16::from_le_bytes([*low, *high])) % 1000 + 1;
    let Ok(token) = std::str::from_utf8(token) else {
        return;
    };
    let Ok(start) = PagePosition::parse(token, size) else {
        return;
    };
    assert!(start.skip < start.size);
    let first = |position: PagePosition| position.number * position.size + position.skip;
    let mut positions = vec![start, start.next()];
    for count in [1, start.size.div_ceil(2), start.size - start.skip] {
        let after = start.after_items(count);
        assert_eq!(first(after), first(start) + count);
        positions.push(after);
    }
    for position in positions {
        // Only tokens that leadgate did not make have greater numbers.
        if first(position) < 1 << 31 {
            let token = position.token(size);
            assert_eq!(PagePosition::parse(&token, size), Ok(position), "{token}");
        }
    }
}

/// Converts the fields of a lead to attributes, to LeadSquared's texts, and back.
pub(crate) fn lead_fields(data: &[u8]) {
    let Ok(fields) = pb::LeadFields::decode(data) else {
        return;
    };
    let write = convert::write(WriteAction::Create, Some(fields));
    let _ = (write.check(), write.order_keys(), write.lookup_keys());
    let names: HashSet<&str> = write.attributes.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names.len(),
        write.attributes.iter().count(),
        "an attribute is set twice"
    );
    let is_valid = write.violations.is_empty() && WriteRules::new(None, true).set(&write.attributes).is_empty();
    for (name, value) in write.attributes.iter() {
        check_value(value, is_valid, name);
    }
    let attributes = write.attributes.iter();
    let shown = convert::lead_fields(attributes.map(|(name, value)| (name.to_owned(), value.clone())));
    let again = convert::write(WriteAction::Create, Some(shown));
    assert!(again.violations.is_empty(), "{:?}", again.violations);
    assert_eq!(texts(&again), texts(&write));
}

/// The texts for LeadSquared, by attribute.
fn texts(write: &WriteRequest) -> BTreeMap<&str, String> {
    write
        .attributes
        .iter()
        .map(|(name, value)| (name, value.to_text()))
        .collect()
}

/// A value that is written is read as the same value.
fn check_value(value: &Value, is_valid: bool, name: &str) {
    let text = value.to_text();
    let kind = match value {
        Value::Text(_) => ValueKind::Text,
        Value::Number(_) | Value::Integer(_) => ValueKind::Number,
        Value::Flag(_) => ValueKind::Flag,
        Value::Time(_) => ValueKind::Time,
        Value::FieldSet(_) => ValueKind::FieldSet,
    };
    let read = Value::from_text(kind, text.clone());
    let is_same = match (value, &read) {
        (Value::FieldSet(_), _) => true,
        (Value::Number(own), _) if number::violation(*own).is_some() => !is_valid,
        // The number may be whole.
        (Value::Number(own), Some(Value::Integer(read))) => *own == *read as f64,
        // Fractions of a second are not written.
        (Value::Time(own), Some(Value::Time(read))) => {
            let fraction = own.duration_since(*read).as_nanos();
            (0..1_000_000_000).contains(&fraction)
        }
        (own, read) => read.as_ref() == Some(own),
    };
    assert!(is_same, "{name}: {value:?} is written as {text:?} and read as {read:?}");
    let is_nan = matches!(value, Value::Number(number) if number.is_nan());
    assert!(
        is_nan || value.reads_back_as(&text) != Some(false),
        "{name}: {value:?} is not recognized in {text:?}"
    );
}

/// Reads the metadata of a request. The input has one header in each line.
pub(crate) fn request_metadata(settings: &ServerSettings, data: &[u8]) {
    static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(Arc::default);
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(&line[..at]),
            HeaderValue::from_bytes(line[at + 1..].trim_ascii()),
        ) {
            headers.append(name, value);
        }
    }
    let log = RpcLog::new(&headers, Default::default());
    let _ = metadata::tenant(&headers);
    match metadata::caller(&headers) {
        Ok(caller) => assert!((1..=64).contains(&caller.len()) && caller.bytes().all(|byte| byte.is_ascii_graphic())),
        Err(error) => check_status(&error, &log),
    }
    if let Err(error) = metadata::criticality(&headers) {
        check_status(&error, &log);
    }
    for max in [Duration::from_millis(1), Duration::from_secs(30), MAX_DURATION] {
        match metadata::time_limit(&headers, settings, max) {
            Ok(limit) => assert!(limit <= max),
            Err(error) => check_status(&error, &log),
        }
    }
    let filter = RequestFilter::new(settings.max_metadata_bytes, METRICS.clone());
    if let Err(error) = filter.check(&headers, &log) {
        check_status(&error, &log);
    }
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    for protocol in [Protocol::Grpc, Protocol::Web, Protocol::WebOfOtherOrigin] {
        let _ = request_filter::reject(&request, protocol, true, &log);
    }
    let _ = request_filter::reject(&request, Protocol::Grpc, false, &log);
}

fn check_status(error: &Error, log: &RpcLog) {
    let status = status::from(error, Some("acme"), log.id(), None);
    let size = status::list_size(&status.into_http::<()>().into_parts().0.headers);
    assert!(
        size <= status::MAX_HEADER_BYTES,
        "the trailers of {error} have {size} bytes"
    );
}

/// Reads the messages of a request. The input is one byte of flags, the size of the received parts, and the bytes of the body.
pub(crate) fn request_message(data: &[u8]) {
    static LIMITS: LazyLock<MessageLimits> = LazyLock::new(|| MessageLimits {
        bytes: MAX_MESSAGE,
        elements: MAX_ELEMENTS,
        schema: MessageSchema::new(&[DESCRIPTORS]),
        unfinished: UnfinishedMessages::new(MAX_MESSAGE),
    });
    let Some(([flags, part], body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let is_gzip = flags & 1 != 0;
    let path = match flags >> 1 & 3 {
        0 => "/leadgate.v1.LeadService/CreateLead",
        1 => "/leadgate.v1.LeadService/BatchUpdateLeads",
        2 => "/leadgate.v1.LeadService/ImportLeads",
        _ => "/leadgate.v1.LeadService/Unknown",
    };
    let read = |size: usize| {
        let method = LIMITS.schema.method(path);
        let (mut buffer, mut messages) = (Buffer::default(), vec![]);
        for part in body.chunks(size) {
            buffer.extend(part);
            loop {
                match LIMITS.next_message(&mut buffer, method, is_gzip) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error.to_string())),
                }
            }
        }
        (messages, None)
    };
    let (messages, error) = read(body.len().max(1));
    assert_eq!(read(usize::from(*part).max(1)), (messages.clone(), error), "in parts");
    for message in messages {
        let (prefix, message) = message.split_at(PREFIX_BYTES);
        assert!(message.len() <= MAX_MESSAGE);
        assert_eq!(
            prefix[1..],
            u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes()
        );
        let elements = match flags >> 1 & 3 {
            0 => pb::CreateLeadRequest::decode(message).map(|request| of_lead(request.lead)),
            1 => pb::BatchUpdateLeadsRequest::decode(message).map(of_batch),
            _ => Ok(0),
        };
        assert!(elements.unwrap_or(0) <= MAX_ELEMENTS, "more elements than are allowed");
    }
}

fn of_batch(batch: pb::BatchUpdateLeadsRequest) -> usize {
    let of_request = |request: pb::UpdateLeadRequest| 1 + request.clear_fields.len() + of_lead(request.lead);
    batch.requests.into_iter().map(of_request).sum()
}

fn of_lead(lead: Option<pb::LeadFields>) -> usize {
    let of_value = |value: pb::FieldValue| match value.value {
        Some(pb::field_value::Value::FieldSet(set)) => 1 + set.fields.len(),
        _ => 1,
    };
    lead.map_or(0, |lead| lead.custom.into_values().map(of_value).sum())
}
