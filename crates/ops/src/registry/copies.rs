//! Checks of copies within the KV store.

use super::ContractError;
use crate::copy::KvCopy;
use crate::spec::{KvLayerSpec, KvSpec};

/// Checks every copy; without a KV store, or without layers of the kind, there is nothing to copy.
pub(super) fn check(kv: Option<&KvSpec>, copies: &[KvCopy]) -> Result<(), ContractError> {
    let count =
        |kind, count: fn(&KvSpec) -> usize| kv.filter(|spec| spec.layers.contains(&kind)).map_or(0, count);
    let blocks = count(KvLayerSpec::Full, |spec| spec.num_blocks);
    let rings = count(KvLayerSpec::Sliding, |spec| spec.num_rings);
    let snapshots = count(KvLayerSpec::Sliding, |spec| spec.num_snapshots);
    for (index, copy) in copies.iter().enumerate() {
        match *copy {
            KvCopy::Block { from, to } => {
                below(index, "block", from, blocks)?;
                below(index, "block", to, blocks)?;
                if from == to {
                    return Err(ContractError::CopyToItself { index, block: from });
                }
            }
            KvCopy::SaveWindow { ring, snapshot, .. } | KvCopy::RestoreWindow { snapshot, ring, .. } => {
                below(index, "ring", ring, rings)?;
                below(index, "snapshot", snapshot, snapshots)?;
            }
        }
    }
    Ok(())
}

fn below(index: usize, what: &'static str, got: u32, limit: usize) -> Result<(), ContractError> {
    if (got as usize) < limit { Ok(()) } else { Err(ContractError::CopyRange { index, what, got, limit }) }
}
