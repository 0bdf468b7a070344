//! Copies within the KV store, between steps.

/// A copy within the KV store. Numbers lie below those of [`crate::KvSpec`].
///
/// A device keeps no note of what a ring or a snapshot holds: that the window is there is the caller's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvCopy {
    /// Every full layer's block `from` to block `to`, which is another.
    Block {
        /// Block read.
        from: u32,
        /// Block overwritten.
        to: u32,
    },
    /// The `window - 1` positions before `position` (fewer at a sequence's start) of a ring into a snapshot, in
    /// every sliding layer. The ring must have been written up to `position`, and not beyond
    /// `position + ring_slots - window`: later rows overwrite the window.
    SaveWindow {
        /// Ring read.
        ring: u32,
        /// Position of the row that would come next.
        position: u32,
        /// Snapshot overwritten.
        snapshot: u32,
    },
    /// The reverse: afterwards a row at `position`, and those that follow it, compute in `ring` as if the ring had been
    /// written up to there. `position` is the one that the snapshot was saved with.
    RestoreWindow {
        /// Snapshot read.
        snapshot: u32,
        /// Position of the row that comes next.
        position: u32,
        /// Ring overwritten.
        ring: u32,
    },
}
