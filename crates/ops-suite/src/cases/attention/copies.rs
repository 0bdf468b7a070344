//! Copies within the KV store, and rows that leave full layers as they are.

use sostenuto_ops::KvCopy;

use super::{AttentionCase, Row, Session, flatten};
use crate::data::Rng;
use crate::runner::{MakeBackend, assert_bits};

impl AttentionCase {
    /// Every sequence, moved in its midst to another ring by way of a snapshot, or to other blocks by copies, goes on
    /// with the same bits when what it left is overwritten.
    pub(super) fn check_copies(&self, make: MakeBackend<'_>, rows: &[Row]) {
        let mut rng = Rng::new(32);
        for (sequence, &length) in self.lengths.iter().enumerate() {
            let computed = 1 + rng.below(length);
            // The furthest back that a ring still holds the window, and no way back.
            for back in [self.most_rows().min(computed), 0] {
                self.check_move(make, rows, sequence, computed, computed - back);
            }
        }
    }

    /// Computes a sequence up to `computed`, then moves it as it was at `position` and goes on from there.
    fn check_move(
        &self,
        make: MakeBackend<'_>,
        rows: &[Row],
        sequence: usize,
        computed: usize,
        position: usize,
    ) {
        let mut backend = make();
        let session = Session::new(self, &mut *backend);
        session.run(self, &mut *backend, &self.chunks(sequence, 0..computed));
        let mut moved = self.clone();
        let (save, restore) = moved.relocate(sequence, position as u32);
        backend.copy_kv(&save).expect("valid copies");
        session.write_stale_values(self, &mut *backend);
        backend.copy_kv(&restore).expect("valid copies");
        let steps = self.chunks(sequence, position..self.lengths[sequence]);
        let got = session.run(&moved, &mut *backend, &steps);
        let name = format!("{} {sequence} moved at {position} of {computed}", self.name);
        assert_rest(&name, rows, &got);
    }

    /// Gives a sequence the ring that nobody has, or as many blocks. Returns the copies that take along what is kept,
    /// to be run before and after the old place is overwritten.
    fn relocate(&mut self, sequence: usize, position: u32) -> (Vec<KvCopy>, Vec<KvCopy>) {
        if self.window.is_some() {
            let free = (0..self.num_rings() as u32).find(|ring| !self.rings.contains(ring));
            let ring = std::mem::replace(&mut self.rings[sequence], free.expect("a ring is free"));
            let (snapshot, free) = (1, self.rings[sequence]);
            let save = KvCopy::SaveWindow { ring, position, snapshot };
            return (vec![save], vec![KvCopy::RestoreWindow { snapshot, position, ring: free }]);
        }
        let held = self.tables.concat();
        let free = (0..self.num_blocks as u32).filter(|block| !held.contains(block));
        let table = self.tables[sequence].clone();
        self.tables[sequence] = free.take(table.len()).collect();
        let pairs = table.into_iter().zip(&self.tables[sequence]);
        (pairs.map(|(from, &to)| KvCopy::Block { from, to }).collect(), Vec::new())
    }

    /// Rows below `kv_write_from` leave a full layer as it is, rows from there on write it; a sliding layer takes all.
    pub(super) fn check_kv_write_from(&self, make: MakeBackend<'_>, rows: &[Row]) {
        let mut rng = Rng::new(33);
        let mut backend = make();
        let session = Session::new(self, &mut *backend);
        for (sequence, &length) in self.lengths.iter().enumerate() {
            let name = format!("{} {sequence} with kv_write_from", self.name);
            if self.window.is_some() {
                let steps = self.chunks(sequence, 0..length);
                let got = session.run_from(self, &mut *backend, &steps, u32::MAX);
                assert_rest(&name, rows, &got);
                continue;
            }
            let split = rng.below(length);
            let (first, rest) = (self.chunks(sequence, 0..split), self.chunks(sequence, split..length));
            session.run(self, &mut *backend, &first);
            let mut other = self.clone();
            other.qkv[sequence].fill(1e30);
            session.run_from(&other, &mut *backend, &first, split as u32);
            let got = session.run_from(self, &mut *backend, &rest, split as u32);
            assert_rest(&name, rows, &got);
        }
    }
}

/// Compares rows with those of the same positions in `all`.
fn assert_rest(name: &str, all: &[Row], rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let at = all.iter().position(|row| (row.sequence, row.position) == (first.sequence, first.position));
    let at = at.expect("every row was computed");
    assert_bits(name, &flatten(&all[at..at + rows.len()]), &flatten(rows), rows.len());
}
