//! `POST /admin/store/backup`: a consistent copy of a SQLite store, as the body of the response. The copy is a file without a name
//! beside the store, so nothing remains when the process ends.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::server::Connection;
use super::steering_response::SteeringError;
use crate::store::{BackupError, Store, StoreCopy};

/// Number of bytes that are sent at a time.
const CHUNK: usize = 256 * 1024;
/// Maximum time for which the client may read nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// At most one backup at a time.
pub(super) struct Backups {
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Default for Backups {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(1)),
            tasks: TaskTracker::new(),
        }
    }
}

impl Backups {
    /// Copies the store, and returns the response with the copy. The connection may last as long as the client reads.
    pub(super) async fn respond(
        &self,
        store: &Store,
        connection: Option<&Connection>,
    ) -> Result<Response, SteeringError> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let message = "another backup is in progress; try again when it has ended".to_owned();
            return Err(SteeringError::new(StatusCode::CONFLICT, "BACKUP_IN_PROGRESS", message));
        };
        let ended = CancellationToken::new();
        if let Some(connection) = connection {
            connection.outlast(ended.clone());
        }
        let copy = store.backup().await?;
        let length = HeaderValue::from(copy.bytes);
        let (sender, chunks) = mpsc::channel(2);
        self.tasks.spawn(send(copy, sender, permit, ended));
        let mut response = Response::new(Body::from_stream(ReceiverStream::new(chunks)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.sqlite3"));
        headers.insert(CONTENT_LENGTH, length);
        Ok(response)
    }
}

impl From<BackupError> for SteeringError {
    fn from(error: BackupError) -> Self {
        let message = error.to_string();
        match error {
            BackupError::NoFile(_) => Self::new(StatusCode::CONFLICT, "STORE_HAS_NO_FILE", message),
            BackupError::DiskFull(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "DISK_FULL", message),
            BackupError::Failed(_) => Self::unavailable("STORE_UNAVAILABLE", message),
        }
    }
}

/// Sends the copy. Ends the connection if the client does not read, or if the copy cannot be read.
async fn send(
    copy: StoreCopy,
    chunks: mpsc::Sender<std::io::Result<Bytes>>,
    _permit: OwnedSemaphorePermit,
    ended: CancellationToken,
) {
    let mut file = tokio::fs::File::from_std(copy.file);
    let mut remaining = copy.bytes;
    while remaining > 0 {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = file.read_buf(&mut chunk).await;
        if !matches!(read, Ok(1..)) {
            tracing::error!(reason = ?read.err(), "reading the copy of the store failed");
            return ended.cancel();
        }
        remaining = remaining.saturating_sub(chunk.len() as u64);
        let sent = tokio::time::timeout(READ_TIMEOUT, chunks.send(Ok(chunk.freeze()))).await;
        match sent {
            Ok(Ok(())) => {}
            // The client has closed the connection.
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::warn!("backup ended: the client did not read for {READ_TIMEOUT:?}");
                return ended.cancel();
            }
        }
    }
    // The last chunks are read, or the client does not read them in time.
    if tokio::time::timeout(READ_TIMEOUT, chunks.closed()).await.is_err() {
        ended.cancel();
    }
}
