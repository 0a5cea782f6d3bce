//! Lanes: the kinds of operations that can be sent in batches. Depends neither on the members of a batch nor on the
//! time at which it is sent.

use super::Cost;

/// A kind of operation that can be sent in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Leads read by id.
    Reads,
    /// Leads updated by id.
    Updates,
    /// Leads updated or created.
    Upserts,
    /// Leads created.
    Creates,
    /// Activities posted.
    Activities,
}

/// Maximum number of members of a batch, by lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSizes(pub [usize; Lane::ALL.len()]);

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 5] = [
        Self::Reads,
        Self::Updates,
        Self::Upserts,
        Self::Creates,
        Self::Activities,
    ];

    /// Its name in settings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Updates => "updates",
            Self::Upserts => "upserts",
            Self::Creates => "creates",
            Self::Activities => "activities",
        }
    }

    /// The windows in which a batch call counts.
    pub fn cost(self) -> Cost {
        match self {
            Self::Reads => Cost::Call,
            Self::Updates | Self::Upserts | Self::Creates | Self::Activities => Cost::Bulk,
        }
    }

    /// Maximum number of members of a batch that LeadSquared documents.
    pub fn max_batch(self) -> usize {
        match self {
            Self::Reads => 10_000,
            Self::Creates => 50,
            Self::Updates | Self::Upserts | Self::Activities => 25,
        }
    }
}

impl BatchSizes {
    /// Maximum number of members of a batch of this lane.
    pub fn of(&self, lane: Lane) -> usize {
        self.0[lane as usize].max(1)
    }
}

impl Default for BatchSizes {
    fn default() -> Self {
        Self(Lane::ALL.map(Lane::max_batch))
    }
}
