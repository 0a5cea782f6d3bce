//! The statements of the leases. One task of a replica uses them, on a connection of its own. Each one is a transaction in one
//! message. A transaction without a response in time counts as lost: its connection is closed, so a late response is never used.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::connection::{Connection, Failure, StatementResult, TransactionLimits};
use super::statement::{Value, values};
use super::{Postgres, at, column_error, first_row};
use crate::domain::lease::{
    AcquiredLease, Acquisition, Beat, History, LeaseRow, Move, MoveReason, ReplicaName, ReplicaRow,
};
use crate::domain::pause::{Pause, Pauses};
use crate::store::{ClusterStatus, LeaseStatus, ReplicaStatus, StoreError};

/// The connection for the leases.
#[derive(Debug)]
pub struct LeaseConnection {
    store: Postgres,
    connection: Option<Connection>,
    me: ReplicaName,
    lease: Duration,
}

impl Postgres {
    pub(in crate::store) fn lease_connection(&self, me: ReplicaName, lease: Duration) -> LeaseConnection {
        LeaseConnection {
            store: self.clone(),
            connection: None,
            me,
            lease,
        }
    }

    pub(in crate::store) async fn cluster_status(&self) -> Result<ClusterStatus, StoreError> {
        let statement =
            "SELECT l.tenant, l.owner, l.epoch, (extract(epoch from l.owned_since) * 1000)::bigint, l.last_move_reason, p.since
                         FROM tenant_lease l LEFT JOIN tenant_pause p ON p.tenant = l.tenant ORDER BY l.tenant;
                         SELECT name, address, beat, tenants, lease,
                                (extract(epoch from clock_timestamp() - changed) * 1000000)::bigint
                         FROM replica ORDER BY name";
        let results = self
            .transaction(super::HOUSEKEEPING, Ok(statement.to_owned()), true)
            .await;
        let results = results.map_err(|failure| failure.reading())?;
        let lease = |row: &PgRow| {
            let since: Option<i64> = row.try_get(3)?;
            Ok(LeaseStatus {
                tenant: row.try_get(0)?,
                owner: row.try_get::<Option<String>, _>(1)?.map(ReplicaName::from),
                epoch: row.try_get(2)?,
                owned_since: since.and_then(|at| Timestamp::from_millisecond(at).ok()),
                last_move_reason: row.try_get(4)?,
                paused_since: row.try_get::<Option<i64>, _>(5)?.map(at),
            })
        };
        let replica = |row: &PgRow| {
            Ok(ReplicaStatus {
                replica: replica(row)?,
                last_beat: microseconds(row.try_get(5)?),
            })
        };
        let rows = |at: usize| {
            results
                .get(at)
                .map(|result: &StatementResult| &result.rows[..])
                .unwrap_or_default()
        };
        let leases: Result<_, sqlx::Error> = rows(0).iter().map(lease).collect();
        let replicas: Result<_, sqlx::Error> = rows(1).iter().map(replica).collect();
        Ok(ClusterStatus {
            leases: leases.map_err(column_error)?,
            replicas: replicas.map_err(column_error)?,
        })
    }
}

impl Postgres {
    pub(in crate::store) async fn pauses(&self) -> Result<Pauses, StoreError> {
        let rows = self
            .read(Ok("SELECT tenant, since, reason FROM tenant_pause".to_owned()))
            .await?;
        rows.iter().map(|row| pause(row).map_err(column_error)).collect()
    }

    /// Needs no lease: any replica can pause a tenant. Its owner reads the pause with its next beat.
    pub(in crate::store) async fn pause(&self, tenant: &str, pause: &Pause) -> Result<Pause, StoreError> {
        let statement = self.statement(
            "INSERT INTO tenant_pause (tenant, since, reason) VALUES ($1, $2, $3)
             ON CONFLICT (tenant) DO UPDATE SET reason = COALESCE(NULLIF(excluded.reason, ''), tenant_pause.reason)
             RETURNING since, reason",
            values![tenant, pause.since.as_millisecond(), &pause.reason],
        );
        let results = self.write(super::HOUSEKEEPING, statement).await?;
        Ok(Pause {
            since: at(super::first(&results, 0)?),
            reason: super::first(&results, 1)?,
        })
    }

    pub(in crate::store) async fn resume(&self, tenant: &str) -> Result<bool, StoreError> {
        let statement = self.statement(
            "DELETE FROM tenant_pause WHERE tenant = $1 RETURNING 1",
            values![tenant],
        );
        let results = self.write(super::HOUSEKEEPING, statement).await?;
        Ok(first_row(&results).is_some())
    }
}

impl LeaseConnection {
    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Connects if there is no connection. Waits for `store.connect_timeout` per host at most. All other functions connect, too;
    /// a caller that measures the time of a beat connects before it.
    pub async fn connect(&mut self) -> Result<(), StoreError> {
        if self.connection.is_none() {
            let connected = self.store.pool.connect().await;
            self.connection = Some(connected.map_err(|failure| failure.writing())?);
        }
        Ok(())
    }

    /// Adds the missing leases of tenants, counts a beat of this replica, and then reads all leases and pauses, in one transaction with
    /// separate statements, so that it sees an acquisition that an earlier one waited for. `tenants` are those in the settings of the replica.
    /// After the clock of the database was set back, a history that was first seen in the future counts as first seen now.
    pub async fn beat(&mut self, address: &str, tenants: &[String]) -> Result<Beat, StoreError> {
        let meter = self.store.meter().clone();
        meter.measure("beat", self.execute_beat(address, tenants)).await
    }

    async fn execute_beat(&mut self, address: &str, tenants: &[String]) -> Result<Beat, StoreError> {
        let me = self.me.clone();
        let lease = i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX);
        let results = self
            .execute(
                "INSERT INTO history SELECT $HERE, CASE WHEN EXISTS (SELECT FROM tenant_lease WHERE epoch > 0)
                     THEN clock_timestamp() ELSE 'epoch'::timestamptz END ON CONFLICT DO NOTHING;
                 UPDATE history SET first_seen = clock_timestamp() WHERE first_seen > clock_timestamp();
                 INSERT INTO tenant_lease (tenant, epoch) SELECT tenant, 0 FROM unnest($3) tenant ORDER BY tenant
                     ON CONFLICT DO NOTHING;
                 INSERT INTO replica (name, address, beat, tenants, lease, changed) VALUES ($1, $2, 1, $3, $4, clock_timestamp())
                     ON CONFLICT (name) DO UPDATE SET beat = replica.beat + 1, address = excluded.address,
                         tenants = excluded.tenants, lease = excluded.lease, changed = excluded.changed;
                 INSERT INTO replica (name, address, beat, tenants, changed)
                     SELECT DISTINCT l.owner, '', 0, ARRAY[]::text[], clock_timestamp() FROM tenant_lease l
                     WHERE l.owner IS NOT NULL AND NOT EXISTS (SELECT FROM replica r WHERE r.name = l.owner) ORDER BY l.owner
                     ON CONFLICT DO NOTHING;
                 SELECT h.id, (extract(epoch from clock_timestamp() - h.first_seen) * 1000000)::bigint,
                        l.tenant, l.owner, l.epoch, r.beat,
                        coalesce(l.owner IS NULL AND l.handover_history = h.id, false)
                     FROM history h LEFT JOIN tenant_lease l ON true LEFT JOIN replica r ON r.name = l.owner
                     WHERE h.id = $HERE ORDER BY l.tenant;
                 SELECT name, address, beat, tenants, lease FROM replica ORDER BY name;
                 SELECT tenant, since, reason FROM tenant_pause",
                values![&*me, address, tenants, lease],
            )
            .await?;
        read_beat(&results).map_err(column_error)?.ok_or_else(|| {
            let reason = "the history of the database changed during a beat";
            StoreError::new("cannot be read", &reason)
        })
    }

    /// Acquires leases that have not changed. Leases that have changed are missing in the result; so are all leases if the history
    /// has changed, or if it is younger than a lease. The reason of a handover stays the reason of the move.
    pub async fn acquire(&mut self, acquisition: &Acquisition) -> Result<Vec<AcquiredLease>, StoreError> {
        let Acquisition {
            tenants,
            owner,
            history,
        } = acquisition;
        if tenants.is_empty() {
            return Ok(vec![]);
        }
        let reason = match owner {
            None => MoveReason::Free,
            Some(_) => MoveReason::Takeover,
        };
        let rows = tenants
            .iter()
            .map(|(tenant, epoch)| self.store.statement("($1, $2)", values![tenant, *epoch]));
        let rows = rows
            .collect::<Result<Vec<_>, _>>()
            .map_err(|failure| failure.writing())?
            .join(", ");
        let template = "WITH h AS MATERIALIZED (SELECT id FROM history
                                                WHERE id = $HERE AND id = $1 AND first_seen <= clock_timestamp() - $2),
                  o AS MATERIALIZED (SELECT name FROM replica WHERE name = $3 AND beat = $4 FOR SHARE),
                  l AS MATERIALIZED (SELECT t.tenant, t.handover, t.handover_history FROM tenant_lease t, h
                                     WHERE (t.tenant, t.epoch) IN (ROWS)
                                       AND (t.owner IS NULL AND $3 IS NULL OR t.owner IN (SELECT name FROM o))
                                     ORDER BY t.tenant FOR NO KEY UPDATE OF t)
             UPDATE tenant_lease t SET owner = $5, epoch = t.epoch + 1, handover = NULL, handover_history = NULL,
                                       owned_since = clock_timestamp(),
                                       last_move_reason = CASE WHEN l.handover_history = $1 THEN coalesce(t.last_move_reason, $6) ELSE $6 END
               FROM l WHERE t.tenant = l.tenant
             RETURNING t.tenant, t.epoch, CASE WHEN l.handover_history = $1 THEN l.handover END,
                       (extract(epoch from t.owned_since) * 1000)::bigint, t.last_move_reason";
        let (first_part, second_part) = template.split_once("ROWS").unwrap_or((template, ""));
        let (me, lease) = (self.me.clone(), self.lease);
        let values = values![
            &**history,
            lease,
            owner.as_ref().map(|(name, _)| &**name),
            owner.as_ref().map(|(_, beat)| *beat),
            &*me,
            reason.name()
        ];
        let parts = [first_part, second_part].map(|part| self.store.statement(part, values));
        let [first_part, second_part] = parts;
        let statement = first_part.and_then(|first| Ok(format!("{first}{rows}{}", second_part?)));
        let results = self.send(statement).await?;
        let acquired = |row: &PgRow| {
            let stored: Option<String> = row.try_get(4)?;
            Ok(AcquiredLease {
                tenant: row.try_get(0)?,
                epoch: row.try_get(1)?,
                handover: row.try_get(2)?,
                moved: Move {
                    at: Timestamp::from_millisecond(row.try_get(3)?).unwrap_or_default(),
                    // Another version may hand over for another reason.
                    reason: stored.as_deref().and_then(MoveReason::named).unwrap_or(reason),
                },
            })
        };
        let rows = results.first().map(|result| &result.rows[..]).unwrap_or_default();
        let mut leases: Vec<AcquiredLease> = rows
            .iter()
            .map(|row| acquired(row).map_err(column_error))
            .collect::<Result<_, _>>()?;
        leases.sort_unstable_by(|a, b| a.tenant.cmp(&b.tenant));
        Ok(leases)
    }

    /// Frees a lease of this replica without a handover. Returns whether it was freed; otherwise it was not the lease of this
    /// replica any more.
    pub async fn reset(&mut self, tenant: &str, epoch: i64, history: &History) -> Result<bool, StoreError> {
        self.free(tenant, epoch, history, None).await
    }

    /// Frees a lease of this replica, with the state of its quota as JSON and the reason of the move. Returns whether it was freed;
    /// otherwise it was not the lease of this replica any more.
    pub async fn hand_over(
        &mut self,
        tenant: &str,
        epoch: i64,
        history: &History,
        state: &str,
        reason: MoveReason,
    ) -> Result<bool, StoreError> {
        self.free(tenant, epoch, history, Some((state, reason))).await
    }

    async fn free(
        &mut self,
        tenant: &str,
        epoch: i64,
        history: &History,
        handover: Option<(&str, MoveReason)>,
    ) -> Result<bool, StoreError> {
        let me = self.me.clone();
        let (state, reason) = handover.unzip();
        let reason = reason.map(MoveReason::name);
        let results = self
            .execute(
                "UPDATE tenant_lease SET owner = NULL, handover = $1, handover_history = CASE WHEN $1 IS NOT NULL THEN $5 END,
                                         last_move_reason = coalesce($6, last_move_reason)
                 WHERE tenant = $2 AND owner = $3 AND epoch = $4 AND $HERE = $5 RETURNING 1",
                values![state, tenant, &*me, epoch, &**history, reason],
            )
            .await?;
        Ok(first_row(&results).is_some())
    }

    /// Deletes the replicas that own nothing and had no beat for a day. Returns their number.
    pub async fn delete_old_replicas(&mut self) -> Result<u64, StoreError> {
        let results = self
            .execute(
                "DELETE FROM replica r WHERE r.changed < clock_timestamp() - interval '1 day'
                 AND NOT EXISTS (SELECT FROM tenant_lease l WHERE l.owner = r.name) RETURNING 1",
                &[],
            )
            .await?;
        Ok(results.first().map_or(0, |result| result.rows.len()) as u64)
    }

    /// Deletes this replica, unless it owns a tenant.
    pub async fn leave(&mut self) -> Result<(), StoreError> {
        let me = self.me.clone();
        let statement = "DELETE FROM replica r WHERE r.name = $1 AND NOT EXISTS (SELECT FROM tenant_lease l WHERE l.owner = r.name)";
        self.execute(statement, values![&*me]).await.map(drop)
    }

    /// Closes the connection.
    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    async fn execute(&mut self, template: &str, values: &[Value<'_>]) -> Result<Vec<StatementResult>, StoreError> {
        let statement = self.store.statement(template, values);
        self.send(statement).await
    }

    /// Sends one transaction. The connection is kept only after a response.
    async fn send(&mut self, statement: Result<String, Failure>) -> Result<Vec<StatementResult>, StoreError> {
        let statement = statement.map_err(|failure| failure.writing())?;
        self.connect().await?;
        let limit = self.lease / 5;
        let limits = TransactionLimits {
            timeout: limit,
            server: limit,
        };
        // Taken, so that the connection is closed if this future is dropped.
        let taken = self.connection.take();
        let mut connection = taken.ok_or_else(|| StoreError::new("cannot be written", &"there is no connection"))?;
        let done = connection.execute(limits, &statement).await;
        if !matches!(done, Err(Failure::Gone(_))) {
            self.connection = Some(connection);
        }
        done.map_err(|failure| failure.writing())
    }
}

/// Reads the results of a beat. `None`: the history that the beat added is not the current one any more.
fn read_beat(results: &[StatementResult]) -> Result<Option<Beat>, sqlx::Error> {
    let rows = |from_end: usize| {
        let at = results.len().checked_sub(from_end);
        at.and_then(|at| results.get(at))
            .map(|result| &result.rows[..])
            .unwrap_or_default()
    };
    let (lease_rows, replica_rows, pause_rows) = (rows(3), rows(2), rows(1));
    let Some(any) = lease_rows.first() else {
        return Ok(None);
    };
    let mut leases = vec![];
    for row in lease_rows {
        // A database without leases has a row without a tenant.
        if let Some(tenant) = row.try_get(2)? {
            leases.push(LeaseRow {
                tenant,
                owner: row.try_get::<Option<String>, _>(3)?.map(ReplicaName::from),
                epoch: row.try_get(4)?,
                beat: row.try_get(5)?,
                is_handed_over: row.try_get(6)?,
            });
        }
    }
    Ok(Some(Beat {
        history: any.try_get::<String, _>(0)?.into(),
        history_age: microseconds(any.try_get(1)?),
        leases,
        replicas: replica_rows.iter().map(replica).collect::<Result<_, _>>()?,
        pauses: pause_rows.iter().map(pause).collect::<Result<_, _>>()?,
    }))
}

/// Reads a replica from the first columns of a row.
fn replica(row: &PgRow) -> Result<ReplicaRow, sqlx::Error> {
    Ok(ReplicaRow {
        name: row.try_get::<String, _>(0)?.into(),
        address: row.try_get(1)?,
        beat: row.try_get(2)?,
        tenants: row.try_get(3)?,
        lease: Duration::from_millis(u64::try_from(row.try_get::<i64, _>(4)?).unwrap_or_default()),
    })
}

/// Reads a paused tenant.
fn pause(row: &PgRow) -> Result<(String, Pause), sqlx::Error> {
    let pause = Pause {
        since: at(row.try_get(1)?),
        reason: row.try_get(2)?,
    };
    Ok((row.try_get(0)?, pause))
}

/// A duration by the clock of the database. A negative one, after the clock was changed, is zero.
fn microseconds(number: i64) -> Duration {
    Duration::from_micros(u64::try_from(number).unwrap_or(0))
}
