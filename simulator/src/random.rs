//! A random number generator with a seed, and GUIDs.

use uuid::Uuid;

/// A splitmix64 generator. The same seed produces the same ids and latencies.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a lower-case GUID with hyphens.
    pub(crate) fn guid(&mut self) -> String {
        Uuid::from_u64_pair(self.next(), self.next()).to_string()
    }
}

/// Returns the GUID for `name`. The same name always has the same GUID.
pub(crate) fn guid_for(name: &str) -> String {
    let seed = name
        .bytes()
        .fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Random::new(seed).guid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_produces_the_same_ids() {
        let mut one = Random::new(7);
        let mut two = Random::new(7);
        assert_eq!(one.guid(), two.guid());
        assert_ne!(one.guid(), Random::new(8).guid());
    }
}
