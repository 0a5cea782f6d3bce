//! A small random number generator with a seed, and the ids made with it.

use uuid::Uuid;

/// splitmix64: the same seed gives the same ids and the same latencies.
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

    /// A lower-case GUID of the usual form.
    pub(crate) fn guid(&mut self) -> String {
        Uuid::from_u64_pair(self.next(), self.next()).to_string()
    }
}

/// A GUID that stays the same for one name.
pub(crate) fn guid_for(name: &str) -> String {
    let seed = name
        .bytes()
        .fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    crate::random::Random::new(seed).guid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let mut one = Random::new(7);
        let mut two = Random::new(7);
        assert_eq!(one.guid(), two.guid());
        assert_ne!(one.guid(), Random::new(8).guid());
    }
}
