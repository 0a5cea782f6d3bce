//! Counts the elements of an encoded message before it is decoded. An empty nested message takes two bytes encoded, and a
//! thousand decoded.

use std::collections::HashMap;

use prost::Message;
use prost::encoding::decode_varint;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::{Label, Type};

/// Nested messages below this depth are not counted. The decoder rejects them.
const MAX_DEPTH: u32 = 100;

/// The message types and the methods of all services.
#[derive(Debug, Default)]
pub(super) struct MessageSchema {
    types: Vec<HashMap<u32, FieldInfo>>,
    methods: HashMap<String, MethodInfo>,
}

/// The request type of a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct MethodInfo {
    /// The index of the type of the request messages.
    input: usize,
    /// Whether a request is a stream of messages.
    pub(super) is_client_streaming: bool,
    /// Whether the request or the response is a stream of messages.
    pub(super) is_stream: bool,
}

/// A message that must not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageError {
    TooManyElements,
    /// A nested message that is not length-delimited.
    WireType {
        number: u32,
        wire: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct FieldInfo {
    is_repeated: bool,
    kind: WireKind,
}

#[derive(Clone, Copy, Debug)]
enum WireKind {
    Message(usize),
    /// Strings and bytes.
    Bytes,
    Varint,
    /// Numbers of a fixed number of bytes.
    Fixed(usize),
}

impl MessageSchema {
    /// `descriptors`: the encoded descriptors of all services.
    pub(super) fn new(descriptors: &[&[u8]]) -> Self {
        let sets = descriptors.iter().map(|bytes| FileDescriptorSet::decode(*bytes));
        let files: Vec<_> = sets.flat_map(|set| set.unwrap_or_default().file).collect();
        let mut messages = Vec::new();
        for file in &files {
            flatten(&format!(".{}", file.package()), &file.message_type, &mut messages);
        }
        let numbers: HashMap<&str, usize> = messages
            .iter()
            .enumerate()
            .map(|(number, (name, _))| (name.as_str(), number))
            .collect();
        let field = |field: &prost_types::FieldDescriptorProto| {
            let kind = match field.r#type() {
                Type::Message | Type::Group => WireKind::Message(*numbers.get(field.type_name())?),
                Type::String | Type::Bytes => WireKind::Bytes,
                Type::Double | Type::Fixed64 | Type::Sfixed64 => WireKind::Fixed(8),
                Type::Float | Type::Fixed32 | Type::Sfixed32 => WireKind::Fixed(4),
                _ => WireKind::Varint,
            };
            let is_repeated = field.label() == Label::Repeated;
            Some((u32::try_from(field.number()).ok()?, FieldInfo { is_repeated, kind }))
        };
        let types = messages
            .iter()
            .map(|(_, message)| message.field.iter().filter_map(field).collect());
        let types = types.collect();
        let mut methods = HashMap::new();
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    if let Some(input) = numbers.get(method.input_type()) {
                        let method = MethodInfo {
                            input: *input,
                            is_client_streaming: method.client_streaming(),
                            is_stream: method.client_streaming() || method.server_streaming(),
                        };
                        methods.insert(path, method);
                    }
                }
            }
        }
        Self { types, methods }
    }

    /// Returns the method of a path.
    pub(super) fn method(&self, path: &str) -> Option<MethodInfo> {
        self.methods.get(path).copied()
    }

    /// Checks that a request message has at most `limit` repeated elements and map entries, nested ones included. Invalid bytes
    /// are counted up to the first error. The decoder reports that error.
    pub(super) fn check(&self, method: MethodInfo, message: &[u8], limit: usize) -> Result<(), MessageError> {
        let mut remaining = limit;
        self.count(method.input, message, MAX_DEPTH, &mut remaining)
    }

    /// Subtracts the elements of a message from `remaining`.
    fn count(&self, message: usize, mut bytes: &[u8], depth: u32, remaining: &mut usize) -> Result<(), MessageError> {
        while let Some((number, wire)) = next_key(&mut bytes) {
            let field = self.types[message].get(&number);
            // The decoder does not check the wire type of map entries. It would decode elements that are not counted here.
            if wire != LENGTH_DELIMITED && field.is_some_and(|field| matches!(field.kind, WireKind::Message(_))) {
                return Err(MessageError::WireType { number, wire });
            }
            let Some(payload) = next_payload(&mut bytes, wire) else {
                break;
            };
            let Some(field) = field else {
                continue;
            };
            if field.is_repeated {
                // One field may hold several packed numbers.
                let elements = match (field.kind, wire) {
                    (WireKind::Varint, LENGTH_DELIMITED) => payload.iter().filter(|byte| **byte < 0x80).count(),
                    (WireKind::Fixed(size), LENGTH_DELIMITED) => payload.len() / size,
                    _ => 1,
                };
                *remaining = remaining.checked_sub(elements).ok_or(MessageError::TooManyElements)?;
            }
            if let (WireKind::Message(nested), 1..) = (field.kind, depth) {
                self.count(nested, payload, depth - 1, remaining)?;
            }
        }
        Ok(())
    }
}

const LENGTH_DELIMITED: u64 = 2;

/// Returns the number and the wire type of the next field of a message. `None` at the end and at invalid bytes.
fn next_key(bytes: &mut &[u8]) -> Option<(u32, u64)> {
    let key = decode_varint(bytes).ok()?;
    Some((u32::try_from(key >> 3).ok()?, key & 7))
}

/// Skips the value of a field. Returns its bytes, which are empty for a varint. `None` at invalid bytes.
fn next_payload<'a>(bytes: &mut &'a [u8], wire: u64) -> Option<&'a [u8]> {
    let length = match wire {
        0 => {
            decode_varint(bytes).ok()?;
            0
        }
        1 => 8,
        LENGTH_DELIMITED => usize::try_from(decode_varint(bytes).ok()?).ok()?,
        // Start and end of a group.
        3 | 4 => 0,
        5 => 4,
        _ => return None,
    };
    let (payload, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(payload)
}

/// Adds messages and their nested messages, with their full names.
fn flatten<'a>(
    scope: &str,
    from: &'a [prost_types::DescriptorProto],
    to: &mut Vec<(String, &'a prost_types::DescriptorProto)>,
) {
    for message in from {
        let name = format!("{scope}.{}", message.name());
        flatten(&name, &message.nested_type, to);
        to.push((name, message));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grpc::pb::{self, DESCRIPTORS};

    fn elements(rpc: &str, message: &[u8]) -> usize {
        let schema = MessageSchema::new(&[DESCRIPTORS]);
        let method = schema.method(&format!("/leadgate.v1.LeadService/{rpc}")).unwrap();
        let is_within = |limit: &usize| schema.check(method, message, *limit).is_ok();
        (0..).find(is_within).unwrap()
    }

    fn batch(customs: &[usize]) -> pb::BatchCreateLeadsRequest {
        let create = |custom: &usize| pb::CreateLeadRequest {
            lead: Some(pb::LeadFields {
                custom: (0..*custom).map(|i| (i.to_string(), Default::default())).collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        pb::BatchCreateLeadsRequest {
            requests: customs.iter().map(create).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn every_method_is_known() {
        let schema = MessageSchema::new(&[DESCRIPTORS]);
        let of = |path| schema.method(path).map(|method| method.is_client_streaming);
        assert_eq!(of("/leadgate.v1.LeadService/ImportLeads"), Some(true));
        assert_eq!(of("/leadgate.v1.LeadService/BatchCreateLeads"), Some(false));
        assert_eq!(of("/leadgate.v1.LeadService/None"), None);
        assert_eq!(
            schema.methods.len(),
            schema
                .methods
                .keys()
                .filter(|path| path.starts_with("/leadgate.v1."))
                .count()
        );
    }

    #[test]
    fn fields_that_are_not_repeated_are_not_counted() {
        let request = pb::CreateLeadRequest {
            lead: Some(pb::LeadFields {
                notes: Some("x".repeat(100)),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(elements("CreateLead", &request.encode_to_vec()), 0);
    }

    #[test]
    fn packed_numbers_are_counted_one_by_one() {
        let schema = MessageSchema {
            types: vec![HashMap::from([
                (
                    1,
                    FieldInfo {
                        is_repeated: true,
                        kind: WireKind::Varint,
                    },
                ),
                (
                    2,
                    FieldInfo {
                        is_repeated: true,
                        kind: WireKind::Fixed(4),
                    },
                ),
            ])],
            methods: HashMap::new(),
        };
        let method = MethodInfo {
            input: 0,
            is_client_streaming: false,
            is_stream: false,
        };
        // Three packed varints in four bytes, one single varint, and two packed fixed numbers.
        let message = [0x0a, 4, 1, 0x80, 1, 3, 0x08, 1, 0x12, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(schema.check(method, &message, 5), Err(MessageError::TooManyElements));
        assert_eq!(schema.check(method, &message, 6), Ok(()));
    }

    #[test]
    fn deeply_nested_messages_are_counted_safely() {
        let schema = MessageSchema {
            types: vec![HashMap::from([(
                1,
                FieldInfo {
                    is_repeated: true,
                    kind: WireKind::Message(0),
                },
            )])],
            methods: HashMap::new(),
        };
        let method = MethodInfo {
            input: 0,
            is_client_streaming: false,
            is_stream: false,
        };
        let mut message = vec![];
        for _ in 0..5_000 {
            let mut outer = vec![0x0a];
            prost::encoding::encode_varint(message.len() as u64, &mut outer);
            outer.extend(message);
            message = outer;
        }
        assert_eq!(schema.check(method, &message, 1_000), Ok(()));
    }

    #[test]
    fn a_nested_message_with_another_wire_type_is_rejected() {
        let schema = MessageSchema::new(&[DESCRIPTORS]);
        let method = schema.method("/leadgate.v1.LeadService/CreateLead").unwrap();
        // The entry without a name has fewer bytes than a number of the wire types 1 and 5.
        for (name, wire) in ["mx_City", ""]
            .into_iter()
            .flat_map(|name| [0, 1, 3, 4, 5].map(|wire| (name, wire)))
        {
            let fields = pb::LeadFields {
                custom: [(name.to_owned(), Default::default())].into(),
                ..Default::default()
            };
            let mut fields = fields.encode_to_vec();
            // The wire type is in the lowest bits of the first byte.
            fields[0] = fields[0] & !7 | wire;
            let length = u8::try_from(fields.len()).unwrap();
            let message = [&[0x0a, length], &fields[..]].concat();
            let request = pb::CreateLeadRequest::decode(&message[..]).unwrap();
            assert_eq!(request.lead.unwrap().custom.len(), 1, "the decoder reads the entry");
            let wire = u64::from(wire);
            let expected = Err(MessageError::WireType { number: 28, wire });
            assert_eq!(schema.check(method, &message, 1_000), expected, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn the_count_equals_that_of_the_decoded_message(customs in prop::collection::vec(0..8_usize, 0..12)) {
            let message = batch(&customs).encode_to_vec();
            let expected = customs.len() + customs.iter().sum::<usize>();
            prop_assert_eq!(elements("BatchCreateLeads", &message), expected);
        }

        #[test]
        fn any_bytes_are_counted(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let schema = MessageSchema::new(&[DESCRIPTORS]);
            let method = schema.method("/leadgate.v1.LeadService/BatchCreateLeads").unwrap();
            let result = schema.check(method, &message, message.len());
            prop_assert_ne!(result, Err(MessageError::TooManyElements));
        }
    }
}
