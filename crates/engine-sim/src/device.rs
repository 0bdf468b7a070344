//! The fake model on the memory that the scheduler plans: blocks, rings and window snapshots, each layer its own.

use std::sync::{Arc, Mutex, MutexGuard};

use sostenuto_engine::{BLOCK_SLOTS, Executor, ExecutorError, ExecutorLimits, StepPlan};
use sostenuto_ops::KvCopy;

use crate::model::{Layer, ModelShape, VOCAB_SIZE, WEIGHTS, embed, layer_output, logits};
use crate::rng::Rng;

/// The value that stands for a number that is none: whatever attends to it becomes it.
const NAN: u64 = 0x7FF8_0000_0000_0000;

/// What goes wrong in the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Some copies are made, some rows are written with wrong values, and the step fails; the device stays usable.
    Step,
    /// As for `Step`, but the device is lost.
    Device,
    /// One row's output of one layer is no number.
    Nan {
        /// The row, modulo the rows of the step.
        row: usize,
        /// The layer, modulo the layers.
        layer: usize,
    },
}

/// The error of a planned fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedFault;

impl std::fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a planned fault")
    }
}

impl std::error::Error for PlannedFault {}

/// Memory and the step that is in it.
#[derive(Debug)]
pub(crate) struct Device {
    shape: ModelShape,
    limits: ExecutorLimits,
    ring_slots: usize,
    /// Values of the full layers: `[full layer][block][slot]`.
    blocks: Vec<Vec<u64>>,
    /// Values of the sliding layers: `[sliding layer][ring][slot]`.
    rings: Vec<Vec<u64>>,
    /// Windows of the sliding layers: `[sliding layer][snapshot][position modulo window - 1]`.
    snapshots: Vec<Vec<u64>>,
    /// Values of the step's rows at the layer being computed.
    hidden: Vec<u64>,
    /// Last layer's output of each logit row.
    outputs: Vec<u64>,
    fault: Option<Fault>,
    /// Whether a value in memory may be [`NAN`].
    holds_nan: bool,
    rng: Rng,
}

impl Device {
    /// A device whose memory holds what chance left in it.
    pub(crate) fn new(shape: ModelShape, limits: ExecutorLimits, mut rng: Rng) -> Self {
        let ring_slots = ring_slots(shape.window, limits.max_chunk);
        let mut memory =
            |layers: usize, slots: usize| vec![(0..slots).map(|_| rng.next()).collect::<Vec<_>>(); layers];
        let (full, sliding) = (shape.full_layers(), shape.sliding_layers());
        Self {
            shape,
            limits,
            ring_slots,
            blocks: memory(full, limits.num_blocks * BLOCK_SLOTS),
            rings: memory(sliding, limits.max_sequences * ring_slots),
            snapshots: memory(sliding, limits.num_snapshots * (shape.window - 1)),
            hidden: Vec::new(),
            outputs: Vec::new(),
            fault: None,
            holds_nan: false,
            rng,
        }
    }

    /// Makes the next step go wrong.
    pub(crate) fn plan_fault(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// Last layer's output of each logit row of the last step; none where it is no number.
    pub(crate) fn output(&self, logit_row: usize) -> Option<u64> {
        Some(self.outputs[logit_row]).filter(|&value| value != NAN)
    }

    fn run(&mut self, plan: &StepPlan) -> Result<(), ExecutorError> {
        self.check(plan);
        let fault = self.fault.take();
        if let Some(Fault::Step | Fault::Device) = fault {
            let copies = self.rng.between(0, plan.copies.len());
            self.copy(&plan.copies[..copies]);
            self.spoil(plan);
            let source = Arc::new(PlannedFault);
            return Err(match fault {
                Some(Fault::Step) => ExecutorError::Step { source },
                _ => ExecutorError::Device { source },
            });
        }
        self.copy(&plan.copies);
        self.forward(plan, fault);
        Ok(())
    }

    /// Computes all rows, layer by layer: all of a layer's values are written before a row attends to any.
    fn forward(&mut self, plan: &StepPlan, fault: Option<Fault>) {
        let mut hidden = std::mem::take(&mut self.hidden);
        hidden.clear();
        let rows = plan.token_ids.iter().zip(&plan.positions);
        hidden.extend(rows.map(|(&token, &position)| embed(token, position as usize)));
        let (mut sliding, mut full) = (0, 0);
        for (layer, kind) in self.shape.layers.iter().enumerate() {
            match kind {
                Layer::Sliding => {
                    self.write_rings(plan, sliding, &hidden);
                    self.attend(layer, &mut hidden, |device, row| device.attend_ring(plan, sliding, row));
                    sliding += 1;
                }
                Layer::Full => {
                    self.write_blocks(plan, full, &hidden);
                    self.attend(layer, &mut hidden, |device, row| device.attend_blocks(plan, full, row));
                    full += 1;
                }
            }
            match fault {
                Some(Fault::Nan { row, layer: at }) if at % self.shape.layers.len() == layer => {
                    let row = row % hidden.len();
                    hidden[row] = NAN;
                    self.holds_nan = true;
                }
                _ => {}
            }
        }
        self.outputs.clear();
        self.outputs.extend(plan.logit_rows.iter().map(|&row| hidden[row as usize]));
        self.hidden = hidden;
    }

    fn attend(&self, layer: usize, hidden: &mut [u64], attended: impl Fn(&Self, usize) -> Option<u64>) {
        for (row, value) in hidden.iter_mut().enumerate() {
            *value = match attended(self, row) {
                Some(sum) if *value != NAN => layer_output(layer, *value, sum),
                _ => NAN,
            };
        }
    }

    fn write_rings(&mut self, plan: &StepPlan, sliding: usize, hidden: &[u64]) {
        for (row, &value) in hidden.iter().enumerate() {
            let slot = self.ring_slot(plan.rings[plan.sequences[row] as usize], plan.positions[row]);
            self.rings[sliding][slot] = value;
        }
    }

    fn write_blocks(&mut self, plan: &StepPlan, full: usize, hidden: &[u64]) {
        for (row, &value) in hidden.iter().enumerate() {
            let (sequence, position) = (plan.sequences[row] as usize, plan.positions[row]);
            if position >= plan.kv_write_from[sequence] {
                let block = plan.block_table(sequence)[position as usize / BLOCK_SLOTS] as usize;
                self.blocks[full][block * BLOCK_SLOTS + position as usize % BLOCK_SLOTS] = value;
            }
        }
    }

    /// Weighted sum over the window of a row, read from its ring; none if one of the values is no number.
    fn attend_ring(&self, plan: &StepPlan, sliding: usize, row: usize) -> Option<u64> {
        let (ring, last) = (plan.rings[plan.sequences[row] as usize], plan.positions[row] as usize);
        let first = (last + 1).saturating_sub(self.shape.window);
        let base = ring as usize * self.ring_slots;
        let values = &self.rings[sliding][base..base + self.ring_slots];
        let mut slot = first % self.ring_slots;
        let mut sum = 0_u64;
        for weight in &WEIGHTS[first..=last] {
            let value = values[slot];
            if self.holds_nan && value == NAN {
                return None;
            }
            sum = sum.wrapping_add(value.wrapping_mul(*weight));
            slot += 1;
            if slot == self.ring_slots {
                slot = 0;
            }
        }
        Some(sum)
    }

    /// Weighted sum over all positions up to a row's, read through its block table; none if a value is no number.
    fn attend_blocks(&self, plan: &StepPlan, full: usize, row: usize) -> Option<u64> {
        let (sequence, last) = (plan.sequences[row] as usize, plan.positions[row] as usize);
        let blocks = plan.block_table(sequence);
        let mut sum = 0_u64;
        for (block, weights) in blocks.iter().zip(WEIGHTS[..=last].chunks(BLOCK_SLOTS)) {
            let base = *block as usize * BLOCK_SLOTS;
            let values = &self.blocks[full][base..base + weights.len()];
            if self.holds_nan && values.contains(&NAN) {
                return None;
            }
            let products = values.iter().zip(weights).map(|(value, weight)| value.wrapping_mul(*weight));
            sum = products.fold(sum, u64::wrapping_add);
        }
        Some(sum)
    }

    /// Carries out copies in order.
    fn copy(&mut self, copies: &[KvCopy]) {
        for copy in copies {
            match *copy {
                KvCopy::Block { from, to } => self.copy_block(from as usize, to as usize),
                KvCopy::SaveWindow { ring, position, snapshot } => {
                    for (ring, snapshot) in self.window_slots(ring, position, snapshot) {
                        self.snapshots
                            .iter_mut()
                            .zip(&self.rings)
                            .for_each(|(to, from)| to[snapshot] = from[ring]);
                    }
                }
                KvCopy::RestoreWindow { snapshot, position, ring } => {
                    for (ring, snapshot) in self.window_slots(ring, position, snapshot) {
                        self.rings
                            .iter_mut()
                            .zip(&self.snapshots)
                            .for_each(|(to, from)| to[ring] = from[snapshot]);
                    }
                }
            }
        }
    }

    fn copy_block(&mut self, from: usize, to: usize) {
        assert!(from < self.limits.num_blocks && to < self.limits.num_blocks, "copy of block {from} to {to}");
        for layer in &mut self.blocks {
            layer.copy_within(from * BLOCK_SLOTS..(from + 1) * BLOCK_SLOTS, to * BLOCK_SLOTS);
        }
    }

    /// Slots in ring and snapshot of the `window - 1` positions before `position`.
    fn window_slots(
        &self,
        ring: u32,
        position: u32,
        snapshot: u32,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        assert!((ring as usize) < self.limits.max_sequences, "window of ring {ring}");
        assert!((snapshot as usize) < self.limits.num_snapshots, "window in snapshot {snapshot}");
        let (kept, ring_slots) = (self.shape.window - 1, self.ring_slots);
        let first = (position as usize).saturating_sub(kept);
        (first..position as usize).map(move |position| {
            (ring as usize * ring_slots + position % ring_slots, snapshot as usize * kept + position % kept)
        })
    }

    fn ring_slot(&self, ring: u32, position: u32) -> usize {
        ring as usize * self.ring_slots + position as usize % self.ring_slots
    }

    /// What a step that failed leaves behind: some of its rows' places hold anything.
    fn spoil(&mut self, plan: &StepPlan) {
        let mut values = std::mem::take(&mut self.hidden);
        values.clear();
        values.extend((0..plan.rows()).map(|_| self.rng.next()));
        for layer in 0..self.rings.len() {
            self.write_rings(plan, layer, &values);
        }
        for layer in 0..self.blocks.len() {
            if self.rng.one_in(2) {
                self.write_blocks(plan, layer, &values);
            }
        }
        self.hidden = values;
    }

    /// The contract of a step, as the device states it to whoever plans one.
    fn check(&self, plan: &StepPlan) {
        let limits = &self.limits;
        let (rows, sequences) = (plan.rows(), plan.rings.len());
        assert!(rows <= limits.max_step_rows, "{rows} rows, at most {}", limits.max_step_rows);
        let longest = plan.scheduled.iter().map(|part| part.num_scheduled_tokens).max().unwrap_or(0);
        assert!(longest <= limits.max_chunk, "a chunk of {longest} rows, at most {}", limits.max_chunk);
        assert!(plan.logit_rows.len() <= limits.max_logit_rows, "{} logit rows", plan.logit_rows.len());
        assert!(plan.logit_rows.is_sorted_by(|a, b| a < b), "logit rows ascend");
        assert_eq!((rows, rows), (plan.positions.len(), plan.sequences.len()), "one entry for each row");
        let per_sequence = (plan.block_table_offsets.len(), plan.kv_write_from.len(), plan.scheduled.len());
        assert_eq!(per_sequence, (sequences + 1, sequences, sequences), "one entry for each sequence");
        for row in 0..rows {
            let (sequence, position) = (plan.sequences[row], plan.positions[row]);
            let begins = row == 0 || plan.sequences[row - 1] != sequence;
            let expected = if row == 0 { 0 } else { plan.sequences[row - 1] + u32::from(begins) };
            assert_eq!(sequence, expected, "rows of one sequence are adjacent, sequences in order");
            assert!(begins || position == plan.positions[row - 1] + 1, "positions ascend by one");
            let places = plan.block_table(sequence as usize).len() * BLOCK_SLOTS;
            assert!((position as usize) < places, "position {position} of {places} in the block table");
        }
        for (sequence, &ring) in plan.rings.iter().enumerate() {
            assert!((ring as usize) < limits.max_sequences, "ring {ring} of {}", limits.max_sequences);
            assert!(!plan.rings[..sequence].contains(&ring), "ring {ring} twice in a step");
        }
        let block = plan.block_tables.iter().find(|&&block| block as usize >= limits.num_blocks);
        assert_eq!(block, None, "a block of {}", limits.num_blocks);
    }
}

/// Slots of a ring, no more than the contract promises: a window, and room for a chunk, or for a window that ends up to 15
/// positions before the newest one.
fn ring_slots(window: usize, max_chunk: usize) -> usize {
    window + max_chunk.max(16) - 1
}

/// The engine's hold on a device that the simulation holds too.
#[derive(Clone, Debug)]
pub(crate) struct SharedDevice(Arc<Mutex<Device>>);

impl SharedDevice {
    pub(crate) fn new(device: Device) -> Self {
        Self(Arc::new(Mutex::new(device)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Device> {
        self.0.lock().expect("a device that panicked is not used again")
    }
}

impl Executor for SharedDevice {
    fn vocab_size(&self) -> usize {
        VOCAB_SIZE
    }

    fn limits(&self) -> ExecutorLimits {
        self.lock().limits
    }

    fn execute(&mut self, plan: &StepPlan) -> Result<(), ExecutorError> {
        self.lock().run(plan)
    }

    fn logits(&mut self, logit_row: usize, out: &mut [f32]) -> Result<(), ExecutorError> {
        match self.lock().output(logit_row) {
            Some(hidden) => logits(hidden, out),
            None => out.fill(f32::NAN),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sostenuto_engine::ScheduledSequence;

    use super::*;
    use crate::model::SoloRun;
    use crate::scenario::PATTERNS;

    const BLOCKS: u32 = 4;

    fn device(shape: ModelShape) -> Device {
        let limits = ExecutorLimits {
            max_step_rows: 16,
            max_logit_rows: 2,
            max_chunk: 16,
            max_sequences: 2,
            max_context: 64,
            num_blocks: 2 * BLOCKS as usize,
            num_snapshots: 1,
            window: shape.window,
            num_sliding_layers: shape.sliding_layers(),
        };
        Device::new(shape, limits, Rng::new(0))
    }

    /// Runs tokens `start..end` in a ring, four rows a step, with blocks 0 to 3. Returns the last one's output.
    fn run(device: &mut Device, ring: u32, tokens: &[u32], start: usize, write_from: usize) -> Option<u64> {
        let positions: Vec<u32> = (start as u32..tokens.len() as u32).collect();
        for positions in positions.chunks(4) {
            let rows = positions.len();
            let plan = StepPlan {
                token_ids: positions.iter().map(|&position| tokens[position as usize]).collect(),
                positions: positions.to_vec(),
                sequences: vec![0; rows],
                rings: vec![ring],
                block_tables: (0..BLOCKS).collect(),
                block_table_offsets: vec![0, BLOCKS],
                kv_write_from: vec![write_from as u32],
                logit_rows: vec![rows as u32 - 1],
                copies: Vec::new(),
                scheduled: vec![ScheduledSequence {
                    ring,
                    num_scheduled_tokens: rows,
                    logit_row: 0,
                    gives_token: true,
                }],
            };
            device.run(&plan).unwrap();
        }
        device.output(0)
    }

    fn shapes() -> impl Iterator<Item = ModelShape> {
        PATTERNS.into_iter().flat_map(|layers| [2, 5, 8].map(|window| ModelShape { layers, window }))
    }

    fn solo(shape: ModelShape, tokens: &[u32]) -> Option<u64> {
        let mut solo = SoloRun::new(shape);
        tokens.iter().for_each(|&token| solo.push(token));
        Some(solo.output(tokens.len() - 1))
    }

    #[test]
    fn device_computes_what_the_definition_says() {
        let tokens: Vec<u32> = (0..60).map(|n| n % 48).collect();
        for shape in shapes() {
            assert_eq!(run(&mut device(shape), 0, &tokens, 0, 0), solo(shape, &tokens), "{shape:?}");
        }
    }

    #[test]
    fn window_is_rebuilt_by_the_tokens_of_the_contract_and_by_no_fewer() {
        let tokens: Vec<u32> = (0..60).map(|n| n % 48).collect();
        for shape in shapes().filter(|shape| shape.sliding_layers() > 0) {
            let rerun = (shape.window - 1) * shape.sliding_layers();
            for (tokens_again, is_exact) in [(rerun, true), (rerun - 1, false)] {
                let mut device = device(shape);
                run(&mut device, 0, &tokens[..48], 0, 0);
                let resumed = run(&mut device, 1, &tokens[..49], 48 - tokens_again, 48);
                assert_eq!(
                    resumed == solo(shape, &tokens[..49]),
                    is_exact,
                    "{shape:?}, {tokens_again} again"
                );
            }
        }
    }

    #[test]
    fn saved_window_resumes_elsewhere_until_the_ring_has_gone_on_too_far() {
        let tokens: Vec<u32> = (0..60).map(|n| n % 48).collect();
        let save = KvCopy::SaveWindow { ring: 0, position: 32, snapshot: 0 };
        let restore = KvCopy::RestoreWindow { snapshot: 0, position: 32, ring: 1 };
        for shape in shapes().filter(|shape| shape.sliding_layers() > 0) {
            for (saved_at, is_exact) in [(32, true), (48, true), (49, false)] {
                let mut device = device(shape);
                run(&mut device, 0, &tokens[..saved_at], 0, 0);
                device.copy(&[save, restore]);
                let resumed = run(&mut device, 1, &tokens[..33], 32, 32);
                assert_eq!(resumed == solo(shape, &tokens[..33]), is_exact, "{shape:?}, saved at {saved_at}");
            }
        }
    }
}
