//! The settings that probes decide: their values in force, and the fragment of a configuration file that follows from a report.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Value as Setting;

use super::finding::ProbedSetting;
use crate::config::TenantConfig;
use crate::crm::lead::{CapturedLeadId, ClearWith};

/// The path of the setting that has no table of its own, so that it cannot be pasted.
pub(super) const BASE_URL: &str = "base_url";

/// The value in force. `None`: no probe decides the setting.
pub(super) fn current(tenant: &TenantConfig, path: &str) -> Option<Setting> {
    let TenantConfig {
        limits,
        upstream,
        writes,
        batching,
        ..
    } = tenant;
    let size = |size: usize| Setting::Integer(i64::try_from(size).unwrap_or(i64::MAX));
    Some(match path {
        BASE_URL => Setting::String(tenant.base_url.as_str().trim_end_matches('/').to_owned()),
        "limits.calls" => limits.calls.into(),
        "limits.bulk" => limits.bulk.into(),
        "limits.window" => time(limits.window),
        "limits.bulk_pays_calls" => limits.bulk_pays_calls.into(),
        "limits.reserve" => limits.reserve.into(),
        "upstream.idle_timeout" => time(upstream.idle_timeout),
        "upstream.http2" => upstream.http2.into(),
        "batching.max_reads" => size(batching.max_reads),
        "batching.max_updates" => size(batching.max_updates),
        "batching.max_upserts" => size(batching.max_upserts),
        "writes.clear_with" => clear_with(writes.clear_with).into(),
        "writes.captured_lead_id" => match writes.captured_lead_id {
            CapturedLeadId::Id => "id".into(),
            CapturedLeadId::RelatedId => "related-id".into(),
        },
        "writes.own_values_may_clash" => writes.own_values_may_clash.into(),
        "writes.unique" => writes.unique.clone().into(),
        _ => return None,
    })
}

/// The name of a way to clear an attribute.
pub(super) fn clear_with(clear_with: ClearWith) -> &'static str {
    match clear_with {
        ClearWith::EmptyText => "empty-text",
        ClearWith::Null => "null",
    }
}

/// A duration as it is written in a configuration file.
pub(super) fn time(duration: Duration) -> Setting {
    Setting::String(humantime::format_duration(duration).to_string())
}

/// Whether a setting has another value in force.
pub(super) fn differs(tenant: &TenantConfig, setting: &ProbedSetting) -> bool {
    let normal = |value: Setting| match value {
        Setting::Array(mut values) => {
            values.sort_by_key(ToString::to_string);
            Setting::Array(values)
        }
        value => value,
    };
    current(tenant, setting.path).map(normal) != Some(normal(setting.value.clone()))
}

/// Why the configuration is invalid with the settings that follow.
pub(super) fn conflicts(tenant: &TenantConfig, settings: &[&ProbedSetting]) -> Vec<String> {
    let number = |path: &str, in_force: u32| {
        let found = settings.iter().find(|setting| setting.path == path);
        let found = found.and_then(|setting| setting.value.as_integer());
        found.unwrap_or_else(|| in_force.into())
    };
    let calls = number("limits.calls", tenant.limits.calls);
    let reserve = number("limits.reserve", tenant.limits.reserve);
    let is_changed = settings
        .iter()
        .any(|setting| ["limits.calls", "limits.reserve"].contains(&setting.path));
    let mut conflicts = vec![];
    if is_changed && reserve > 0 && reserve >= calls {
        conflicts.push(format!(
            "limits.reserve = {reserve} must be less than limits.calls = {calls}: change limits.reserve, too"
        ));
    }
    conflicts
}

/// The settings as the tables of a configuration file. Valid TOML. Without settings, it has comments only.
pub(super) fn fragment<'a>(
    name: &str,
    tenant: &TenantConfig,
    settings: impl Iterator<Item = &'a ProbedSetting>,
) -> String {
    let mut tables: BTreeMap<&str, Vec<&ProbedSetting>> = BTreeMap::new();
    let mut text = format!(
        "# If your configuration file has one of these tables already, add the keys to that table: TOML allows each table once.\n\
         # Settings of the tenant {name} that follow from leadgate probe.\n"
    );
    let settings: Vec<_> = settings.collect();
    for conflict in conflicts(tenant, &settings) {
        text += &format!("# Invalid together: {conflict}.\n");
    }
    for setting in settings {
        match setting.path.split_once('.') {
            Some((table, _)) => tables.entry(table).or_default().push(setting),
            // [tenants.NAME] with the keys exists already.
            None => text += &format!("# In [tenants.{name}]: {} = {}\n", setting.path, setting.value),
        }
    }
    if tables.is_empty() {
        text += "# No setting follows.\n";
    }
    for (table, settings) in tables {
        text += &format!("\n[tenants.{name}.{table}]\n");
        for setting in settings {
            let key = setting.path.split_once('.').map_or(setting.path, |(_, key)| key);
            let before = match (differs(tenant, setting), current(tenant, setting.path)) {
                (true, Some(before)) => format!(" # in force: {before}"),
                _ => String::new(),
            };
            text += &format!("{key} = {}{before}\n", setting.value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const FILE: &str = "[tenants.acme]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"s\"\n";

    fn config(text: &str) -> Config {
        Config::read("", text, std::iter::empty()).unwrap()
    }

    fn setting(path: &'static str, value: impl Into<Setting>) -> ProbedSetting {
        ProbedSetting {
            path,
            value: value.into(),
        }
    }

    #[test]
    fn a_fragment_is_valid_after_the_configuration_and_takes_effect() {
        let before = config(FILE);
        let settings = [
            setting("limits.calls", 72),
            setting("writes.unique", vec!["EmailAddress".to_owned()]),
            setting("limits.window", "5s"),
            setting("upstream.idle_timeout", "8s"),
            setting("batching.max_updates", 10),
            setting("writes.clear_with", "null"),
            setting(BASE_URL, "https://api-in21.leadsquared.com"),
        ];
        let fragment = fragment("acme", &before.tenants["acme"], settings.iter());
        let after = config(&format!("{FILE}{fragment}"));
        let tenant = &after.tenants["acme"];
        for setting in &settings {
            assert_eq!(differs(tenant, setting), setting.path == BASE_URL, "{}", setting.path);
        }
        assert!(fragment.contains("calls = 72 # in force: 25"), "{fragment}");
        assert!(fragment.contains("window = \"5s\"\n"), "{fragment}");
        assert!(fragment.contains("# In [tenants.acme]: base_url"), "{fragment}");
    }

    #[test]
    fn a_reserve_that_is_not_less_than_the_calls_is_mentioned() {
        let reserve = "[tenants.acme.limits]\nreserve = 12\n";
        let config = config(&format!("{FILE}{reserve}"));
        let tenant = &config.tenants["acme"];
        for (calls, is_invalid) in [(12, true), (13, false)] {
            let settings = [setting("limits.calls", calls)];
            let text = fragment("acme", tenant, settings.iter());
            assert_eq!(text.contains("limits.reserve = 12 must be less"), is_invalid, "{text}");
        }
    }

    #[test]
    fn without_settings_a_fragment_has_comments_only() {
        let config = config(FILE);
        let fragment = fragment("acme", &config.tenants["acme"], std::iter::empty());
        assert!(fragment.lines().all(|line| line.starts_with('#')), "{fragment}");
    }
}
