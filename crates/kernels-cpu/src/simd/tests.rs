//! Each wrapper against its scalar meaning, on every instruction set of this processor.

// Bytes are loaded from arrays.
#![allow(unsafe_code)]

use sostenuto_formats::codes::{bf16_to_f32, decode_mx_block, e2m1_to_f32, e8m0_to_f32};

use super::*;
use crate::isa::{Isa, Witness};

/// Numbers of many sizes and both signs.
fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..len).map(|_| (next() as f32 / u32::MAX as f32 - 0.5) * 2f32.powi(next() as i32 % 12)).collect()
}

fn on_every_isa<K: Kernel<Output = ()> + Copy>(kernel: K) {
    for isa in Isa::ALL {
        match Witness::new(isa) {
            Some(witness) => {
                witness.run(kernel);
                witness.run_int8(kernel);
            }
            None => println!("skipped on {}: this processor lacks it", isa.name()),
        }
    }
}

fn lanes<S: Simd>(s: S, vector: S::F32) -> Vec<f32> {
    let mut values = vec![0.0; S::LANES];
    s.store(vector, &mut values);
    values
}

#[derive(Clone, Copy)]
struct Arithmetic;

impl Kernel for Arithmetic {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (a, b, c) = (numbers(1, S::LANES), numbers(2, S::LANES), numbers(3, S::LANES));
        let (va, vb, vc) = (s.load(&a), s.load(&b), s.load(&c));
        for i in 0..S::LANES {
            assert_eq!(lanes(s, s.splat(a[i])), vec![a[i]; S::LANES]);
            assert_eq!(lanes(s, s.add(va, vb))[i], a[i] + b[i]);
            assert_eq!(lanes(s, s.sub(va, vb))[i], a[i] - b[i]);
            assert_eq!(lanes(s, s.mul(va, vb))[i], a[i] * b[i]);
            assert_eq!(lanes(s, s.div(va, vb))[i], a[i] / b[i]);
            let fused = lanes(s, s.mul_add(va, vb, vc))[i];
            assert!(fused == a[i].mul_add(b[i], c[i]) || fused == a[i] * b[i] + c[i]);
            assert_eq!(lanes(s, s.min(va, vb))[i], a[i].min(b[i]));
            assert_eq!(lanes(s, s.max(va, vb))[i], a[i].max(b[i]));
            assert_eq!(lanes(s, s.round(va))[i], a[i].round_ties_even());
        }
        let bytes: Vec<i8> = (0..S::LANES as i8).map(|i| i.wrapping_mul(37).wrapping_add(-128)).collect();
        assert_eq!(lanes(s, s.load_i8(&bytes)), bytes.iter().map(|&b| f32::from(b)).collect::<Vec<_>>());
        let exact: f64 = a.iter().map(|&x| f64::from(x)).sum();
        let size: f32 = a.iter().map(|x| x.abs()).sum();
        assert!((f64::from(s.sum(va)) - exact).abs() < 1e-6 * f64::from(size));
        assert_eq!(s.largest(va), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        for n in -126..=127 {
            assert_eq!(lanes(s, s.pow2(s.splat(n as f32))), vec![2f32.powi(n); S::LANES]);
        }
        for x in [0.5, 1.5, 2.5, -0.5, -1.5, -2.5] {
            assert_eq!(lanes(s, s.round(s.splat(x)))[0], x.round_ties_even());
        }
        let nan = s.splat(f32::NAN);
        assert!(lanes(s, s.min(va, nan)).iter().chain(&lanes(s, s.max(va, nan))).all(|x| x.is_nan()));
        assert_eq!(lanes(s, s.min(nan, va)), a);
        assert_eq!(lanes(s, s.max(nan, va)), a);
    }
}

#[test]
fn arithmetic_is_that_of_scalars() {
    on_every_isa(Arithmetic);
}

#[derive(Clone, Copy)]
struct Transfers;

impl Kernel for Transfers {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let values = numbers(4, S::LANES);
        for len in 0..S::LANES {
            let mut padded = values[..len].to_vec();
            padded.resize(S::LANES, 0.0);
            assert_eq!(lanes(s, s.load_partial(&values[..len])), padded);
            let mut out = vec![7.0; len];
            s.store_partial(s.load(&values), &mut out);
            assert_eq!(out, values[..len]);
        }
        let rows: [[u8; 16]; 4] = std::array::from_fn(|row| std::array::from_fn(|i| (16 * row + i) as u8));
        for (quad, bytes) in s.transpose_quads(rows).iter().enumerate() {
            for (i, &byte) in bytes.iter().enumerate() {
                assert_eq!(byte, rows[i / 4][4 * quad + i % 4], "byte {i} of quad {quad}");
            }
        }
        let halves: Vec<u16> = (0..S::LANES as u16).map(|i| 0x3f80 ^ (i * 0x0813)).collect();
        let widened: Vec<f32> = halves.iter().map(|&bits| bf16_to_f32(bits)).collect();
        assert_eq!(lanes(s, s.load_bf16(&halves)), widened);
    }
}

#[test]
fn loads_and_stores_move_every_lane() {
    on_every_isa(Transfers);
}

/// `w[i]` of a decoded block, by multiplying with the unit vector of packed place `place`.
fn at_place<S: Simd>(s: S, block: S::Block, place: usize) -> f32 {
    let mut x = [0.0; BLOCK];
    x[place] = 1.0;
    lanes(s, s.dot_block(s.splat(0.0), block, &x))[place % S::LANES]
}

#[derive(Clone, Copy)]
struct Blocks;

impl Kernel for Blocks {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut bytes = [0; 2 * BLOCK];
        for (i, pair) in bytes.chunks_exact_mut(2).enumerate() {
            pair.copy_from_slice(&(0x3f81_u16.wrapping_add(i as u16 * 0x0101)).to_le_bytes());
        }
        for (place, &element) in S::BF16_ORDER.iter().enumerate() {
            let i = usize::from(element);
            let want = bf16_to_f32(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]));
            assert_eq!(at_place(s, s.bf16_block(&bytes), place), want);
        }
        // Every pair of codes at every place, and every scale whose products are finite.
        for code in 0..=255u8 {
            let codes: [u8; BLOCK / 2] = std::array::from_fn(|i| code.wrapping_add(i as u8 * 17));
            for scale in [0, 1, code.min(252), 127, 252] {
                let want = decode_mx_block(&codes, scale);
                let block = s.mx_block(&codes, scale);
                for (place, &element) in S::MX_ORDER.iter().enumerate() {
                    assert_eq!(at_place(s, block, place), want[usize::from(element)]);
                }
            }
        }
        let ones = [0x22; BLOCK / 2];
        for scale in 0..=254 {
            assert_eq!(at_place(s, s.mx_block(&ones, scale), 5), e8m0_to_f32(scale));
        }
    }
}

#[test]
fn decoded_blocks_have_every_weight_at_its_place() {
    on_every_isa(Blocks);
}

#[derive(Clone, Copy)]
struct Orders;

impl Kernel for Orders {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for order in [S::BF16_ORDER, S::MX_ORDER] {
            let mut sorted = order;
            sorted.sort_unstable();
            assert!(sorted.iter().enumerate().all(|(i, &element)| i == usize::from(element)));
        }
    }
}

#[test]
fn orders_are_permutations() {
    on_every_isa(Orders);
}

#[derive(Clone, Copy)]
struct Exponentials;

impl Kernel for Exponentials {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut worst: f64 = 0.0;
        for i in -87_300..=88_300 {
            let x = i as f32 / 1000.0 + 1.3e-4;
            let got = f64::from(lanes(s, math::exp(s, s.splat(x)))[0]);
            let want = f64::from(x).exp();
            worst = worst.max((got / want - 1.0).abs());
        }
        assert!(worst < 2.5 / f64::from(1u32 << 24), "relative error {worst:e}");
        assert_eq!(lanes(s, math::exp(s, s.splat(0.0)))[0], 1.0);
        assert!(lanes(s, math::exp(s, s.splat(f32::NAN)))[0].is_nan());
        assert!(lanes(s, math::exp(s, s.splat(-1e30)))[0] < 1.3e-38);
        assert!(lanes(s, math::exp(s, s.splat(1e30)))[0].is_finite());
        assert_eq!(lanes(s, math::sigmoid(s, s.splat(0.0)))[0], 0.5);
        assert_eq!(lanes(s, math::sigmoid(s, s.splat(100.0)))[0], 1.0);
        assert!(lanes(s, math::sigmoid(s, s.splat(-1e30)))[0] < 1e-37);
    }
}

#[test]
fn exponential_is_within_its_error_everywhere() {
    on_every_isa(Exponentials);
}

#[derive(Clone, Copy)]
struct Int8Products;

impl Kernel for Int8Products {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for code in 0..=255u8 {
            let bytes: [u8; 64] = std::array::from_fn(|i| code.wrapping_mul(i as u8 | 1));
            let x: [i8; 4] = std::array::from_fn(|i| {
                [127, -127, (i as u8 ^ code) as i8 / 2, 0][(i + usize::from(code)) % 4]
            });
            let sum: i32 = x.iter().map(|&x| i32::from(x)).sum();
            // SAFETY: 64 bytes.
            let w = unsafe { s.load_bytes(bytes.as_ptr()) };
            let [low, high] = s.e2m1_pairs(w);
            for (half, codes) in [low, high].into_iter().enumerate() {
                let got = lanes(s, s.to_f32(s.dot_e2m1(s.splat_int(-12 * sum), codes, x)));
                for (lane, bytes) in bytes.as_chunks::<4>().0.iter().take(S::LANES).enumerate() {
                    let product =
                        |(&byte, &x): (&u8, &i8)| 2.0 * e2m1_to_f32(byte >> (4 * half) & 15) * f32::from(x);
                    assert_eq!(got[lane], bytes.iter().zip(&x).map(product).sum::<f32>());
                }
            }
            // Bytes of int8 weights are never 0.
            let bytes = bytes.map(|byte| byte.max(1));
            // SAFETY: 64 bytes.
            let w = unsafe { s.load_bytes(bytes.as_ptr()) };
            let got = lanes(s, s.to_f32(s.dot_int8(s.start_int8(-128 * sum), w, x)));
            for (lane, bytes) in bytes.as_chunks::<4>().0.iter().take(S::LANES).enumerate() {
                let product = |(&byte, &x): (&u8, &i8)| (i32::from(byte) - 128) * i32::from(x);
                assert_eq!(got[lane], bytes.iter().zip(&x).map(product).sum::<i32>() as f32);
            }
        }
        for scale in 0..=254 {
            assert_eq!(lanes(s, s.load_e8m0(&[scale; 16]))[0], e8m0_to_f32(scale));
        }
        assert!(!lanes(s, s.load_e8m0(&[255; 16]))[0].is_finite());
    }
}

#[test]
fn int8_products_are_exact_for_every_code_and_scale() {
    on_every_isa(Int8Products);
}
