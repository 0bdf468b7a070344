//! Activations in the order in which decoded weights come.

use crate::simd::{BLOCK, Kernel, Simd};

/// Blocks of a row of `len` elements.
pub(crate) fn blocks(len: usize) -> usize {
    len.div_ceil(BLOCK)
}

/// Which weights the activations are packed for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Bf16,
    Mx,
}

/// `out[b][i] = row[32·b + order[i]]`, zeros beyond the end.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `row` | f32 | `[n]` |
/// | `out` | f32 | `[⌈n/32⌉, 32]` |
///
/// # Numerics
/// Exact.
///
/// # Panics
/// If the lengths do not belong together.
///
/// # Cost
/// Reads and writes the row once.
pub(crate) struct Pack<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) order: Order,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        match self.order {
            Order::Bf16 => permute(self.row, &S::BF16_ORDER, self.out),
            Order::Mx => permute(self.row, &S::MX_ORDER, self.out),
        }
    }
}

#[inline(always)]
fn permute(row: &[f32], order: &[u8; BLOCK], out: &mut [f32]) {
    let (inputs, tail) = row.as_chunks::<BLOCK>();
    let (outputs, rest) = out.as_chunks_mut::<BLOCK>();
    assert!(rest.is_empty() && outputs.len() == blocks(row.len()), "a whole number of blocks");
    for (input, output) in inputs.iter().zip(&mut *outputs) {
        for (value, &element) in output.iter_mut().zip(order) {
            *value = input[usize::from(element)];
        }
    }
    if !tail.is_empty() {
        let output = &mut outputs[inputs.len()];
        for (value, &element) in output.iter_mut().zip(order) {
            *value = tail.get(usize::from(element)).copied().unwrap_or(0.0);
        }
    }
}
