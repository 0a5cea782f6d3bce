//! What changes while the process runs: certificates, the keys of a token issuer, callers and limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::accounts::Accounts;
use crate::config::{CallerConfig, ConfigErrors, ConfigSource, FixedSettings, UsableCredentials, log_warnings};
use crate::crm::{self, PairName};
use crate::files::{self, Watcher};
use crate::identity::{AdminToken, Authenticator};
use crate::quota::{CallerQuota, CallerQuotas};
use crate::tenant::{Tenant, Tenants};
use crate::tls::Tls;

/// The settings at the start, as far as a reload needs them.
pub(super) struct WatchedConfig {
    pub(super) source: ConfigSource,
    pub(super) fixed: FixedSettings,
    pub(super) usable: UsableCredentials,
}

/// Watches the files of TLS.
pub(super) fn watch_tls(watcher: &mut Watcher, tls: &Arc<Tls>) {
    let reloaded = tls.clone();
    watcher.add("tls", tls.read_contents(), move || reloaded.reload());
}

/// Watches the files of TLS of the REST listener.
pub(super) fn watch_rest_tls(watcher: &mut Watcher, tls: &Arc<Tls>) {
    let reloaded = tls.clone();
    watcher.add("rest.tls", tls.read_contents(), move || reloaded.reload());
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

/// Watches the file of the token of steering requests.
pub(super) fn watch_admin_token(watcher: &mut Watcher, source: &crm::KeySource, token: &Arc<AdminToken>) {
    let crm::KeySource::File(path) = source else {
        return;
    };
    let (source, token) = (source.clone(), token.clone());
    watcher.add("admin.token", files::contents([path]), move || {
        token.replace(source.read()?.expose_secret())
    });
}

/// Watches the settings file. Callers and limits change at once. All other settings hold until the process ends.
pub(super) fn watch_settings(
    watcher: &mut Watcher,
    config: WatchedConfig,
    authenticator: Arc<Authenticator>,
    accounts: Accounts,
    tenants: Tenants,
) {
    let WatchedConfig { source, fixed, usable } = config;
    let contents = source.contents().clone();
    let reload = move || {
        let reloaded = source.read().map_err(|errors| errors.to_string())?;
        // A file that is being written may lack a whole section. Other errors do not keep a credential that was removed.
        if reloaded.later_errors.iter().any(|error| error.is_absent) {
            return Err(ConfigErrors(reloaded.later_errors).to_string());
        }
        log_warnings(usable.warnings(&reloaded.callers));
        let changes = fixed.differences(&reloaded.fixed);
        if !changes.is_empty() {
            tracing::warn!(
                settings = changes.join(", "),
                "changed settings take effect after a restart"
            );
        }
        if !reloaded.later_errors.is_empty() {
            let reason = ConfigErrors(reloaded.later_errors).to_string();
            tracing::error!(reason, "the settings do not allow a restart");
        }
        let callers = caller_quotas(&reloaded.callers, &reloaded.other_callers);
        accounts.reload(&tenants, &reloaded.limits, reloaded.callers, callers);
        authenticator.set_registry(reloaded.registry);
        Ok(())
    };
    watcher.add("settings", contents, reload);
}

/// The quotas of all callers.
pub(super) fn caller_quotas(callers: &BTreeMap<String, CallerConfig>, others: &CallerQuota) -> CallerQuotas {
    let named = callers.iter();
    CallerQuotas {
        named: named
            .map(|(name, caller)| (name.as_str().into(), caller.quota.clone()))
            .collect(),
        others: others.clone(),
    }
}

/// Watches the files of a tenant's keys. A gateway that is built later reads them itself.
pub(super) fn watch_keys(watcher: &mut Watcher, tenant: &Arc<Tenant>, keys: &crm::Keys) {
    for (name, setting) in [(PairName::First, "keys"), (PairName::Next, "next")] {
        let files = keys.source(name).map(crm::KeyPairSource::files).unwrap_or_default();
        if files.is_empty() {
            continue;
        }
        let what = format!("tenants.{}.{setting}", tenant.name());
        let reload = {
            let tenant = tenant.clone();
            move || {
                let gateway = tenant.gateway();
                gateway.map_or(Ok(()), |gateway| gateway.crm().reload_keys(name))
            }
        };
        watcher.add(what.clone(), files::contents(files), reload.clone());
        // The files may have changed since the start of the process.
        if let Err(reason) = reload() {
            tracing::warn!(what, reason, "reloading files failed; the former contents stay in use");
        }
    }
}
