//! Memory that kernels need beside buffers, allocated when a program is compiled.

use sostenuto_ops::{BufferId, DeviceError, Op, Precision, Program, Registry, WeightId};

use crate::kernel::attention::scratch_len;
use crate::kernel::moe::Routing;
use crate::kernel::pack::blocks;
use crate::kernel::panel::PANEL_ROWS;
use crate::kv::Geometry;
use crate::memory::Memory;
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
}

/// What an op needs.
#[derive(Clone, Copy, Debug, Default)]
struct Need {
    packed: usize,
    /// f32 that are packed for an expert product, or rounded to int8.
    experts_packed: usize,
    choices: usize,
    experts: usize,
    per_thread: usize,
}

impl Scratch {
    /// Grows to what `program` needs; it was checked.
    pub(super) fn reserve(
        &mut self,
        program: &Program,
        registry: &Registry,
        threads: usize,
        precision: Precision,
    ) -> Result<(), DeviceError> {
        let mut need = Need { per_thread: self.per_thread, ..Need::default() };
        for op in program {
            let op = Lookup(registry).need(op);
            need.packed = need.packed.max(op.packed);
            need.experts_packed = need.experts_packed.max(op.experts_packed);
            need.choices = need.choices.max(op.choices);
            need.experts = need.experts.max(op.experts);
            // Threads' parts start on different cache lines.
            need.per_thread = need.per_thread.max(op.per_thread.next_multiple_of(BLOCK));
        }
        match precision {
            Precision::Exact => need.packed = need.packed.max(need.experts_packed),
            Precision::Fast if need.experts_packed / BLOCK > self.int8.len() => {
                self.int8 = Memory::zeroed(need.experts_packed / BLOCK, "int8 activations")?;
            }
            Precision::Fast => {}
        }
        if need.packed > self.packed.len() {
            self.packed = Memory::zeroed(need.packed, "packed activations")?;
        }
        if need.per_thread > self.per_thread {
            self.threads = Memory::zeroed(need.per_thread * threads, "scratch of the threads")?;
            self.per_thread = need.per_thread;
        }
        self.routing.reserve(need.choices, need.experts);
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.packed.bytes() + self.int8.bytes() + self.threads.bytes() + self.routing.bytes()
    }
}

struct Lookup<'a>(&'a Registry);

impl Lookup<'_> {
    fn need(&self, op: &Op) -> Need {
        match *op {
            Op::Linear { input, .. } => {
                let (rows, width) = self.buffer(input);
                Need { packed: rows * blocks(width) * BLOCK, ..Need::default() }
            }
            Op::Attention { layer, num_heads, .. } => {
                let (kv, _) = self.0.kv_layer(op.name(), layer).expect("the program was checked");
                let group = num_heads / kv.num_kv_heads;
                Need { per_thread: scratch_len(group, &Geometry::new(kv)), ..Need::default() }
            }
            Op::MoeGateUp { input, experts, weight, .. } => {
                let ((rows, width), (choices, k)) = (self.buffer(input), self.buffer(experts));
                let experts = self.experts(weight);
                let choices = choices * k;
                Need { experts_packed: rows * width, choices, experts, ..Need::default() }
            }
            Op::MoeDown { input, experts, weight, .. } => {
                let ((rows, width), (choices, k)) = (self.buffer(input), self.buffer(experts));
                let (experts, choices) = (self.experts(weight), choices * k);
                let (experts_packed, per_thread) = (rows * width, choices * PANEL_ROWS);
                Need { experts_packed, choices, experts, per_thread, ..Need::default() }
            }
            _ => Need::default(),
        }
    }

    /// Rows and width.
    fn buffer(&self, id: BufferId) -> (usize, usize) {
        let spec = self.0.buffer("compile", id).expect("the program was checked");
        (spec.rows, spec.width)
    }

    fn experts(&self, id: WeightId) -> usize {
        self.0.weight("compile", id).expect("the program was checked").experts
    }
}
