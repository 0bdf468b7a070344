//! Who holds which block and what is in it: a naive account beside the pool's own, kept from block tables and rows.

use std::collections::HashMap;

use sostenuto_engine::{BLOCK_SLOTS, BlockId, RequestId, Scheduler, StepPlan};

use crate::journal::Journal;
use crate::record::State;

/// What is known of one block.
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// Places in block tables.
    places: u32,
    /// The same at the account before.
    places_before: u32,
    /// Names of the prefixes that the written slots end, see [`crate::record::Record::chain`].
    chain: [u64; BLOCK_SLOTS],
    /// Slots written since the block was taken.
    written: usize,
    /// Found under the name of its last slot.
    is_published: bool,
    /// Account at which its last holder left.
    left_at: u64,
    /// Account at which a request that could not be admitted may have looked at it.
    found_at: u64,
}

/// The account.
#[derive(Debug)]
pub(crate) struct Ledger {
    blocks: Vec<Facts>,
    has_cache: bool,
    /// Published blocks by the prefix they complete.
    published: HashMap<u64, u32>,
    /// Times the tables were looked at.
    accounts: u64,
    evicted: u64,
}

impl Ledger {
    /// An account of free blocks; without a cache nothing is ever found.
    pub(crate) fn new(num_blocks: usize, has_cache: bool) -> Self {
        let facts = Facts {
            places: 0,
            places_before: 0,
            chain: [0; BLOCK_SLOTS],
            written: 0,
            is_published: false,
            left_at: 0,
            found_at: 0,
        };
        Self {
            blocks: vec![facts; num_blocks],
            has_cache,
            published: HashMap::new(),
            accounts: 0,
            evicted: 0,
        }
    }

    /// Blocks that a sequence with these names finds: those of its longest published prefix.
    pub(crate) fn findable(&self, chain: &[u64]) -> usize {
        let ends = chain.iter().skip(BLOCK_SLOTS - 1).step_by(BLOCK_SLOTS);
        ends.take_while(|end| self.published.contains_key(end)).count()
    }

    /// Checks what a sequence that was admitted shares: all that can be found, written by its own key.
    pub(crate) fn check_shared(&self, id: RequestId, chain: &[u64], shared: &[BlockId]) {
        assert_eq!(shared.len(), self.findable(chain), "request {id}: blocks found in the cache");
        for (block, chain) in shared.iter().zip(chain.chunks_exact(BLOCK_SLOTS)) {
            let facts = &self.blocks[block.0 as usize];
            assert_eq!(
                (facts.written, &facts.chain[..]),
                (BLOCK_SLOTS, chain),
                "request {id} shares {block:?}"
            );
        }
    }

    /// Counts the places of each block in the tables, and compares with the pool's references.
    pub(crate) fn count(&mut self, scheduler: &Scheduler) {
        self.accounts += 1;
        for facts in &mut self.blocks {
            (facts.places, facts.places_before) = (0, facts.places);
        }
        for block in scheduler.running_sequences().flat_map(|running| running.block_table) {
            self.blocks[block.0 as usize].places += 1;
        }
        for (block, facts) in (0..).map(BlockId).zip(&mut self.blocks) {
            assert_eq!(scheduler.pool().references(block), facts.places, "references of {block:?}");
            if facts.places == 0 && facts.places_before > 0 {
                facts.left_at = self.accounts;
            }
        }
    }

    /// Notes that a request with these names waits though a ring is free: what it finds may count as used.
    pub(crate) fn note_waiting(&mut self, chain: &[u64]) {
        for end in chain.iter().skip(BLOCK_SLOTS - 1).step_by(BLOCK_SLOTS) {
            let Some(&block) = self.published.get(end) else { return };
            self.blocks[block as usize].found_at = self.accounts;
        }
    }

    /// Compares the counts of the pool with this account: free + cached + held = total, promises, evictions.
    pub(crate) fn compare(&self, scheduler: &Scheduler, journal: &Journal) {
        let mut promised = 0;
        for running in scheduler.running_sequences() {
            let State::Running(progress) = journal.record(running.id).state else {
                panic!("request {} has a ring and waits", running.id)
            };
            let (reserved, held) =
                (progress.reserved_tokens.div_ceil(BLOCK_SLOTS), running.block_table.len());
            assert!(held <= reserved, "request {} holds {held} blocks, {reserved} reserved", running.id);
            promised += reserved - held;
        }
        let held = self.blocks.iter().filter(|facts| facts.places > 0).count();
        let cached = self.cached().count();
        let counts = scheduler.block_counts();
        assert_eq!((counts.held, counts.cached), (held, cached), "held and cached blocks");
        assert_eq!(counts.free, self.blocks.len() - held - cached, "free + cached + held = total");
        assert_eq!(counts.promised, promised, "promised blocks");
        assert!(promised <= counts.free + cached, "what is promised can be taken");
        assert_eq!(scheduler.evicted_blocks(), self.evicted, "evicted blocks");
    }

    /// Blocks that nobody holds and that can be found.
    fn cached(&self) -> impl Iterator<Item = &Facts> {
        self.blocks.iter().filter(|facts| facts.is_published && facts.places == 0)
    }

    /// Notes that the rows of one sequence are about to be written: blocks they begin are taken, and no block that another
    /// reads is written to.
    pub(crate) fn note_planned(
        &mut self,
        id: RequestId,
        chain: &[u64],
        plan: &StepPlan,
        sequence: usize,
        rows: Rows,
    ) {
        let first = rows.start.max(plan.kv_write_from[sequence] as usize);
        for position in first..rows.end {
            let block = plan.block_table(sequence)[position / BLOCK_SLOTS];
            if position % BLOCK_SLOTS == 0 {
                self.take(id, block);
            }
            let facts = &self.blocks[block as usize];
            assert_eq!(
                facts.places, 1,
                "request {id} writes position {position} to block {block} that others read"
            );
            assert!(!facts.is_published, "request {id} writes position {position} to cached block {block}");
            let slot = if position == first { position % BLOCK_SLOTS } else { 0 };
            let before = &chain[position - slot..position];
            assert_eq!(&facts.chain[..slot], before, "request {id}: block {block} below position {position}");
        }
    }

    /// Notes that the rows of one sequence are written.
    pub(crate) fn note_written(&mut self, chain: &[u64], plan: &StepPlan, sequence: usize, rows: Rows) {
        let first = rows.start.max(plan.kv_write_from[sequence] as usize);
        for (position, &name) in chain.iter().enumerate().take(rows.end).skip(first) {
            let facts = &mut self.blocks[plan.block_table(sequence)[position / BLOCK_SLOTS] as usize];
            facts.chain[position % BLOCK_SLOTS] = name;
            facts.written = position % BLOCK_SLOTS + 1;
        }
    }

    /// Notes that others may find a sequence's blocks, all written, unless they find others of the same prefix.
    pub(crate) fn note_published(&mut self, blocks: &[u32]) {
        for &block in blocks.iter().filter(|_| self.has_cache) {
            let facts = &mut self.blocks[block as usize];
            assert_eq!(facts.written, BLOCK_SLOTS, "block {block} is complete");
            self.published.entry(facts.chain[BLOCK_SLOTS - 1]).or_insert_with(|| {
                facts.is_published = true;
                block
            });
        }
    }

    /// Notes that nobody finds these blocks any more.
    pub(crate) fn note_unpublished(&mut self, blocks: &[u32]) {
        blocks.iter().for_each(|&block| self.unpublish(block));
    }

    /// Notes that nobody finds any block any more.
    pub(crate) fn note_cleared(&mut self, scheduler: &Scheduler) {
        (0..self.blocks.len() as u32).for_each(|block| self.unpublish(block));
        self.evicted = scheduler.evicted_blocks();
    }

    /// A block is taken for new content. If it was cached, nobody used any other cached block longer ago.
    fn take(&mut self, id: RequestId, block: u32) {
        let Facts { is_published, left_at, .. } = self.blocks[block as usize];
        if is_published {
            self.evicted += 1;
            self.unpublish(block);
            let oldest =
                self.cached().map(|facts| facts.left_at.max(facts.found_at)).min().unwrap_or(left_at);
            assert!(
                left_at <= oldest,
                "request {id} evicts block {block}, left at {left_at}; oldest at {oldest}"
            );
        }
        self.blocks[block as usize].written = 0;
    }

    fn unpublish(&mut self, block: u32) {
        let facts = &mut self.blocks[block as usize];
        if std::mem::take(&mut facts.is_published) {
            let name = facts.chain[BLOCK_SLOTS - 1];
            let found = self.published.remove(&name);
            assert_eq!(found, Some(block), "a published block is found by its name");
        }
    }
}

/// Positions of one sequence's rows in a step.
pub(crate) type Rows = std::ops::Range<usize>;
