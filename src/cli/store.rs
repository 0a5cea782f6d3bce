//! `leadgate store`: maintenance of the store of a stopped gateway, and backups of a running one.

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use leadgate::clock;
use leadgate::store::{CopiedRows, DamagedRow, Store, StoreOptions};

use crate::cli::backup::{self, BackupOptions};
use crate::cli::output::print_line;
use crate::cli::process::{ConfigOption, environment};

/// How to find the damaged rows of a running gateway.
pub(crate) const SEE_METRIC: &str =
    "The metric leadgate_store_damaged_rows of the gateway counts the damaged rows, and its log lists them.";

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// List the damaged rows of the store, which a gateway ignores. With --apply, move them to the table `damaged`.
    Repair(RepairOptions),
    /// Copy the SQLite store of a stopped gateway into an empty PostgreSQL database, in one transaction.
    Copy(CopyOptions),
    /// Write a consistent copy of the SQLite store of a running gateway to a file, through the admin port (admin.token).
    Backup(BackupOptions),
}

#[derive(Args)]
pub(crate) struct RepairOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// Move the damaged rows to the table `damaged`. Without it, nothing is changed.
    #[arg(long)]
    apply: bool,
}

#[derive(Args)]
pub(crate) struct CopyOptions {
    /// URL of the SQLite store, as in store.url: sqlite://PATH.
    #[arg(long, value_name = "URL")]
    from: String,
    /// URL of the PostgreSQL database: postgres://USER@HOST/DATABASE. The password can be in the environment variable PGPASSWORD.
    #[arg(long, value_name = "URL")]
    to: String,
}

pub(crate) async fn run(command: &StoreCommand) -> Result<(), String> {
    match command {
        StoreCommand::Repair(options) => repair(options).await,
        StoreCommand::Copy(options) => copy(options).await,
        StoreCommand::Backup(options) => backup::run(options).await,
    }
}

/// Prints the damaged rows of the store, and moves them with `--apply`.
async fn repair(options: &RepairOptions) -> Result<(), String> {
    let config = options.config.load()?;
    if let Some(path) = Store::check_path(&config.store.url).map_err(|error| error.to_string())? {
        return Err(format!("there is no store at {}", path.display()));
    }
    let store = Store::open_with(&config.store)
        .await
        .map_err(|error| match error.is_in_use() {
            true => format!("{error}: stop the gateway that uses it first. {SEE_METRIC}"),
            false => error.to_string(),
        })?;
    let damaged = list_damaged(&store).await?;
    if damaged.is_empty() {
        print_line!("The store has no damaged rows.");
    } else if options.apply {
        let moved = store.move_damaged(&damaged, clock::now()).await;
        let moved = moved.map_err(|error| match error.is_not_owner() {
            true => "replicas use the store: stop all of them first".to_owned(),
            false => error.to_string(),
        })?;
        print_line!(
            "Moved {moved} row(s) to the table \"damaged\". The gateway does not use moved request ids, and neither revokes nor \
             expires moved shares: check the leads and shares of these rows in LeadSquared."
        );
    } else {
        print_line!("Nothing was changed. With --apply, the rows are moved to the table \"damaged\".");
    }
    store.close().await;
    Ok(())
}

/// Copies a SQLite store into a PostgreSQL database.
async fn copy(options: &CopyOptions) -> Result<(), String> {
    let (from, to) = (StoreOptions::new(&options.from), StoreOptions::new(&options.to));
    let to = to.with_environment(environment()?);
    if from.is_postgres() || options.from.contains(":memory:") || !options.from.starts_with("sqlite:") {
        return Err("--from must be sqlite://PATH".to_owned());
    }
    if !to.is_postgres() {
        return Err("--to must be postgres://USER@HOST/DATABASE".to_owned());
    }
    Store::check_options(&to).map_err(|error| format!("--to: {error}"))?;
    if let Some(path) = Store::check_path(&from.url).map_err(|error| error.to_string())? {
        return Err(format!("there is no store at {}", path.display()));
    }
    let source = Store::open_with(&from).await.map_err(|error| match error.is_in_use() {
        true => format!("{error}: stop the gateway that uses it first"),
        false => error.to_string(),
    })?;
    let damaged = list_damaged(&source).await?;
    if !damaged.is_empty() {
        source.close().await;
        return Err("damaged rows cannot be copied: run leadgate store repair --apply first".to_owned());
    }
    let target = Store::open_with(&to).await.map_err(|error| error.to_string())?;
    let bar = ProgressBar::new_spinner();
    let progress = |rows: &CopiedRows| bar.set_message(counts(rows));
    let copied = source.copy_to(&target, progress).await;
    bar.finish_and_clear();
    source.close().await;
    target.close().await;
    let copied = copied.map_err(|error| format!("{error}; nothing was copied"))?;
    print_line!(
        "Copied {} to {to}. Set store.url to the database, and do not start a gateway with the file again: the requests and shares \
         of the two stores would differ.",
        counts(&copied)
    );
    Ok(())
}

fn counts(rows: &CopiedRows) -> String {
    format!(
        "{} request id(s), {} share(s) and {} other row(s)",
        rows.requests, rows.shares, rows.others
    )
}

/// Prints the damaged rows of a store, and returns them.
pub(crate) async fn list_damaged(store: &Store) -> Result<Vec<DamagedRow>, String> {
    let damaged = store.find_damaged().await.map_err(|error| error.to_string())?;
    if !damaged.is_empty() {
        print_line!("The store has {} damaged row(s):", damaged.len());
        damaged.iter().for_each(|row| print_line!("  {row}"));
    }
    Ok(damaged)
}
