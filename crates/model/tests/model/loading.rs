//! Loads that fail on the way.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sostenuto_formats::{Checkpoint, CheckpointError, Loading, ModelConfig, write_synthetic};
use sostenuto_model::{Model, ModelError, ModelLimits};
use sostenuto_ops::scalar::ScalarBackend;
use sostenuto_ops::{
    Backend, BackendInfo, BufferId, BufferSpec, ContractError, DeviceError, DeviceMemory, KvCopy, KvDtype,
    KvSpec, Program, ProgramId, Registry, StepInputs, WeightData, WeightId, WeightSpec,
};

fn limits() -> ModelLimits {
    ModelLimits {
        max_step_rows: 4,
        max_logit_rows: 1,
        max_sequences: 1,
        max_context: 16,
        kv_tokens: 16,
        window_snapshots: 0,
        kv_dtype: KvDtype::F32,
    }
}

fn synthetic(folder: &Path) {
    let config = ModelConfig {
        vocab_size: 64,
        hidden_size: 64,
        intermediate_size: 64,
        num_hidden_layers: 4,
        layer_types: ModelConfig::gpt_oss_20b().layer_types[..4].to_vec(),
        num_local_experts: 4,
        eos_token_id: vec![1],
        bos_token_id: None,
        pad_token_id: None,
        ..ModelConfig::gpt_oss_20b()
    };
    write_synthetic(folder, &config, 1, &mut |_, _| {}).unwrap();
}

#[test]
fn nan_among_the_scales_of_a_later_layer_ends_the_load() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path());
    let (file, offset) = {
        let checkpoint = Checkpoint::open_unread(folder.path(), Loading::Mmap).unwrap();
        let place = |file: &sostenuto_formats::SafetensorsFile| {
            let scales = |name: &str| name.contains("layers.2.") && name.ends_with("_scales");
            let info = file.header().tensors().iter().find(|info| scales(&info.name))?;
            Some((PathBuf::from(file.path()), file.header().data_start() + info.begin + 5))
        };
        checkpoint.files().iter().find_map(place).unwrap()
    };
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(offset as u64)).unwrap();
    file.write_all(&[255]).unwrap();
    for loading in [Loading::Mmap, Loading::Read] {
        let checkpoint = Checkpoint::open_unread(folder.path(), loading).unwrap();
        let error = Model::load(&checkpoint, Box::new(ScalarBackend::new()), &limits()).err().unwrap();
        let ModelError::Checkpoint(CheckpointError::NanScale { name, index: 5 }) = &error else {
            panic!("{loading:?}: {error:?}");
        };
        assert!(name.contains("layers.2."), "{name}");
    }
}

/// A device with room for a number of weights.
struct Small(ScalarBackend, usize);

impl Backend for Small {
    fn load_weight(&mut self, spec: WeightSpec, data: WeightData) -> Result<WeightId, DeviceError> {
        let what = spec.name.clone();
        self.1 = self.1.checked_sub(1).ok_or(DeviceError::OutOfMemory { what, needed: 1 })?;
        self.0.load_weight(spec, data)
    }

    fn info(&self) -> BackendInfo {
        self.0.info()
    }

    fn memory(&self) -> DeviceMemory {
        self.0.memory()
    }

    fn planned_memory(&self, registry: &Registry, program: &Program) -> Result<DeviceMemory, ContractError> {
        self.0.planned_memory(registry, program)
    }

    fn create_buffer(&mut self, spec: BufferSpec) -> Result<BufferId, DeviceError> {
        self.0.create_buffer(spec)
    }

    fn keeps_host_bytes(&self, spec: &WeightSpec) -> bool {
        self.0.keeps_host_bytes(spec)
    }

    fn create_kv(&mut self, spec: KvSpec) -> Result<(), DeviceError> {
        self.0.create_kv(spec)
    }

    fn compile(&mut self, program: Program) -> Result<ProgramId, DeviceError> {
        self.0.compile(program)
    }

    fn submit(&mut self, program: ProgramId, step: &StepInputs<'_>) -> Result<(), DeviceError> {
        self.0.submit(program, step)
    }

    fn copy_kv(&mut self, copies: &[KvCopy]) -> Result<(), DeviceError> {
        self.0.copy_kv(copies)
    }

    fn write(&mut self, buffer: BufferId, first_row: usize, values: &[f32]) -> Result<(), DeviceError> {
        self.0.write(buffer, first_row, values)
    }

    fn read(&mut self, buffer: BufferId, first_row: usize, values: &mut [f32]) -> Result<(), DeviceError> {
        self.0.read(buffer, first_row, values)
    }

    fn write_u32(&mut self, buffer: BufferId, first_row: usize, values: &[u32]) -> Result<(), DeviceError> {
        self.0.write_u32(buffer, first_row, values)
    }

    fn read_u32(
        &mut self,
        buffer: BufferId,
        first_row: usize,
        values: &mut [u32],
    ) -> Result<(), DeviceError> {
        self.0.read_u32(buffer, first_row, values)
    }
}

#[test]
fn device_without_room_for_a_later_weight_ends_the_load() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path());
    for loading in [Loading::Mmap, Loading::Read] {
        for room in [0, 1, 20] {
            let checkpoint = Checkpoint::open_unread(folder.path(), loading).unwrap();
            let device = Box::new(Small(ScalarBackend::new(), room));
            let error = Model::load(&checkpoint, device, &limits()).err().unwrap();
            let is_full = matches!(error, ModelError::Device(DeviceError::OutOfMemory { needed: 1, .. }));
            assert!(is_full, "{loading:?}, room for {room}: {error:?}");
        }
    }
}
