//! How fast this machine multiplies at best: the ceiling of prefill.

use std::thread;
use std::time::Instant;

use serde::Serialize;
use sostenuto_kernels_cpu::{Product, spin_products};

use super::median;

/// Rounds of a repetition: some hundredths of a second.
const ROUNDS: u64 = 20_000_000;
const REPETITIONS: usize = 5;

/// Operations per second of all threads together, in registers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Peaks {
    /// Of 8-bit integers by VNNI, where the processor has it.
    pub(crate) int8_operations_per_second: Option<f64>,
    /// Of f32 multiply-adds.
    pub(crate) f32_operations_per_second: Option<f64>,
}

impl Peaks {
    /// Medians with `threads` threads.
    pub(crate) fn measure(threads: usize) -> Peaks {
        Peaks {
            int8_operations_per_second: measure(Product::Int8, threads),
            f32_operations_per_second: measure(Product::F32, threads),
        }
    }

    /// The ceiling that prefill is held against: 8-bit products, or f32 ones where there are no others.
    pub(crate) fn best(&self) -> Option<f64> {
        self.int8_operations_per_second.or(self.f32_operations_per_second)
    }
}

fn measure(product: Product, threads: usize) -> Option<f64> {
    let rates: Option<Vec<f64>> = (0..REPETITIONS).map(|_| rate(product, threads)).collect();
    rates.map(|rates| median(&rates))
}

fn rate(product: Product, threads: usize) -> Option<f64> {
    let start = Instant::now();
    let operations: Option<u64> = thread::scope(|scope| {
        let spinning: Vec<_> =
            (0..threads).map(|_| scope.spawn(move || spin_products(product, ROUNDS))).collect();
        spinning.into_iter().map(|thread| thread.join().expect("spinning does not panic")).sum()
    });
    Some(operations? as f64 / start.elapsed().as_secs_f64())
}
