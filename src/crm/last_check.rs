//! The last check of the lease, immediately before the first byte of a request is written.
//!
//! The check at the grant of a slot is not enough: a connection may take seconds to be established, and the tenant may have another
//! owner by then. The HTTP library calls `is_end_stream` of the body once, when a connection is ready for the request, right before it
//! encodes the headers. It sends them together with the first part of the body, so a body that fails then leaves nothing sent. With
//! HTTP/2 the headers may have been sent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::cluster::TenantLease;

/// The connection is not ready yet.
const WAITING: u8 = 0;
/// The lease was valid, and the request is sent.
const PASSED: u8 = 1;
/// The lease was not valid.
const REFUSED: u8 = 2;

/// The check of one request.
#[derive(Clone, Debug)]
pub(super) struct LastCheck {
    lease: TenantLease,
    state: Arc<AtomicU8>,
}

/// The body of a request that is not sent without a valid lease.
struct CheckedBody {
    check: LastCheck,
    /// `None` after it was written, and for a request without a body.
    data: Option<Bytes>,
}

/// The error of the body of a request that was not sent.
#[derive(Debug, thiserror::Error)]
#[error("the lease of the tenant has ended")]
struct LeaseEnded;

impl LastCheck {
    /// A check of one request of the owner of the lease.
    pub(super) fn new(lease: &TenantLease) -> Self {
        Self {
            lease: lease.clone(),
            state: Arc::new(AtomicU8::new(WAITING)),
        }
    }

    /// The body of the request. `None`: the request has no body.
    pub(super) fn body(&self, data: Option<Bytes>) -> reqwest::Body {
        reqwest::Body::wrap(CheckedBody {
            check: self.clone(),
            data,
        })
    }

    /// Whether the request was not sent because the lease was not valid.
    pub(super) fn has_refused(&self) -> bool {
        self.state.load(Ordering::Acquire) == REFUSED
    }

    /// Checks the lease at the first call. Returns whether the request may be sent.
    fn passes(&self) -> bool {
        let decide = || match self.lease.is_valid(Instant::now()) {
            true => PASSED,
            false => REFUSED,
        };
        let decided = |state| (state == WAITING).then(decide);
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, decided);
        self.state.load(Ordering::Acquire) == PASSED
    }
}

impl Body for CheckedBody {
    type Data = Bytes;
    type Error = LeaseEnded;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LeaseEnded>>> {
        if !self.check.passes() {
            return Poll::Ready(Some(Err(LeaseEnded)));
        }
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    /// A request that is refused has a body, so that its error is read before anything is sent.
    fn is_end_stream(&self) -> bool {
        self.check.passes() && self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let refused = u64::from(self.check.has_refused());
        SizeHint::with_exact(self.data.as_ref().map_or(refused, |data| data.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Sends a request to a server that accepts its connection after `delay`. Returns whether the check has refused it, and the bytes
    /// that the server has read.
    async fn send(lease: &TenantLease, data: Option<&'static [u8]>) -> (bool, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::task::JoinSet::from_iter([async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 1000];
            let mut length = 0;
            while !read[..length].ends_with(b"\r\n\r\n") && !read[..length].ends_with(b"data") {
                match stream.read(&mut read[length..]).await {
                    Ok(0) | Err(_) => break,
                    Ok(more) => length += more,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            String::from_utf8_lossy(&read[..length]).into_owned()
        }]);
        let check = LastCheck::new(lease);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{address}/");
        let request = match data {
            Some(_) => client.post(url),
            None => client.get(url),
        };
        let response = request.body(check.body(data.map(Bytes::from_static))).send().await;
        assert_eq!(response.is_err(), check.has_refused());
        drop(client);
        (check.has_refused(), server.join_all().await.remove(0))
    }

    #[tokio::test]
    async fn a_request_with_a_valid_lease_is_sent_as_usual() {
        let lease = TenantLease::test(1, Instant::now() + Duration::from_secs(3600));
        let (refused, text) = send(&lease, Some(b"data")).await;
        assert!(
            !refused && text.to_ascii_lowercase().contains("content-length: 4") && text.ends_with("data"),
            "{text}"
        );
        let (refused, text) = send(&lease, None).await;
        assert!(!refused && text.starts_with("GET / HTTP/1.1\r\n"), "{text}");
        let headers = text.to_ascii_lowercase();
        assert!(
            !headers.contains("content-length") && !headers.contains("transfer-encoding"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn no_byte_is_sent_after_the_lease_has_ended() {
        let lease = TenantLease::test(1, Instant::now() + Duration::from_secs(3600));
        lease.end_in_test();
        assert_eq!(send(&lease, Some(b"data")).await, (true, String::new()));
        assert_eq!(send(&lease, None).await, (true, String::new()));
        let lapsed = TenantLease::test(1, Instant::now());
        assert_eq!(send(&lapsed, Some(b"data")).await, (true, String::new()));
    }

    #[test]
    fn the_first_check_decides() {
        let lease = TenantLease::test(1, Instant::now() + Duration::from_secs(3600));
        let check = LastCheck::new(&lease);
        assert!(check.passes());
        lease.end_in_test();
        assert!(check.passes() && !check.has_refused());
        let later = LastCheck::new(&lease);
        assert!(!later.passes() && later.has_refused());
    }
}
