//! Matrices packed in panels of 16 rows, multiplied with activations rounded to integers.
//!
//! A panel holds the scales of its rows, then their codes, block by block. In a block the rows lie side by side: four
//! bytes of the first, four of the second and so on to the sixteenth, then the next four of the first. So a vector of
//! weights has a row in each of its 32-bit lanes, one multiply-add instruction takes four elements of every row, and
//! what an instruction set has for broadcasting four bytes brings the activations.

// Codes and scales are read at addresses within the panels.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use crate::isa::Witness;
use crate::kernel::matrix::{Experts, Matrix};
use crate::kernel::pack::Rounded;
use crate::kernel::panel::{FEW_TOKENS, PANEL_ROWS, Panel, TASK_ROWS};
use crate::simd::int8::{E2M1_OFFSET, INT8_OFFSET, IntegerBlock, QUAD, QUADS};
use crate::simd::{BLOCK, Kernel, Simd};

/// Rows of a panel.
pub(crate) const GROUP_ROWS: usize = 16;

/// Rows of activations in a panel.
const INTEGER_TOKENS: usize = 64;

/// Bytes of a quad of all rows of a panel.
const QUAD_BYTES: usize = GROUP_ROWS * QUAD;

/// Pairs of quads in a block.
const PAIRS: usize = QUADS / 2;

/// Vectors of rows in a tile.
const TILE_VECTORS: usize = 2;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// How far ahead of their use weights are asked for where memory is what is waited for, in bytes.
pub(crate) const AHEAD: usize = 4096;

/// How codes and scales are stored and multiplied.
pub(crate) trait Format: Copy + Send + Sync + 'static {
    /// Bytes of the codes of a block of 16 rows.
    const CODE_BYTES: usize;
    /// Bytes of a scale.
    const SCALE_BYTES: usize;
    /// What the bytes of weights have too much.
    const OFFSET: i32;
    /// What stands for one unit of a weight's byte.
    const UNIT: f32;

    /// The two quads of a pair, for the lanes of a vector.
    ///
    /// # Safety
    /// `codes` is where the vector's first lane's codes lie in a block.
    unsafe fn quads<S: Simd>(s: S, codes: *const u8, pair: usize) -> [S::Bytes; 2];

    /// The scales of the lanes.
    ///
    /// # Safety
    /// `scales` is where the vector's first lane's scale of a block lies.
    unsafe fn scales<S: Simd>(s: S, scales: *const u8) -> S::F32;

    /// What a sum starts with.
    fn start<S: Simd>(s: S, offset: i32) -> S::Int;

    /// `sum + w · x`.
    fn dot<S: Simd>(s: S, sum: S::Int, w: S::Bytes, x: [i8; QUAD]) -> S::Int;
}

/// 8 bits with a bf16 scale per 32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int8;

/// MXFP4, two codes a byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct E2m1;

/// MXFP4, decoded to a byte each.
#[derive(Clone, Copy, Debug)]
struct E2m1Bytes;

impl Format for Int8 {
    const CODE_BYTES: usize = GROUP_ROWS * BLOCK;
    const SCALE_BYTES: usize = 2;
    const OFFSET: i32 = INT8_OFFSET;
    const UNIT: f32 = 1.0;

    #[inline(always)]
    unsafe fn quads<S: Simd>(s: S, codes: *const u8, pair: usize) -> [S::Bytes; 2] {
        // SAFETY: a block has eight quads of 16 rows; the caller vouches for the block.
        unsafe { byte_quads(s, codes, pair) }
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(s: S, scales: *const u8) -> S::F32 {
        // SAFETY: a block has 16 scales at an even address; the caller vouches for it.
        s.load_bf16(unsafe { std::slice::from_raw_parts(scales.cast(), S::LANES) })
    }

    #[inline(always)]
    fn start<S: Simd>(s: S, offset: i32) -> S::Int {
        s.start_int8(offset)
    }

    #[inline(always)]
    fn dot<S: Simd>(s: S, sum: S::Int, w: S::Bytes, x: [i8; QUAD]) -> S::Int {
        s.dot_int8(sum, w, x)
    }
}

impl Format for E2m1 {
    const CODE_BYTES: usize = GROUP_ROWS * BLOCK / 2;
    const SCALE_BYTES: usize = 1;
    const OFFSET: i32 = E2M1_OFFSET;
    const UNIT: f32 = 0.5;

    #[inline(always)]
    unsafe fn quads<S: Simd>(s: S, codes: *const u8, pair: usize) -> [S::Bytes; 2] {
        // SAFETY: a block has four pairs of quads of 16 rows; the caller vouches for the block.
        s.e2m1_pairs(unsafe { s.load_bytes(codes.add(pair * QUAD_BYTES)) })
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(s: S, scales: *const u8) -> S::F32 {
        // SAFETY: a block has 16 scales; the caller vouches for it.
        s.load_e8m0(unsafe { std::slice::from_raw_parts(scales, S::LANES) })
    }

    #[inline(always)]
    fn start<S: Simd>(s: S, offset: i32) -> S::Int {
        s.splat_int(offset)
    }

    #[inline(always)]
    fn dot<S: Simd>(s: S, sum: S::Int, w: S::Bytes, x: [i8; QUAD]) -> S::Int {
        s.dot_e2m1(sum, w, x)
    }
}

impl Format for E2m1Bytes {
    const CODE_BYTES: usize = GROUP_ROWS * BLOCK;
    const SCALE_BYTES: usize = E2m1::SCALE_BYTES;
    const OFFSET: i32 = E2m1::OFFSET;
    const UNIT: f32 = E2m1::UNIT;

    #[inline(always)]
    unsafe fn quads<S: Simd>(s: S, codes: *const u8, pair: usize) -> [S::Bytes; 2] {
        // SAFETY: a block has eight quads of 16 rows; the caller vouches for the block.
        unsafe { byte_quads(s, codes, pair) }
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(s: S, scales: *const u8) -> S::F32 {
        // SAFETY: the caller vouches as for `E2m1`.
        unsafe { E2m1::scales(s, scales) }
    }

    #[inline(always)]
    fn start<S: Simd>(s: S, offset: i32) -> S::Int {
        E2m1::start(s, offset)
    }

    #[inline(always)]
    fn dot<S: Simd>(s: S, sum: S::Int, w: S::Bytes, x: [i8; QUAD]) -> S::Int {
        E2m1::dot(s, sum, w, x)
    }
}

/// The two quads of a pair where every code is a byte.
///
/// # Safety
/// As for [`Format::quads`].
#[inline(always)]
unsafe fn byte_quads<S: Simd>(s: S, codes: *const u8, pair: usize) -> [S::Bytes; 2] {
    // SAFETY: the caller's.
    unsafe {
        let codes = codes.add(2 * pair * QUAD_BYTES);
        [s.load_bytes(codes), s.load_bytes(codes.add(QUAD_BYTES))]
    }
}

/// Where things lie in a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Blocks of a row.
    pub(crate) blocks: usize,
    /// Bytes of a panel's scales, up to the cache line on which its codes start.
    pub(crate) scales: usize,
    /// Bytes of a panel.
    pub(crate) panel: usize,
    /// Panels.
    pub(crate) panels: usize,
}

impl Layout {
    /// Of a matrix `[rows, columns]`.
    pub(crate) fn new<F: Format>(rows: usize, columns: usize) -> Self {
        let blocks = columns.div_ceil(BLOCK);
        let scales = (blocks * GROUP_ROWS * F::SCALE_BYTES).next_multiple_of(64);
        let panel = scales + blocks * F::CODE_BYTES;
        Self { blocks, scales, panel, panels: rows.div_ceil(GROUP_ROWS) }
    }

    /// Bytes of the matrix.
    pub(crate) fn bytes(&self) -> usize {
        self.panels * self.panel
    }
}

/// Bytes of [`Panel::expanded`] for a packed MXFP4 matrix with rows of `blocks` blocks.
pub(crate) fn expanded_len(blocks: usize) -> usize {
    TILE_VECTORS * blocks * E2m1Bytes::CODE_BYTES
}

/// A packed matrix that is multiplied with activations of type X.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a, F, X> {
    bytes: &'a [u8],
    pub(crate) rows: usize,
    pub(crate) layout: Layout,
    types: PhantomData<fn(X) -> F>,
}

impl<'a, F: Format, X: IntegerBlock> Packed<'a, F, X> {
    /// A matrix `[rows, columns]`.
    ///
    /// # Panics
    /// If the bytes are not as many as its layout says, or do not start on an even address.
    pub(crate) fn new(bytes: &'a [u8], rows: usize, columns: usize) -> Self {
        let layout = Layout::new::<F>(rows, columns);
        assert_eq!(bytes.len(), layout.bytes(), "the bytes of a packed matrix");
        assert!(bytes.as_ptr().cast::<u16>().is_aligned(), "scales at even addresses");
        Self { bytes, rows, layout, types: PhantomData }
    }

    /// Scales and codes of a panel of 16 rows.
    #[inline(always)]
    pub(crate) fn panel(&self, panel: usize) -> (&'a [u8], &'a [u8]) {
        let panel = &self.bytes[panel * self.layout.panel..(panel + 1) * self.layout.panel];
        panel.split_at(self.layout.scales)
    }

    /// Where the lanes of V vectors from `row` on have their scales and codes.
    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(&self, row: usize) -> Vectors<V> {
        let bytes = V * S::LANES * self.layout.panel / GROUP_ROWS;
        let next = self.bytes.as_ptr().wrapping_add(row / GROUP_ROWS * self.layout.panel + bytes);
        let null = [std::ptr::null(); V];
        let mut vectors = Vectors { scales: null, codes: null, next, next_bytes: bytes };
        for v in 0..V {
            let row = row + v * S::LANES;
            let (panel, lane) = (row / GROUP_ROWS, row % GROUP_ROWS);
            let (scales, codes) = self.panel(panel);
            vectors.scales[v] = scales[lane * F::SCALE_BYTES..].as_ptr();
            vectors.codes[v] = codes[lane * QUAD..].as_ptr();
        }
        vectors
    }

    /// V vectors of rows with all tokens.
    #[inline(always)]
    fn strip<S: Simd, const V: usize>(&self, s: S, (row, place): (usize, usize), panel: &mut Panel<'_, X>) {
        // SAFETY: the vectors are of this format and matrix.
        unsafe { tiles::<S, F, X, V>(s, self.layout.blocks, self.vectors::<S, V>(row), place, panel) }
    }
}

/// Where the lanes of V vectors have their scales and codes in their first block.
#[derive(Clone, Copy)]
struct Vectors<const V: usize> {
    scales: [*const u8; V],
    codes: [*const u8; V],
    /// Where the weights lie that are multiplied next, and how many bytes of them.
    next: *const u8,
    next_bytes: usize,
}

impl<X: Rounded> Matrix for Packed<'_, Int8, X> {
    type Activation = X;
    type Packing = X::Rounding;
    const TOKENS: usize = INTEGER_TOKENS;

    #[inline(always)]
    fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn blocks(&self) -> usize {
        self.layout.blocks
    }

    fn packing(&self) -> X::Rounding {
        X::rounding(Int8::UNIT, Int8::OFFSET)
    }

    #[inline(always)]
    fn multiply<S: Simd>(&self, s: S, rows: Range<usize>, panel: &mut Panel<'_, X>) {
        let mut strips = Strips::new::<S>(rows);
        while let Some((row, place, is_pair)) = strips.next::<S>() {
            if is_pair {
                self.strip::<S, TILE_VECTORS>(s, (row, place), panel);
            } else {
                self.strip::<S, 1>(s, (row, place), panel);
            }
        }
    }
}

impl<X: Rounded> Matrix for Packed<'_, E2m1, X> {
    type Activation = X;
    type Packing = X::Rounding;
    const TOKENS: usize = INTEGER_TOKENS;

    #[inline(always)]
    fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn blocks(&self) -> usize {
        self.layout.blocks
    }

    fn packing(&self) -> X::Rounding {
        X::rounding(E2m1::UNIT, E2m1::OFFSET)
    }

    /// Few tokens are multiplied with codes that are decoded in registers; for more, a strip's rows are decoded once.
    #[inline(always)]
    fn multiply<S: Simd>(&self, s: S, rows: Range<usize>, panel: &mut Panel<'_, X>) {
        let mut strips = Strips::new::<S>(rows);
        let expand = panel.tokens > FEW_TOKENS;
        while let Some((row, place, is_pair)) = strips.next::<S>() {
            match (expand, is_pair) {
                (false, true) => self.strip::<S, TILE_VECTORS>(s, (row, place), panel),
                (false, false) => self.strip::<S, 1>(s, (row, place), panel),
                (true, true) => self.expanded_strip::<S, TILE_VECTORS>(s, (row, place), panel),
                (true, false) => self.expanded_strip::<S, 1>(s, (row, place), panel),
            }
        }
    }
}

/// Goes through rows in steps of two vectors, and of one at the end.
struct Strips {
    row: usize,
    end: usize,
    place: usize,
}

impl Strips {
    #[inline(always)]
    fn new<S: Simd>(rows: Range<usize>) -> Self {
        assert!(rows.start.is_multiple_of(GROUP_ROWS), "rows start on a panel");
        Self { row: rows.start, end: rows.end.next_multiple_of(GROUP_ROWS), place: 0 }
    }

    /// Row, its place, and whether there are two vectors.
    #[inline(always)]
    fn next<S: Simd>(&mut self) -> Option<(usize, usize, bool)> {
        if self.row >= self.end {
            return None;
        }
        let (row, place) = (self.row, self.place);
        let is_pair = self.row + TILE_VECTORS * S::LANES <= self.end;
        let step = if is_pair { TILE_VECTORS * S::LANES } else { S::LANES };
        self.row += step;
        self.place += step;
        Some((row, place, is_pair))
    }
}

impl<X: IntegerBlock> Packed<'_, E2m1, X> {
    /// Decodes V vectors of rows to bytes and multiplies these with all tokens.
    #[inline(always)]
    fn expanded_strip<S: Simd, const V: usize>(
        &self,
        s: S,
        (row, place): (usize, usize),
        panel: &mut Panel<'_, X>,
    ) {
        let blocks = self.layout.blocks;
        let size = blocks * E2m1Bytes::CODE_BYTES;
        assert!(panel.expanded.len() >= V * size, "room for the decoded rows");
        let mut vectors = self.vectors::<S, V>(row);
        for (v, codes) in vectors.codes.iter_mut().enumerate() {
            let lane = v * S::LANES;
            let rows = &mut panel.expanded[lane / GROUP_ROWS * size..(lane / GROUP_ROWS + 1) * size];
            let expanded = rows[lane % GROUP_ROWS * QUAD..].as_mut_ptr();
            for i in 0..blocks * PAIRS {
                // SAFETY: the codes are those of whole blocks, and there is room for twice as many bytes; quads of a
                // vector have the same stride in both.
                unsafe {
                    let [first, second] = E2m1::quads(s, *codes, i);
                    s.store_bytes(first, expanded.add(2 * i * QUAD_BYTES));
                    s.store_bytes(second, expanded.add((2 * i + 1) * QUAD_BYTES));
                }
            }
            *codes = expanded;
        }
        // SAFETY: scales as in the matrix, and codes as bytes.
        unsafe { tiles::<S, E2m1Bytes, X, V>(s, blocks, vectors, place, panel) }
    }
}

/// V vectors of rows with all tokens, in tiles of at most 6 tokens (3 where there are 8 lanes and so fewer registers).
/// Large tiles ask for the weights of the next rows meanwhile.
///
/// # Safety
/// The vectors are of the format, with `blocks` blocks.
#[inline(always)]
unsafe fn tiles<S: Simd, F: Format, X: IntegerBlock, const V: usize>(
    s: S,
    blocks: usize,
    vectors: Vectors<V>,
    place: usize,
    panel: &mut Panel<'_, X>,
) {
    let tokens = panel.tokens;
    let most = if S::LANES == 16 { 6 } else { 3 };
    let count = tokens.div_ceil(most);
    let ahead = vectors.next_bytes.div_ceil(LINE * count * blocks);
    for i in 0..count {
        let (first, end) = (i * tokens / count, (i + 1) * tokens / count);
        let next = vectors.next.wrapping_add(i * ahead * LINE * blocks);
        let vectors = Vectors { next, next_bytes: ahead * LINE, ..vectors };
        // SAFETY: the caller's.
        unsafe {
            match end - first {
                1 => tile::<S, F, X, V, 1>(s, blocks, vectors, (first, place), panel),
                2 => tile::<S, F, X, V, 2>(s, blocks, vectors, (first, place), panel),
                3 => tile::<S, F, X, V, 3>(s, blocks, vectors, (first, place), panel),
                4 => tile::<S, F, X, V, 4>(s, blocks, vectors, (first, place), panel),
                5 => tile::<S, F, X, V, 5>(s, blocks, vectors, (first, place), panel),
                6 => tile::<S, F, X, V, 6>(s, blocks, vectors, (first, place), panel),
                _ => unreachable!("at most 6 tokens"),
            }
        }
    }
}

/// V vectors of rows with T tokens: the integer sums of a block in registers, then times the scales to the f32 sums.
///
/// # Safety
/// As for [`tiles`].
// Counted loops over small arrays stay in registers.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn tile<S: Simd, F: Format, X: IntegerBlock, const V: usize, const T: usize>(
    s: S,
    blocks: usize,
    vectors: Vectors<V>,
    (token, place): (usize, usize),
    panel: &mut Panel<'_, X>,
) {
    let mut inputs = [std::ptr::null::<X>(); T];
    let rows = panel.inputs[token * blocks..(token + T) * blocks].chunks_exact(blocks);
    for (pointer, row) in inputs.iter_mut().zip(rows) {
        *pointer = row.as_ptr();
    }
    let mut sums = [[s.splat(0.0); T]; V];
    for block in 0..blocks {
        if T > FEW_TOKENS {
            for line in (0..vectors.next_bytes).step_by(LINE) {
                s.prefetch(vectors.next.wrapping_add(block * vectors.next_bytes + line));
            }
        }
        let mut ints = [[s.splat_int(0); T]; V];
        for t in 0..T {
            // SAFETY: every input has `blocks` blocks.
            let start = F::start(s, unsafe { (*inputs[t].add(block)).offset() });
            for ints in &mut ints {
                ints[t] = start;
            }
        }
        for pair in 0..PAIRS {
            let mut weights = [[s.zero_bytes(); 2]; V];
            for v in 0..V {
                // SAFETY: a block of the vector.
                weights[v] = unsafe { F::quads(s, vectors.codes[v].add(block * F::CODE_BYTES), pair) };
                if T <= FEW_TOKENS {
                    let at = block * F::CODE_BYTES + pair * (F::CODE_BYTES / PAIRS) + AHEAD;
                    s.prefetch(vectors.codes[v].wrapping_add(at));
                    if F::CODE_BYTES / PAIRS > 64 {
                        s.prefetch(vectors.codes[v].wrapping_add(at + 64));
                    }
                }
            }
            for half in 0..2 {
                for t in 0..T {
                    for part in 0..X::PARTS {
                        // SAFETY: every input has `blocks` blocks.
                        let x = unsafe { (*inputs[t].add(block)).quad(part, 2 * pair + half) };
                        for v in 0..V {
                            ints[v][t] = F::dot(s, ints[v][t], weights[v][half], x);
                        }
                    }
                }
            }
        }
        for v in 0..V {
            // SAFETY: a block of the vector.
            let scales = unsafe { F::scales(s, vectors.scales[v].add(block * GROUP_ROWS * F::SCALE_BYTES)) };
            for t in 0..T {
                // SAFETY: every input has `blocks` blocks.
                let scale = s.mul(scales, s.splat(unsafe { (*inputs[t].add(block)).scale() }));
                sums[v][t] = s.mul_add(s.to_f32(ints[v][t]), scale, sums[v][t]);
            }
        }
    }
    for v in 0..V {
        for t in 0..T {
            let at = (token + t) * PANEL_ROWS + place + v * S::LANES;
            s.store(sums[v][t], &mut panel.sums[at..at + S::LANES]);
        }
    }
}

/// Packed MXFP4 matrices of all experts that are multiplied with activations of type X.
#[derive(Clone, Copy)]
pub(crate) struct PackedExperts<'a, X> {
    bytes: &'a [u8],
    pub(crate) out_features: usize,
    in_features: usize,
    activations: PhantomData<fn(X)>,
}

impl<'a, X> PackedExperts<'a, X> {
    /// Matrices `[out_features, in_features]`, one after another.
    pub(crate) fn new(bytes: &'a [u8], out_features: usize, in_features: usize) -> Self {
        Self { bytes, out_features, in_features, activations: PhantomData }
    }
}

impl<'a, X: Rounded> Experts for PackedExperts<'a, X> {
    type Expert = Packed<'a, E2m1, X>;
    const TASK_ROWS: usize = TASK_ROWS;

    fn expert(&self, expert: usize) -> Packed<'a, E2m1, X> {
        let size = Layout::new::<E2m1>(self.out_features, self.in_features).bytes();
        Packed::new(&self.bytes[expert * size..(expert + 1) * size], self.out_features, self.in_features)
    }

    fn out_features(&self) -> usize {
        self.out_features
    }

    #[inline]
    fn run<K: Kernel>(&self, witness: Witness, kernel: K) -> K::Output {
        witness.run_int8(kernel)
    }
}
