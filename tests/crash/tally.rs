//! Compares the outcomes that callers know with the effects in LeadSquared.

use std::collections::HashMap;

use leadgate_simulator::Simulator;

/// The outcome that a caller knows at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownOutcome {
    /// The RPC succeeded.
    Acknowledged,
    /// The RPC ended with OUTCOME_UNKNOWN.
    Unknown,
}

/// How the number of executions of a mutation is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The number of leads with the tag as first name.
    Lead,
    /// One execution if there is no lead with the tag as first name.
    NoLead,
    /// The number of activities with the tag as note.
    Note,
    /// The number was already counted.
    Counted(usize),
}

#[derive(Clone, Debug)]
pub struct Mutation {
    pub kind: &'static str,
    pub tag: String,
    pub outcome: KnownOutcome,
    pub effect: Effect,
}

/// The data of LeadSquared: the number of leads and activities per tag.
pub struct UpstreamState {
    leads: HashMap<String, usize>,
    notes: HashMap<String, usize>,
}

impl UpstreamState {
    pub fn read(simulator: &Simulator) -> Self {
        let leads = simulator
            .leads()
            .into_iter()
            .filter_map(|mut lead| lead.remove("FirstName")?);
        let notes = simulator.activities().into_iter().filter_map(|activity| activity.note);
        Self {
            leads: counted(leads),
            notes: counted(notes),
        }
    }

    /// Returns how often a mutation was executed.
    fn executions(&self, mutation: &Mutation) -> usize {
        let count = |counts: &HashMap<String, usize>| counts.get(&mutation.tag).copied().unwrap_or_default();
        match mutation.effect {
            Effect::Lead => count(&self.leads),
            Effect::NoLead => usize::from(count(&self.leads) == 0),
            Effect::Note => count(&self.notes),
            Effect::Counted(executions) => executions,
        }
    }
}

fn counted(tags: impl Iterator<Item = String>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for tag in tags {
        *counts.entry(tag).or_default() += 1;
    }
    counts
}

/// The results of the mutations of one kind.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub acknowledged: usize,
    pub unknown: usize,
    /// Tags of mutations that were acknowledged and not executed.
    pub lost: Vec<String>,
    /// Tags of mutations that were executed more than once.
    pub twice: Vec<String>,
}

impl Tally {
    pub fn count(&mut self, mutation: &Mutation, upstream: &UpstreamState) {
        let executions = upstream.executions(mutation);
        match mutation.outcome {
            KnownOutcome::Acknowledged => self.acknowledged += 1,
            KnownOutcome::Unknown => self.unknown += 1,
        }
        if mutation.outcome == KnownOutcome::Acknowledged && executions == 0 {
            self.lost.push(mutation.tag.clone());
        }
        if executions > 1 {
            self.twice.push(mutation.tag.clone());
        }
    }
}
