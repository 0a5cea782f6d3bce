//! How many elements a message has, counted in its bytes before it is decoded: an empty message inside of a message takes two
//! bytes, and a thousand when it is decoded. Knows the descriptors of the services, and no service.

use std::collections::HashMap;

use prost::Message;
use prost::encoding::decode_varint;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::{Label, Type};

/// Nested messages below this depth are not counted. The decoder refuses them.
const MAX_DEPTH: u32 = 100;

/// The message types and the methods of all services.
#[derive(Debug, Default)]
pub(super) struct Schema {
    types: Vec<HashMap<u32, Field>>,
    methods: HashMap<String, Method>,
}

/// What a method takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    /// The type of its request messages.
    input: usize,
    /// Whether a request has any number of messages.
    pub(super) is_client_streaming: bool,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    is_repeated: bool,
    kind: ElementKind,
}

#[derive(Clone, Copy, Debug)]
enum ElementKind {
    Message(usize),
    /// Strings and bytes.
    Bytes,
    Varint,
    /// Numbers of so many bytes.
    Fixed(usize),
}

impl Schema {
    /// `descriptors` are those of all services.
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
                Type::Message | Type::Group => ElementKind::Message(*numbers.get(field.type_name())?),
                Type::String | Type::Bytes => ElementKind::Bytes,
                Type::Double | Type::Fixed64 | Type::Sfixed64 => ElementKind::Fixed(8),
                Type::Float | Type::Fixed32 | Type::Sfixed32 => ElementKind::Fixed(4),
                _ => ElementKind::Varint,
            };
            let is_repeated = field.label() == Label::Repeated;
            Some((u32::try_from(field.number()).ok()?, Field { is_repeated, kind }))
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
                        let method = Method {
                            input: *input,
                            is_client_streaming: method.client_streaming(),
                        };
                        methods.insert(path, method);
                    }
                }
            }
        }
        Self { types, methods }
    }

    /// The method of that path.
    pub(super) fn method(&self, path: &str) -> Option<Method> {
        self.methods.get(path).copied()
    }

    /// Whether a request message has more repeated elements and map entries than that, nested ones included. Bytes that are
    /// not a message count up to the first error, which the decoder reports.
    pub(super) fn has_more(&self, method: Method, message: &[u8], limit: usize) -> bool {
        let mut left = limit;
        self.count(method.input, message, MAX_DEPTH, &mut left).is_none()
    }

    /// Takes the elements of a message from `left`; `None` if there are more.
    fn count(&self, message: usize, mut bytes: &[u8], depth: u32, left: &mut usize) -> Option<()> {
        while let Some((number, wire, payload)) = next_field(&mut bytes) {
            let Some(field) = self.types[message].get(&number) else {
                continue;
            };
            if field.is_repeated {
                // Numbers may be packed into one field.
                let elements = match (field.kind, wire) {
                    (ElementKind::Varint, LENGTH_DELIMITED) => payload.iter().filter(|byte| **byte < 0x80).count(),
                    (ElementKind::Fixed(size), LENGTH_DELIMITED) => payload.len() / size,
                    _ => 1,
                };
                *left = left.checked_sub(elements)?;
            }
            if let (ElementKind::Message(nested), LENGTH_DELIMITED, 1..) = (field.kind, wire, depth) {
                self.count(nested, payload, depth - 1, left)?;
            }
        }
        Some(())
    }
}

const LENGTH_DELIMITED: u64 = 2;

/// The next field of a message: its number, its wire type and, if it is length-delimited, its bytes. `None` at the end, and
/// where the bytes are not a field.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, u64, &'a [u8])> {
    let key = decode_varint(bytes).ok()?;
    let (number, wire) = (u32::try_from(key >> 3).ok()?, key & 7);
    let length = match wire {
        0 => {
            decode_varint(bytes).ok()?;
            0
        }
        1 => 8,
        LENGTH_DELIMITED => usize::try_from(decode_varint(bytes).ok()?).ok()?,
        // The begin and the end of a group.
        3 | 4 => 0,
        5 => 4,
        _ => return None,
    };
    let (payload, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((number, wire, payload))
}

/// The messages and those nested in them, by their full names.
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
    use crate::grpc::{DESCRIPTORS, pb};

    fn elements(rpc: &str, message: &[u8]) -> usize {
        let schema = Schema::new(&[DESCRIPTORS]);
        let method = schema.method(&format!("/leadgate.v1.LeadService/{rpc}")).unwrap();
        (0..).find(|limit| !schema.has_more(method, message, *limit)).unwrap()
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
        let schema = Schema::new(&[DESCRIPTORS]);
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
    fn what_is_not_repeated_does_not_count() {
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
    fn packed_numbers_count_one_by_one() {
        let schema = Schema {
            types: vec![HashMap::from([
                (
                    1,
                    Field {
                        is_repeated: true,
                        kind: ElementKind::Varint,
                    },
                ),
                (
                    2,
                    Field {
                        is_repeated: true,
                        kind: ElementKind::Fixed(4),
                    },
                ),
            ])],
            methods: HashMap::new(),
        };
        let method = Method {
            input: 0,
            is_client_streaming: false,
        };
        // Three varints in four bytes, one by itself, and two fixed ones.
        let message = [0x0a, 4, 1, 0x80, 1, 3, 0x08, 1, 0x12, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(schema.has_more(method, &message, 5) && !schema.has_more(method, &message, 6));
    }

    #[test]
    fn messages_nested_without_end_are_counted_without_harm() {
        let schema = Schema {
            types: vec![HashMap::from([(
                1,
                Field {
                    is_repeated: true,
                    kind: ElementKind::Message(0),
                },
            )])],
            methods: HashMap::new(),
        };
        let method = Method {
            input: 0,
            is_client_streaming: false,
        };
        let mut message = vec![];
        for _ in 0..5_000 {
            let mut outer = vec![0x0a];
            prost::encoding::encode_varint(message.len() as u64, &mut outer);
            outer.extend(message);
            message = outer;
        }
        assert!(!schema.has_more(method, &message, 1_000));
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_the_decoded_message(customs in prop::collection::vec(0..8_usize, 0..12)) {
            let message = batch(&customs).encode_to_vec();
            let expected = customs.len() + customs.iter().sum::<usize>();
            prop_assert_eq!(elements("BatchCreateLeads", &message), expected);
        }

        #[test]
        fn any_bytes_are_counted(message in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(elements("BatchCreateLeads", &message) <= message.len());
        }
    }
}
