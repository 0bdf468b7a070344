//! A backend with the conveniences that cases need.

use sostenuto_ops::{Backend, BufferId, BufferKind, BufferSpec, Program, StepInputs, WeightId};

use crate::data::Tensor;

/// Rows of every buffer beyond those a case uses; they must stay as they were.
const SPARE_ROWS: usize = 2;

/// What spare rows hold.
const CANARY: f32 = 12345.0;

/// A backend under test.
pub(crate) struct Device<'a>(pub(crate) &'a mut dyn Backend);

impl Device<'_> {
    /// An f32 buffer of `rows` rows and a few to spare, filled with a canary.
    pub(crate) fn buffer(&mut self, name: &'static str, rows: usize, width: usize) -> BufferId {
        let rows = rows + SPARE_ROWS;
        let spec = BufferSpec { name, kind: BufferKind::F32, rows, width };
        let id = self.0.create_buffer(spec).expect("a valid buffer");
        self.0.write(id, 0, &vec![CANARY; rows * width]).expect("whole rows");
        id
    }

    /// A buffer whose first rows hold `values`.
    pub(crate) fn input(&mut self, name: &'static str, values: &[f32], width: usize) -> BufferId {
        let id = self.buffer(name, values.len() / width, width);
        self.0.write(id, 0, values).expect("whole rows");
        id
    }

    /// A u32 buffer.
    pub(crate) fn u32_buffer(&mut self, name: &'static str, rows: usize, width: usize) -> BufferId {
        let spec = BufferSpec { name, kind: BufferKind::U32, rows: rows + SPARE_ROWS, width };
        self.0.create_buffer(spec).expect("a valid buffer")
    }

    /// A u32 buffer whose first rows hold `values`.
    pub(crate) fn u32_input(&mut self, name: &'static str, values: &[u32], width: usize) -> BufferId {
        let id = self.u32_buffer(name, values.len() / width, width);
        self.0.write_u32(id, 0, values).expect("whole rows");
        id
    }

    /// Loads a weight, in one piece or in three.
    pub(crate) fn weight(&mut self, tensor: &Tensor) -> WeightId {
        let pieces = if tensor.spec.out_features.is_multiple_of(2) { 3 } else { 1 };
        self.0.load_weight(tensor.spec.clone(), tensor.data(pieces)).expect("a valid weight")
    }

    /// Compiles and runs a program once.
    pub(crate) fn run(&mut self, program: Program, step: &StepInputs<'_>) {
        let program = self.0.compile(program).expect("a valid program");
        self.0.submit(program, step).expect("a valid step");
    }

    /// The first rows of a buffer; the spare ones must be untouched.
    pub(crate) fn read(&mut self, id: BufferId, rows: usize, width: usize) -> Vec<f32> {
        let mut values = vec![0.0; (rows + SPARE_ROWS) * width];
        self.0.read(id, 0, &mut values).expect("whole rows");
        let spare = values.split_off(rows * width);
        assert!(spare.iter().all(|&value| value == CANARY), "an op wrote beyond the rows of the step");
        values
    }

    /// The first rows of a u32 buffer.
    pub(crate) fn read_u32(&mut self, id: BufferId, rows: usize, width: usize) -> Vec<u32> {
        let mut values = vec![0; rows * width];
        self.0.read_u32(id, 0, &mut values).expect("whole rows");
        values
    }
}

/// The lists of a step, owned.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepData {
    pub(crate) token_ids: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) sequences: Vec<u32>,
    pub(crate) rings: Vec<u32>,
    pub(crate) block_tables: Vec<u32>,
    pub(crate) block_table_offsets: Vec<u32>,
    pub(crate) kv_write_from: Vec<u32>,
    pub(crate) logit_rows: Vec<u32>,
}

impl StepData {
    /// Rows that are each a sequence of their own, without KV memory.
    pub(crate) fn independent(rows: usize) -> Self {
        Self {
            token_ids: vec![0; rows],
            positions: vec![0; rows],
            sequences: (0..rows as u32).collect(),
            rings: (0..rows as u32).collect(),
            block_tables: Vec::new(),
            block_table_offsets: vec![0; rows + 1],
            kv_write_from: vec![0; rows],
            logit_rows: (0..rows as u32).collect(),
        }
    }

    pub(crate) fn inputs(&self) -> StepInputs<'_> {
        StepInputs {
            token_ids: &self.token_ids,
            positions: &self.positions,
            sequences: &self.sequences,
            rings: &self.rings,
            block_tables: &self.block_tables,
            block_table_offsets: &self.block_table_offsets,
            kv_write_from: &self.kv_write_from,
            logit_rows: &self.logit_rows,
        }
    }
}
