//! The static pool of KV blocks.

/// A KV block: the same number in every full-attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// Which blocks are free, and who holds the others. Each held block has exactly one holder.
///
/// Invariant, asserted by [`BlockPool::check`]: free + held = total.
#[derive(Debug)]
pub struct BlockPool {
    /// Free blocks; the last is taken first.
    free: Vec<BlockId>,
    /// Holder (a ring number) of each block, none if free.
    holders: Vec<Option<u32>>,
}

impl BlockPool {
    /// A pool of free blocks.
    pub fn new(num_blocks: usize) -> Self {
        Self { free: (0..num_blocks as u32).rev().map(BlockId).collect(), holders: vec![None; num_blocks] }
    }

    /// Blocks in all.
    pub fn total(&self) -> usize {
        self.holders.len()
    }

    /// Blocks nobody holds.
    pub fn num_free(&self) -> usize {
        self.free.len()
    }

    /// Gives `count` blocks to `holder`, appended to `table`; nothing and `false` if fewer are free.
    pub fn take(&mut self, holder: u32, count: usize, table: &mut Vec<BlockId>) -> bool {
        if count > self.free.len() {
            return false;
        }
        for block in self.free.drain(self.free.len() - count..).rev() {
            let slot = &mut self.holders[block.0 as usize];
            assert!(slot.is_none(), "free block {block:?} has holder {slot:?}");
            *slot = Some(holder);
            table.push(block);
        }
        true
    }

    /// Takes back every block of `holder`'s table.
    ///
    /// # Panics
    /// If a block is not held by `holder`: given back twice, or another's.
    pub fn give_back(&mut self, holder: u32, table: &mut Vec<BlockId>) {
        for block in table.drain(..).rev() {
            let slot = &mut self.holders[block.0 as usize];
            assert_eq!(*slot, Some(holder), "block {block:?} given back by {holder}");
            *slot = None;
            self.free.push(block);
        }
    }

    /// The conservation equation, given how many blocks the sequences hold.
    ///
    /// # Panics
    /// If a block was lost or made.
    pub fn check(&self, held: usize) {
        let (free, total) = (self.free.len(), self.holders.len());
        assert_eq!(free + held, total, "free {free} + held {held} = total {total}");
    }

    /// Holder of a block, none if free.
    pub fn holder(&self, block: BlockId) -> Option<u32> {
        self.holders[block.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_gives_all_or_nothing_and_each_block_once() {
        let mut pool = BlockPool::new(4);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        assert!(pool.take(0, 3, &mut a));
        assert!(!pool.take(1, 2, &mut b));
        assert!(b.is_empty());
        assert!(pool.take(1, 1, &mut b));
        let mut all: Vec<_> = a.iter().chain(&b).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
        pool.check(4);
        pool.give_back(0, &mut a);
        pool.check(1);
        assert_eq!(pool.num_free(), 3);
    }

    #[test]
    #[should_panic(expected = "given back by 1")]
    fn block_given_back_by_a_stranger_is_refused() {
        let mut pool = BlockPool::new(2);
        let mut table = Vec::new();
        assert!(pool.take(0, 1, &mut table));
        pool.give_back(1, &mut table);
    }

    #[test]
    #[should_panic(expected = "given back by 0")]
    fn block_given_back_twice_is_refused() {
        let mut pool = BlockPool::new(2);
        let mut table = Vec::new();
        assert!(pool.take(0, 1, &mut table));
        let mut again = table.clone();
        pool.give_back(0, &mut table);
        pool.give_back(0, &mut again);
    }

    #[test]
    #[should_panic(expected = "free 1 + held 0 = total 2")]
    fn lost_block_breaks_the_conservation_equation() {
        let mut pool = BlockPool::new(2);
        assert!(pool.take(0, 1, &mut Vec::new()));
        pool.check(0);
    }
}
