//! How fast this machine's memory can be read: the ceiling of decoding.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use sostenuto_kernels_cpu::stream_sum;

use super::median;

/// Bytes read per repetition, all threads together, where nothing asks for more: beyond most caches of today.
pub(crate) const PROBE_BYTES: usize = 512 << 20;
const REPETITIONS: usize = 5;

/// Median read bandwidth of `threads` threads, each over a part of its own, in bytes per second. `probe_bytes` are allocated for
/// it, and should be far more than the last cache holds.
pub(crate) fn measure(threads: usize, probe_bytes: usize) -> f64 {
    let words_per_thread = probe_bytes / 8 / threads;
    // Written by the threads that read it, so that each part lies near its thread.
    let mut parts: Vec<Vec<u64>> = thread::scope(|scope| {
        let fillers: Vec<_> =
            (0..threads).map(|index| scope.spawn(move || vec![index as u64 + 1; words_per_thread])).collect();
        fillers.into_iter().map(|filler| filler.join().expect("filling a vector does not panic")).collect()
    });
    let rates: Vec<f64> = (0..REPETITIONS).map(|_| read_once(&mut parts)).collect();
    median(&rates)
}

fn read_once(parts: &mut [Vec<u64>]) -> f64 {
    let bytes: usize = parts.iter().map(|part| part.len() * 8).sum();
    let start = Instant::now();
    thread::scope(|scope| {
        for part in parts.iter() {
            scope.spawn(|| black_box(stream_sum(black_box(part))));
        }
    });
    bytes as f64 / start.elapsed().as_secs_f64()
}
