//! A consistent copy of the file while the store is in use. The write-ahead log is written to the file, and is then kept from the file
//! while the file is copied: meanwhile, transactions are only in the log. So no operation waits for the copy.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Row};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{AUTOCHECKPOINT, Sqlite, read_error, write_error};
use crate::store::file::{CopyError, OpenFile};
use crate::store::{BackupError, StoreCopy, StoreError};

/// The copies in progress. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Backups {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Backups {
    /// Interrupts the copy in progress, and waits for its end.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Sqlite {
    pub(in crate::store) async fn backup(&self) -> Result<StoreCopy, BackupError> {
        let Some((file, _)) = &self.file else {
            return Err(BackupError::NoFile("the store is in memory (store.url)".to_owned()));
        };
        self.check_writable()?;
        let (store, file) = (self.clone(), file.clone());
        // Ends also if nobody waits: the log must be written to the file again.
        let copying = self.backups.tasks.spawn(async move { store.copy_file(file).await });
        let interrupted = |error| StoreError::reading("cannot be copied", &error);
        copying.await.unwrap_or_else(|error| Err(interrupted(error).into()))
    }

    async fn copy_file(&self, file: Arc<OpenFile>) -> Result<StoreCopy, BackupError> {
        let prepared = self.hold_checkpoints().await;
        let copied = match prepared {
            Ok(()) => {
                let stop = self.backups.stop.clone();
                tokio::task::spawn_blocking(move || file.copy(|| stop.is_cancelled())).await
            }
            Err(error) => {
                self.allow_checkpoints().await?;
                return Err(error.into());
            }
        };
        // A connection that replaced the first one may have written to the file.
        if !self.allow_checkpoints().await? {
            return Err(StoreError::reading("cannot be copied", &"its connection was replaced").into());
        }
        match copied {
            Ok(Ok((file, bytes))) => Ok(StoreCopy { file, bytes }),
            Ok(Err(CopyError::DiskFull(reason))) => Err(BackupError::DiskFull(reason)),
            Ok(Err(CopyError::Failed(reason))) => Err(StoreError::reading("cannot be copied", &reason).into()),
            Err(error) => Err(StoreError::reading("cannot be copied", &error).into()),
        }
    }

    /// Writes the whole log to the file, and nothing more until [`Self::allow_checkpoints`].
    async fn hold_checkpoints(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await.map_err(read_error)?;
        let hold = sqlx::query("PRAGMA wal_autocheckpoint = 0").execute(&mut *connection);
        hold.await.map_err(write_error)?;
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut *connection)
            .await;
        // Busy: a part of the log is not in the file.
        match row.and_then(|row| row.try_get::<i64, _>(0)).map_err(write_error)? {
            0 => Ok(()),
            _ => Err(StoreError::reading(
                "cannot be copied",
                &"the write-ahead log is in use",
            )),
        }
    }

    /// Lets SQLite write the log to the file. Returns whether it was not allowed to until now.
    async fn allow_checkpoints(&self) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(read_error)?;
        let before = sqlx::query("PRAGMA wal_autocheckpoint")
            .fetch_one(&mut *connection)
            .await;
        let before = before.and_then(|row| row.try_get::<i64, _>(0)).map_err(read_error)?;
        let allow = AssertSqlSafe(format!("PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT}"));
        sqlx::query(allow)
            .execute(&mut *connection)
            .await
            .map_err(write_error)?;
        Ok(before == 0)
    }
}
