//! Runs cases and compares.

use std::ops::Range;

use sostenuto_ops::{Backend, BackendInfo};

use crate::cases;

/// Makes a fresh device.
pub type MakeBackend<'a> = &'a dyn Fn() -> Box<dyn Backend>;

/// An output element as the formula has it, and how far a device may be off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) want: f64,
    pub(crate) tolerance: f64,
}

/// Runs rows of a case on a device; gives their output elements.
pub(crate) type RunRows = Box<dyn Fn(&mut dyn Backend, Range<usize>) -> Vec<f32>>;

/// What the formula gives for all rows, and how far a device with these kernels may be off.
pub(crate) type Expect = Box<dyn Fn(&BackendInfo) -> Vec<Bound>>;

/// An op on rows that know nothing of each other.
pub(crate) struct RowCase {
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) run: RunRows,
    pub(crate) expect: Expect,
}

/// Runs every case on devices that `make` makes.
///
/// # Panics
/// At the first element out of tolerance, at the first bit that depends on the other rows of a step, and where an op
/// writes rows it should not. The message names the case, the row and the element.
pub fn run_suite(make: MakeBackend<'_>) {
    for case in cases::row_cases() {
        let all = (case.run)(&mut *make(), 0..case.rows);
        compare(&case.name, &all, &(case.expect)(&make().info()), case.rows);
        for size in [1, 2, 3, 5] {
            if size < case.rows {
                let grouped = in_groups(&case, make, size);
                assert_bits(&format!("{} in groups of {size}", case.name), &all, &grouped, case.rows);
            }
        }
    }
    for case in cases::attention_cases() {
        case.check(make);
    }
}

/// Runs every case on both kinds of devices and compares all bits.
///
/// # Panics
/// At the first difference.
pub fn assert_same_bits(first: MakeBackend<'_>, second: MakeBackend<'_>) {
    for case in cases::row_cases() {
        let one = (case.run)(&mut *first(), 0..case.rows);
        let other = (case.run)(&mut *second(), 0..case.rows);
        assert_bits(&case.name, &one, &other, case.rows);
    }
    for case in cases::attention_cases() {
        let (one, other) = (case.run_whole(first), case.run_whole(second));
        assert_bits(&case.name, &one, &other, case.rows());
    }
}

fn in_groups(case: &RowCase, make: MakeBackend<'_>, size: usize) -> Vec<f32> {
    let mut result = Vec::new();
    let mut backend = make();
    for start in (0..case.rows).step_by(size) {
        result.extend((case.run)(&mut *backend, start..case.rows.min(start + size)));
    }
    result
}

/// Compares a device's elements with the formula's.
pub(crate) fn compare(name: &str, got: &[f32], bounds: &[Bound], rows: usize) {
    assert_eq!(got.len(), bounds.len(), "{name}: number of elements");
    for (i, (&got, bound)) in got.iter().zip(bounds).enumerate() {
        let (row, column) = (i * rows / bounds.len(), i % (bounds.len() / rows));
        let Bound { want, tolerance } = *bound;
        let off = (f64::from(got) - want).abs();
        assert!(
            off <= tolerance,
            "{name}: row {row}, element {column} is {got}, the formula gives {want}: off by {off:e}, tolerance {tolerance:e}"
        );
    }
}

/// Compares the bits of two devices or groupings.
pub(crate) fn assert_bits(name: &str, first: &[f32], second: &[f32], rows: usize) {
    assert_eq!(first.len(), second.len(), "{name}: number of elements");
    for (i, (a, b)) in first.iter().zip(second).enumerate() {
        let (row, column) = (i * rows / first.len(), i % (first.len() / rows));
        assert_eq!(a.to_bits(), b.to_bits(), "{name}: row {row}, element {column}: {a} or {b}");
    }
}
