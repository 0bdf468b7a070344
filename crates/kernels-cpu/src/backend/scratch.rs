//! Memory that kernels need beside buffers, allocated when a program is compiled.

// Threads borrow disjoint parts.
#![allow(unsafe_code)]

use sostenuto_ops::{
    BufferId, DeviceError, KV_BLOCK_SLOTS, KvDtype, Op, Precision, Program, Registry, WeightId, WeightSpec,
};

use super::attention::{attention_tiles, most_split_rows};
use super::weight::Form;
use crate::isa::Witness;
use crate::kernel::attention;
#[cfg(target_arch = "x86_64")]
use crate::kernel::attention_tiled;
use crate::kernel::moe::Routing;
use crate::kernel::pack::blocks;
use crate::kernel::packed::expanded_len;
use crate::kernel::panel::{PANEL_SUMS, PanelScratch, expanded_tiles};
use crate::kernel::pieces::{MOST_PIECES, PIECE, record_len};
use crate::kv::Geometry;
use crate::memory::{Memory, Number, Parts};
use crate::pool::Pool;
use crate::simd::BLOCK;
use crate::simd::int8::{Int8Block, Int9Block};

/// Scratch of a backend, enough for every program it has compiled.
#[derive(Default)]
pub(super) struct Scratch {
    /// Activations of the op at hand, as its product takes them.
    pub(super) activations: Memory<u8>,
    /// Which rows chose which experts.
    pub(super) routing: Routing,
    /// Products of the experts, a row for each choice in the order of the routing.
    pub(super) products: Memory<f32>,
    /// Of each thread, one after another.
    pub(super) threads: Memory<f32>,
    /// f32 of each thread.
    pub(super) per_thread: usize,
    /// Results of attention's pieces.
    pub(super) records: Memory<f32>,
    /// Decoded rows, of each thread one after another.
    expanded: Memory<u8>,
    /// Bytes of them of each thread.
    expanded_per_thread: usize,
    /// Products of a panel, of each thread one after another.
    sums: Memory<f32>,
}

/// Elements of each kind that a program needs, or one op of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Bytes of packed activations.
    activations: usize,
    choices: usize,
    experts: usize,
    /// f32.
    products: usize,
    /// f32, a multiple of a cache line: threads' parts start on different ones.
    per_thread: usize,
    /// f32 of attention's pieces.
    records: usize,
    /// Bytes of decoded rows of each thread.
    expanded: usize,
    /// f32 of a panel's products of each thread.
    sums: usize,
}

impl Need {
    /// What a checked program needs: the most of any op.
    pub(super) fn of(
        program: &Program,
        registry: &Registry,
        (precision, witness): (Precision, Witness),
        threads: usize,
    ) -> Self {
        let lookup = Lookup { registry, precision, witness, threads };
        program.iter().fold(Self::default(), |need, op| need.max(lookup.need(op)))
    }

    fn max(self, other: Self) -> Self {
        Self {
            activations: self.activations.max(other.activations),
            choices: self.choices.max(other.choices),
            experts: self.experts.max(other.experts),
            products: self.products.max(other.products),
            per_thread: self.per_thread.max(other.per_thread),
            records: self.records.max(other.records),
            expanded: self.expanded.max(other.expanded),
            sums: self.sums.max(other.sums),
        }
    }

    /// Size in bytes of a fresh scratch after [`Scratch::reserve`].
    pub(super) fn bytes(&self, threads: usize) -> usize {
        Memory::<u8>::planned_bytes(self.activations)
            + Memory::<f32>::planned_bytes(self.products)
            + Memory::<f32>::planned_bytes(self.per_thread * threads)
            + Memory::<f32>::planned_bytes(self.records)
            + Memory::<u8>::planned_bytes(self.expanded * threads)
            + Memory::<f32>::planned_bytes(self.sums * threads)
            + Routing::planned_bytes(self.choices, self.experts)
    }
}

/// Makes a memory longer where it is too short.
fn grow<T: Number>(
    memory: &mut Memory<T>,
    len: usize,
    what: &str,
    pool: &mut Pool,
) -> Result<(), DeviceError> {
    if len > memory.len() {
        *memory = Memory::zeroed(len, what, pool)?;
    }
    Ok(())
}

impl Scratch {
    /// Grows to what a program needs.
    pub(super) fn reserve(&mut self, need: Need, pool: &mut Pool) -> Result<(), DeviceError> {
        let threads = pool.threads();
        grow(&mut self.activations, need.activations, "packed activations", pool)?;
        grow(&mut self.products, need.products, "products of the experts", pool)?;
        self.per_thread = self.per_thread.max(need.per_thread);
        grow(&mut self.threads, self.per_thread * threads, "scratch of the threads", pool)?;
        grow(&mut self.records, need.records, "results of attention's pieces", pool)?;
        self.expanded_per_thread = self.expanded_per_thread.max(need.expanded);
        grow(&mut self.expanded, self.expanded_per_thread * threads, "decoded rows of the threads", pool)?;
        grow(&mut self.sums, need.sums * threads, "products of the threads", pool)?;
        self.routing.reserve(need.choices, need.experts);
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.activations.bytes()
            + self.products.bytes()
            + self.threads.bytes()
            + self.records.bytes()
            + self.expanded.bytes()
            + self.sums.bytes()
            + self.routing.bytes()
    }

    /// What a product uses: its `blocks` blocks of activations, the routing, the experts' products, and the threads' rooms
    /// for panels.
    pub(super) fn of_product<B: Number>(
        &mut self,
        blocks: usize,
    ) -> (&[B], &Routing, &mut [f32], PanelRooms<'_>) {
        let expanded = PerThread::new(&mut self.expanded, self.expanded_per_thread);
        let rooms = PanelRooms { sums: PerThread::new(&mut self.sums, PANEL_SUMS), expanded };
        (self.activations.view(blocks), &self.routing, &mut self.products, rooms)
    }
}

/// A room for panels for each thread.
pub(super) struct PanelRooms<'a> {
    sums: PerThread<'a, f32>,
    expanded: PerThread<'a, u8>,
}

impl<'a> PanelRooms<'a> {
    /// # Safety
    /// No other borrow of the thread's room may live at the same time.
    pub(super) unsafe fn of(&self, thread: usize) -> PanelScratch<'a> {
        // SAFETY: the caller's.
        unsafe { PanelScratch { sums: self.sums.of(thread), expanded: self.expanded.of(thread) } }
    }
}

/// A part of memory for each thread.
struct PerThread<'a, T> {
    parts: Parts<'a, T>,
    size: usize,
}

impl<'a, T> PerThread<'a, T> {
    fn new(memory: &'a mut [T], size: usize) -> Self {
        Self { parts: Parts::new(memory), size }
    }

    /// # Safety
    /// No other borrow of the thread's part may live at the same time.
    #[allow(clippy::mut_from_ref)]
    unsafe fn of(&self, thread: usize) -> &'a mut [T] {
        // SAFETY: the caller's.
        unsafe { self.parts.get(thread * self.size..(thread + 1) * self.size) }
    }
}

/// f32 that attention needs.
#[cfg(target_arch = "x86_64")]
fn attention_len(group: usize, geometry: &Geometry, is_tiled: bool) -> usize {
    match is_tiled {
        true => attention_tiled::scratch_len(group, geometry),
        false => attention::scratch_len(group, geometry),
    }
}

/// f32 that attention needs, which has no tiles here.
#[cfg(not(target_arch = "x86_64"))]
fn attention_len(group: usize, geometry: &Geometry, _: bool) -> usize {
    attention::scratch_len(group, geometry)
}

struct Lookup<'a> {
    registry: &'a Registry,
    precision: Precision,
    witness: Witness,
    threads: usize,
}

impl Lookup<'_> {
    fn need(&self, op: &Op) -> Need {
        match *op {
            Op::Linear { input, weight, .. } => {
                let (rows, width) = self.buffer(input);
                self.product(self.weight(weight), rows * blocks(width))
            }
            Op::Attention { layer, num_heads, out, .. } => {
                let (kv, _) = self.registry.kv_layer(op.name(), layer).expect("the program was checked");
                let group = num_heads / kv.num_kv_heads;
                let geometry = Geometry::new(kv);
                let is_tiled = kv.dtype == KvDtype::Bf16
                    && attention_tiles(self.witness, self.precision, &geometry).is_some();
                let per_thread = attention_len(group, &geometry, is_tiled).next_multiple_of(BLOCK);
                let pieces = (kv.num_blocks * KV_BLOCK_SLOTS).div_ceil(PIECE).min(MOST_PIECES);
                let rows = self.buffer(out).0.min(most_split_rows(kv.num_kv_heads, self.threads));
                let records = rows * pieces * num_heads * record_len(&geometry);
                Need { per_thread, records, ..Need::default() }
            }
            Op::MoeGateUp { experts, weight, .. } => self.experts(experts, weight),
            Op::MoeDown { experts, weight, .. } => {
                let need = self.experts(experts, weight);
                Need { products: need.choices * self.weight(weight).out_features, ..need }
            }
            _ => Need::default(),
        }
    }

    /// Of either expert product: an input for each choice, and the routing.
    fn experts(&self, experts: BufferId, weight: WeightId) -> Need {
        let ((rows, k), spec) = (self.buffer(experts), self.weight(weight));
        let need = self.product(spec, rows * k * blocks(spec.in_features));
        Need { choices: rows * k, experts: spec.experts, ..need }
    }

    /// Of a product with so many blocks of activations.
    fn product(&self, spec: &WeightSpec, inputs: usize) -> Need {
        let need = Need { sums: PANEL_SUMS, ..Need::default() };
        let expanded = expanded_len(blocks(spec.in_features));
        match Form::of(spec, self.precision, self.witness) {
            Form::Stored => Need { activations: inputs * size_of::<[f32; BLOCK]>(), ..need },
            Form::Int8 => Need { activations: inputs * size_of::<Int8Block>(), expanded, ..need },
            Form::Int9 => {
                let activations = inputs * size_of::<Int9Block>();
                Need { activations, expanded: expanded.max(expanded_tiles(blocks(spec.in_features))), ..need }
            }
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
