//! The ledger of shares in SQLite.

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row};
use uuid::Uuid;

use super::{Sqlite, at, unread, unwritten};
use crate::domain::lead::Key;
use crate::domain::share::{Change, Filter, Share, State};
use crate::store::{Added, Fault};

impl Sqlite {
    pub(in crate::store) async fn add_share(
        &self,
        tenant: &str,
        share: &Share,
        most: Option<u32>,
    ) -> Result<Added, Fault> {
        let mut work = self.pool.begin().await.map_err(unwritten)?;
        let rows = sqlx::query(
            // A user may have thousands of shares, a lead has a few.
            "SELECT document FROM share INDEXED BY share_of_entity
             WHERE tenant = ?1 AND user_id = ?2 AND entity_id = ?3 AND state IN (1, 2, 3, 4, 7, 9)",
        )
        .bind(tenant)
        .bind(folded(&share.user_id))
        .bind(folded(share.entity_id()))
        .fetch_all(&mut *work)
        .await
        .map_err(unread)?;
        for other in rows.iter().map(read) {
            let other = other?;
            if other.is_in_the_way_of(share) {
                return Ok(Added::Other(other.id));
            }
        }
        let mut used = 0;
        if share.is_of_lead() {
            let others = sqlx::query(
                "SELECT COUNT(DISTINCT entity_id) FROM share INDEXED BY share_live_of_user
                 WHERE tenant = ?1 AND user_id = ?2 AND kind = 1 AND state IN (1, 2, 3, 4, 7, 9) AND entity_id <> ?3",
            )
            .bind(tenant)
            .bind(folded(&share.user_id))
            .bind(folded(share.entity_id()))
            .fetch_one(&mut *work)
            .await
            .map_err(unread)?;
            used = others.try_get::<u32, _>(0).map_err(unread)? + 1;
            if most.is_some_and(|most| used > most) {
                return Ok(Added::Full);
            }
        }
        // An id that was used so long ago that it is not remembered any more is a new one.
        sqlx::query("UPDATE share SET request_id = NULL WHERE tenant = ?1 AND request_id = ?2")
            .bind(tenant)
            .bind(share.request_id.map(|id| id.to_string()))
            .execute(&mut *work)
            .await
            .map_err(unwritten)?;
        write(&mut work, tenant, share).await?;
        record(&mut work, tenant, share).await?;
        work.commit().await.map_err(unwritten)?;
        Ok(Added::Written { used })
    }

    pub(in crate::store) async fn save_share(&self, tenant: &str, share: &Share, told: bool) -> Result<(), Fault> {
        let mut work = self.pool.begin().await.map_err(unwritten)?;
        write(&mut work, tenant, share).await?;
        if told {
            record(&mut work, tenant, share).await?;
        }
        work.commit().await.map_err(unwritten)
    }

    pub(in crate::store) async fn share(&self, tenant: &str, id: Uuid) -> Result<Option<Share>, Fault> {
        let row = sqlx::query("SELECT document FROM share WHERE tenant = ?1 AND id = ?2")
            .bind(tenant)
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(unread)?;
        row.as_ref().map(read).transpose()
    }

    pub(in crate::store) async fn share_of_request(&self, tenant: &str, id: Uuid) -> Result<Option<Uuid>, Fault> {
        let row = sqlx::query("SELECT id FROM share WHERE tenant = ?1 AND request_id = ?2")
            .bind(tenant)
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(unread)?;
        let id: Option<String> = row.map(|row| row.try_get(0)).transpose().map_err(unread)?;
        Ok(id.and_then(|id| Uuid::try_parse(&id).ok()))
    }

    pub(in crate::store) async fn share_of_lead(&self, tenant: &str, key: &Key) -> Result<Option<Share>, Fault> {
        let (text, key) = match key {
            Key::Id(id) => (
                "SELECT document FROM share WHERE tenant = ?1 AND entity_id = ?2 AND kind = 1 LIMIT 1",
                id,
            ),
            Key::Number(number) => (
                "SELECT document FROM share WHERE tenant = ?1 AND lead_number = ?2 LIMIT 1",
                number,
            ),
            Key::Email(_) | Key::Phone(_) => return Ok(None),
        };
        let row = sqlx::query(text)
            .bind(tenant)
            .bind(folded(key))
            .fetch_optional(&self.pool)
            .await
            .map_err(unread)?;
        row.as_ref().map(read).transpose()
    }

    pub(in crate::store) async fn shares(&self, tenant: &str, filter: &Filter) -> Result<Vec<Share>, Fault> {
        let mut query = listing(tenant, filter, "");
        let rows = query.build().fetch_all(&self.pool).await.map_err(unread)?;
        rows.iter().map(read).collect()
    }

    pub(in crate::store) async fn share_plan(&self, tenant: &str, filter: &Filter) -> Result<Vec<String>, Fault> {
        let mut query = listing(tenant, filter, "EXPLAIN QUERY PLAN ");
        let rows = query.build().fetch_all(&self.pool).await.map_err(unread)?;
        rows.iter().map(|row| row.try_get("detail").map_err(unread)).collect()
    }

    pub(in crate::store) async fn unsettled_shares(&self, tenant: &str) -> Result<Vec<Share>, Fault> {
        let rows = sqlx::query("SELECT document FROM share WHERE tenant = ?1 AND unsettled = 1 ORDER BY id")
            .bind(tenant)
            .fetch_all(&self.pool)
            .await
            .map_err(unread)?;
        rows.iter().map(read).collect()
    }

    pub(in crate::store) async fn ended_shares(&self, tenant: &str, now: Timestamp) -> Result<Vec<Uuid>, Fault> {
        let rows = sqlx::query("SELECT id FROM share WHERE tenant = ?1 AND state IN (4, 7, 9) AND expires <= ?2")
            .bind(tenant)
            .bind(now.as_millisecond())
            .fetch_all(&self.pool)
            .await
            .map_err(unread)?;
        let ids = rows.iter().map(|row| row.try_get::<String, _>(0).map_err(unread));
        let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
        Ok(ids.iter().filter_map(|id| Uuid::try_parse(id).ok()).collect())
    }

    pub(in crate::store) async fn share_usage(&self, tenant: &str, user_id: &str) -> Result<u32, Fault> {
        let row = sqlx::query(
            "SELECT COUNT(DISTINCT entity_id) FROM share INDEXED BY share_live_of_user
             WHERE tenant = ?1 AND user_id = ?2 AND kind = 1 AND state IN (1, 2, 3, 4, 7, 9)",
        )
        .bind(tenant)
        .bind(folded(user_id))
        .fetch_one(&self.pool)
        .await
        .map_err(unread)?;
        row.try_get(0).map_err(unread)
    }

    pub(in crate::store) async fn share_history(&self, tenant: &str, id: Uuid) -> Result<Vec<Change>, Fault> {
        let rows = sqlx::query(
            "SELECT state, at, failure FROM share_change WHERE tenant = ?1 AND share_id = ?2 ORDER BY number",
        )
        .bind(tenant)
        .bind(id.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(unread)?;
        let change = |row: &SqliteRow| {
            Ok(Change {
                state: State::from_number(row.try_get(0)?).unwrap_or(State::Uncertain),
                at: at(row.try_get(1)?),
                failure: row.try_get(2)?,
            })
        };
        rows.iter().map(|row| change(row).map_err(unread)).collect()
    }

    pub(in crate::store) async fn sweep_shares(&self, tenant: &str, oldest: Timestamp) -> Result<u64, Fault> {
        let mut work = self.pool.begin().await.map_err(unwritten)?;
        sqlx::query(
            "DELETE FROM share_change WHERE (tenant, share_id) IN
             (SELECT tenant, id FROM share WHERE state IN (5, 6, 8) AND changed < ?1 AND tenant = ?2)",
        )
        .bind(oldest.as_millisecond())
        .bind(tenant)
        .execute(&mut *work)
        .await
        .map_err(unwritten)?;
        let swept = sqlx::query("DELETE FROM share WHERE state IN (5, 6, 8) AND changed < ?1 AND tenant = ?2")
            .bind(oldest.as_millisecond())
            .bind(tenant)
            .execute(&mut *work)
            .await
            .map_err(unwritten)?;
        work.commit().await.map_err(unwritten)?;
        Ok(swept.rows_affected())
    }
}

/// The newest first.
fn listing(tenant: &str, filter: &Filter, before: &str) -> QueryBuilder<sqlx::Sqlite> {
    let mut query = QueryBuilder::new(before);
    // First the ids, out of an index alone, then the shares. Left to itself SQLite would walk through all shares of the
    // account, since they are in order there.
    query
        .push("SELECT document FROM share WHERE tenant = ")
        .push_bind(tenant.to_owned());
    query.push(match (&filter.entity_id, &filter.user_id) {
        (Some(_), _) => " AND id IN (SELECT id FROM share INDEXED BY share_of_entity",
        (None, Some(_)) => " AND id IN (SELECT id FROM share INDEXED BY share_of_user",
        (None, None) => " AND id IN (SELECT id FROM share",
    });
    query.push(" WHERE tenant = ").push_bind(tenant.to_owned());
    if let Some(id) = &filter.user_id {
        query.push(" AND user_id = ").push_bind(folded(id));
    }
    if let Some(id) = &filter.entity_id {
        query.push(" AND entity_id = ").push_bind(folded(id));
    }
    if let Some(of_leads) = filter.of_leads {
        query.push(if of_leads { " AND kind = 1" } else { " AND kind = 2" });
    }
    if let Some(at) = filter.expire_before {
        query.push(" AND expires < ").push_bind(at.as_millisecond());
    }
    if let Some(id) = filter.before {
        query.push(" AND id < ").push_bind(id.to_string());
    }
    if !filter.states.is_empty() {
        query.push(" AND state IN (");
        // As they stand, so that an index over some states can be seen to do.
        let mut states = query.separated(", ");
        for state in &filter.states {
            states.push(*state as i64);
        }
        query.push(")");
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(filter.most as i64);
    query.push(") ORDER BY id DESC");
    query
}

async fn write(work: &mut SqliteConnection, tenant: &str, share: &Share) -> Result<(), Fault> {
    let document = serde_json::to_string(share).map_err(|error| Fault::new("cannot be written", &error))?;
    sqlx::query(
        "INSERT INTO share
         (tenant, id, user_id, kind, entity_id, lead_number, state, unsettled, expires, changed, request_id, document)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (tenant, id) DO UPDATE
         SET state = ?7, unsettled = ?8, expires = ?9, changed = ?10, document = ?12",
    )
    .bind(tenant)
    .bind(share.id.to_string())
    .bind(folded(&share.user_id))
    .bind(if share.is_of_lead() { 1 } else { 2 })
    .bind(folded(share.entity_id()))
    .bind(share.lead_number())
    .bind(share.state() as i64)
    .bind(share.stage.is_unsettled())
    .bind(share.expires.map(Timestamp::as_millisecond))
    .bind(share.changed.as_millisecond())
    .bind(share.request_id.map(|id| id.to_string()))
    .bind(document)
    .execute(work)
    .await
    .map_err(unwritten)?;
    Ok(())
}

/// Writes down what it became.
async fn record(work: &mut SqliteConnection, tenant: &str, share: &Share) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO share_change (tenant, share_id, number, at, state, failure)
         SELECT ?1, ?2, COUNT(*) + 1, ?3, ?4, ?5 FROM share_change WHERE tenant = ?1 AND share_id = ?2",
    )
    .bind(tenant)
    .bind(share.id.to_string())
    .bind(share.changed.as_millisecond())
    .bind(share.state() as i64)
    .bind(share.failure.as_ref().map_or("", |error| error.name()))
    .execute(work)
    .await
    .map_err(unwritten)?;
    Ok(())
}

fn read(row: &SqliteRow) -> Result<Share, Fault> {
    let document: &str = row.try_get(0).map_err(unread)?;
    serde_json::from_str(document).map_err(|error| Fault::new("holds a share that cannot be read", &error))
}

/// Ids are the same whatever their case.
fn folded(id: &str) -> String {
    id.to_ascii_lowercase()
}
