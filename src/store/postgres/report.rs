//! What `leadgate check` and `leadgate cluster status` read from the server. Nothing here changes the database.

use std::time::Duration;

use tokio::time::Instant;

use super::statement::HistoryExpression;
use super::{HOUSEKEEPING, LIMITS, Postgres, first, migrations};
use crate::store::{ClusterStatus, ServerReport, StoreError, StoreOptions};

/// The tables, each with the rights that the role needs.
const TABLES: [&str; 10] = [
    "request",
    "spent",
    "quota_state",
    "share",
    "share_change",
    "damaged",
    "history",
    "replica",
    "tenant_lease",
    "tenant_pause",
];

/// Number of transactions from which the latency is measured.
const SAMPLES: usize = 5;

impl Postgres {
    /// Connects, and returns the report without a change of the database.
    pub(in crate::store) async fn report(options: &StoreOptions) -> Result<ServerReport, StoreError> {
        let store = Self::connect(options).await?;
        let report = store.own_report().await;
        store.close().await;
        report
    }

    /// The leases and the replicas. None without tables.
    pub(in crate::store) async fn read_cluster_status(options: &StoreOptions) -> Result<ClusterStatus, StoreError> {
        let store = Self::connect(options).await?;
        let status = match store.schema_version().await {
            Ok(0) => Ok(ClusterStatus::default()),
            Ok(_) => store.cluster_status().await,
            Err(error) => Err(error),
        };
        store.close().await;
        status
    }

    async fn schema_version(&self) -> Result<i64, StoreError> {
        let pooled = self.pool.get(HOUSEKEEPING, LIMITS.timeout).await;
        let mut pooled = pooled.map_err(|failure| failure.reading())?;
        let schema = migrations::schema(&mut pooled.connection).await;
        pooled.put_back(&schema);
        schema.map(|schema| schema.version).map_err(|failure| failure.reading())
    }

    async fn own_report(&self) -> Result<ServerReport, StoreError> {
        let version = self.schema_version().await?;
        let query = "SELECT current_setting('server_version'), current_setting('fsync') = 'on',
                     current_setting('full_page_writes') = 'on',
                     has_schema_privilege(current_schema(), 'CREATE')";
        let results = self.transaction(HOUSEKEEPING, Ok(query.to_owned()), true).await;
        let results = results.map_err(|failure| failure.reading())?;
        let mut warnings = vec![];
        if !first::<bool>(&results, 1)? {
            warnings.push("fsync = off: a crash of the server can lose or damage the store; set fsync = on".to_owned());
        }
        if !first::<bool>(&results, 2)? {
            warnings.push(
                "full_page_writes = off: a crash of the server can damage the store; set full_page_writes = on"
                    .to_owned(),
            );
        }
        if self.history == HistoryExpression::StartTime {
            warnings.push(
                "the role may not execute pg_control_system(), pg_walfile_name() and pg_current_wal_lsn(): each restart of the server \
                 counts as a failover"
                    .to_owned(),
            );
        }
        if version > 0 {
            warnings.extend(self.missing_rights().await?);
        } else if !first::<Option<bool>>(&results, 3)?.unwrap_or(false) {
            warnings.push(
                "the role may not create tables: run GRANT CREATE, USAGE ON SCHEMA public TO the role".to_owned(),
            );
        }
        Ok(ServerReport {
            version: first(&results, 0)?,
            schema_version: version,
            current_schema_version: migrations::current(),
            latency: self.latency().await?,
            warnings,
        })
    }

    /// Returns a text for each table with a missing right.
    async fn missing_rights(&self) -> Result<Vec<String>, StoreError> {
        let columns: Vec<String> = TABLES
            .iter()
            .map(|table| {
                let rights = ["SELECT", "INSERT", "UPDATE", "DELETE"];
                let rights = rights.map(|right| format!("has_table_privilege('{table}', '{right}')"));
                rights.join(" AND ")
            })
            .collect();
        let query = format!("SELECT {}", columns.join(", "));
        let results = self.transaction(HOUSEKEEPING, Ok(query), true).await;
        let results = results.map_err(|failure| failure.reading())?;
        let mut texts = vec![];
        for (at, table) in TABLES.iter().enumerate() {
            if !first::<bool>(&results, at)? {
                texts.push(format!(
                    "the role lacks rights for the table {table}: run GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO the role"
                ));
            }
        }
        Ok(texts)
    }

    /// Returns the median time of a transaction.
    async fn latency(&self) -> Result<Duration, StoreError> {
        let mut times = vec![];
        for _ in 0..SAMPLES {
            let start = Instant::now();
            self.probe(true).await?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[SAMPLES / 2])
    }
}
