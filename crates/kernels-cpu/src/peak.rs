//! What a processor multiplies and reads at best, for benches to measure against: products that nothing delays, and reads that
//! wait for memory alone.

// Intrinsics, behind runtime detection.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
#[cfg(target_arch = "x86_64")]
use std::hint::black_box;

/// Independent chains of products: enough to hide the latency of one, and few enough that AVX2's sixteen registers hold them
/// and the factors.
const CHAINS: usize = 12;

/// How far ahead of its reads [`stream_sum`] asks for memory, in words: two pages.
#[cfg(target_arch = "x86_64")]
const AHEAD_WORDS: usize = 1024;
/// Words of a cache line.
const LINE_WORDS: usize = 8;

/// The wrapping sum of `words`, read once from first to last as fast as one thread can: every cache line is asked for long
/// before it is read, also across pages.
pub fn stream_sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; LINE_WORDS];
    let (lines, rest) = words.as_chunks::<LINE_WORDS>();
    for line in lines {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: prefetches read nothing, whatever the address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(AHEAD_WORDS).cast())
        };
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().chain(rest).fold(0, |total, word| total.wrapping_add(*word))
}

/// A kind of product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Unsigned by signed 8-bit integers, four to a 32-bit sum (VNNI).
    Int8,
    /// Fused multiply-add of f32.
    F32,
}

/// Runs `rounds` rounds of products in registers, with the widest vectors that the processor has, whatever
/// [`crate::ISA_VARIABLE`] says, and returns how many operations these were; a multiplication and its addition are two.
/// `None` where the processor has no such instruction.
pub fn spin_products(product: Product, rounds: u64) -> Option<u64> {
    let lanes = spin(product, rounds)?;
    Some(rounds * CHAINS as u64 * lanes * 2)
}

/// Products that one instruction makes; other processors than x86-64 are not measured.
#[cfg(not(target_arch = "x86_64"))]
fn spin(_: Product, _: u64) -> Option<u64> {
    None
}

/// Runs the rounds; products that one instruction makes.
#[cfg(target_arch = "x86_64")]
fn spin(product: Product, rounds: u64) -> Option<u64> {
    let has_512 = is_x86_feature_detected!("avx512f");
    match product {
        Product::Int8 if has_512 && is_x86_feature_detected!("avx512vnni") => {
            // SAFETY: detected.
            unsafe { int8_avx512(rounds) };
            Some(64)
        }
        Product::Int8 if is_x86_feature_detected!("avxvnni") => {
            // SAFETY: detected.
            unsafe { int8_avx_vnni(rounds) };
            Some(32)
        }
        Product::Int8 => None,
        Product::F32 if has_512 => {
            // SAFETY: detected.
            unsafe { f32_avx512(rounds) };
            Some(16)
        }
        Product::F32 if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx") => {
            // SAFETY: detected.
            unsafe { f32_fma(rounds) };
            Some(8)
        }
        Product::F32 => None,
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_avx512(rounds: u64) {
    let (a, b) = (black_box(_mm512_set1_epi8(1)), black_box(_mm512_set1_epi8(2)));
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avxvnni")]
fn int8_avx_vnni(rounds: u64) {
    let (a, b) = (black_box(_mm256_set1_epi8(1)), black_box(_mm256_set1_epi8(2)));
    let mut sums = [_mm256_setzero_si256(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_dpbusd_avx_epi32(*sum, a, b);
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn f32_avx512(rounds: u64) {
    let (a, b) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(0.25)));
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(a, b, *sum);
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,fma")]
fn f32_fma(rounds: u64) {
    let (a, b) = (black_box(_mm256_set1_ps(0.5)), black_box(_mm256_set1_ps(0.25)));
    let mut sums = [_mm256_setzero_ps(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(a, b, *sum);
        }
    }
    black_box(sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_sum_counts_every_word() {
        for len in [0, 1, 7, 8, 9, 3000] {
            let words: Vec<u64> = (0..len).map(|i| u64::MAX - i * i).collect();
            let want = words.iter().fold(0u64, |total, word| total.wrapping_add(*word));
            assert_eq!(stream_sum(&words), want, "{len} words");
        }
    }

    #[test]
    fn operations_are_counted_by_vector_width() {
        for product in [Product::Int8, Product::F32] {
            let Some(operations) = spin_products(product, 10) else { continue };
            let bytes = operations / (10 * CHAINS as u64 * 2) * if product == Product::Int8 { 1 } else { 4 };
            assert!(bytes == 32 || bytes == 64, "{product:?}: {bytes} bytes a vector");
        }
    }
}
