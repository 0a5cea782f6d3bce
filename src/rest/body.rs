//! Reads the body of a request completely, within its limits.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body as _;
use hyper::body::Incoming;

use super::errors::RestError;
use crate::grpc::UnfinishedMessage;

/// Why a body was not read.
pub(super) enum BodyError {
    /// The client gets an error.
    Invalid(RestError),
    /// Too many bytes of all bodies are incomplete.
    Dropped,
}

/// Reads a body of at most `max` bytes within `timeout`.
pub(super) async fn read(
    mut body: Incoming,
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
                std::pin::Pin::new(&mut body).poll_frame(context).map(Some)
            });
            let Some(frame) = frame.await else {
                return Err(BodyError::Dropped);
            };
            let data = match frame {
                None => return Ok(bytes.freeze()),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return Err(invalid(StatusCode::BAD_REQUEST, "the body is incomplete or not valid")),
            };
            if bytes.len() + data.len() > max {
                return Err(too_long());
            }
            unfinished.grow(data.len());
            bytes.extend_from_slice(&data);
        }
    };
    match tokio::time::timeout(timeout, reading).await {
        Ok(read) => read,
        Err(_) => {
            let text = "the body did not arrive in time (rest.body_timeout)";
            Err(invalid(StatusCode::REQUEST_TIMEOUT, text))
        }
    }
}
