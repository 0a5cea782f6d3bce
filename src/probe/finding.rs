//! The answer of a probe.

use serde::Serialize;
use serde_json::{Value as Json, json};
use toml::Value as Setting;

/// How far a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeState {
    /// One answer fits the observations.
    Decided,
    /// Several answers fit the observations.
    Undecided,
    /// The probe did not run.
    Skipped,
    /// The probe failed.
    Failed,
}

impl ProbeState {
    /// The name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Undecided => "undecided",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// The value of a setting that follows from an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbedSetting {
    /// The path below `tenants.NAME`, such as `limits.calls`.
    pub path: &'static str,
    /// The value.
    pub value: Setting,
}

/// The answer of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How far the question is answered.
    pub state: ProbeState,
    /// What LeadSquared did, in a few words.
    pub observation: String,
    /// The answer, or why there is none, in a few words.
    pub answer: String,
    /// The answer for programs. An object.
    pub value: Json,
    /// The confidence, 0 to 1.
    pub confidence: f64,
    /// The settings that follow.
    pub settings: Vec<ProbedSetting>,
    /// The calls with times, statuses and texts.
    pub evidence: Vec<String>,
}

impl Finding {
    /// An answer.
    pub(super) fn decided(
        observation: impl Into<String>,
        answer: impl Into<String>,
        value: Json,
        confidence: f64,
    ) -> Self {
        Self {
            state: ProbeState::Decided,
            observation: observation.into(),
            answer: answer.into(),
            value,
            confidence,
            settings: vec![],
            evidence: vec![],
        }
    }

    /// No answer: several fit.
    pub(super) fn undecided(observation: impl Into<String>, reason: impl Into<String>, value: Json) -> Self {
        Self {
            state: ProbeState::Undecided,
            confidence: 0.0,
            ..Self::decided(observation, reason, value, 0.0)
        }
    }

    /// The probe did not run.
    pub(super) fn skipped(reason: impl Into<String>) -> Self {
        Self {
            state: ProbeState::Skipped,
            ..Self::decided("", reason, json!({}), 0.0)
        }
    }

    /// The probe failed.
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self {
            state: ProbeState::Failed,
            ..Self::decided("", reason, json!({}), 0.0)
        }
    }

    /// The same answer with a setting that follows.
    pub(super) fn with_setting(mut self, path: &'static str, value: impl Into<Setting>) -> Self {
        self.settings.push(ProbedSetting {
            path,
            value: value.into(),
        });
        self
    }
}
