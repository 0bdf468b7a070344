//! The reference device: plain loops, memory of its own.
//!
//! It copies every weight, hands out ids only and moves data by explicit transfer, as a device across a bus would, so
//! that what runs on it runs on such a device.
//!
//! # Numerics
//! Activations are f32, as the contract says; inside an op every sum, product, exponential and root is f64, in
//! ascending order of the reduction index, rounded once to f32 where the op writes its result. So each op is the
//! f64 evaluation of its formula to within one rounding, and other devices can be compared with it. KV elements are
//! rounded to the store's type on write. [`Precision::Exact`] is the only mode.
//!
//! # Cost
//! One thread, no SIMD by hand: for tests and for finding faults, not for use.

mod kv;
mod ops;

use crate::backend::{Backend, BackendInfo, DeviceError, DeviceMemory, KernelChoice, Precision};
use crate::copy::KvCopy;
use crate::op::Program;
use crate::registry::{ContractError, Registry, StepLimits};
use crate::spec::{BufferId, BufferKind, BufferSpec, KvSpec, ProgramId, WeightData, WeightId, WeightSpec};
use crate::step::StepInputs;
use kv::KvStore;

/// The kernel of each op.
const KERNELS: [KernelChoice; 10] = [
    KernelChoice { op: "embed", kernel: "f32_bf16w_embed_scalar" },
    KernelChoice { op: "rms_norm", kernel: "f32_bf16w_rms_norm_scalar" },
    KernelChoice { op: "linear", kernel: "f32_bf16w_linear_scalar" },
    KernelChoice { op: "rope_table", kernel: "f32_rope_table_scalar" },
    KernelChoice { op: "rope_kv_write", kernel: "f32_rope_kv_write_scalar" },
    KernelChoice { op: "attention", kernel: "f32_attention_sinks_scalar" },
    KernelChoice { op: "top_k", kernel: "f32_top_k_softmax_scalar" },
    KernelChoice { op: "moe_gate_up_swiglu", kernel: "f32_mf4w_moe_gate_up_swiglu_scalar" },
    KernelChoice { op: "moe_down", kernel: "f32_mf4w_moe_down_scalar" },
    KernelChoice { op: "gather_logit_rows", kernel: "f32_gather_logit_rows_scalar" },
];

/// The reference device. See the module's documentation.
#[derive(Debug, Default)]
pub struct ScalarBackend {
    registry: Registry,
    buffers: Vec<Buffer>,
    weights: Vec<Weight>,
    kv: Option<KvStore>,
    programs: Vec<(Program, StepLimits)>,
    /// f64 room for one attention head's output.
    scratch: Vec<f64>,
}

/// Storage of an activation buffer.
#[derive(Debug)]
enum Buffer {
    F32(Vec<f32>),
    U32(Vec<u32>),
}

/// Storage of a weight: a copy of the host's bytes.
#[derive(Debug)]
struct Weight {
    spec: WeightSpec,
    values: Vec<u8>,
    scales: Vec<u8>,
}

impl ScalarBackend {
    /// A device that holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn f32_buffer(&self, id: BufferId) -> &[f32] {
        match &self.buffers[id.0 as usize] {
            Buffer::F32(values) => values,
            Buffer::U32(_) => unreachable!("the program was checked: an f32 buffer"),
        }
    }

    fn u32_buffer(&self, id: BufferId) -> &[u32] {
        match &self.buffers[id.0 as usize] {
            Buffer::U32(values) => values,
            Buffer::F32(_) => unreachable!("the program was checked: a u32 buffer"),
        }
    }

    /// Takes a buffer's storage out for writing, so that others can be read; [`Self::put`] returns it.
    fn take_f32(&mut self, id: BufferId) -> Vec<f32> {
        match &mut self.buffers[id.0 as usize] {
            Buffer::F32(values) => std::mem::take(values),
            Buffer::U32(_) => unreachable!("the program was checked: an f32 buffer"),
        }
    }

    /// As [`Self::take_f32`], for u32.
    fn take_u32(&mut self, id: BufferId) -> Vec<u32> {
        match &mut self.buffers[id.0 as usize] {
            Buffer::U32(values) => std::mem::take(values),
            Buffer::F32(_) => unreachable!("the program was checked: a u32 buffer"),
        }
    }

    fn put(&mut self, id: BufferId, buffer: Buffer) {
        self.buffers[id.0 as usize] = buffer;
    }

    fn width(&self, id: BufferId) -> usize {
        self.registry.buffer("submit", id).expect("the program was checked: the buffer exists").width
    }

    fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.0 as usize]
    }
}

impl Backend for ScalarBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            name: "scalar",
            device: "reference".to_owned(),
            threads: 1,
            memory_nodes: 1,
            precision: Precision::Exact,
            kernels: KERNELS.to_vec(),
        }
    }

    fn memory(&self) -> DeviceMemory {
        DeviceMemory { scratch: self.scratch.len() * 8, ..self.registry.memory() }
    }

    fn planned_memory(&self, registry: &Registry, program: &Program) -> Result<DeviceMemory, ContractError> {
        registry.check_program(program)?;
        let scratch = registry.kv().map_or(0, |kv| kv.head_dim * 8);
        Ok(DeviceMemory { scratch, ..registry.memory() })
    }

    fn create_buffer(&mut self, spec: BufferSpec) -> Result<BufferId, DeviceError> {
        let (kind, name, elements) = (spec.kind, spec.name, spec.rows * spec.width);
        let id = self.registry.add_buffer(spec)?;
        self.buffers.push(match kind {
            BufferKind::F32 => Buffer::F32(zeroed(elements, name)?),
            BufferKind::U32 => Buffer::U32(zeroed(elements, name)?),
        });
        Ok(id)
    }

    fn keeps_host_bytes(&self, _spec: &WeightSpec) -> bool {
        false
    }

    fn load_weight(&mut self, spec: WeightSpec, data: WeightData) -> Result<WeightId, DeviceError> {
        let id = self.registry.add_weight(spec.clone(), &data)?;
        let values = data.values.iter().flat_map(|piece| piece.iter().copied()).collect();
        let scales = data.scales.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.weights.push(Weight { spec, values, scales });
        Ok(id)
    }

    fn create_kv(&mut self, spec: KvSpec) -> Result<(), DeviceError> {
        self.registry.set_kv(spec.clone())?;
        self.scratch = zeroed(spec.head_dim, "attention scratch")?;
        self.kv = Some(KvStore::new(spec)?);
        Ok(())
    }

    fn compile(&mut self, program: Program) -> Result<ProgramId, DeviceError> {
        let limits = self.registry.check_program(&program)?;
        self.programs.push((program, limits));
        Ok(ProgramId(self.programs.len() as u32 - 1))
    }

    fn submit(&mut self, program: ProgramId, step: &StepInputs<'_>) -> Result<(), DeviceError> {
        let count = self.programs.len();
        let unknown = ContractError::UnknownProgram { id: program, count };
        let (ops, limits) = self.programs.get_mut(program.0 as usize).ok_or(unknown)?;
        limits.check(step)?;
        let ops = std::mem::take(ops);
        for op in &ops {
            self.run(op, step);
        }
        self.programs[program.0 as usize].0 = ops;
        Ok(())
    }

    fn copy_kv(&mut self, copies: &[KvCopy]) -> Result<(), DeviceError> {
        self.registry.check_copies(copies)?;
        let Some(kv) = &mut self.kv else { return Ok(()) };
        copies.iter().for_each(|&copy| kv.copy(copy));
        Ok(())
    }

    fn write(&mut self, buffer: BufferId, first_row: usize, values: &[f32]) -> Result<(), DeviceError> {
        let range = self.registry.check_transfer(buffer, BufferKind::F32, first_row, values.len())?;
        let mut storage = self.take_f32(buffer);
        storage[range].copy_from_slice(values);
        self.put(buffer, Buffer::F32(storage));
        Ok(())
    }

    fn read(&mut self, buffer: BufferId, first_row: usize, values: &mut [f32]) -> Result<(), DeviceError> {
        let range = self.registry.check_transfer(buffer, BufferKind::F32, first_row, values.len())?;
        values.copy_from_slice(&self.f32_buffer(buffer)[range]);
        Ok(())
    }

    fn write_u32(&mut self, buffer: BufferId, first_row: usize, values: &[u32]) -> Result<(), DeviceError> {
        let range = self.registry.check_transfer(buffer, BufferKind::U32, first_row, values.len())?;
        let mut storage = self.take_u32(buffer);
        storage[range].copy_from_slice(values);
        self.put(buffer, Buffer::U32(storage));
        Ok(())
    }

    fn read_u32(
        &mut self,
        buffer: BufferId,
        first_row: usize,
        values: &mut [u32],
    ) -> Result<(), DeviceError> {
        let range = self.registry.check_transfer(buffer, BufferKind::U32, first_row, values.len())?;
        values.copy_from_slice(&self.u32_buffer(buffer)[range]);
        Ok(())
    }
}

/// `len` zeros, or [`DeviceError::OutOfMemory`].
fn zeroed<T: Default + Clone>(len: usize, what: &str) -> Result<Vec<T>, DeviceError> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(len)
        .map_err(|_| DeviceError::OutOfMemory { what: what.to_owned(), needed: len * size_of::<T>() })?;
    values.resize(len, T::default());
    Ok(values)
}
