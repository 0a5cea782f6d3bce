//! `leadgate store`: maintenance of the store of a stopped gateway.

use clap::{Args, Subcommand};
use leadgate::clock;
use leadgate::store::{DamagedRow, Store};

use crate::cli::process::ConfigOption;

/// How to find the damaged rows of a running gateway.
pub(crate) const SEE_METRIC: &str =
    "The metric leadgate_store_damaged_rows of the gateway counts the damaged rows, and its log lists them.";

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// List the damaged rows of the store, which a gateway ignores. With --apply, move them to the table `damaged`.
    Repair(RepairOptions),
}

#[derive(Args)]
pub(crate) struct RepairOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// Move the damaged rows to the table `damaged`. Without it, nothing is changed.
    #[arg(long)]
    apply: bool,
}

pub(crate) async fn run(command: &StoreCommand) -> Result<(), String> {
    match command {
        StoreCommand::Repair(options) => repair(options).await,
    }
}

/// Prints the damaged rows of the store, and moves them with `--apply`.
async fn repair(options: &RepairOptions) -> Result<(), String> {
    let url = options.config.load()?.store_url;
    if let Some(path) = Store::check_path(&url).map_err(|error| error.to_string())? {
        return Err(format!("there is no store at {}", path.display()));
    }
    let store = Store::open(&url).await.map_err(|error| match error.is_in_use() {
        true => format!("{error}: stop the gateway that uses it first. {SEE_METRIC}"),
        false => error.to_string(),
    })?;
    let damaged = list_damaged(&store).await?;
    if damaged.is_empty() {
        println!("The store has no damaged rows.");
    } else if options.apply {
        let moved = store.move_damaged(&damaged, clock::now()).await;
        let moved = moved.map_err(|error| error.to_string())?;
        println!(
            "Moved {moved} row(s) to the table \"damaged\". The gateway does not use moved request ids, and neither revokes nor \
             expires moved shares: check the leads and shares of these rows in LeadSquared."
        );
    } else {
        println!("Nothing was changed. With --apply, the rows are moved to the table \"damaged\".");
    }
    store.close().await;
    Ok(())
}

/// Prints the damaged rows of a store, and returns them.
pub(crate) async fn list_damaged(store: &Store) -> Result<Vec<DamagedRow>, String> {
    let damaged = store.find_damaged().await.map_err(|error| error.to_string())?;
    if !damaged.is_empty() {
        println!("The store has {} damaged row(s):", damaged.len());
        damaged.iter().for_each(|row| println!("  {row}"));
    }
    Ok(damaged)
}
