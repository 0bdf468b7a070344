//! Which window snapshots are taken, and of which prefix.

use std::collections::HashMap;

use super::PrefixHash;

/// Why a snapshot was taken: how likely it is to be wanted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// Within a long prompt, at regular distances.
    Interval,
    /// At the end of a prompt or of a sequence, where the next turn goes on.
    Turn,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    of: Option<(PrefixHash, SnapshotKind)>,
    /// Time of the last use, in uses of the pool.
    used: u64,
}

/// A static set of places for window snapshots, each named by the prefix whose window it holds. A snapshot's content
/// depends on its prefix alone, so it outlives blocks and sequences, and no one holds it.
#[derive(Debug)]
pub struct SnapshotPool {
    slots: Vec<Slot>,
    by_hash: HashMap<PrefixHash, u32>,
    uses: u64,
}

impl SnapshotPool {
    /// Empty places.
    pub fn new(count: usize) -> Self {
        let slots = vec![Slot { of: None, used: 0 }; count];
        // Twice the entries, so that the map makes room for itself without allocating.
        Self { slots, by_hash: HashMap::with_capacity(2 * count), uses: 0 }
    }

    /// The snapshot of a prefix.
    pub fn find(&self, prefix: PrefixHash) -> Option<u32> {
        self.by_hash.get(&prefix).copied()
    }

    /// Marks a snapshot as used now.
    pub fn touch(&mut self, snapshot: u32) {
        self.uses += 1;
        self.slots[snapshot as usize].used = self.uses;
    }

    /// A place for the snapshot of a prefix, which the caller fills at once: an empty one, else the least recently used
    /// among [`SnapshotKind::Interval`], else among all. None if the prefix has one, which then counts as used, or
    /// if there are no places.
    pub fn take(&mut self, prefix: PrefixHash, kind: SnapshotKind) -> Option<u32> {
        if let Some(snapshot) = self.find(prefix) {
            self.touch(snapshot);
            return None;
        }
        let rank = |slot: &Slot| (slot.of.is_some_and(|(_, kind)| kind == SnapshotKind::Turn), slot.used);
        let place = (0..self.slots.len()).min_by_key(|&place| rank(&self.slots[place]))?;
        if let Some((old, _)) = self.slots[place].of.replace((prefix, kind)) {
            self.by_hash.remove(&old);
        }
        self.by_hash.insert(prefix, place as u32);
        self.touch(place as u32);
        Some(place as u32)
    }

    /// Forgets the snapshot of a prefix, if there is one.
    pub fn forget(&mut self, prefix: PrefixHash) {
        if let Some(place) = self.by_hash.remove(&prefix) {
            self.slots[place as usize] = Slot { of: None, used: 0 };
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.by_hash.clear();
        self.slots.fill(Slot { of: None, used: 0 });
    }

    /// Snapshots taken.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether none is taken.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// Asserts that places and names agree.
    ///
    /// # Panics
    /// If they do not.
    pub fn check(&self) {
        let taken = self.slots.iter().filter(|slot| slot.of.is_some()).count();
        assert_eq!(taken, self.by_hash.len(), "each taken place has one name");
        for (place, slot) in (0..).zip(&self.slots) {
            let named = slot.of.map(|(prefix, _)| self.by_hash.get(&prefix));
            assert!(named.is_none_or(|name| name == Some(&place)), "place {place} is found by its name");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(n: u64) -> PrefixHash {
        PrefixHash::root(n)
    }

    #[test]
    fn least_recently_used_place_is_taken_first_and_intervals_before_turns() {
        let mut pool = SnapshotPool::new(3);
        let turn = pool.take(prefix(0), SnapshotKind::Turn).unwrap();
        let early = pool.take(prefix(1), SnapshotKind::Interval).unwrap();
        let late = pool.take(prefix(2), SnapshotKind::Interval).unwrap();
        pool.touch(early);
        assert_eq!(pool.take(prefix(3), SnapshotKind::Turn), Some(late));
        assert_eq!(pool.take(prefix(4), SnapshotKind::Turn), Some(early));
        assert_eq!(pool.take(prefix(5), SnapshotKind::Interval), Some(turn));
        assert_eq!((pool.find(prefix(0)), pool.find(prefix(3))), (None, Some(late)));
        pool.check();
    }

    #[test]
    fn prefix_has_one_snapshot_and_taking_it_again_uses_it() {
        let mut pool = SnapshotPool::new(2);
        pool.take(prefix(0), SnapshotKind::Turn);
        let other = pool.take(prefix(1), SnapshotKind::Turn);
        assert_eq!(pool.take(prefix(0), SnapshotKind::Turn), None);
        assert_eq!(pool.take(prefix(2), SnapshotKind::Turn), other);
        pool.forget(prefix(2));
        assert_eq!((pool.find(prefix(2)), pool.len()), (None, 1));
        pool.clear();
        assert!(pool.is_empty() && SnapshotPool::new(0).take(prefix(0), SnapshotKind::Turn).is_none());
        pool.check();
    }
}
