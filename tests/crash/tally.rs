//! What callers know of their mutations, and what LeadSquared has of them.

use std::collections::HashMap;

use leadgate_simulator::Simulator;

/// What a caller knows in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Acknowledged,
    /// It ended with OUTCOME_UNKNOWN.
    Unknown,
}

/// How the effect of a mutation is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A lead with the tag as its first name.
    Lead,
    /// No lead with it.
    NoLead,
    /// An activity with the tag as its note.
    Note,
    /// It was seen to be executed so often.
    Seen(usize),
}

#[derive(Clone, Debug)]
pub struct Mutation {
    pub kind: &'static str,
    pub tag: String,
    pub known: Known,
    pub effect: Effect,
}

/// What LeadSquared has: how many leads and activities of each tag.
pub struct There {
    leads: HashMap<String, usize>,
    notes: HashMap<String, usize>,
}

impl There {
    pub fn of(simulator: &Simulator) -> Self {
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

    /// How often a mutation was executed, as far as can be seen.
    fn executions(&self, mutation: &Mutation) -> usize {
        let count = |counts: &HashMap<String, usize>| counts.get(&mutation.tag).copied().unwrap_or_default();
        match mutation.effect {
            Effect::Lead => count(&self.leads),
            Effect::NoLead => usize::from(count(&self.leads) == 0),
            Effect::Note => count(&self.notes),
            Effect::Seen(executions) => executions,
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

/// The mutations of one kind.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub acknowledged: usize,
    pub unknown: usize,
    /// Acknowledged, and not executed.
    pub lost: Vec<String>,
    /// Executed more than once.
    pub twice: Vec<String>,
}

impl Tally {
    pub fn count(&mut self, mutation: &Mutation, there: &There) {
        let executions = there.executions(mutation);
        match mutation.known {
            Known::Acknowledged => self.acknowledged += 1,
            Known::Unknown => self.unknown += 1,
        }
        if mutation.known == Known::Acknowledged && executions == 0 {
            self.lost.push(mutation.tag.clone());
        }
        if executions > 1 {
            self.twice.push(mutation.tag.clone());
        }
    }
}
