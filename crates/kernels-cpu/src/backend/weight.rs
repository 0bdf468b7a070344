//! Storage of a weight.

use sostenuto_formats::SharedBytes;
use sostenuto_ops::{DeviceError, WeightData, WeightFormat, WeightSpec};

/// A weight's bytes. A bf16 matrix that comes in pieces of whole rows (query, key and value projections of some
/// checkpoints) stays in pieces, so that it is not held twice; any other weight is in one.
pub(super) struct Weight {
    pub(super) spec: WeightSpec,
    /// At least one.
    pieces: Vec<SharedBytes>,
    /// Empty for bf16.
    pub(super) scales: SharedBytes,
}

/// Consecutive rows of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    /// Its first row in the matrix.
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) bytes: &'a [u8],
}

impl Weight {
    /// Takes a checked weight over; joins pieces where it must.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] where a joined copy can't be had.
    pub(super) fn new(spec: WeightSpec, data: WeightData) -> Result<Self, DeviceError> {
        let row_bytes = 2 * spec.in_features;
        let is_matrix = spec.format == WeightFormat::Bf16 && spec.experts == 1 && spec.out_features > 1;
        let whole_rows = |piece: &SharedBytes| !piece.is_empty() && piece.len().is_multiple_of(row_bytes);
        let pieces = match is_matrix && data.values.iter().all(whole_rows) {
            true => data.values,
            false => vec![joined(data.values, &spec.name)?],
        };
        Ok(Self { scales: joined(data.scales, &spec.name)?, pieces, spec })
    }

    /// Size in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum::<usize>() + self.scales.len()
    }

    /// The values of a weight that is no bf16 matrix.
    pub(super) fn values(&self) -> &[u8] {
        assert_eq!(self.pieces.len(), 1, "{} is in one piece", self.spec.name);
        &self.pieces[0]
    }

    /// The rows of a bf16 matrix, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Piece<'_>> + Clone {
        let row_bytes = 2 * self.spec.in_features;
        self.pieces.iter().scan(0, move |next, bytes| {
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
        Weight::new(spec, WeightData { values: values.to_vec(), scales: Vec::new() }).unwrap()
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
    fn other_pieces_are_joined_in_order() {
        let pieces = [piece(&[1, 2]), piece(&[3, 4, 5, 6, 7, 8])];
        assert_eq!(weight(WeightSpec::matrix("w", 2, 2), &pieces).values(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(weight(WeightSpec::vector("w", 4), &pieces).values(), [1, 2, 3, 4, 5, 6, 7, 8]);
        let one = weight(WeightSpec::vector("w", 1), &pieces[..1]);
        assert_eq!(one.values().as_ptr(), pieces[0].as_ptr());
    }
}
