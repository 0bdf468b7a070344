//! The static pool of KV blocks.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::PrefixHash;

/// A KV block: the same number in every full-attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// End of a list.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Block {
    /// Block tables that hold it.
    references: u32,
    /// The prefix it completes, if others may find it by that.
    prefix: Option<PrefixHash>,
    /// Neighbours in the list of cached blocks.
    older: u32,
    newer: u32,
}

/// How many blocks are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockCounts {
    /// Nobody holds them and nobody can find them.
    pub free: usize,
    /// Nobody holds them; found by their prefix until they are evicted.
    pub cached: usize,
    /// In at least one block table.
    pub held: usize,
    /// Blocks that running sequences will still take, out of the free and cached ones.
    pub promised: usize,
}

/// Who holds which block, which blocks can be found by their prefix, and how many are promised.
///
/// A block is free, cached (complete, findable, held by nobody, evicted least recently used first) or held (in one or
/// more block tables). Admission promises blocks to a sequence, which takes them one by one as it grows, so that
/// [`BlockPool::take`] never fails.
///
/// Invariants, asserted by [`BlockPool::check`]: free + cached + held = total; promised ≤ free + cached; references
/// equal the places in block tables.
#[derive(Debug)]
pub struct BlockPool {
    blocks: Vec<Block>,
    /// Free blocks; the last is taken first.
    free: Vec<BlockId>,
    by_prefix: HashMap<PrefixHash, BlockId>,
    /// Ends of the list of cached blocks, by time of release.
    oldest: u32,
    newest: u32,
    counts: BlockCounts,
    references: usize,
    evicted: u64,
}

impl BlockPool {
    /// A pool of free blocks.
    pub fn new(num_blocks: usize) -> Self {
        let block = Block { references: 0, prefix: None, older: NONE, newer: NONE };
        Self {
            blocks: vec![block; num_blocks],
            free: (0..num_blocks as u32).rev().map(BlockId).collect(),
            // Twice the entries, so that the map makes room for itself without allocating.
            by_prefix: HashMap::with_capacity(2 * num_blocks),
            oldest: NONE,
            newest: NONE,
            counts: BlockCounts { free: num_blocks, ..BlockCounts::default() },
            references: 0,
            evicted: 0,
        }
    }

    /// Blocks in all.
    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks by state.
    pub fn counts(&self) -> BlockCounts {
        self.counts
    }

    /// Blocks that nobody holds, promised ones included.
    pub fn available(&self) -> usize {
        self.counts.free + self.counts.cached
    }

    /// Cached blocks that were taken for other use since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Block tables that hold a block.
    pub fn references(&self, block: BlockId) -> u32 {
        self.blocks[block.0 as usize].references
    }

    /// Promises `count` blocks; nothing and `false` if fewer are left beside those promised already.
    pub fn promise(&mut self, count: usize) -> bool {
        let fits = self.counts.promised + count <= self.available();
        if fits {
            self.counts.promised += count;
        }
        fits
    }

    /// Gives back a promise of `count` blocks that will not be taken.
    ///
    /// # Panics
    /// If fewer are promised.
    pub fn forgo(&mut self, count: usize) {
        let promised = self.counts.promised;
        assert!(count <= promised, "{count} blocks forgone, {promised} promised");
        self.counts.promised -= count;
    }

    /// Takes a promised block: a free one, else the cached one that nobody used for longest, which is evicted.
    ///
    /// # Panics
    /// If no block is promised.
    pub fn take(&mut self) -> BlockId {
        self.forgo(1);
        let block = self.free.pop().unwrap_or_else(|| self.evict());
        let state = &mut self.blocks[block.0 as usize];
        assert!(state.references == 0 && state.prefix.is_none(), "block {block:?} taken while in use");
        state.references = 1;
        self.counts.free -= 1;
        self.counts.held += 1;
        self.references += 1;
        block
    }

    /// The block that completes a prefix.
    pub fn find(&self, prefix: PrefixHash) -> Option<BlockId> {
        self.by_prefix.get(&prefix).copied()
    }

    /// Holds a found block once more. The caller keeps promised ≤ free + cached.
    pub fn share(&mut self, block: BlockId) {
        let state = &mut self.blocks[block.0 as usize];
        assert!(state.prefix.is_some(), "block {block:?} shared before it is complete");
        state.references += 1;
        self.references += 1;
        if state.references == 1 {
            self.unlink(block);
            self.counts.cached -= 1;
            self.counts.held += 1;
        }
    }

    /// Lets others find a held block whose 16 tokens are computed. If another block completes the same prefix
    /// already, that one stays and this one remains its holder's alone.
    pub fn publish(&mut self, block: BlockId, prefix: PrefixHash) {
        let state = &mut self.blocks[block.0 as usize];
        assert!(
            state.references > 0 && state.prefix.is_none(),
            "block {block:?} is published once, while held"
        );
        self.by_prefix.entry(prefix).or_insert_with(|| {
            state.prefix = Some(prefix);
            block
        });
    }

    /// Lets nobody find a held block any more: its content can't be trusted.
    pub fn unpublish(&mut self, block: BlockId) {
        let state = &mut self.blocks[block.0 as usize];
        assert!(state.references > 0, "block {block:?} unpublished while nobody holds it");
        if let Some(prefix) = state.prefix.take() {
            self.by_prefix.remove(&prefix);
        }
    }

    /// Lets go of a block: the last holder leaves it cached if it can be found, else free.
    ///
    /// # Panics
    /// If nobody holds it: given back twice.
    pub fn release(&mut self, block: BlockId) {
        let state = &mut self.blocks[block.0 as usize];
        assert!(state.references > 0, "block {block:?} given back by nobody");
        state.references -= 1;
        self.references -= 1;
        if state.references > 0 {
            return;
        }
        self.counts.held -= 1;
        if state.prefix.is_some() {
            self.counts.cached += 1;
            self.link_newest(block);
        } else {
            self.counts.free += 1;
            self.free.push(block);
        }
    }

    /// Frees every cached block.
    pub fn clear_cache(&mut self) {
        while self.counts.cached > 0 {
            let block = self.evict();
            self.free.push(block);
        }
    }

    /// The conservation equation and the promises, given how many places in block tables and promised blocks the
    /// sequences count.
    ///
    /// # Panics
    /// If a block was lost, made or promised twice.
    pub fn check(&self, references: usize, promised: usize) {
        let BlockCounts { free, cached, held, promised: counted } = self.counts;
        let total = self.total();
        assert_eq!(
            free + cached + held,
            total,
            "free {free} + cached {cached} + held {held} = total {total}"
        );
        assert_eq!(free, self.free.len(), "free blocks are listed");
        assert_eq!(references, self.references, "places in block tables = references");
        assert_eq!(promised, counted, "promises of sequences = promised blocks");
        assert!(counted <= free + cached, "promised {counted} <= free {free} + cached {cached}");
    }

    /// Evicts the oldest cached block, which counts as free and is not listed.
    fn evict(&mut self) -> BlockId {
        assert_ne!(self.oldest, NONE, "a promised block is free or cached");
        let block = BlockId(self.oldest);
        self.unlink(block);
        let prefix = self.blocks[block.0 as usize].prefix.take().expect("a cached block can be found");
        self.by_prefix.remove(&prefix);
        self.counts.cached -= 1;
        self.counts.free += 1;
        self.evicted += 1;
        block
    }

    fn link_newest(&mut self, block: BlockId) {
        let state = &mut self.blocks[block.0 as usize];
        (state.older, state.newer) = (self.newest, NONE);
        match self.newest {
            NONE => self.oldest = block.0,
            newest => self.blocks[newest as usize].newer = block.0,
        }
        self.newest = block.0;
    }

    fn unlink(&mut self, block: BlockId) {
        let Block { older, newer, .. } = self.blocks[block.0 as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.blocks[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.blocks[newer as usize].older = older,
        }
        let state = &mut self.blocks[block.0 as usize];
        (state.older, state.newer) = (NONE, NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(n: u64) -> PrefixHash {
        PrefixHash::root(n)
    }

    /// A pool whose blocks are all promised.
    fn promised(num_blocks: usize) -> BlockPool {
        let mut pool = BlockPool::new(num_blocks);
        assert!(pool.promise(num_blocks));
        pool
    }

    #[test]
    fn promises_end_where_free_and_cached_blocks_do() {
        let mut pool = BlockPool::new(3);
        assert!(pool.promise(2) && !pool.promise(2) && pool.promise(1) && !pool.promise(1));
        let block = pool.take();
        assert!(!pool.promise(1));
        pool.forgo(1);
        assert!(pool.promise(1));
        pool.release(block);
        assert!(pool.promise(1));
        pool.check(0, 3);
    }

    #[test]
    fn released_block_is_found_again_until_it_is_the_oldest_and_another_is_needed() {
        let mut pool = promised(3);
        let blocks = [pool.take(), pool.take(), pool.take()];
        for (n, block) in (0..).zip(blocks) {
            pool.publish(block, prefix(n));
        }
        for block in blocks {
            pool.release(block);
        }
        assert_eq!(pool.counts(), BlockCounts { free: 0, cached: 3, held: 0, promised: 0 });
        // Used again, so the second is the oldest.
        let first = pool.find(prefix(0)).unwrap();
        pool.share(first);
        pool.release(first);
        assert!(pool.promise(1));
        assert_eq!(pool.take(), blocks[1]);
        assert_eq!(pool.find(prefix(1)), None);
        assert!(pool.find(prefix(0)).is_some() && pool.find(prefix(2)).is_some());
        assert_eq!(pool.evicted(), 1);
        pool.check(1, 0);
    }

    #[test]
    fn shared_block_stays_held_until_its_last_holder_leaves() {
        let mut pool = promised(1);
        let block = pool.take();
        pool.publish(block, prefix(0));
        pool.share(block);
        pool.release(block);
        assert_eq!(pool.counts().held, 1);
        assert!(!pool.promise(1));
        pool.release(block);
        assert_eq!(pool.counts().cached, 1);
    }

    #[test]
    fn second_block_of_a_prefix_stays_private() {
        let mut pool = promised(2);
        let (first, second) = (pool.take(), pool.take());
        pool.publish(first, prefix(0));
        pool.publish(second, prefix(0));
        assert_eq!(pool.find(prefix(0)), Some(first));
        pool.release(second);
        assert_eq!(pool.counts().free, 1);
        pool.unpublish(first);
        assert_eq!(pool.find(prefix(0)), None);
        pool.release(first);
        assert_eq!(pool.counts().free, 2);
    }

    #[test]
    fn cleared_cache_leaves_free_blocks_and_held_ones_as_they_are() {
        let mut pool = promised(3);
        let (a, b) = (pool.take(), pool.take());
        pool.publish(a, prefix(0));
        pool.publish(b, prefix(1));
        pool.release(a);
        pool.clear_cache();
        assert_eq!(pool.counts(), BlockCounts { free: 2, cached: 0, held: 1, promised: 1 });
        assert_eq!((pool.find(prefix(0)), pool.find(prefix(1))), (None, Some(b)));
        pool.check(1, 1);
    }

    #[test]
    #[should_panic(expected = "given back by nobody")]
    fn block_given_back_twice_is_refused() {
        let mut pool = promised(1);
        let block = pool.take();
        pool.release(block);
        pool.release(block);
    }

    #[test]
    #[should_panic(expected = "shared before it is complete")]
    fn block_that_is_not_complete_is_not_shared() {
        let mut pool = promised(1);
        let block = pool.take();
        pool.share(block);
    }

    #[test]
    #[should_panic(expected = "places in block tables = references")]
    fn lost_block_breaks_the_conservation_equation() {
        let mut pool = promised(2);
        pool.take();
        pool.check(0, 1);
    }
}
