//! KV memory as the scheduler sees it: numbers of blocks and window snapshots, never their contents.

mod block_pool;
mod prefix_hash;
mod snapshot_pool;

pub use block_pool::{BlockCounts, BlockId, BlockPool};
pub use prefix_hash::PrefixHash;
pub use snapshot_pool::{SnapshotKind, SnapshotPool};
