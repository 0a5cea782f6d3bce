//! Reads the body of a request completely, within its limits.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::errors::RestError;
use crate::grpc::UnfinishedMessage;

/// Maximum time for which a body is read that is not used.
const LINGER: Duration = Duration::from_secs(2);

/// Why a body was not read.
pub(super) enum BodyError {
    /// The client gets an error.
    Invalid(RestError),
    /// Too many bytes of all bodies are incomplete.
    Dropped,
}

/// The body of a request.
pub(super) struct RequestBody {
    body: Incoming,
    is_read: bool,
}

impl RequestBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            is_read: body.is_end_stream(),
            body,
        }
    }

    /// Whether it was read completely, so that the connection can be used for another request.
    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Reads at most `max` bytes within `timeout`.
    pub(super) async fn read(
        &mut self,
        max: usize,
        timeout: Duration,
        mut unfinished: UnfinishedMessage,
    ) -> Result<Bytes, BodyError> {
        let invalid = |status, text| BodyError::Invalid(RestError::invalid(status, text));
        let too_long = || {
            invalid(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too long (rest.max_body_bytes)",
            )
        };
        let body = &mut self.body;
        let is_long = |length: u64| usize::try_from(length).map_or(true, |length| length > max);
        if body.size_hint().exact().is_some_and(is_long) {
            return Err(too_long());
        }
        let reading = async {
            let mut bytes = BytesMut::new();
            loop {
                let frame = poll_fn(|context| {
                    if unfinished.is_dropped(context) {
                        return Poll::Ready(None);
                    }
                    Pin::new(&mut *body).poll_frame(context).map(Some)
                });
                let Some(frame) = frame.await else {
                    return Err(BodyError::Dropped);
                };
                let data = match frame {
                    None => return Ok(bytes.freeze()),
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    Some(Err(_)) => {
                        return Err(invalid(StatusCode::BAD_REQUEST, "the body is incomplete or not valid"));
                    }
                };
                if bytes.len() + data.len() > max {
                    return Err(too_long());
                }
                unfinished.grow(data.len());
                bytes.extend_from_slice(&data);
            }
        };
        let read = match tokio::time::timeout(timeout, reading).await {
            Ok(read) => read,
            Err(_) => {
                let text = "the body did not arrive in time (rest.body_timeout)";
                Err(invalid(StatusCode::REQUEST_TIMEOUT, text))
            }
        };
        self.is_read = read.is_ok();
        read
    }

    /// Reads at most `max` bytes for a short time, and drops them: a client that is still sending would not see a response on a
    /// connection that is closed.
    pub(super) async fn discard(mut self, max: usize) {
        let reading = async {
            let mut length = 0;
            while let Some(Ok(frame)) = self.body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
                if length > max {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, reading).await;
    }
}
