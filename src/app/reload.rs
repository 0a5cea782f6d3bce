//! What changes while the process runs: certificates, the keys of a token issuer, callers and limits.

use std::sync::Arc;

use crate::config::{Config, ConfigSource, FixedSettings};
use crate::crm::{self, PairName};
use crate::files::{self, Watcher};
use crate::identity::Authenticator;
use crate::quota::CallerQuotas;
use crate::tenant::Tenants;
use crate::tls::Tls;

/// Watches the files of TLS.
pub(super) fn watch_tls(watcher: &mut Watcher, tls: &Arc<Tls>) {
    let reloaded = tls.clone();
    watcher.add("tls", tls.read_contents(), move || reloaded.reload());
}

/// Watches the file with the keys of a token issuer.
pub(super) fn watch_jwks(watcher: &mut Watcher, authenticator: &Arc<Authenticator>) {
    let Some(contents) = authenticator.issuer().and_then(|issuer| issuer.read_contents()) else {
        return;
    };
    let reloaded = authenticator.clone();
    watcher.add("jwks", contents.clone(), move || {
        reloaded.issuer().map_or(Ok(()), |issuer| issuer.read_file())
    });
}

/// Watches the settings file. Callers and limits change at once. All other settings hold until the process ends.
pub(super) fn watch_settings(
    watcher: &mut Watcher,
    source: ConfigSource,
    fixed: FixedSettings,
    authenticator: Arc<Authenticator>,
    tenants: Tenants,
) {
    let contents = source.contents().clone();
    let reload = move || {
        let config = source.read().map_err(|errors| errors.to_string())?;
        warn(&config);
        let changes = fixed.differences(&config.fixed);
        if !changes.is_empty() {
            tracing::warn!(
                settings = changes.join(", "),
                "changed settings take effect after a restart"
            );
        }
        let callers = caller_quotas(&config);
        for (name, gateway) in tenants.iter() {
            gateway.set_callers(callers.clone());
            if let Some(tenant) = config.tenants.get(name) {
                gateway.set_limits(&tenant.limits);
            }
        }
        authenticator.set_registry(config.registry);
        Ok(())
    };
    watcher.add("settings", contents, reload);
}

/// Logs the settings that are valid and probably not meant.
pub(super) fn warn(config: &Config) {
    for reason in config.warnings() {
        tracing::warn!(reason, "setting probably not meant");
    }
}

/// The quotas of all callers.
pub(super) fn caller_quotas(config: &Config) -> CallerQuotas {
    let named = config.callers.iter();
    CallerQuotas {
        named: named
            .map(|(name, caller)| (name.as_str().into(), caller.quota.clone()))
            .collect(),
        others: config.other_callers.clone(),
    }
}

/// Watches the files of a tenant's keys.
pub(super) fn watch_keys(watcher: &mut Watcher, tenant: &str, client: &crm::Client) {
    for (name, setting) in [(PairName::First, "keys"), (PairName::Next, "next")] {
        let files = client.key_files(name);
        if files.is_empty() {
            continue;
        }
        let what = format!("tenants.{tenant}.{setting}");
        let reload = {
            let client = client.clone();
            move || client.reload_keys(name)
        };
        watcher.add(what.clone(), files::contents(files), reload);
        // The files may have changed since the start of the process.
        if let Err(reason) = client.reload_keys(name) {
            tracing::warn!(what, reason, "reloading files failed; the former contents stay in use");
        }
    }
}
