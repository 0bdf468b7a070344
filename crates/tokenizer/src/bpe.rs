//! Byte-pair encoding of one piece: repeatedly merges the adjacent pair of lowest rank, leftmost first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::tokenizer::TokenId;

/// Rank of a merge: lower merges first.
pub(crate) type Rank = u32;

/// A merge rule: given the two neighbours and their joined bytes, the rank and the resulting token.
pub(crate) trait MergeRule {
    fn merge(&self, left: TokenId, right: TokenId, joined: &[u8]) -> Option<(Rank, TokenId)>;
}

/// A run of bytes that is one token so far. Runs form a doubly linked list by index; an empty run was merged away.
#[derive(Clone, Copy)]
struct Symbol {
    id: TokenId,
    start: u32,
    end: u32,
    previous: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// A possible merge of the symbol at `left` with the one after it, valid while both still have these ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: Rank,
    left: u32,
    middle: u32,
    end: u32,
    id: TokenId,
}

/// Encoder with buffers that are reused from piece to piece.
#[derive(Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Appends the ids of `piece` to `into`. `byte_ids` are the tokens of the single bytes.
    ///
    /// # Cost
    /// O(n log n) for n bytes: every merge adds at most two candidates to the queue.
    pub(crate) fn encode(
        &mut self,
        piece: &[u8],
        byte_ids: &[TokenId; 256],
        rule: &impl MergeRule,
        into: &mut Vec<TokenId>,
    ) {
        let len = u32::try_from(piece.len()).expect("a piece is shorter than 4 GiB");
        self.symbols.clear();
        self.queue.clear();
        self.symbols.extend((0..len).map(|i| Symbol {
            id: byte_ids[usize::from(piece[i as usize])],
            start: i,
            end: i + 1,
            previous: if i == 0 { NONE } else { i - 1 },
            next: if i + 1 == len { NONE } else { i + 1 },
        }));
        for left in 0..len {
            self.offer(left, piece, rule);
        }
        while let Some(Reverse(candidate)) = self.queue.pop() {
            if self.is_current(&candidate) {
                self.apply(candidate, piece, rule);
            }
        }
        into.extend(self.symbols.iter().filter(|symbol| symbol.start < symbol.end).map(|symbol| symbol.id));
    }

    /// Queues the merge of `left` with its right neighbour when a rule allows it.
    fn offer(&mut self, left: u32, piece: &[u8], rule: &impl MergeRule) {
        let a = self.symbols[left as usize];
        if a.next == NONE {
            return;
        }
        let b = self.symbols[a.next as usize];
        let joined = &piece[a.start as usize..b.end as usize];
        if let Some((rank, id)) = rule.merge(a.id, b.id, joined) {
            self.queue.push(Reverse(Candidate { rank, left, middle: a.end, end: b.end, id }));
        }
    }

    fn is_current(&self, candidate: &Candidate) -> bool {
        let a = self.symbols[candidate.left as usize];
        a.start < a.end
            && a.end == candidate.middle
            && a.next != NONE
            && self.symbols[a.next as usize].end == candidate.end
    }

    fn apply(&mut self, candidate: Candidate, piece: &[u8], rule: &impl MergeRule) {
        let left = candidate.left as usize;
        let right = self.symbols[left].next as usize;
        let after = self.symbols[right].next;
        self.symbols[right].end = self.symbols[right].start;
        let merged = &mut self.symbols[left];
        merged.id = candidate.id;
        merged.end = candidate.end;
        merged.next = after;
        let previous = merged.previous;
        if after != NONE {
            self.symbols[after as usize].previous = candidate.left;
        }
        if previous != NONE {
            self.offer(previous, piece, rule);
        }
        self.offer(candidate.left, piece, rule);
    }
}
