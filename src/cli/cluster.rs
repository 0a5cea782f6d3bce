//! `leadgate cluster`: the replicas and the owners of the tenants, as the database shows them. Needs no running replica, and changes
//! nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use leadgate::domain::lease::ReplicaName;
use leadgate::store::{ClusterStatus, LeaseStatus, ReplicaStatus, Store};
use serde::Serialize;

use crate::cli::output::{print_line, print_text};
use crate::cli::process::ConfigOption;

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the replicas that are alive and the owner of each tenant. Reads the PostgreSQL database of the settings; no replica has to
    /// run.
    Status(StatusOptions),
}

#[derive(Args)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// The output with `--json`. The names of the fields do not change.
#[derive(Debug, PartialEq, Serialize)]
struct Report {
    /// The replicas alive, sorted by name.
    replicas: Vec<ReplicaReport>,
    /// The tenants of the settings and of the database, sorted by name.
    tenants: Vec<TenantReport>,
}

/// A replica whose last beat is younger than a lease.
#[derive(Debug, PartialEq, Serialize)]
struct ReplicaReport {
    /// The name of this run of the replica.
    name: String,
    /// The address for other replicas.
    address: String,
    last_beat_seconds: f64,
    /// The tenants in its settings. Empty while it is shutting down.
    tenants: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct TenantReport {
    tenant: String,
    state: TenantState,
    /// The address of the owner.
    owner: Option<String>,
    /// The name of the owner's run.
    owner_name: Option<String>,
    epoch: i64,
    /// When the current or last owner acquired the tenant.
    owned_since: Option<Timestamp>,
    /// The reason of the last move, as in `Quota.last_move_reason`.
    last_move_reason: Option<String>,
    /// When an operator paused the tenant. `None`: it is not paused.
    paused_since: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum TenantState {
    /// The owner is alive.
    Owned,
    /// The last beat of the owner is older than a lease. The next replica that is alive takes the tenant over.
    OwnerNotAlive,
    /// The tenant has no owner, and had one.
    Free,
    NeverOwned,
}

pub(crate) async fn run(command: &ClusterCommand) -> Result<(), String> {
    let ClusterCommand::Status(options) = command;
    let config = options.config.load()?;
    let Some(cluster) = &config.cluster else {
        return Err(format!(
            "store.url is {}: this store has one process and no cluster. Only a PostgreSQL store has one",
            config.store
        ));
    };
    let status = Store::read_cluster_status(&config.store).await;
    let status = status.map_err(|error| error.to_string())?;
    let report = Report::new(config.tenants.keys().cloned(), status, cluster.lease);
    match options.json {
        true => {
            let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
            print_line!("{text}");
        }
        false => print_text!("{}", report.text()),
    }
    Ok(())
}

impl Report {
    fn new(configured: impl Iterator<Item = String>, status: ClusterStatus, lease: Duration) -> Self {
        let ClusterStatus { leases, replicas } = status;
        let is_alive = |replica: &&ReplicaStatus| replica.last_beat < lease;
        let names: BTreeSet<_> = configured
            .chain(leases.iter().map(|lease| lease.tenant.clone()))
            .collect();
        let tenants = names.into_iter().map(|name| {
            let lease = leases.iter().find(|lease| lease.tenant == name);
            let owner = lease.and_then(|lease| lease.owner.as_ref());
            let owner = owner.map(|owner| (owner, replicas.iter().find(|row| row.replica.name == *owner)));
            TenantReport::new(name, lease, owner, is_alive)
        });
        Self {
            tenants: tenants.collect(),
            // A command that owns tenants for some seconds has no address.
            replicas: replicas
                .iter()
                .filter(is_alive)
                .filter(|row| !row.replica.address.is_empty())
                .map(ReplicaReport::of)
                .collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = match self.replicas.len() {
            0 => "No replica is alive.\n".to_owned(),
            1 => "1 replica is alive:\n".to_owned(),
            count => format!("{count} replicas are alive:\n"),
        };
        for replica in &self.replicas {
            let ReplicaReport {
                address,
                last_beat_seconds,
                tenants,
                ..
            } = replica;
            let tenants = match tenants.len() {
                0 => "shutting down".to_owned(),
                count => format!("{count} tenant(s) in its settings"),
            };
            text += &format!("  {address:<24}  last beat {last_beat_seconds:.1} s ago, {tenants}\n");
        }
        text += &line(["TENANT", "OWNER", "STATE", "EPOCH", "SINCE", "LAST MOVE"]);
        for tenant in &self.tenants {
            text += &line([
                &tenant.tenant,
                tenant.owner.as_deref().unwrap_or("-"),
                tenant.state.text(),
                &tenant.epoch.to_string(),
                &tenant.owned_since.map_or("-".to_owned(), |at| format!("{at:.0}")),
                tenant.last_move_reason.as_deref().unwrap_or("-"),
            ]);
        }
        for tenant in &self.tenants {
            if let Some(since) = tenant.paused_since {
                text += &format!("The tenant {} is paused since {since:.0}.\n", tenant.tenant);
            }
        }
        text
    }
}

fn line([tenant, owner, state, epoch, since, reason]: [&str; 6]) -> String {
    format!("{tenant:<24}  {owner:<24}  {state:<15}  {epoch:>5}  {since:<20}  {reason}\n")
}

impl ReplicaReport {
    fn of(status: &ReplicaStatus) -> Self {
        Self {
            name: status.replica.name.to_string(),
            address: status.replica.address.clone(),
            last_beat_seconds: status.last_beat.as_secs_f64(),
            tenants: status.replica.tenants.clone(),
        }
    }
}

impl TenantReport {
    fn new(
        tenant: String,
        lease: Option<&LeaseStatus>,
        owner: Option<(&ReplicaName, Option<&ReplicaStatus>)>,
        is_alive: impl Fn(&&ReplicaStatus) -> bool,
    ) -> Self {
        let epoch = lease.map_or(0, |lease| lease.epoch);
        let state = match owner {
            Some((_, Some(row))) if is_alive(&row) => TenantState::Owned,
            Some(_) => TenantState::OwnerNotAlive,
            None if epoch == 0 => TenantState::NeverOwned,
            None => TenantState::Free,
        };
        let address = owner.and_then(|(_, row)| Some(row?.replica.address.clone()));
        Self {
            tenant,
            state,
            owner: address.filter(|address| !address.is_empty()),
            owner_name: owner.map(|(name, _)| name.to_string()),
            epoch,
            owned_since: lease.and_then(|lease| lease.owned_since),
            last_move_reason: lease.and_then(|lease| lease.last_move_reason.clone()),
            paused_since: lease.and_then(|lease| lease.paused_since),
        }
    }
}

impl TenantState {
    fn text(self) -> &'static str {
        match self {
            Self::Owned => "owned",
            Self::OwnerNotAlive => "owner not alive",
            Self::Free => "free",
            Self::NeverOwned => "never owned",
        }
    }
}

#[cfg(test)]
mod tests {
    use leadgate::domain::lease::ReplicaRow;

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn replica(name: &str, seconds: u64) -> ReplicaStatus {
        ReplicaStatus {
            replica: ReplicaRow {
                name: name.into(),
                address: format!("{name}:50052"),
                beat: 7,
                tenants: vec!["acme".to_owned()],
                lease: Duration::ZERO,
            },
            last_beat: Duration::from_secs(seconds),
        }
    }

    fn lease(tenant: &str, owner: Option<&str>, epoch: i64) -> LeaseStatus {
        LeaseStatus {
            tenant: tenant.to_owned(),
            owner: owner.map(ReplicaName::from),
            epoch,
            owned_since: (epoch > 0).then(|| "2026-11-27T08:00:00Z".parse().unwrap()),
            last_move_reason: (epoch > 0).then(|| "balance".to_owned()),
            paused_since: (tenant == "east").then(|| "2026-11-27T09:00:00Z".parse().unwrap()),
        }
    }

    #[test]
    fn tenants_and_replicas_are_listed_with_their_states() {
        let status = ClusterStatus {
            leases: vec![
                lease("acme", Some("a"), 3),
                lease("east", Some("b"), 1),
                lease("north", None, 2),
                lease("south", None, 0),
                lease("lost", Some("gone"), 4),
            ],
            replicas: vec![replica("a", 9), replica("b", 10)],
        };
        let report = Report::new(["acme", "new"].map(str::to_owned).into_iter(), status, LEASE);
        let text = report.text();
        let expected = "\
1 replica is alive:
  a:50052                   last beat 9.0 s ago, 1 tenant(s) in its settings
TENANT                    OWNER                     STATE            EPOCH  SINCE                 LAST MOVE
acme                      a:50052                   owned                3  2026-11-27T08:00:00Z  balance
east                      b:50052                   owner not alive      1  2026-11-27T08:00:00Z  balance
lost                      -                         owner not alive      4  2026-11-27T08:00:00Z  balance
new                       -                         never owned          0  -                     -
north                     -                         free                 2  2026-11-27T08:00:00Z  balance
south                     -                         never owned          0  -                     -
The tenant east is paused since 2026-11-27T09:00:00Z.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_names_in_json_do_not_change() {
        let status = ClusterStatus {
            leases: vec![lease("acme", Some("a"), 3)],
            replicas: vec![replica("a", 1)],
        };
        let report = Report::new([].into_iter(), status, LEASE);
        let expected = serde_json::json!({
            "replicas": [{"name": "a", "address": "a:50052", "last_beat_seconds": 1.0, "tenants": ["acme"]}],
            "tenants": [{
                "tenant": "acme",
                "state": "owned",
                "owner": "a:50052",
                "owner_name": "a",
                "epoch": 3,
                "owned_since": "2026-11-27T08:00:00Z",
                "last_move_reason": "balance",
                "paused_since": null,
            }],
        });
        assert_eq!(serde_json::to_value(report).unwrap(), expected);
    }
}
