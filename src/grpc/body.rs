//! The body of a request. It passes complete, decompressed messages to tonic, and checks their sizes and the number of their
//! elements before they are decoded.

use std::collections::VecDeque;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use tonic::codegen::StdError;

use super::elements::{MessageError, MessageSchema, MethodInfo};
use super::rpc_log::RpcLog;
use super::unfinished::{UnfinishedMessage, UnfinishedMessages};
use crate::error::{Error, ErrorKind, Result};

/// The length of the prefix of a message: one byte for compression and four for the length.
pub(super) const PREFIX_BYTES: usize = 5;

/// The size of the blocks of an incomplete message. One growing buffer would need twice the memory.
const BLOCK_BYTES: usize = 16 * 1024;

/// Received bytes, in blocks.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    blocks: VecDeque<BytesMut>,
    length: usize,
}

impl Buffer {
    pub(super) fn extend(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        while !bytes.is_empty() {
            match self.blocks.back_mut() {
                Some(block) if block.len() < BLOCK_BYTES => {
                    let (fits, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - block.len()));
                    block.extend_from_slice(fits);
                    bytes = rest;
                }
                _ => self
                    .blocks
                    .push_back(BytesMut::with_capacity(bytes.len().min(BLOCK_BYTES))),
            }
        }
    }

    fn prefix(&self) -> Option<[u8; PREFIX_BYTES]> {
        let bytes: Vec<u8> = self.blocks.iter().flatten().copied().take(PREFIX_BYTES).collect();
        bytes.try_into().ok()
    }

    /// Removes and returns the first `length` bytes in one piece. The buffer must have that many.
    fn take(&mut self, length: usize) -> BytesMut {
        self.length -= length;
        let mut taken = BytesMut::new();
        while let Some(mut block) = self.blocks.pop_front() {
            let part = block.split_to(block.len().min(length - taken.len()));
            if taken.is_empty() {
                taken = part;
                taken.reserve(length - taken.len());
            } else {
                taken.extend_from_slice(&part);
            }
            if !block.is_empty() {
                self.blocks.push_front(block);
            }
            if taken.len() == length {
                break;
            }
        }
        taken
    }
}

/// The limits of request messages, shared by all requests.
#[derive(Debug)]
pub(super) struct MessageLimits {
    /// `server.max_request_bytes`.
    pub(super) bytes: usize,
    /// `server.max_message_elements`.
    pub(super) elements: usize,
    pub(super) schema: MessageSchema,
    pub(super) unfinished: Arc<UnfinishedMessages>,
}

/// The body of one request. `B`: the bytes from the client.
pub(super) struct RequestBody<B> {
    inner: B,
    limits: Arc<MessageLimits>,
    /// `None` for an unknown path.
    method: Option<MethodInfo>,
    is_gzip: bool,
    log: RpcLog,
    /// The received part of the next message.
    buffer: Buffer,
    unfinished: UnfinishedMessage,
    /// The message of a unary request. It is decoded only at the end of the request, because a decoded message may be much
    /// larger.
    message: Option<Bytes>,
    has_ended: bool,
}

impl<B> RequestBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    pub(super) fn new(
        request: http::Request<B>,
        method: Option<MethodInfo>,
        limits: &Arc<MessageLimits>,
        log: &RpcLog,
    ) -> http::Request<Self> {
        let is_gzip = request
            .headers()
            .get("grpc-encoding")
            .is_some_and(|encoding| encoding == "gzip");
        request.map(|inner| Self {
            inner,
            limits: limits.clone(),
            method,
            is_gzip,
            log: log.clone(),
            buffer: Buffer::default(),
            unfinished: limits.unfinished.message(),
            message: None,
            has_ended: false,
        })
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<std::result::Result<Bytes, StdError>>> {
        let is_unary = self.method.is_some_and(|method| !method.is_client_streaming);
        loop {
            if is_unary && self.message.is_some() && self.buffer.length > 0 {
                return Poll::Ready(Some(Err(self.fail(invalid("has more than one message")))));
            }
            match self.limits.next_message(&mut self.buffer, self.method, self.is_gzip) {
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
                Ok(Some(message)) if is_unary => {
                    self.message = Some(message);
                    continue;
                }
                Ok(Some(message)) => {
                    self.unfinished.end();
                    return Poll::Ready(Some(Ok(message)));
                }
                Ok(None) => {}
            }
            if self.has_ended {
                self.unfinished.end();
                // tonic reports an error for an incomplete message.
                let rest = Some(self.buffer.take(self.buffer.length).freeze()).filter(|rest| !rest.is_empty());
                return Poll::Ready(self.message.take().or(rest).map(Ok));
            }
            if self.unfinished.is_dropped(context) {
                let retry_after = Duration::from_secs(1);
                return Poll::Ready(Some(Err(self.fail(ErrorKind::QueueFull { retry_after }.into()))));
            }
            match ready!(http_body::Body::poll_frame(Pin::new(&mut self.inner), context)) {
                // gRPC requests have no trailers.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unfinished.grow(data.len());
                        self.buffer.extend(&data);
                    }
                }
                Some(Err(error)) => {
                    let error = match error.into().downcast::<Error>() {
                        // The bytes are not in the form of gRPC-Web.
                        Ok(invalid) => self.fail(*invalid),
                        Err(broken) => broken,
                    };
                    self.has_ended = true;
                    self.buffer = Buffer::default();
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.has_ended = true,
            }
        }
    }

    /// Stops reading and returns the error for tonic. tonic passes on only a text, so the error is also stored in the log.
    fn fail(&mut self, error: Error) -> StdError {
        self.has_ended = true;
        self.buffer = Buffer::default();
        self.message = None;
        self.unfinished.end();
        let text = error.to_string();
        self.log.set_request_error(error);
        text.into()
    }
}

impl MessageLimits {
    /// Returns the next message with its prefix, if it is complete.
    pub(super) fn next_message(
        &self,
        buffer: &mut Buffer,
        method: Option<MethodInfo>,
        is_gzip: bool,
    ) -> Result<Option<Bytes>> {
        let Some([flag, length @ ..]) = buffer.prefix() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if flag > 1 {
            return Err(invalid("is not a gRPC message: its first byte must be 0 or 1"));
        }
        if length > self.bytes {
            let limit = self.bytes;
            let text = format!("has {length} bytes, more than server.max_request_bytes ({limit})");
            return Err(invalid(text));
        }
        if buffer.length - PREFIX_BYTES < length {
            return Ok(None);
        }
        let mut message = buffer.take(PREFIX_BYTES + length);
        if flag == 1 && is_gzip {
            message = self.decompressed(&message[PREFIX_BYTES..])?;
        }
        if let Some(method) = method {
            let checked = self.schema.check(method, &message[PREFIX_BYTES..], self.elements);
            checked.map_err(|error| invalid(self.explain(error)))?;
        }
        Ok(Some(message.freeze()))
    }

    fn explain(&self, error: MessageError) -> String {
        let limit = self.elements;
        match error {
            MessageError::TooManyElements => {
                format!(
                    "has more repeated elements and map entries than server.max_message_elements ({limit}); split it"
                )
            }
            MessageError::WireType { number, wire } => {
                format!("cannot be decoded: field {number} has wire type {wire}, but it must be length-delimited (2)")
            }
        }
    }

    /// Returns the decompressed message with the prefix of an uncompressed one.
    fn decompressed(&self, bytes: &[u8]) -> Result<BytesMut> {
        let mut message = vec![0; PREFIX_BYTES];
        // One byte more than allowed, to detect messages that are too large.
        let max_bytes = u64::try_from(self.bytes).unwrap_or(u64::MAX).saturating_add(1);
        let mut reader = flate2::read::GzDecoder::new(bytes.reader()).take(max_bytes);
        reader
            .read_to_end(&mut message)
            .map_err(|_| invalid("cannot be decompressed: it is not valid gzip"))?;
        let length = message.len() - PREFIX_BYTES;
        if length > self.bytes {
            let limit = self.bytes;
            let text = format!("has more bytes after decompression than server.max_request_bytes ({limit})");
            return Err(invalid(text));
        }
        let length = u32::try_from(length).map_err(|_| invalid("has more than 4 GiB after decompression"))?;
        message[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(Bytes::from(message).into())
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Error::invalid("request", text)
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, StdError>>> {
        self.get_mut()
            .poll(context)
            .map(|polled| polled.map(|message| message.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::grpc::pb::DESCRIPTORS;

    fn limits(bytes: usize) -> MessageLimits {
        MessageLimits {
            bytes,
            elements: 10,
            schema: MessageSchema::new(&[DESCRIPTORS]),
            unfinished: UnfinishedMessages::new(1_000_000),
        }
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[flag], length.to_be_bytes().as_slice(), message].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn buffer(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.extend(bytes);
        buffer
    }

    fn error(result: Result<Option<Bytes>>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_length_above_the_limit_is_rejected_before_the_message_arrives() {
        let text = error(limits(255).next_message(&mut buffer(&[0, 0, 0, 1, 0]), None, false));
        assert!(
            text.contains("has 256 bytes, more than server.max_request_bytes (255)"),
            "{text}"
        );
    }

    #[test]
    fn decompression_stops_at_the_limit() {
        let bomb = framed(1, &gzip(&vec![0; 10_000_000]));
        let limits = limits(20_000);
        let text = error(limits.next_message(&mut buffer(&bomb), None, true));
        assert!(text.contains("after decompression"), "{text}");
        let fits = framed(1, &gzip(&[7; 20_000]));
        let message = limits.next_message(&mut buffer(&fits), None, true).unwrap();
        assert_eq!(message.unwrap(), framed(0, &[7; 20_000]));
    }

    #[test]
    fn invalid_gzip_is_rejected() {
        for bytes in [&b"text"[..], &gzip(&[1; 100])[..20], &[]] {
            let message = framed(1, bytes);
            let text = error(limits(1_000).next_message(&mut buffer(&message), None, true));
            assert!(text.contains("it is not valid gzip"), "{text}");
        }
    }

    #[test]
    fn elements_are_counted_after_decompression() {
        let limits = limits(1_000);
        let method = limits.schema.method("/leadgate.v1.LeadService/BatchCreateLeads");
        // Every element is an empty request.
        let requests = |count: usize| [0x0a, 0].repeat(count);
        let of = |count| limits.next_message(&mut buffer(&framed(1, &gzip(&requests(count)))), method, true);
        assert!(of(10).is_ok());
        let text = error(of(11));
        assert!(text.contains("server.max_message_elements (10)"), "{text}");
    }

    proptest! {
        #[test]
        fn messages_are_passed_on_complete_however_they_are_split(
            lengths in prop::collection::vec(prop_oneof![0..50_usize, 0..40_000_usize], 0..10),
            cuts in prop::collection::vec(prop_oneof![1..40_usize, 1_000..40_000_usize], 1..20),
        ) {
            let limits = limits(100_000);
            let messages: Vec<Vec<u8>> = lengths.iter().map(|length| (0..*length).map(|i| i as u8).collect()).collect();
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(0, message)).collect();
            let (mut buffer, mut found, mut rest, mut cuts) = (Buffer::default(), vec![], &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = (*cuts.next().unwrap()).min(rest.len());
                buffer.extend(&rest[..cut]);
                rest = &rest[cut..];
                while let Some(message) = limits.next_message(&mut buffer, None, false).unwrap() {
                    found.push(message[PREFIX_BYTES..].to_vec());
                }
            }
            prop_assert_eq!(found, messages);
        }
    }
}
