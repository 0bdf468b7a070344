//! The CPU backend: what it holds, and how it runs a step.

mod attention;
mod names;
mod run;
mod scratch;
mod weight;

use sostenuto_ops::{
    Backend, BackendInfo, BufferId, BufferKind, BufferSpec, ContractError, DeviceError, DeviceMemory, KvCopy,
    KvDtype, KvSpec, Precision, Program, ProgramId, Registry, StepInputs, StepLimits, WeightData, WeightId,
    WeightSpec,
};

use crate::isa::{CpuError, Isa, Witness};
use crate::kv::{Geometry, KvStore};
use crate::memory::Memory;
use crate::numa::Nodes;
use crate::pool::Pool;
use run::Run;
use scratch::{Need, Scratch};
use weight::{Weight, is_packed};

/// How to run on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Threads, the caller's included.
    pub threads: usize,
    /// Numeric mode.
    pub precision: Precision,
    /// Instruction set; `None` takes what [`crate::ISA_VARIABLE`] says, or else the best there is.
    pub isa: Option<Isa>,
}

impl Default for CpuOptions {
    /// A thread per processor the operating system grants, [`Precision::Fast`], the best instruction set.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, precision: Precision::Fast, isa: None }
    }
}

/// A device in host memory. In [`Precision::Exact`] weights are used where they lie, as far as their pieces allow; in
/// [`Precision::Fast`] those of large products are packed as they are loaded, and what they were packed from is let go.
pub struct CpuBackend {
    witness: Witness,
    precision: Precision,
    pool: Pool,
    nodes: Nodes,
    registry: Registry,
    buffers: Vec<Buffer>,
    weights: Vec<Weight>,
    kv: Option<KvStore>,
    programs: Vec<(Program, StepLimits)>,
    scratch: Scratch,
}

/// Storage of an activation buffer.
enum Buffer {
    F32(Memory<f32>),
    U32(Memory<u32>),
}

impl CpuBackend {
    /// Starts the threads and chooses the kernels.
    ///
    /// # Errors
    /// [`CpuError`] where the instruction set is missing or the threads can't be had.
    pub fn new(options: CpuOptions) -> Result<Self, CpuError> {
        let asked = match options.isa {
            Some(isa) => Some(isa),
            None => Isa::from_environment()?,
        };
        let isa = asked.unwrap_or_else(Isa::best);
        let missing = CpuError::IsaMissing { asked: isa.name(), best: Isa::best().name() };
        let nodes = Nodes::detect();
        Ok(Self {
            witness: Witness::new(isa).ok_or(missing)?,
            precision: options.precision,
            pool: Pool::new(options.threads, &nodes)?,
            nodes,
            registry: Registry::new(),
            buffers: Vec::new(),
            weights: Vec::new(),
            kv: None,
            programs: Vec::new(),
            scratch: Scratch::default(),
        })
    }

    /// Whether attention goes by tiles of AMX: over bf16, which the KV store holds if there is none yet.
    fn attends_by_tiles(&self) -> bool {
        let kv = self.registry.kv();
        let is_bf16 = kv.is_none_or(|kv| kv.dtype == KvDtype::Bf16);
        let fits = |kv: &KvSpec| {
            attention::attention_tiles(self.witness, self.precision, &Geometry::new(kv)).is_some()
        };
        is_bf16 && kv.is_none_or(fits)
    }

    fn f32_mut(&mut self, id: BufferId) -> &mut Memory<f32> {
        match &mut self.buffers[id.0 as usize] {
            Buffer::F32(values) => values,
            Buffer::U32(_) => unreachable!("the transfer was checked: an f32 buffer"),
        }
    }

    fn u32_mut(&mut self, id: BufferId) -> &mut Memory<u32> {
        match &mut self.buffers[id.0 as usize] {
            Buffer::U32(values) => values,
            Buffer::F32(_) => unreachable!("the transfer was checked: a u32 buffer"),
        }
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            name: "cpu",
            device: self.witness.isa().name().to_owned(),
            threads: self.pool.threads(),
            memory_nodes: self.nodes.count(),
            precision: self.precision,
            kernels: names::kernels(self.witness, self.precision, self.attends_by_tiles()),
        }
    }

    fn memory(&self) -> DeviceMemory {
        let buffers = self.buffers.iter().map(|buffer| match buffer {
            Buffer::F32(values) => values.bytes(),
            Buffer::U32(values) => values.bytes(),
        });
        DeviceMemory {
            weights: self.weights.iter().map(Weight::bytes).sum(),
            buffers: buffers.sum(),
            kv: self.kv.as_ref().map(KvStore::memory).unwrap_or_default(),
            scratch: self.scratch.bytes(),
        }
    }

    fn planned_memory(&self, registry: &Registry, program: &Program) -> Result<DeviceMemory, ContractError> {
        registry.check_program(program)?;
        let buffers = registry.buffers().iter().map(|spec| match spec.kind {
            BufferKind::F32 => Memory::<f32>::planned_bytes(spec.rows * spec.width),
            BufferKind::U32 => Memory::<u32>::planned_bytes(spec.rows * spec.width),
        });
        let weights = registry.weights().iter().map(|spec| Weight::planned_bytes(spec, self.precision));
        Ok(DeviceMemory {
            weights: weights.sum(),
            buffers: buffers.sum(),
            kv: registry.kv().map(KvStore::planned_memory).unwrap_or_default(),
            scratch: Need::of(program, registry, (self.precision, self.witness), self.pool.threads())
                .bytes(self.pool.threads()),
        })
    }

    fn create_buffer(&mut self, spec: BufferSpec) -> Result<BufferId, DeviceError> {
        let (kind, name, elements) = (spec.kind, spec.name, spec.rows * spec.width);
        let id = self.registry.add_buffer(spec)?;
        self.buffers.push(match kind {
            BufferKind::F32 => Buffer::F32(Memory::zeroed(elements, name, &mut self.pool)?),
            BufferKind::U32 => Buffer::U32(Memory::zeroed(elements, name, &mut self.pool)?),
        });
        Ok(id)
    }

    fn keeps_host_bytes(&self, spec: &WeightSpec) -> bool {
        !is_packed(spec, self.precision)
    }

    fn load_weight(&mut self, spec: WeightSpec, data: WeightData) -> Result<WeightId, DeviceError> {
        let id = self.registry.add_weight(spec.clone(), &data)?;
        self.weights.push(Weight::new(
            spec,
            data,
            self.precision,
            (self.witness, &mut self.pool, &self.nodes),
        )?);
        Ok(id)
    }

    fn create_kv(&mut self, spec: KvSpec) -> Result<(), DeviceError> {
        self.registry.set_kv(spec.clone())?;
        self.kv = Some(KvStore::new(&spec, &mut self.pool)?);
        Ok(())
    }

    fn compile(&mut self, program: Program) -> Result<ProgramId, DeviceError> {
        let limits = self.registry.check_program(&program)?;
        let need = Need::of(&program, &self.registry, (self.precision, self.witness), self.pool.threads());
        self.scratch.reserve(need, &mut self.pool)?;
        self.programs.push((program, limits));
        Ok(ProgramId(self.programs.len() as u32 - 1))
    }

    fn submit(&mut self, program: ProgramId, step: &StepInputs<'_>) -> Result<(), DeviceError> {
        let count = self.programs.len();
        let unknown = ContractError::UnknownProgram { id: program, count };
        let (ops, limits) = self.programs.get(program.0 as usize).ok_or(unknown)?;
        limits.check(step)?;
        let mut run = Run {
            witness: self.witness,
            precision: self.precision,
            pool: &mut self.pool,
            registry: &self.registry,
            buffers: &mut self.buffers,
            weights: &self.weights,
            kv: self.kv.as_mut(),
            scratch: &mut self.scratch,
            step: *step,
        };
        for op in ops {
            run.op(op);
        }
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
        self.f32_mut(buffer)[range].copy_from_slice(values);
        Ok(())
    }

    fn read(&mut self, buffer: BufferId, first_row: usize, values: &mut [f32]) -> Result<(), DeviceError> {
        let range = self.registry.check_transfer(buffer, BufferKind::F32, first_row, values.len())?;
        values.copy_from_slice(&self.f32_mut(buffer)[range]);
        Ok(())
    }

    fn write_u32(&mut self, buffer: BufferId, first_row: usize, values: &[u32]) -> Result<(), DeviceError> {
        let range = self.registry.check_transfer(buffer, BufferKind::U32, first_row, values.len())?;
        self.u32_mut(buffer)[range].copy_from_slice(values);
        Ok(())
    }

    fn read_u32(
        &mut self,
        buffer: BufferId,
        first_row: usize,
        values: &mut [u32],
    ) -> Result<(), DeviceError> {
        let range = self.registry.check_transfer(buffer, BufferKind::U32, first_row, values.len())?;
        values.copy_from_slice(&self.u32_mut(buffer)[range]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_instruction_set_is_refused() {
        for isa in Isa::ALL {
            let options = CpuOptions { threads: 1, precision: Precision::Exact, isa: Some(isa) };
            let missing = CpuError::IsaMissing { asked: isa.name(), best: Isa::best().name() };
            assert_eq!(CpuBackend::new(options).err(), (!isa.is_available()).then_some(missing));
        }
    }
}
