//! Storage of a weight.

// Tasks write disjoint panels.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::MmapMut;
use sostenuto_formats::SharedBytes;
use sostenuto_ops::{DeviceError, Precision, WeightData, WeightFormat, WeightSpec};

use crate::isa::{Isa, Witness};
use crate::kernel::packed::{E2m1, GROUP_ROWS, Int8, Layout};
use crate::kernel::repack::{PackInt8, PackMxfp4};
use crate::memory::{self, LARGE_PAGE, Parts};
use crate::numa::Nodes;
use crate::pool::Pool;
use crate::simd::BLOCK;
#[cfg(target_arch = "x86_64")]
use crate::simd::amx::Amx;

/// A weight's bytes: as stored, or packed into panels, never both.
pub(super) struct Weight {
    pub(super) spec: WeightSpec,
    storage: Storage,
}

enum Storage {
    /// A bf16 matrix that comes in pieces of whole rows (query, key and value projections of some checkpoints) stays in
    /// pieces, so that it is not held twice; any other weight is in one.
    Stored {
        /// At least one.
        pieces: Vec<SharedBytes>,
        /// Empty for bf16.
        scales: SharedBytes,
    },
    Packed {
        /// The panels of each expert, one after another.
        panels: MmapMut,
        /// Whether all weights are normal numbers in bf16 (or zeros), so that tiles can multiply them.
        #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
        are_normal: bool,
    },
}

/// Consecutive rows of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    /// Its first row in the matrix.
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) bytes: &'a [u8],
}

/// How a weight is held and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As stored, with f32 activations.
    Stored,
    /// In packed panels, with activations rounded to int8.
    Int8,
    /// In packed panels, with activations rounded to integers that suit tiles too.
    Int9,
}

impl Form {
    pub(super) fn of(spec: &WeightSpec, precision: Precision, witness: Witness) -> Self {
        match (is_packed(spec, precision), witness.isa()) {
            (false, _) => Self::Stored,
            (true, Isa::Amx) => Self::Int9,
            (true, _) => Self::Int8,
        }
    }
}

/// Whether a weight is held in packed panels.
pub(super) fn is_packed(spec: &WeightSpec, precision: Precision) -> bool {
    precision == Precision::Fast && (spec.format == WeightFormat::Mxfp4 || spec.may_round)
}

/// Where things lie in a packed weight's matrix, of each expert.
fn layout(spec: &WeightSpec) -> Layout {
    match spec.format {
        WeightFormat::Bf16 => Layout::new::<Int8>(spec.out_features, spec.in_features),
        WeightFormat::Mxfp4 => Layout::new::<E2m1>(spec.out_features, spec.in_features),
    }
}

impl Weight {
    /// Takes a checked weight over: packs it, or keeps it where it lies and joins pieces where it must.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] where memory for the packed weight or a joined copy can't be had.
    pub(super) fn new(
        spec: WeightSpec,
        data: WeightData,
        precision: Precision,
        shared: (Witness, &mut Pool, &Nodes),
    ) -> Result<Self, DeviceError> {
        let row_bytes = 2 * spec.in_features;
        let is_matrix = spec.format == WeightFormat::Bf16 && spec.experts == 1 && spec.out_features > 1;
        let whole_rows = |piece: &SharedBytes| !piece.is_empty() && piece.len().is_multiple_of(row_bytes);
        let pieces = match is_matrix && data.values.iter().all(whole_rows) {
            true => data.values,
            false => vec![joined(data.values, &spec.name)?],
        };
        let scales = joined(data.scales, &spec.name)?;
        let stored = Self { storage: Storage::Stored { pieces, scales }, spec };
        if is_packed(&stored.spec, precision) { stored.packed(shared) } else { Ok(stored) }
    }

    /// The same weight in panels.
    fn packed(self, (witness, pool, nodes): (Witness, &mut Pool, &Nodes)) -> Result<Self, DeviceError> {
        let layout = layout(&self.spec);
        let needed = self.spec.experts * layout.bytes();
        let mut memory = memory::pages(needed, &self.spec.name)?;
        nodes.spread(&mut memory);
        let panels = Parts::new(&mut memory);
        let are_normal = AtomicBool::new(true);
        let count = self.spec.experts * layout.panels;
        let panels_per_task = LARGE_PAGE.div_ceil(layout.panel).min(count.div_ceil(pool.threads())).max(1);
        let region = |task: usize, _: usize| {
            for i in task * panels_per_task..count.min((task + 1) * panels_per_task) {
                // SAFETY: each task has its own panels.
                let panel = unsafe { panels.get(i * layout.panel..(i + 1) * layout.panel) };
                if !self.pack_panel(witness, &layout, i, panel) {
                    are_normal.store(false, Ordering::Relaxed);
                }
            }
        };
        pool.run(count.div_ceil(panels_per_task), &region);
        let are_normal = are_normal.into_inner();
        Ok(Self { spec: self.spec, storage: Storage::Packed { panels: memory, are_normal } })
    }

    /// The i-th panel, counted over all experts; whether its weights are all normal numbers.
    fn pack_panel(&self, witness: Witness, layout: &Layout, i: usize, panel: &mut [u8]) -> bool {
        let (expert, first) = (i / layout.panels, i % layout.panels * GROUP_ROWS);
        let rows = first..self.spec.out_features.min(first + GROUP_ROWS);
        match self.spec.format {
            WeightFormat::Mxfp4 => {
                let blocks = |row| (expert * self.spec.out_features + row) * layout.blocks;
                let range = blocks(rows.start)..blocks(rows.end);
                let codes = &self.values()[range.start * BLOCK / 2..range.end * BLOCK / 2];
                witness.run(PackMxfp4 { codes, scales: &self.scales()[range], layout, panel })
            }
            WeightFormat::Bf16 => {
                let mut bytes: [&[u8]; GROUP_ROWS] = [&[]; GROUP_ROWS];
                for (bytes, row) in bytes.iter_mut().zip(rows.clone()) {
                    *bytes = self.row(row);
                }
                let powers = witness.isa() == Isa::Amx;
                witness.run(PackInt8 { rows: &bytes[..rows.len()], powers, layout, panel });
                true
            }
        }
    }

    /// Size in bytes.
    pub(super) fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Stored { pieces, scales } => {
                pieces.iter().map(|piece| piece.len()).sum::<usize>() + scales.len()
            }
            Storage::Packed { panels, .. } => panels.len(),
        }
    }

    /// Size in bytes of a weight, before there is one.
    pub(super) fn planned_bytes(spec: &WeightSpec, precision: Precision) -> usize {
        if is_packed(spec, precision) { spec.experts * layout(spec).bytes() } else { spec.bytes() }
    }

    /// The panels of all experts of a packed weight.
    pub(super) fn panels(&self) -> &[u8] {
        match &self.storage {
            Storage::Stored { .. } => unreachable!("{} is stored as it came", self.spec.name),
            Storage::Packed { panels, .. } => panels,
        }
    }

    /// The tiles that can multiply it, if there are any.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn tiles(&self, witness: Witness) -> Option<Amx> {
        match (&self.storage, witness) {
            (Storage::Packed { are_normal: true, .. }, Witness::Amx(amx)) => Some(amx),
            _ => None,
        }
    }

    fn pieces(&self) -> &[SharedBytes] {
        match &self.storage {
            Storage::Stored { pieces, .. } => pieces,
            Storage::Packed { .. } => unreachable!("{} is packed", self.spec.name),
        }
    }

    /// The values of a weight that is no bf16 matrix.
    pub(super) fn values(&self) -> &[u8] {
        assert_eq!(self.pieces().len(), 1, "{} is in one piece", self.spec.name);
        &self.pieces()[0]
    }

    /// The E8M0 scales of a weight as stored.
    pub(super) fn scales(&self) -> &[u8] {
        match &self.storage {
            Storage::Stored { scales, .. } => scales,
            Storage::Packed { .. } => unreachable!("{} is packed", self.spec.name),
        }
    }

    /// The rows of a bf16 matrix, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Piece<'_>> + Clone {
        let row_bytes = 2 * self.spec.in_features;
        self.pieces().iter().scan(0, move |next, bytes| {
            let (first, rows) = (*next, bytes.len() / row_bytes);
            *next += rows;
            Some(Piece { first, rows, bytes })
        })
    }

    /// One row of a bf16 matrix.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        let row_bytes = 2 * self.spec.in_features;
        let piece = self.rows().find(|piece| row < piece.first + piece.rows).expect("a row of the matrix");
        &piece.bytes[(row - piece.first) * row_bytes..(row + 1 - piece.first) * row_bytes]
    }
}

/// The one piece, shared; or a copy of all of them, one after another.
fn joined(mut pieces: Vec<SharedBytes>, name: &str) -> Result<SharedBytes, DeviceError> {
    if pieces.len() == 1 {
        return Ok(pieces.remove(0));
    }
    let needed = pieces.iter().map(|piece| piece.len()).sum();
    let mut bytes = Vec::new();
    let out_of_memory = |_| DeviceError::OutOfMemory { what: name.to_owned(), needed };
    bytes.try_reserve_exact(needed).map_err(out_of_memory)?;
    pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    Ok(SharedBytes::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: &[u8]) -> SharedBytes {
        SharedBytes::from_vec(bytes.to_vec())
    }

    fn weight(spec: WeightSpec, values: &[SharedBytes]) -> Weight {
        let data = WeightData { values: values.to_vec(), scales: Vec::new() };
        let nodes = Nodes::detect();
        let shared = (Witness::new(Isa::Scalar).unwrap(), &mut Pool::new(1, &nodes).unwrap(), &nodes);
        Weight::new(spec, data, Precision::Fast, shared).unwrap()
    }

    #[test]
    fn matrix_in_pieces_of_whole_rows_is_used_where_it_lies() {
        let pieces = [piece(&[1, 2, 3, 4]), piece(&[5, 6, 7, 8, 9, 10, 11, 12])];
        let matrix = weight(WeightSpec::matrix("w", 3, 2), &pieces);
        let places: Vec<_> =
            matrix.rows().map(|piece| (piece.first, piece.rows, piece.bytes.as_ptr())).collect();
        assert_eq!(places, [(0, 1, pieces[0].as_ptr()), (1, 2, pieces[1].as_ptr())]);
        assert_eq!(
            [matrix.row(0), matrix.row(1), matrix.row(2)],
            [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
        );
        assert_eq!(matrix.bytes(), 12);
    }

    #[test]
    fn weight_of_many_tasks_is_packed_panel_by_panel() {
        let witness = Witness::new(Isa::best()).unwrap();
        let nodes = Nodes::detect();
        let (experts, rows, columns) = (3, 1_000, 3_104);
        let mut state = 1_u32;
        let mut bytes = |len: usize| {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            SharedBytes::from_vec((0..len).map(next).collect())
        };
        let blocks = experts * rows * columns / BLOCK;
        let matrix = WeightSpec::product("matrix", rows, columns);
        let experts = WeightSpec { format: WeightFormat::Mxfp4, experts, ..matrix.clone() };
        for (spec, values, scales) in [
            (experts, bytes(blocks * BLOCK / 2), vec![bytes(blocks)]),
            (matrix, bytes(2 * rows * columns), Vec::new()),
        ] {
            let data = WeightData { values: vec![values.clone()], scales: scales.clone() };
            let layout = layout(&spec);
            let scales = scales.into_iter().next().unwrap_or_else(|| SharedBytes::from_vec(Vec::new()));
            let stored = Storage::Stored { pieces: vec![values], scales };
            let stored = Weight { spec: spec.clone(), storage: stored };
            let shared = (witness, &mut Pool::new(2, &nodes).unwrap(), &nodes);
            let packed = Weight::new(spec, data, Precision::Fast, shared).unwrap();
            assert!(packed.panels().len() > LARGE_PAGE + LARGE_PAGE / 2, "more than one task");
            for (i, got) in packed.panels().chunks(layout.panel).enumerate() {
                let mut panel = vec![7; layout.panel];
                stored.pack_panel(witness, &layout, i, &mut panel);
                assert!(got == panel, "panel {i} of {}", stored.spec.name);
            }
        }
    }

    #[test]
    fn other_pieces_are_joined_in_order() {
        let pieces = [piece(&[1, 2]), piece(&[3, 4, 5, 6, 7, 8])];
        assert_eq!(weight(WeightSpec::matrix("w", 2, 2), &pieces).values(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(weight(WeightSpec::vector("w", 4), &pieces).values(), [1, 2, 3, 4, 5, 6, 7, 8]);
        let one = weight(WeightSpec::vector("w", 1), &pieces[..1]);
        assert_eq!(one.values().as_ptr(), pieces[0].as_ptr());
    }
}
