//! How a key or value element is kept.

use sostenuto_formats::codes::f32_to_bf16;
use sostenuto_ops::{int8_scale, to_int8};

use crate::memory::Number;
use crate::simd::Simd;

/// A type that elements are kept in.
pub(crate) trait Element: Number + Default {
    /// Whether each key head and value head of a slot has a scale of its own, which its elements are multiplied by.
    const SCALED: bool;

    /// Hands each element of a head, with its index, to `put`. Gives their scale, 1 where there is none.
    fn encode(head: &[f32], put: impl FnMut(usize, Self)) -> f32;

    /// Whether it is neither infinite nor NaN; of a scaled element its scale says that.
    fn is_finite(self) -> bool;

    /// The first lanes of `values`, without their scale.
    fn load<S: Simd>(s: S, values: &[Self]) -> S::F32;
}

impl Element for f32 {
    const SCALED: bool = false;

    #[inline(always)]
    fn encode(head: &[f32], mut put: impl FnMut(usize, f32)) -> f32 {
        head.iter().enumerate().for_each(|(i, &value)| put(i, value));
        1.0
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, values: &[f32]) -> S::F32 {
        s.load(values)
    }
}

/// A bf16, by its bits.
impl Element for u16 {
    const SCALED: bool = false;

    #[inline(always)]
    fn encode(head: &[f32], mut put: impl FnMut(usize, u16)) -> f32 {
        head.iter().enumerate().for_each(|(i, &value)| put(i, f32_to_bf16(value)));
        1.0
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        self & 0x7f80 != 0x7f80
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, values: &[u16]) -> S::F32 {
        s.load_bf16(values)
    }
}

impl Element for i8 {
    const SCALED: bool = true;

    #[inline(always)]
    fn encode(head: &[f32], mut put: impl FnMut(usize, i8)) -> f32 {
        let scale = int8_scale(head);
        head.iter().enumerate().for_each(|(i, &value)| put(i, to_int8(value, scale)));
        scale
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        true
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, values: &[i8]) -> S::F32 {
        s.load_i8(values)
    }
}
