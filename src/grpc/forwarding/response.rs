//! The response of another replica with a stream of messages.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use hyper::body::Incoming;
use tonic::{Code, Status};

use crate::error::{Error, ErrorKind};
use crate::grpc::rpc::StatusBuilder;

/// A stream of response messages of another replica. It ends with an error of this replica if the connection breaks, if the caller is
/// not known any more, or if this process shuts down.
pub(super) struct ForwardedStream {
    /// `None`: the stream has ended.
    inner: Option<Incoming>,
    /// Resolves when this replica ends the stream.
    ended: Pin<Box<dyn Future<Output = Error> + Send>>,
    status_builder: StatusBuilder,
    /// Called once with the code of the stream.
    counted: Option<Box<dyn FnOnce(Code) + Send>>,
}

impl ForwardedStream {
    pub(super) fn new(
        inner: Incoming,
        ended: impl Future<Output = Error> + Send + 'static,
        status_builder: StatusBuilder,
        counted: impl FnOnce(Code) + Send + 'static,
    ) -> Self {
        Self {
            inner: Some(inner),
            ended: Box::pin(ended),
            status_builder,
            counted: Some(Box::new(counted)),
        }
    }

    fn count(&mut self, code: Code) {
        if let Some(counted) = self.counted.take() {
            counted(code);
        }
    }

    /// Ends the stream with an error. Dropping the rest of the response resets the stream of the other replica.
    fn fail(&mut self, error: &Error) -> Frame<Bytes> {
        self.inner = None;
        let status = self.status_builder.last(error);
        self.count(status.code());
        let mut trailers = HeaderMap::new();
        // Statuses of leadgate have valid headers.
        let _ = status.add_header(&mut trailers);
        Frame::trailers(trailers)
    }
}

impl http_body::Body for ForwardedStream {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(error) = this.ended.as_mut().poll(context) {
            return Poll::Ready(Some(Ok(this.fail(&error))));
        }
        match Pin::new(inner).poll_frame(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.count(Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code()));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // A complete response has trailers.
            Poll::Ready(None) if this.counted.is_none() => {
                this.inner = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_)) | None) => {
                let error = ErrorKind::StreamInterrupted.into();
                Poll::Ready(Some(Ok(this.fail(&error))))
            }
        }
    }
}

impl Drop for ForwardedStream {
    fn drop(&mut self) {
        self.count(Code::Cancelled);
    }
}
