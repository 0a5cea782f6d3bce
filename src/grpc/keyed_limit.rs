//! A maximum number of permits for each key: connections of an IP address, RPCs of a caller.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The permits of all keys.
#[derive(Debug)]
pub(super) struct KeyedLimit<K> {
    max: u32,
    held: Mutex<HashMap<K, u32>>,
}

/// A permit of one key. Dropping it releases it.
#[derive(Debug)]
pub(super) struct KeyedPermit<K: Eq + Hash> {
    limit: Arc<KeyedLimit<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> KeyedLimit<K> {
    /// A limit of `max` permits for each key. `max` must be at least 1.
    pub(super) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            max,
            held: Mutex::default(),
        })
    }

    /// Returns a permit of the key, or `None` if all are held.
    pub(super) fn acquire(self: &Arc<Self>, key: K) -> Option<KeyedPermit<K>> {
        let mut held = self.lock();
        let count = held.entry(key.clone()).or_default();
        // No entry of 0 remains: max is at least 1.
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(held);
        Some(KeyedPermit {
            limit: self.clone(),
            key,
        })
    }
}

impl<K> KeyedLimit<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        let mut held = self.limit.lock();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_limit_and_gets_its_permits_back() {
        let limit = KeyedLimit::new(2);
        let (one, _two) = (limit.acquire("a").unwrap(), limit.acquire("a").unwrap());
        assert!(limit.acquire("a").is_none());
        let other = limit.acquire("b").unwrap();
        drop((one, other));
        assert!(limit.acquire("a").is_some());
        assert_eq!(*limit.lock(), HashMap::from([("a", 1)]));
    }
}
