//! The report of a run: its JSON and its fragment of a configuration file. The command prints the table.

use serde_json::{Map, Value as Json, json};

use super::finding::{Finding, ProbeState, ProbedSetting};
use super::session::ProbeStop;
use super::settings;
use crate::config::TenantConfig;

/// The answer of one probe in the report.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportRow {
    /// The id of the probe.
    pub id: &'static str,
    /// The question.
    pub question: &'static str,
    /// The answer.
    pub finding: Finding,
}

/// The answers of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeReport {
    /// The probes in the order of the documentation.
    pub rows: Vec<ReportRow>,
    /// The number of calls.
    pub calls: u32,
    /// Why the run ended early.
    pub stop: Option<ProbeStop>,
    /// The leads that could not be deleted, each with its id or email address and the reason.
    pub not_removed: Vec<String>,
    /// Why the gateway could not be paused or resumed.
    pub gateway_errors: Vec<String>,
}

impl ProbeReport {
    /// The report for a bug report. It has neither keys nor data of leads of the account.
    pub fn json(&self, started: &str, flags: &[&str]) -> Json {
        let probes: Vec<_> = self.rows.iter().map(ReportRow::json).collect();
        json!({
            "leadgate": env!("CARGO_PKG_VERSION"),
            "started": started,
            "flags": flags,
            "calls": self.calls,
            "ended": self.stop.as_ref().map_or("complete", ProbeStop::name),
            "not_removed": self.not_removed,
            "gateway_errors": self.gateway_errors,
            "probes": probes,
        })
    }

    /// The settings that follow from all answers.
    pub fn settings(&self) -> impl Iterator<Item = &ProbedSetting> {
        self.rows.iter().flat_map(|row| &row.finding.settings)
    }

    /// The settings that follow, as tables of a configuration file.
    pub fn fragment(&self, tenant: &str, config: &TenantConfig) -> String {
        settings::fragment(tenant, config, self.settings())
    }

    /// Why the configuration is invalid with the settings that follow.
    pub fn conflicts(&self, config: &TenantConfig) -> Vec<String> {
        settings::conflicts(config, &self.settings().collect::<Vec<_>>())
    }

    /// Whether a probe failed.
    pub fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| row.finding.state == ProbeState::Failed)
    }
}

impl ReportRow {
    fn json(&self) -> Json {
        let finding = &self.finding;
        let settings: Map<_, _> = finding
            .settings
            .iter()
            .map(|setting| (setting.path.to_owned(), json!(setting.value)))
            .collect();
        json!({
            "id": self.id,
            "state": finding.state.name(),
            "value": finding.value,
            "confidence": finding.confidence,
            "setting": if settings.is_empty() { Json::Null } else { Json::Object(settings) },
            "observation": finding.observation,
            "answer": finding.answer,
            "evidence": finding.evidence,
        })
    }

    /// The settings that follow, each as it is written in a configuration file.
    pub fn setting_texts(&self) -> Vec<String> {
        let settings = self.finding.settings.iter();
        settings
            .map(|setting| format!("{} = {}", setting.path, setting.value))
            .collect()
    }

    /// Whether a setting that follows has another value in force. `None`: no setting follows.
    pub fn differs(&self, config: &TenantConfig) -> Option<bool> {
        let settings = &self.finding.settings;
        (!settings.is_empty()).then(|| settings.iter().any(|setting| settings::differs(config, setting)))
    }
}
