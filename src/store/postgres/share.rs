//! The shares in PostgreSQL.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Failure;
use super::pool::Pool;
use super::statement::values;
use super::{HOUSEKEEPING, LIMITS, Postgres, at, column_error, fence_held, first, statement};
use crate::domain::lead::LeadKey;
use crate::domain::share::{Share, ShareChange, ShareFilter, ShareStage, ShareState};
use crate::store::damage::{from_json, to_json};
use crate::store::record;
use crate::store::record::change::{number_of, state_of};
use crate::store::{AddShareResult, DamagedRow, StoreError};

/// A query for shares that selects all columns that [`read`] needs.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, user_id, kind, entity_id, state, document ", $rest)
    };
}

/// A page of the shares of all tenants, after the share with a tenant and an id.
pub(super) const PAGE: &str = "SELECT id, user_id, kind, entity_id, state, document, tenant FROM share
     WHERE (tenant, id) > ($1, $2) ORDER BY tenant, id LIMIT $3";

impl Postgres {
    pub(in crate::store) async fn add_share(
        &self,
        tenant: &str,
        share: &Share,
        limit: Option<u32>,
    ) -> Result<AddShareResult, StoreError> {
        let (user, entity) = (folded(&share.user_id), folded(share.entity_id()));
        let request_id = share.request_id.map(|id| id.to_string());
        let check = self.statement(
            // Without the lock, two shares of one user could be added at the same time, each without the other.
            concat!(
                "SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 0));
                 WITH FENCE($1) SELECT count(*) FROM l;
                 SELECT count(DISTINCT entity_id) FROM share WHERE tenant = $1 AND user_id = $2 AND kind = 1
                     AND state IN (1, 2, 3, 4, 7, 9) AND entity_id <> $3; ",
                select!(
                    "FROM share WHERE tenant = $1 AND user_id = $2 AND entity_id = $3 AND state IN (1, 2, 3, 4, 7, 9) ORDER BY id"
                )
            ),
            values![tenant, &user, &entity],
        );
        let check = check.map_err(|failure| failure.writing())?;
        // A request id whose record was deleted can be used again.
        let write = self.statement(
            "UPDATE share SET request_id = NULL WHERE tenant = $1 AND request_id = $2",
            values![tenant, request_id.as_deref()],
        );
        let write = write.map_err(|failure| failure.writing())?;
        // The lease is locked since the check.
        let insert = self.write_share(tenant, share, true, "WITH", "true")?;
        let write = format!("{write}; {insert}");
        let (pool, damaged) = (self.pool.clone(), self.damaged.clone());
        let (tenant, share) = (tenant.to_owned(), share.clone());
        let add = async move { add(&pool, &check, &write, &share, limit).await };
        let task = self.tasks.spawn(add);
        let added = task
            .await
            .unwrap_or_else(|_| Err(Failure::Rejected("the operation was interrupted".to_owned())));
        let (result, unreadable) = added.map_err(|failure| failure.writing())?;
        for (id, reason) in unreadable {
            damaged.note(&DamagedRow::new("share", &tenant, &id, reason));
        }
        result.ok_or_else(StoreError::not_owner)
    }

    /// Needs no lease for the result of a step that was sent under the lease of this store.
    pub(in crate::store) async fn save_share(
        &self,
        tenant: &str,
        share: &Share,
        in_history: bool,
    ) -> Result<(), StoreError> {
        let (owner, epoch) = self.mark();
        let owner = owner.as_deref();
        let is_result = !is_sending(share.stage);
        let with = self.statement(
            "WITH FENCE($1), m AS MATERIALIZED (
                 SELECT FROM share WHERE tenant = $1 AND id = $2 AND owner = $3 AND epoch = $4 AND $5 FOR UPDATE),",
            values![tenant, &share.id.to_string(), owner, epoch, is_result],
        );
        let with = with.map_err(|failure| failure.writing())?;
        // The lease is locked only if there is no mark.
        let allowed = "EXISTS (SELECT FROM m) OR EXISTS (SELECT FROM l)";
        let write = self.write_share(tenant, share, in_history, &with, allowed)?;
        fence_held(&self.write(&share.caller, Ok(write)).await?)
    }

    /// Returns the statement that writes a share if the condition `allowed` is true. With `in_history`, it also adds the share to its
    /// history. `with` is the beginning of the statement, with the common table expressions of the condition. The statement returns
    /// the number of written shares.
    fn write_share(
        &self,
        tenant: &str,
        share: &Share,
        in_history: bool,
        with: &str,
        allowed: &str,
    ) -> Result<String, StoreError> {
        let document = to_json(&record::share::ShareRecord::from(share.clone()));
        let document =
            document.map_err(|reason| StoreError::new("cannot be written", &format!("a share: {reason}")))?;
        let (owner, epoch) = match is_sending(share.stage) {
            true => self.mark(),
            false => (None, 0),
        };
        let owner = owner.as_deref();
        let rest = self.statement(
            "ON CONFLICT (tenant, id) DO UPDATE
             SET state = excluded.state, unsettled = excluded.unsettled, expires = excluded.expires, changed = excluded.changed,
                 document = excluded.document, owner = excluded.owner, epoch = excluded.epoch
             RETURNING 1), c AS (
             INSERT INTO share_change (tenant, share_id, number, at, state, failure)
             SELECT $1, $2, (SELECT count(*) + 1 FROM share_change WHERE tenant = $1 AND share_id = $2), $3, $4, $5
             FROM w WHERE $6)
             SELECT count(*) FROM w",
            values![
                tenant,
                &share.id.to_string(),
                share.changed.as_millisecond(),
                number_of(share.state()),
                share.failure.as_ref().map_or("", |error| error.name()),
                in_history
            ],
        );
        let insert = self.statement(
            "INSERT INTO share (tenant, id, user_id, kind, entity_id, lead_number, state, unsettled, expires, changed, request_id,
                                document, owner, epoch)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14",
            values![
                tenant,
                &share.id.to_string(),
                &folded(&share.user_id),
                kind_of(share),
                &folded(share.entity_id()),
                share.lead_number(),
                number_of(share.state()),
                share.stage.is_in_progress(),
                share.expires.map(Timestamp::as_millisecond),
                share.changed.as_millisecond(),
                share.request_id.map(|id| id.to_string()).as_deref(),
                &document,
                owner,
                epoch
            ],
        );
        let texts = insert.and_then(|insert| Ok((insert, rest?)));
        let (insert, rest) = texts.map_err(|failure| failure.writing())?;
        Ok(format!("{with} w AS ({insert} WHERE {allowed} {rest}"))
    }

    pub(in crate::store) async fn share(&self, tenant: &str, id: Uuid) -> Result<Option<Share>, StoreError> {
        let statement = self.statement(
            select!("FROM share WHERE tenant = $1 AND id = $2"),
            values![tenant, &id.to_string()],
        );
        let rows = self.read(statement).await?;
        let share = rows.first().map(|row| self.read_share(tenant, row)).transpose();
        share.map_err(|row| StoreError::reading("holds a damaged row", &row))
    }

    pub(in crate::store) async fn share_of_request(&self, tenant: &str, id: Uuid) -> Result<Option<Uuid>, StoreError> {
        let statement = self.statement(
            "SELECT id FROM share WHERE tenant = $1 AND request_id = $2",
            values![tenant, &id.to_string()],
        );
        let rows = self.read(statement).await?;
        let id: Option<String> = rows
            .first()
            .map(|row| row.try_get(0))
            .transpose()
            .map_err(column_error)?;
        Ok(id.and_then(|id| Uuid::try_parse(&id).ok()))
    }

    pub(in crate::store) async fn share_of_lead(
        &self,
        tenant: &str,
        key: &LeadKey,
    ) -> Result<Option<Share>, StoreError> {
        let (text, key) = match key {
            LeadKey::Id(id) => (
                select!("FROM share WHERE tenant = $1 AND entity_id = $2 AND kind = 1 ORDER BY id"),
                id,
            ),
            LeadKey::Number(number) => (
                select!("FROM share WHERE tenant = $1 AND lead_number = $2 ORDER BY id"),
                number,
            ),
            LeadKey::Email(_) | LeadKey::Phone(_) => return Ok(None),
        };
        let rows = self.read(self.statement(text, values![tenant, &folded(key)])).await?;
        Ok(self.readable(tenant, &rows).next())
    }

    pub(in crate::store) async fn shares(&self, tenant: &str, filter: &ShareFilter) -> Result<Vec<Share>, StoreError> {
        let mut limit = filter.limit;
        loop {
            let rows = self.read(self.listing(tenant, filter, limit)).await?;
            let mut shares: Vec<Share> = self.readable(tenant, &rows).collect();
            if shares.len() >= filter.limit || rows.len() < limit {
                shares.truncate(filter.limit);
                return Ok(shares);
            }
            // Reads again with a higher limit, so that damaged rows do not make the page shorter. A short page would mean that there
            // are no more shares.
            limit = filter.limit + rows.len() - shares.len();
        }
    }

    pub(in crate::store) async fn share_plan(
        &self,
        tenant: &str,
        filter: &ShareFilter,
    ) -> Result<Vec<String>, StoreError> {
        let listing = self.listing(tenant, filter, filter.limit);
        let rows = self.read(listing.map(|listing| format!("EXPLAIN {listing}"))).await?;
        rows.iter().map(|row| row.try_get(0).map_err(column_error)).collect()
    }

    pub(in crate::store) async fn shares_in_progress(&self, tenant: &str) -> Result<Vec<Share>, StoreError> {
        let statement = self.statement(
            select!("FROM share WHERE tenant = $1 AND unsettled ORDER BY id"),
            values![tenant],
        );
        let rows = self.read(statement).await?;
        Ok(self.readable(tenant, &rows).collect())
    }

    pub(in crate::store) async fn shares_due_to_expire(
        &self,
        tenant: &str,
        now: Timestamp,
    ) -> Result<Vec<Uuid>, StoreError> {
        let statement = self.statement(
            select!("FROM share WHERE tenant = $1 AND state IN (4, 7, 9) AND expires <= $2"),
            values![tenant, now.as_millisecond()],
        );
        let rows = self.read(statement).await?;
        Ok(self.readable(tenant, &rows).map(|share| share.id).collect())
    }

    pub(in crate::store) async fn next_expiry(&self, tenant: &str) -> Result<Option<Timestamp>, StoreError> {
        let statement = self.statement(
            "SELECT min(expires) FROM share WHERE tenant = $1 AND state IN (4, 7, 9)",
            values![tenant],
        );
        let rows = self.read(statement).await?;
        let next: Option<i64> = match rows.first() {
            Some(row) => row.try_get(0).map_err(column_error)?,
            None => None,
        };
        Ok(next.map(at))
    }

    pub(in crate::store) async fn share_usage(&self, tenant: &str, user_id: &str) -> Result<u32, StoreError> {
        let statement = self.statement(
            "SELECT count(DISTINCT entity_id) FROM share
             WHERE tenant = $1 AND user_id = $2 AND kind = 1 AND state IN (1, 2, 3, 4, 7, 9)",
            values![tenant, &folded(user_id)],
        );
        let rows = self.read(statement).await?;
        let count: Option<i64> = rows
            .first()
            .map(|row| row.try_get(0))
            .transpose()
            .map_err(column_error)?;
        Ok(u32::try_from(count.unwrap_or(0)).unwrap_or(u32::MAX))
    }

    pub(in crate::store) async fn count_shares(&self, tenant: &str) -> Result<Vec<(i64, i64)>, StoreError> {
        let statement = self.statement(
            "SELECT state, count(*) FROM share WHERE tenant = $1 GROUP BY state",
            values![tenant],
        );
        let rows = self.read(statement).await?;
        let count = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.iter().map(count).collect::<Result<_, _>>().map_err(column_error)
    }

    pub(in crate::store) async fn share_history(&self, tenant: &str, id: Uuid) -> Result<Vec<ShareChange>, StoreError> {
        let statement = self.statement(
            "SELECT state, at, failure FROM share_change WHERE tenant = $1 AND share_id = $2 ORDER BY number",
            values![tenant, &id.to_string()],
        );
        let rows = self.read(statement).await?;
        let change = |row: &PgRow| {
            Ok(ShareChange {
                state: state_of(row.try_get(0)?).unwrap_or(ShareState::Uncertain),
                at: at(row.try_get(1)?),
                failure: row.try_get(2)?,
            })
        };
        rows.iter().map(|row| change(row).map_err(column_error)).collect()
    }

    pub(in crate::store) async fn delete_ended_shares(
        &self,
        tenant: &str,
        oldest: Timestamp,
    ) -> Result<u64, StoreError> {
        let statement = self.statement(
            "WITH FENCE($1), w AS (
                 DELETE FROM share USING l WHERE share.tenant = l.tenant AND state IN (5, 6, 8) AND changed < $2
                 RETURNING share.tenant, share.id),
             c AS (DELETE FROM share_change USING w WHERE share_change.tenant = w.tenant AND share_id = w.id)
             SELECT (SELECT count(*) FROM l), (SELECT count(*) FROM w)",
            values![tenant, oldest.as_millisecond()],
        );
        let results = self.write(HOUSEKEEPING, statement).await?;
        fence_held(&results)?;
        first::<i64>(&results, 1).map(i64::unsigned_abs)
    }

    /// Builds the query for shares that a filter selects, newest first.
    fn listing(&self, tenant: &str, filter: &ShareFilter, limit: usize) -> Result<String, Failure> {
        let mut query = self.statement(select!("FROM share WHERE tenant = $1"), values![tenant])?;
        let mut push = |template: &str, value: statement::Value<'_>| -> Result<(), Failure> {
            query += &self.statement(template, &[value])?;
            Ok(())
        };
        if let Some(id) = &filter.user_id {
            push(" AND user_id = $1", (&folded(id)).into())?;
        }
        if let Some(id) = &filter.entity_id {
            push(" AND entity_id = $1", (&folded(id)).into())?;
        }
        if let Some(of_leads) = filter.of_leads {
            push(" AND kind = $1", (if of_leads { 1 } else { 2 }).into())?;
        }
        if let Some(at) = filter.expire_before {
            push(" AND expires < $1", at.as_millisecond().into())?;
        }
        if let Some(id) = filter.older_than {
            push(" AND id < $1", (&id.to_string()).into())?;
        }
        if !filter.states.is_empty() {
            let states: Vec<i64> = filter.states.iter().map(|state| number_of(*state)).collect();
            push(" AND state = ANY($1)", (&states[..]).into())?;
        }
        push(" ORDER BY id DESC LIMIT $1", (limit as i64).into())?;
        Ok(query)
    }

    /// Returns the readable shares, and counts damaged rows.
    fn readable<'a>(&'a self, tenant: &'a str, rows: &'a [PgRow]) -> impl Iterator<Item = Share> + 'a {
        rows.iter().filter_map(|row| self.read_share(tenant, row).ok())
    }

    /// Reads a share, and counts a damaged row.
    fn read_share(&self, tenant: &str, row: &PgRow) -> Result<Share, DamagedRow> {
        read(row).map_err(|reason| {
            let id = row.try_get::<String, _>("id").unwrap_or_default();
            let row = DamagedRow::new("share", tenant, &id, reason);
            self.damaged.note(&row);
            row
        })
    }
}

/// The result of adding a share, `None` without the lease, and the unreadable shares by id.
type Added = (Option<AddShareResult>, Vec<(String, String)>);

/// Writes a new share, unless another share conflicts with it or the user has reached the limit. The decision and the write are one
/// transaction with two messages.
async fn add(pool: &Pool, check: &str, write: &str, share: &Share, limit: Option<u32>) -> Result<Added, Failure> {
    let mut pooled = pool.get(&share.caller, LIMITS.timeout).await?;
    let connection = &mut pooled.connection;
    let work = async {
        let results = connection.begin(LIMITS, check).await?;
        let number = |at: usize| {
            let row = results.get(at).and_then(|result| result.rows.first());
            row.and_then(|row| row.try_get::<i64, _>(0).ok()).unwrap_or(0)
        };
        let mut unreadable = vec![];
        let decided = if number(1) == 0 {
            Some(None)
        } else {
            let mut conflict = None;
            for row in results.last().map(|result| &result.rows[..]).unwrap_or_default() {
                match read(row) {
                    Ok(other) if conflict.is_none() && other.conflicts_with(share) => conflict = Some(other.id),
                    Ok(_) => {}
                    Err(reason) => unreadable.push((row.try_get("id").unwrap_or_default(), reason)),
                }
            }
            let used = match share.is_of_lead() {
                true => u32::try_from(number(2)).unwrap_or(u32::MAX).saturating_add(1),
                false => 0,
            };
            if let Some(id) = conflict {
                Some(Some(AddShareResult::Conflict(id)))
            } else if share.is_of_lead() && limit.is_some_and(|limit| used > limit) {
                Some(Some(AddShareResult::LimitReached))
            } else {
                connection.commit(LIMITS, write).await?;
                return Ok((Some(AddShareResult::Added { used }), unreadable));
            }
        };
        connection.roll_back(LIMITS).await?;
        Ok((decided.flatten(), unreadable))
    };
    let done = work.await;
    pooled.put_back(&done);
    done
}

/// Reads a share. The error is the reason why the row is damaged.
pub(super) fn read(row: &PgRow) -> Result<Share, String> {
    let unreadable = |column: &'static str| move |_: sqlx::Error| format!("the column {column} is unreadable");
    let document: &str = row.try_get("document").map_err(unreadable("document"))?;
    let share = Share::from(from_json::<record::share::ShareRecord>(document)?);
    let id: &str = row.try_get("id").map_err(unreadable("id"))?;
    let user_id: &str = row.try_get("user_id").map_err(unreadable("user_id"))?;
    let entity_id: &str = row.try_get("entity_id").map_err(unreadable("entity_id"))?;
    let kind: i64 = row.try_get("kind").map_err(unreadable("kind"))?;
    let state: i64 = row.try_get("state").map_err(unreadable("state"))?;
    let is_same = id == share.id.to_string()
        && user_id == folded(&share.user_id)
        && entity_id == folded(share.entity_id())
        && kind == kind_of(&share);
    if !is_same {
        return Err("the columns belong to a different share than the content".to_owned());
    }
    if state_of(state).is_none() {
        return Err("the column state is unknown".to_owned());
    }
    Ok(share)
}

/// Whether a stage is stored before a request is sent. The row is then a mark: the request may be executed until the step has its
/// result.
pub(super) fn is_sending(stage: ShareStage) -> bool {
    matches!(
        stage,
        ShareStage::PostingActivity | ShareStage::RequestingShare | ShareStage::RequestingRevoke
    )
}

/// The stored kind of a share: 1 for a lead, 2 for an opportunity.
fn kind_of(share: &Share) -> i64 {
    if share.is_of_lead() { 1 } else { 2 }
}

/// Returns an id in lower case, since ids are case-insensitive.
fn folded(id: &str) -> String {
    id.to_ascii_lowercase()
}
