//! Lanes: the kinds of operations of which many can travel in one call. Knows neither who travels nor when.

use super::Cost;

/// A kind of operation that has a shared form.
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

/// How many operations of each lane may travel in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes(pub [usize; Lane::ALL.len()]);

impl Lane {
    /// All of them.
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

    /// What a shared call pays.
    pub fn cost(self) -> Cost {
        match self {
            Self::Reads => Cost::Call,
            Self::Updates | Self::Upserts | Self::Creates | Self::Activities => Cost::Bulk,
        }
    }

    /// The most that the vendor's pages allow in one call.
    pub fn most(self) -> usize {
        match self {
            Self::Reads => 10_000,
            Self::Creates => 50,
            Self::Updates | Self::Upserts | Self::Activities => 25,
        }
    }
}

impl Sizes {
    /// The most of a lane in one call.
    pub fn of(&self, lane: Lane) -> usize {
        self.0[lane as usize].max(1)
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self(Lane::ALL.map(Lane::most))
    }
}
