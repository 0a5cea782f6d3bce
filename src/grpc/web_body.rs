//! The bodies of gRPC-Web: requests whose bytes are base64, and responses whose trailers are in the body
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::codegen::StdError;

use super::body::PREFIX_BYTES;
use crate::error::{Error, Result};

/// The flag of the frame with the trailers.
const TRAILERS_FLAG: u8 = 0x80;
/// The number of bytes that are encoded at once. Their text has no padding.
const TEXT_PART: usize = 12 * 1024;
/// The number of characters that are decoded together.
const GROUP: usize = 4;

/// The body of a request of a client.
pub(super) enum ClientBody<B = Incoming> {
    /// The bytes are those of gRPC.
    Binary(B),
    /// The bytes are base64.
    Text(TextBody<B>),
}

impl<B> ClientBody<B> {
    /// The body of a request of gRPC-Web.
    pub(super) fn of_web(inner: B, is_text: bool) -> Self {
        match is_text {
            true => Self::Text(TextBody {
                inner,
                decoder: TextDecoder::default(),
                has_ended: false,
            }),
            false => Self::Binary(inner),
        }
    }
}

impl<B> http_body::Body for ClientBody<B>
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
        match self.get_mut() {
            Self::Binary(inner) => Pin::new(inner)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Self::Text(text) => text.poll(context),
        }
    }
}

/// A body whose bytes are base64.
pub(super) struct TextBody<B> {
    inner: B,
    decoder: TextDecoder,
    has_ended: bool,
}

impl<B> TextBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<std::result::Result<Frame<Bytes>, StdError>>> {
        while !self.has_ended {
            let decoded = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                // gRPC requests have no trailers.
                Some(Ok(frame)) => self.decoder.decode(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    self.has_ended = true;
                    self.decoder.end().map(|()| Vec::new())
                }
            };
            match decoded {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Err(error) => {
                    self.has_ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
        Poll::Ready(None)
    }
}

/// Decodes base64 that arrives in parts. The text may have several padded pieces.
#[derive(Debug, Default)]
struct TextDecoder {
    /// The beginning of the next group.
    partial: Vec<u8>,
}

impl TextDecoder {
    /// Returns the bytes of all groups that are complete.
    fn decode(&mut self, mut text: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(text.len() / GROUP * 3 + 3);
        if !self.partial.is_empty() {
            let (missing, rest) = text.split_at(text.len().min(GROUP - self.partial.len()));
            self.partial.extend_from_slice(missing);
            text = rest;
            if self.partial.len() == GROUP {
                decode_groups(&self.partial, &mut bytes)?;
                self.partial.clear();
            }
        }
        let (groups, rest) = text.split_at(text.len() / GROUP * GROUP);
        decode_groups(groups, &mut bytes)?;
        self.partial.extend_from_slice(rest);
        Ok(bytes)
    }

    /// Checks that the last group is complete.
    fn end(&self) -> Result<()> {
        match self.partial.is_empty() {
            true => Ok(()),
            false => Err(not_base64()),
        }
    }
}

/// Decodes complete groups. Padding ends a piece, and the next piece begins after it.
fn decode_groups(mut groups: &[u8], bytes: &mut Vec<u8>) -> Result<()> {
    while !groups.is_empty() {
        let padding = groups.iter().position(|byte| *byte == b'=');
        let end = padding.map_or(groups.len(), |at| (at / GROUP + 1) * GROUP);
        let (piece, rest) = groups.split_at(end);
        STANDARD.decode_vec(piece, bytes).map_err(|_| not_base64())?;
        groups = rest;
    }
    Ok(())
}

fn not_base64() -> Error {
    Error::invalid(
        "request",
        "is not valid base64, which application/grpc-web-text requires",
    )
}

/// The body of a response of gRPC-Web.
pub(super) struct WebResponseBody {
    inner: Body,
    is_text: bool,
    /// The rest of a frame whose text is not complete yet.
    rest: Bytes,
}

impl WebResponseBody {
    /// `is_text`: the bytes are sent as base64.
    pub(super) fn new(inner: Body, is_text: bool) -> Self {
        Self {
            inner,
            is_text,
            rest: Bytes::new(),
        }
    }
}

// The size is not known: base64 and the trailers change it.
impl http_body::Body for WebResponseBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            this.rest = match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => frame.into_trailers().map_or(Bytes::new(), |trailers| framed(&trailers)),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
        }
        let part = match this.is_text {
            false => std::mem::take(&mut this.rest),
            true => {
                let part = this.rest.split_to(this.rest.len().min(TEXT_PART));
                STANDARD.encode(part).into()
            }
        };
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }
}

/// Returns the frame with the trailers, in the form of HTTP/1.
fn framed(trailers: &HeaderMap) -> Bytes {
    let mut frame = vec![TRAILERS_FLAG, 0, 0, 0, 0];
    for (name, value) in trailers {
        frame.extend_from_slice(name.as_str().as_bytes());
        frame.extend_from_slice(b": ");
        frame.extend_from_slice(value.as_bytes());
        frame.extend_from_slice(b"\r\n");
    }
    let length = u32::try_from(frame.len() - PREFIX_BYTES).expect("trailers have a limit");
    frame[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    frame.into()
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full, StreamBody};
    use proptest::prelude::*;

    use super::*;

    fn decoded<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>> {
        let mut decoder = TextDecoder::default();
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend(decoder.decode(part)?);
        }
        decoder.end().map(|()| bytes)
    }

    proptest! {
        #[test]
        fn text_is_decoded_however_it_is_split_and_padded(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5),
            size in 1..20_usize,
        ) {
            let text: String = pieces.iter().map(|piece| STANDARD.encode(piece)).collect();
            prop_assert_eq!(decoded(text.as_bytes().chunks(size)).unwrap(), pieces.concat());
        }

        #[test]
        fn any_bytes_are_decoded_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100), size in 1..20_usize) {
            let _ = decoded(bytes.chunks(size));
        }
    }

    #[test]
    fn other_texts_are_errors() {
        for text in ["A", "AAAA=", "A===", "====", "AA=A", "AAA\n", "AA-_", "AAA AAA="] {
            let error = decoded([text.as_bytes()]).unwrap_err().to_string();
            assert!(error.contains("is not valid base64"), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn an_incomplete_text_is_an_error_of_the_body() {
        let body = ClientBody::of_web(Full::new(Bytes::from_static(b"AAAAA")), true);
        let error = body.collect().await.unwrap_err().downcast::<Error>().unwrap();
        assert!(error.to_string().contains("is not valid base64"), "{error}");
    }

    #[tokio::test]
    async fn a_response_ends_with_its_trailers_in_a_frame() {
        let message = vec![7; 2 * TEXT_PART + 1];
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())]);
        let frame = b"\x80\0\0\0\x10grpc-status: 0\r\n";
        for is_text in [false, true] {
            let frames = [
                Ok::<_, tonic::Status>(Frame::data(Bytes::from(message.clone()))),
                Ok(Frame::data(Bytes::new())),
                Ok(Frame::trailers(trailers.clone())),
            ];
            let inner = Body::new(StreamBody::new(tokio_stream::iter(frames)));
            let mut body = WebResponseBody::new(inner, is_text);
            assert_eq!(http_body::Body::size_hint(&body).exact(), None);
            let mut sent = Vec::new();
            while let Some(part) = body.frame().await {
                sent.extend(part.unwrap().into_data().unwrap());
            }
            let bytes = if is_text { decoded([&sent[..]]).unwrap() } else { sent };
            assert_eq!(bytes, [&message[..], frame].concat(), "{is_text}");
        }
    }
}
