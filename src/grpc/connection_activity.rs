//! The RPCs in progress on a connection, except for those of the health service, and the responses that the client does not read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::time::Instant;
use tonic::body::Body;

use super::authorization;

/// The HTTP library gets a response in parts of this size. It takes a part only when the client accepts more bytes of the
/// stream, so that the rest of a response that is not read is known here.
const PART: usize = 16 * 1024;

/// The activity of a connection. RPCs of the health service are no activity, because they need no credential.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    state: Mutex<ActivityState>,
}

#[derive(Debug)]
struct ActivityState {
    next_id: u64,
    in_progress: usize,
    /// When the last RPC ended, or the connection began.
    idle_since: Instant,
    /// The responses of which the client does not read the next part, since when.
    unread: BTreeMap<u64, Instant>,
}

/// An RPC in progress.
#[derive(Debug)]
struct TrackedRpc {
    activity: Arc<ConnectionActivity>,
    id: u64,
    /// Whether the RPC is one of the health service.
    is_health: bool,
    is_unread: bool,
}

impl ConnectionActivity {
    pub(super) fn new() -> Arc<Self> {
        let state = ActivityState {
            next_id: 0,
            in_progress: 0,
            idle_since: Instant::now(),
            unread: BTreeMap::new(),
        };
        let state = Mutex::new(state);
        Arc::new(Self { state })
    }

    /// Resolves when no RPC has been in progress for `limit`.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let check_at = {
                let state = self.lock();
                let since = if state.in_progress == 0 { state.idle_since } else { now };
                since + limit
            };
            if check_at <= now {
                return;
            }
            tokio::time::sleep_until(check_at).await;
        }
    }

    /// Resolves when the client has not read the next part of a response for `limit`, or for up to half as long again.
    pub(super) async fn unread_for(&self, limit: Duration) {
        loop {
            tokio::time::sleep(limit / 2).await;
            let now = Instant::now();
            if self.lock().unread.values().any(|since| now - *since >= limit) {
                return;
            }
        }
    }

    fn begin(self: &Arc<Self>, is_health: bool) -> TrackedRpc {
        let mut state = self.lock();
        state.next_id += 1;
        state.in_progress += usize::from(!is_health);
        TrackedRpc {
            activity: self.clone(),
            id: state.next_id,
            is_health,
            is_unread: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, ActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TrackedRpc {
    /// Records whether a part of the response waits for the client.
    fn set_unread(&mut self, is_unread: bool) {
        if std::mem::replace(&mut self.is_unread, is_unread) || is_unread {
            let mut state = self.activity.lock();
            match is_unread {
                true => state.unread.insert(self.id, Instant::now()),
                false => state.unread.remove(&self.id),
            };
        }
    }
}

impl Drop for TrackedRpc {
    fn drop(&mut self) {
        let mut state = self.activity.lock();
        if !self.is_health {
            state.in_progress -= 1;
            state.idle_since = Instant::now();
        }
        state.unread.remove(&self.id);
    }
}

/// A service whose RPCs are tracked.
pub(super) struct TrackedService<S> {
    pub(super) service: S,
    pub(super) activity: Arc<ConnectionActivity>,
}

impl<S> Service<Request<Incoming>> for TrackedService<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<TrackedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let rpc = self.activity.begin(authorization::is_health(request.uri().path()));
        let response = self.service.call(request);
        Box::pin(async move {
            let response = response.await?;
            Ok(response.map(|body| TrackedBody {
                body,
                rest: Bytes::new(),
                rpc,
            }))
        })
    }
}

/// The body of a response, which is given to the HTTP library in parts.
pub(super) struct TrackedBody {
    body: Body,
    /// The rest of the last frame.
    rest: Bytes,
    rpc: TrackedRpc,
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        this.rpc.set_unread(false);
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let part = this.rest.split_to(this.rest.len().min(PART));
        this.rpc.set_unread(true);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn tracked(activity: &Arc<ConnectionActivity>, bytes: usize) -> TrackedBody {
        TrackedBody {
            body: Body::new(Full::from(vec![7; bytes])),
            rest: Bytes::new(),
            rpc: activity.begin(false),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_after_its_last_rpc() {
        let (activity, start) = (ConnectionActivity::new(), Instant::now());
        let second = Duration::from_secs(1);
        let body = tracked(&activity, 1);
        let end = async {
            tokio::time::sleep(25 * second).await;
            drop(body);
        };
        tokio::join!(activity.idle_for(10 * second), end);
        assert_eq!(start.elapsed().as_secs(), 35);
    }

    #[tokio::test(start_paused = true)]
    async fn health_is_no_activity() {
        let (activity, start) = (ConnectionActivity::new(), Instant::now());
        let second = Duration::from_secs(1);
        let watch = activity.begin(true);
        let check = async {
            tokio::time::sleep(5 * second).await;
            drop(activity.begin(true));
        };
        tokio::join!(activity.idle_for(10 * second), check);
        assert_eq!(start.elapsed().as_secs(), 10);
        drop(watch);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_read_is_found() {
        let (activity, start) = (ConnectionActivity::new(), Instant::now());
        let limit = Duration::from_secs(10);
        let (mut read, mut unread) = (tracked(&activity, 50_000), tracked(&activity, 50_000));
        unread.frame().await.unwrap().unwrap();
        let keep_reading = async {
            loop {
                read.frame().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = keep_reading => {}
            () = activity.unread_for(limit) => {}
        }
        assert_eq!(start.elapsed(), limit);
        drop(unread);
        // The other one is read to its end, and then waits for nothing.
        while read.frame().await.is_some() {}
        let waited = tokio::time::timeout(limit * 10, activity.unread_for(limit)).await;
        assert!(waited.is_err());
    }

    #[tokio::test]
    async fn a_body_arrives_whole_in_parts() {
        let activity = ConnectionActivity::new();
        let mut body = tracked(&activity, 3 * PART + 1);
        let mut lengths = Vec::new();
        while let Some(frame) = body.frame().await {
            lengths.push(frame.unwrap().into_data().unwrap().len());
        }
        assert_eq!(lengths, [PART, PART, PART, 1]);
        assert!(http_body::Body::is_end_stream(&body));
    }
}
