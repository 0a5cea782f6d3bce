//! The migrations of the store, in order. The text of a released migration never changes: each store keeps its checksum.

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Version, description and text of each migration: `VERSION_DESCRIPTION.sql` in `src/store/migrations`. The list is written
/// by hand because the macro `sqlx::migrate!` needs SQLite in the compiler, which doubles the time to build it.
const MIGRATIONS: [(i64, &str, &str); 5] = [
    (1, "requests", include_str!("../migrations/1_requests.sql")),
    (2, "shares", include_str!("../migrations/2_shares.sql")),
    (3, "damaged", include_str!("../migrations/3_damaged.sql")),
    (4, "held slots", include_str!("../migrations/4_held_slots.sql")),
    (5, "pauses", include_str!("../migrations/5_pauses.sql")),
];

/// Returns the migrator of the store.
pub(super) fn migrator() -> Migrator {
    let migrations = MIGRATIONS.map(|(version, description, text)| {
        let text = SqlStr::from_static(text);
        Migration::new(version, description.into(), MigrationType::Simple, text, false)
    });
    Migrator::with_migrations(migrations.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn every_migration_file_is_listed_with_its_checksum() {
        let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations"));
        let files = Migrator::new(directory).await.unwrap();
        let row = |migration: &Migration| {
            let Migration {
                version,
                description,
                checksum,
                no_tx,
                ..
            } = migration.clone();
            (version, description, checksum, no_tx)
        };
        let listed: Vec<_> = migrator().iter().map(row).collect();
        assert_eq!(listed, files.iter().map(row).collect::<Vec<_>>());
    }
}
