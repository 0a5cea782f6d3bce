//! `leadgate check`: checks the configuration and the store, and with `--connect` also the accounts.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use leadgate::app::App;
use leadgate::clock;
use leadgate::config::{CallerConfig, Config, unknown_attributes};
use leadgate::context::RequestContext;
use leadgate::crm::PairName;
use leadgate::crm::authentication::KeyOwner;
use leadgate::domain::activity::{ActivityForm, OWNER};
use leadgate::error::{Error, ErrorKind};
use leadgate::gateway::Gateway;
use leadgate::store::{ClusterStatus, ReplicaStatus, Store, StoreOptions};
use url::Url;

use crate::cli::output::print_line;
use crate::cli::process::ConfigOption;
use crate::cli::store::{SEE_METRIC, list_damaged};

/// The timeout of the calls to an account.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time for which the command waits until its slots are free.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// A transaction of the store that takes longer is a warning.
const SLOW_STORE: Duration = Duration::from_millis(50);
/// What to do if a type of activity cannot be used for shares.
const RIGHT_TYPE: &str = "set it to the code of a type whose form has the Owner field";

#[derive(Args)]
pub(crate) struct CheckOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// Also check the keys of each account, what its shares require, and the names in the rules for fields. This makes one call per
    /// pair of keys, another one if sharing.default_activity_type is set, and another one if a caller has hide_fields or deny_fields.
    /// Also fetches the keys of auth.jwt.jwks.url.
    #[arg(long)]
    connect: bool,
    /// End with exit code 1 if there are warnings.
    #[arg(long)]
    strict: bool,
}

/// Where the command records the calls that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UsageRecord {
    /// In the store, so that `serve` continues with it.
    Saved,
    /// Nowhere, because there is no store yet. The command creates none.
    NoStore,
    /// Nowhere, because a running gateway uses the store.
    StoreInUse,
    /// Nowhere: the tables are of a former version, whose replicas may run. The command makes no calls.
    NotMigrated,
    /// In the leases of the tenants, which the command holds during the check and then hands over.
    Leases,
}

/// The tenants that are not checked, each with the reason: replicas make calls for them.
type ServedTenants = BTreeMap<String, String>;

/// The settings of an account that the check compares with the account.
struct AccountSettings {
    base_url: Url,
    share_type: i32,
    has_default_limits: bool,
    /// The timeout of each call.
    timeout: Duration,
}

/// The results of the check of an account.
#[derive(Default)]
struct AccountReport {
    notes: Vec<String>,
    warnings: Vec<String>,
    errors: Vec<String>,
}

pub(crate) async fn run(options: &CheckOptions) -> Result<(), String> {
    let mut config = options.config.load()?;
    // A new owner waits until the windows that its predecessor may have used are over.
    let cluster = config.cluster.take();
    let wait = |window: Duration| {
        cluster
            .as_ref()
            .map_or(Duration::ZERO, |cluster| window * 2 + cluster.lateness)
    };
    let accounts: BTreeMap<_, _> = config
        .tenants
        .iter()
        .map(|(name, tenant)| {
            let settings = AccountSettings {
                base_url: tenant.base_url.clone(),
                share_type: tenant.sharing.default_activity_type,
                has_default_limits: tenant.has_default_limits(),
                timeout: TIMEOUT + wait(tenant.limits.window),
            };
            (name.clone(), settings)
        })
        .collect();
    config.audit.check()?;
    let mut warnings = config.warnings();
    warnings.extend(weak_modes(&config));
    let callers = config.callers.clone();
    let (store, record, served) = match &cluster {
        Some(cluster) => open_database(&config.store, cluster.lease, &mut warnings).await?,
        None => {
            let (store, record) = open_store(&config.store.url).await?;
            (store, record, ServedTenants::new())
        }
    };
    let app = match record {
        // Replicas may use the database: these gateways only check that the settings can be used.
        UsageRecord::Leases => App::with_store(config, in_memory().await?).await?,
        _ => App::with_store(config, store.clone()).await?,
    };
    print_line!("The configuration is valid: {} tenant(s).", accounts.len());
    warnings.extend(app.certificate_warnings());
    for warning in &warnings {
        print_line!("warning: {warning}");
    }
    let mut checked = Ok(());
    if options.connect {
        let token_keys = check_token_keys(&app).await;
        let mut account_warnings = vec![];
        checked = match record {
            UsageRecord::Leases => {
                let mut config = options.config.load()?;
                config.tenants.retain(|name, _| !served.contains_key(name));
                let app = App::with_store(config, store.clone()).await?;
                check_free_accounts(&app, &accounts, &callers, &served, &mut account_warnings).await
            }
            UsageRecord::NotMigrated => Err(
                "the accounts were not checked: the tables are of a former version, whose replicas may run. Start a replica of this \
                 version first"
                    .to_owned(),
            ),
            UsageRecord::Saved | UsageRecord::NoStore | UsageRecord::StoreInUse => {
                check_accounts(&app, &accounts, &callers, record, &mut account_warnings).await
            }
        };
        checked = checked.and(token_keys);
        for warning in &account_warnings {
            print_line!("warning: {warning}");
        }
        warnings.extend(account_warnings);
    }
    store.close().await;
    if options.strict && !warnings.is_empty() {
        checked = checked.and(Err(format!("{} warning(s), and --strict is given", warnings.len())));
    }
    checked
}

/// Returns a warning for each file with secrets that every user of the machine can read, and for each file with secrets or
/// permissions that every user can change. A file that its group can read is fine, because Kubernetes mounts secrets in this way.
fn weak_modes(config: &Config) -> Vec<String> {
    let allows = |path: &Path, bits: u32| std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & bits != 0);
    let secret = config.secret_files();
    let secret_paths: Vec<_> = secret.iter().map(|(_, path)| path.clone()).collect();
    let trusted = config.trusted_files().into_iter();
    let trusted = trusted.filter(|(_, path)| !secret_paths.contains(path) && allows(path, 0o002));
    let trusted = trusted.map(|(setting, path)| {
        let path = path.display();
        format!("{setting}: every user of this machine can change {path}; chmod o-w {path} prevents it")
    });
    let secret = secret
        .iter()
        .filter(|(_, path)| allows(path, 0o006))
        .map(|(setting, path)| {
            let can = if allows(path, 0o002) { "change" } else { "read" };
            let path = path.display();
            format!("{setting}: every user of this machine can {can} {path}; chmod o-rw {path} prevents it")
        });
    secret.chain(trusted).collect()
}

/// Fetches the keys of the token issuer, if they are at a URL.
async fn check_token_keys(app: &App) -> Result<(), String> {
    let Some(issuer) = app.authenticator().issuer() else {
        return Ok(());
    };
    match issuer.check().await {
        None => Ok(()),
        Some((url, Ok(keys))) => {
            print_line!("auth.jwt.jwks: {url} has {keys} usable key(s)");
            Ok(())
        }
        Some((url, Err(error))) => {
            print_line!("auth.jwt.jwks: fetching {url} failed: {error}");
            Err("the keys of the token issuer cannot be fetched".to_owned())
        }
    }
}

async fn in_memory() -> Result<Store, String> {
    Store::open("sqlite::memory:").await.map_err(|error| error.to_string())
}

/// Opens the store without creating one. Returns a store in memory if there is none, or if it is in use.
async fn open_store(url: &str) -> Result<(Store, UsageRecord), String> {
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Ok((in_memory().await?, UsageRecord::NoStore));
    }
    if let Some(path) = Store::check_path(url).map_err(|error| error.to_string())? {
        print_line!("There is no store yet. The gateway will create {}.", path.display());
        return Ok((in_memory().await?, UsageRecord::NoStore));
    }
    match Store::open(url).await {
        Ok(store) => {
            let damaged = list_damaged(&store).await?;
            if !damaged.is_empty() {
                print_line!(
                    "The gateway ignores damaged rows. `leadgate store repair --apply` moves them to another table."
                );
            }
            Ok((store, UsageRecord::Saved))
        }
        Err(error) if error.is_in_use() => {
            print_line!("{error}, probably by the running gateway of this configuration. {SEE_METRIC}");
            Ok((in_memory().await?, UsageRecord::StoreInUse))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Checks the PostgreSQL server, and opens the store without a change of its tables. Returns a store in memory if there is none.
/// Also returns the tenants for which replicas make calls.
async fn open_database(
    options: &StoreOptions,
    lease: Duration,
    warnings: &mut Vec<String>,
) -> Result<(Store, UsageRecord, ServedTenants), String> {
    let report = Store::report(options).await.map_err(|error| error.to_string())?;
    print_line!(
        "{options}: PostgreSQL {}, {:.1?} per transaction",
        report.version,
        report.latency
    );
    warnings.extend(report.warnings.iter().map(|text| format!("store: {text}")));
    if report.latency > SLOW_STORE {
        warnings.push(format!(
            "store: a transaction takes {:.1?}, and each mutation waits for two: use a database in the same region",
            report.latency
        ));
    }
    let (found, current) = (report.schema_version, report.current_schema_version);
    if found < current {
        match found {
            0 => print_line!("There is no store yet. The gateway will create its tables."),
            _ => print_line!("The gateway will migrate the tables from version {found} to {current}."),
        }
        let record = match found {
            0 => UsageRecord::NoStore,
            _ => UsageRecord::NotMigrated,
        };
        return Ok((in_memory().await?, record, ServedTenants::new()));
    }
    let store = Store::open_with(options).await.map_err(|error| error.to_string())?;
    if !list_damaged(&store).await?.is_empty() {
        print_line!("The gateway ignores damaged rows. `leadgate store repair --apply` moves them to another table.");
    }
    let status = store.cluster_status().await.map_err(|error| error.to_string())?;
    let status = status.unwrap_or_default();
    let served = served_tenants(&status, lease);
    if !served.is_empty() || status.leases.iter().any(|lease| lease.owner.is_some()) {
        print_line!("Replicas use the store.");
    }
    Ok((store, UsageRecord::Leases, served))
}

/// Returns the tenants that a replica alive owns, or has in its settings, so that it would acquire them.
fn served_tenants(status: &ClusterStatus, lease: Duration) -> ServedTenants {
    let alive = status.replicas.iter().filter(|replica| replica.last_beat < lease);
    let mut served = ServedTenants::new();
    for ReplicaStatus { replica, .. } in alive {
        let by = match replica.address.as_str() {
            "" => "another leadgate check".to_owned(),
            address => format!("the replica {address}"),
        };
        let owned = status.leases.iter();
        let owned = owned.filter(|row| row.owner.as_ref() == Some(&replica.name));
        for row in owned {
            served.insert(row.tenant.clone(), format!("{by} owns it"));
        }
        for tenant in &replica.tenants {
            served
                .entry(tenant.clone())
                .or_insert_with(|| format!("{by} may acquire it at any time"));
        }
    }
    served
}

/// Checks the accounts that no replica serves. The command owns them for that time, so that no replica makes calls for them.
async fn check_free_accounts(
    app: &App,
    accounts: &BTreeMap<String, AccountSettings>,
    callers: &BTreeMap<String, CallerConfig>,
    served: &ServedTenants,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let mut skipped = 0;
    for (name, reason) in served.iter().filter(|(name, _)| accounts.contains_key(*name)) {
        print_line!("{name}: not checked, because {reason}");
        skipped += 1;
    }
    let mut checked = Ok(());
    if skipped < accounts.len() {
        let ownership = app.own_tenants().await?;
        checked = check_accounts(app, accounts, callers, UsageRecord::Leases, warnings).await;
        let owned: BTreeSet<_> = app.tenants().gateways().map(|(name, _)| name.to_owned()).collect();
        ownership.end().await;
        for tenant in app.tenants().iter().filter(|tenant| !owned.contains(tenant.name())) {
            print_line!("{}: not checked, because its lease cannot be acquired", tenant.name());
            skipped += 1;
        }
    }
    match skipped {
        0 => checked,
        _ => checked.and(Err(format!(
            "{skipped} tenant(s) were not checked: calls of this command would not be in the count of the replica that owns the tenant. \
             Stop the replicas to check them. While they run, /ready of a replica and GetQuota show whether the account can be used, and \
             leadgate_key_checks_total which keys are accepted"
        ))),
    }
}

/// Checks each account. The calls count in the quota.
async fn check_accounts(
    app: &App,
    accounts: &BTreeMap<String, AccountSettings>,
    callers: &BTreeMap<String, CallerConfig>,
    record: UsageRecord,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    if record != UsageRecord::Leases {
        app.save_quota_usage(false).await;
    }
    let has_rules = callers.values().any(|caller| {
        let permissions = &caller.identity.permissions;
        !permissions.hide_fields.is_empty() || !permissions.deny_fields.is_empty()
    });
    let mut failed = 0;
    for (name, gateway) in app.tenants().gateways() {
        let Some(settings) = accounts.get(name) else {
            continue;
        };
        let report = check_account(&gateway, settings).await;
        for text in report.notes.iter().chain(&report.errors) {
            print_line!("{name}: {text}");
        }
        failed += usize::from(!report.errors.is_empty());
        warnings.extend(report.warnings.into_iter().map(|text| format!("{name}: {text}")));
        if has_rules
            && let Ok(attributes) = gateway
                .describe_fields(&RequestContext::internal("check", settings.timeout))
                .await
        {
            warnings.extend(unknown_attributes(callers, name, &attributes));
        }
    }
    if failed > 0 {
        if record != UsageRecord::Leases {
            app.save_quota_usage(true).await;
        }
        return Err(format!("{failed} tenant(s) cannot be used with this configuration"));
    }
    match record {
        UsageRecord::Saved => app.save_quota_usage(true).await,
        UsageRecord::Leases | UsageRecord::NotMigrated => {}
        UsageRecord::NoStore => wait_for_slots(app).await,
        UsageRecord::StoreInUse => {
            print_line!(
                "A gateway uses the store and does not count the calls of this check: LeadSquared may reject a call of the gateway \
                 in the next window."
            );
        }
    }
    Ok(())
}

/// Waits until a gateway that starts next cannot share a window with the calls of this process.
async fn wait_for_slots(app: &App) {
    let held = app
        .tenants()
        .gateways()
        .filter_map(|(_, gateway)| gateway.quota_usage().slots);
    let free_at = held.flat_map(|held| held.calls.free_at.into_iter().chain(held.bulk.free_at));
    let waits = free_at.filter_map(|at| Duration::try_from(at.duration_since(clock::now())).ok());
    let wait = waits.max().unwrap_or_default();
    if wait > MAX_WAIT {
        print_line!(
            "There is no store to record the calls of this check: wait {wait:.0?} before you start the gateway."
        );
        return;
    }
    print_line!("There is no store to record the calls of this check: waiting {wait:.1?} until their slots are free.");
    tokio::time::sleep(wait).await;
}

async fn check_account(gateway: &Gateway, settings: &AccountSettings) -> AccountReport {
    let context = RequestContext::internal("check", settings.timeout);
    let share_type = settings.share_type;
    let mut report = AccountReport::default();
    let (mut is_accepted, mut rejected) = (false, Vec::new());
    for name in PairName::ALL {
        match gateway.crm().owner_of_keys(&context, name).await {
            Some(Ok(owner)) => {
                is_accepted = true;
                check_keys(name, &owner, &settings.base_url, share_type != 0, &mut report);
            }
            Some(Err(error)) => rejected.push((name, with_cause(&error, gateway))),
            None => {}
        }
    }
    if !is_accepted {
        let errors = rejected.into_iter();
        report
            .errors
            .extend(errors.map(|(name, error)| format!("{}{error}", prefix(name))));
        return report;
    }
    if settings.has_default_limits {
        let text = "limits.calls, limits.bulk and limits.window have their default values: `leadgate probe` measures those of the account";
        report.notes.push(text.to_owned());
    }
    // The other pair is used.
    for (name, error) in rejected {
        report
            .warnings
            .push(format!("the {name} pair of keys is not accepted: {error}"));
    }
    if share_type != 0 {
        match gateway.activity_form(&context, share_type).await {
            Ok(form) => check_form(&form, share_type, &mut report),
            Err(error) => {
                let text = match error.kind {
                    ErrorKind::Invalid(_) => {
                        format!("LeadSquared has no such activity type, or it is disabled: {RIGHT_TYPE}")
                    }
                    _ => with_cause(&error, gateway),
                };
                let key = "sharing.default_activity_type";
                report.errors.push(format!("{key} = {share_type}: {text}"));
            }
        }
    }
    report
}

/// Returns the error, with its cause if LeadSquared cannot be reached.
fn with_cause(error: &Error, gateway: &Gateway) -> String {
    match (&error.kind, gateway.outage()) {
        (
            ErrorKind::Unavailable { .. } | ErrorKind::BreakerOpen { .. } | ErrorKind::DeadlineExceeded { .. },
            Some(outage),
        ) => {
            format!("{error}: {outage}")
        }
        _ => error.to_string(),
    }
}

/// The beginning of a text about a pair of keys. Texts about the first pair have none.
fn prefix(name: PairName) -> &'static str {
    match name {
        PairName::First => "",
        PairName::Next => "next: ",
    }
}

/// Checks the role and the host of the keys.
fn check_keys(name: PairName, owner: &KeyOwner, base_url: &Url, has_shares: bool, report: &mut AccountReport) {
    let or_unknown = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.unwrap_or("unknown").to_owned()
    };
    let role = or_unknown(&owner.role);
    let mut text = format!(
        "{}the keys are valid; organization {}, role {role}, time zone {}",
        prefix(name),
        or_unknown(&owner.org_short_code),
        or_unknown(&owner.time_zone)
    );
    match (role == "Administrator", has_shares) {
        (true, false) => {}
        (true, true) => text += "; shares require the role Administrator, which the keys have",
        (false, false) => text += "; LeadSquared recommends the keys of an Administrator",
        (false, true) => report.errors.push(format!(
            "{}shares require the keys of an Administrator, and the role of these keys is {role}: set access_key and secret_key to \
             the keys of an Administrator",
            prefix(name)
        )),
    }
    report.notes.push(text);
    if let Some(host) = owner.api_host().filter(|host| *host != base_url.authority()) {
        report.errors.push(format!(
            "{}the host of the account is {host}: set base_url to it",
            prefix(name)
        ));
    }
}

/// Checks that the form of the activity type has the field that shares require.
fn check_form(form: &ActivityForm, share_type: i32, report: &mut AccountReport) {
    let setting = format!("sharing.default_activity_type = {share_type} ({})", form.name);
    if form.fields.iter().any(|field| field == OWNER) {
        report.notes.push(format!("{setting} has the Owner field"));
    } else {
        report.errors.push(format!(
            "{setting} has no Owner field, which LeadSquared requires to find the user: add it to the form of the type, or {RIGHT_TYPE}"
        ));
    }
}
