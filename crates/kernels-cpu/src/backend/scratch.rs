//! Memory that kernels need beside buffers, allocated when a program is compiled.

// Threads borrow disjoint parts.
#![allow(unsafe_code)]

use sostenuto_ops::{BufferId, DeviceError, Op, Precision, Program, Registry, WeightId, WeightSpec};

use super::weight::is_packed;

use crate::kernel::attention::scratch_len;
use crate::kernel::moe::{DOWN_ROWS, Routing};
use crate::kernel::pack::blocks;
use crate::kernel::packed::expanded_len;
use crate::kernel::panel::PANEL_SUMS;
use crate::kv::Geometry;
use crate::memory::{Memory, Parts};
use crate::simd::{BLOCK, Int8Block};

/// Scratch of a backend, enough for every program it has compiled.
#[derive(Default)]
pub(super) struct Scratch {
    /// Packed activations of the op at hand.
    pub(super) packed: Memory<f32>,
    /// Activations of the op at hand rounded to int8.
    pub(super) int8: Memory<Int8Block>,
    /// Which rows chose which experts.
    pub(super) routing: Routing,
    /// Of each thread, one after another.
    pub(super) threads: Memory<f32>,
    /// f32 of each thread.
    pub(super) per_thread: usize,
    /// Decoded rows, of each thread one after another.
    pub(super) expanded: Memory<u8>,
    /// Bytes of them of each thread.
    pub(super) expanded_per_thread: usize,
    /// Products of a panel, of each thread one after another.
    pub(super) sums: Memory<f32>,
}

/// Elements of each kind that a program needs, or one op of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// f32.
    packed: usize,
    /// Int8 blocks.
    int8: usize,
    choices: usize,
    experts: usize,
    /// f32, a multiple of a cache line: threads' parts start on different ones.
    per_thread: usize,
    /// Bytes of decoded rows of each thread.
    expanded: usize,
    /// f32 of a panel's products of each thread.
    sums: usize,
}

impl Need {
    /// What a checked program needs: the most of any op.
    pub(super) fn of(program: &Program, registry: &Registry, precision: Precision) -> Self {
        let lookup = Lookup { registry, precision };
        program.iter().fold(Self::default(), |need, op| need.max(lookup.need(op)))
    }

    fn max(self, other: Self) -> Self {
        Self {
            packed: self.packed.max(other.packed),
            int8: self.int8.max(other.int8),
            choices: self.choices.max(other.choices),
            experts: self.experts.max(other.experts),
            per_thread: self.per_thread.max(other.per_thread),
            expanded: self.expanded.max(other.expanded),
            sums: self.sums.max(other.sums),
        }
    }

    /// Size in bytes of a fresh scratch after [`Scratch::reserve`].
    pub(super) fn bytes(&self, threads: usize) -> usize {
        Memory::<f32>::planned_bytes(self.packed)
            + Memory::<Int8Block>::planned_bytes(self.int8)
            + Memory::<f32>::planned_bytes(self.per_thread * threads)
            + Memory::<u8>::planned_bytes(self.expanded * threads)
            + Memory::<f32>::planned_bytes(self.sums * threads)
            + Routing::planned_bytes(self.choices, self.experts)
    }
}

impl Scratch {
    /// Grows to what a program needs.
    pub(super) fn reserve(&mut self, need: Need, threads: usize) -> Result<(), DeviceError> {
        if need.int8 > self.int8.len() {
            self.int8 = Memory::zeroed(need.int8, "int8 activations")?;
        }
        if need.packed > self.packed.len() {
            self.packed = Memory::zeroed(need.packed, "packed activations")?;
        }
        if need.per_thread > self.per_thread {
            self.threads = Memory::zeroed(need.per_thread * threads, "scratch of the threads")?;
            self.per_thread = need.per_thread;
        }
        if need.expanded > self.expanded_per_thread {
            self.expanded = Memory::zeroed(need.expanded * threads, "decoded rows of the threads")?;
            self.expanded_per_thread = need.expanded;
        }
        if need.sums * threads > self.sums.len() {
            self.sums = Memory::zeroed(need.sums * threads, "products of the threads")?;
        }
        self.routing.reserve(need.choices, need.experts);
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.packed.bytes()
            + self.int8.bytes()
            + self.threads.bytes()
            + self.expanded.bytes()
            + self.sums.bytes()
            + self.routing.bytes()
    }
}

/// What an expert product needs beside its inputs.
pub(super) struct ExpertScratch<'a> {
    pub(super) routing: &'a Routing,
    pub(super) products: PerThread<'a, f32>,
    pub(super) expanded: PerThread<'a, u8>,
    pub(super) sums: PerThread<'a, f32>,
}

/// A part of memory for each thread.
pub(super) struct PerThread<'a, T> {
    parts: Parts<'a, T>,
    size: usize,
}

impl<'a, T> PerThread<'a, T> {
    pub(super) fn new(memory: &'a mut [T], size: usize) -> Self {
        Self { parts: Parts::new(memory), size }
    }

    /// # Safety
    /// No other borrow of the thread's part may live at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn of(&self, thread: usize) -> &'a mut [T] {
        // SAFETY: the caller's.
        unsafe { self.parts.get(thread * self.size..(thread + 1) * self.size) }
    }
}

impl Scratch {
    /// For experts as stored: `blocks` blocks of inputs, and the rest.
    pub(super) fn exact_experts(&mut self, blocks: usize) -> (&[[f32; BLOCK]], ExpertScratch<'_>) {
        let Self { packed, routing, threads, per_thread, expanded, sums, .. } = self;
        let products = PerThread::new(threads, *per_thread);
        let (expanded, sums) = (PerThread::new(&mut expanded[..0], 0), PerThread::new(sums, PANEL_SUMS));
        (&packed.as_chunks::<BLOCK>().0[..blocks], ExpertScratch { routing, products, expanded, sums })
    }

    /// The same for packed experts.
    pub(super) fn packed_experts(&mut self, blocks: usize) -> (&[Int8Block], ExpertScratch<'_>) {
        let Self { int8, routing, threads, per_thread, expanded, expanded_per_thread, sums, .. } = self;
        let products = PerThread::new(threads, *per_thread);
        let (expanded, sums) =
            (PerThread::new(expanded, *expanded_per_thread), PerThread::new(sums, PANEL_SUMS));
        (&int8[..blocks], ExpertScratch { routing, products, expanded, sums })
    }
}

struct Lookup<'a> {
    registry: &'a Registry,
    precision: Precision,
}

impl Lookup<'_> {
    fn need(&self, op: &Op) -> Need {
        match *op {
            Op::Linear { input, weight, .. } => {
                let (rows, width) = self.buffer(input);
                let need = Need { sums: PANEL_SUMS, ..Need::default() };
                match is_packed(self.weight(weight), self.precision) {
                    true => Need { int8: rows * blocks(width), ..need },
                    false => Need { packed: rows * blocks(width) * BLOCK, ..need },
                }
            }
            Op::Attention { layer, num_heads, .. } => {
                let (kv, _) = self.registry.kv_layer(op.name(), layer).expect("the program was checked");
                let group = num_heads / kv.num_kv_heads;
                let per_thread = scratch_len(group, &Geometry::new(kv)).next_multiple_of(BLOCK);
                Need { per_thread, ..Need::default() }
            }
            Op::MoeGateUp { input, experts, weight, .. } => self.experts(input, experts, weight),
            Op::MoeDown { input, experts, weight, .. } => {
                let need = self.experts(input, experts, weight);
                Need { per_thread: (need.choices * DOWN_ROWS).next_multiple_of(BLOCK), ..need }
            }
            _ => Need::default(),
        }
    }

    /// Of either expert product: its input packed, or rounded to int8, and the routing.
    fn experts(&self, input: BufferId, experts: BufferId, weight: WeightId) -> Need {
        let ((rows, width), (choices, k)) = (self.buffer(input), self.buffer(experts));
        let spec = self.weight(weight);
        let need = Need { choices: choices * k, experts: spec.experts, sums: PANEL_SUMS, ..Need::default() };
        match is_packed(spec, self.precision) {
            true => {
                Need { int8: rows * blocks(width), expanded: expanded_len(blocks(spec.in_features)), ..need }
            }
            false => Need { packed: rows * width, ..need },
        }
    }

    fn weight(&self, id: WeightId) -> &WeightSpec {
        self.registry.weight("compile", id).expect("the program was checked")
    }

    /// Rows and width.
    fn buffer(&self, id: BufferId) -> (usize, usize) {
        let spec = self.registry.buffer("compile", id).expect("the program was checked");
        (spec.rows, spec.width)
    }
}
