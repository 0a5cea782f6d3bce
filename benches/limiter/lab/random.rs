//! Chance with a seed: xorshift64*, good enough for a network and the same everywhere.

use std::time::Duration;

/// A source of chance.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Spread, since neighbouring seeds would begin alike; and never 0, which would stay 0.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// From 0 up to but not including 1.
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed with a mean of 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// How long until the next of so many events a second.
    pub(super) fn pause(&mut self, per_second: f64) -> Duration {
        Duration::from_secs_f64(self.exponential() / per_second)
    }
}
