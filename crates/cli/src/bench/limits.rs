//! What this machine allows: the ceilings that `bench` holds its results against.

use sostenuto_formats::ModelConfig;
use sostenuto_ops::KvDtype;

use super::bandwidth;
use super::peak::Peaks;
use super::traffic::DenseFormat;
use crate::memory;
use crate::plan::roofline::{Roofline, Speed};

/// Bytes read for the bandwidth at most: far beyond the largest caches.
const MAX_PROBE_BYTES: usize = 4 << 30;

/// Measured in the same run as the results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Bytes per second that all threads together read from memory.
    pub(crate) bandwidth: f64,
    /// Operations per second in registers.
    pub(crate) peaks: Peaks,
}

impl Machine {
    /// Measures with `threads` threads, for a model of `weight_bytes`: large models are held against reads of much memory,
    /// as far as it is there.
    pub(crate) fn measure(threads: usize, weight_bytes: u64) -> Machine {
        let available = memory::available_to_this_process().map_or(0, |available| available.bytes / 4);
        let most = (available as usize).clamp(bandwidth::PROBE_BYTES, MAX_PROBE_BYTES);
        let probe_bytes = (weight_bytes as usize).clamp(bandwidth::PROBE_BYTES, most);
        Machine { bandwidth: bandwidth::measure(threads, probe_bytes), peaks: Peaks::measure(threads) }
    }

    /// Limits of a model: bytes at the bandwidth or operations at the peak, whichever takes longer. Dense weights count
    /// with 8 bits whatever the mode, and all operations as the fastest kind.
    pub(crate) fn limits<'a>(&self, config: &'a ModelConfig, kv_dtype: KvDtype) -> Roofline<'a> {
        let peak = self.peaks.best().unwrap_or(f64::INFINITY);
        let speed = Speed {
            bandwidth: self.bandwidth,
            bandwidth_efficiency: 1.0,
            dense_flops: peak,
            expert_flops: peak,
            compute_efficiency: 1.0,
        };
        Roofline { config, kv_dtype, dense: DenseFormat::EightBit, speed }
    }
}
