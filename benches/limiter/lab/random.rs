//! Random numbers from a seed: xorshift64*, the same on every machine.

use std::time::Duration;

/// A source of random numbers.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Multiplied, since neighboring seeds would start alike; and never 0, which would stay 0.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number from 0 up to but not including 1.
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

    /// The time until the next of this number of events per second.
    pub(super) fn pause(&mut self, per_second: f64) -> Duration {
        Duration::from_secs_f64(self.exponential() / per_second)
    }
}
