//! One engine from its start to its end, and the accounts that are kept of it.

use std::ops::Range;
use std::time::Duration;

use sostenuto_engine::{BLOCK_SLOTS, EngineCore, QUEUE_QUANTUM, RequestId, StepPlan};

use crate::device::{Device, Fault, SharedDevice};
use crate::fairness::Fairness;
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::rng::Rng;
use crate::scenario::Scenario;

/// See the module.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) core: EngineCore<SharedDevice>,
    pub(crate) journal: Journal,
    pub(crate) ledger: Ledger,
    fairness: Fairness,
    device: SharedDevice,
    /// Requests of the planned sequences, in the plan's order.
    planned: Vec<RequestId>,
    /// Requests admitted with the last plan.
    admitted: Vec<RequestId>,
    max_running: usize,
}

impl Life {
    pub(crate) fn new(scenario: &Scenario, rng: &mut Rng) -> Self {
        let Scenario { shape, limits, options, .. } = *scenario;
        let device = SharedDevice::new(Device::new(shape, limits, Rng::new(rng.next())));
        let core = EngineCore::new(device.clone(), &options).expect("scenarios have valid limits");
        let journal = Journal::new(shape, limits.sequence_capacity(), options.reserve_tokens);
        let ledger = Ledger::new(limits.num_blocks, options.prefix_cache);
        let fairness = Fairness::new(QUEUE_QUANTUM, limits.sequence_capacity(), options.reserve_tokens);
        Self {
            core,
            journal,
            ledger,
            fairness,
            device,
            planned: Vec::new(),
            admitted: Vec::new(),
            max_running: limits.max_running(),
        }
    }

    /// Checks a plan against journal and ledger, and notes it there.
    pub(crate) fn note_planned(&mut self, now: Duration, step: u64) {
        let Self { core, journal, ledger, fairness, planned, admitted, max_running, .. } = self;
        let (scheduler, plan) = (core.scheduler(), core.plan());
        planned.clear();
        planned.extend(plan.rings.iter().map(|&ring| {
            let running = scheduler.running_sequences().find(|running| running.ring == ring);
            running.expect("a planned ring belongs to a sequence that runs").id
        }));
        journal.note_running(scheduler, admitted);
        fairness.note_admitted(admitted, journal);
        for running in scheduler.running_sequences().filter(|running| admitted.contains(&running.id)) {
            let place = planned.iter().position(|&id| id == running.id);
            let shared = match place {
                Some(sequence) => plan.kv_write_from[sequence] as usize / BLOCK_SLOTS,
                None => running.block_table.len(),
            };
            let chain = &journal.record(running.id).chain;
            ledger.check_shared(running.id, chain, &running.block_table[..shared]);
        }
        ledger.count(scheduler);
        if scheduler.num_running() < *max_running {
            journal.waiting().for_each(|record| ledger.note_waiting(&record.chain));
        }
        for (sequence, rows) in plan_rows(plan).enumerate() {
            let id = planned[sequence];
            journal.note_rows(id, plan, sequence, rows.start);
            ledger.note_planned(id, &journal.record(id).chain, plan, sequence, positions(plan, rows));
        }
        ledger.compare(scheduler, journal);
        journal.check_planned(now, planned, step);
    }

    /// Makes the planned step go wrong.
    pub(crate) fn inject(&mut self, fault: Fault) {
        if let Fault::Nan { row, .. } = fault {
            let sequence = self.core.plan().sequences[row] as usize;
            self.journal.record_mut(self.planned[sequence]).is_poisoned = true;
        }
        self.device.lock().plan_fault(fault);
    }

    /// Checks what a step computed, before anything that was sampled from it is known.
    pub(crate) fn check_computed(&mut self) {
        let plan = self.core.plan();
        let device = self.device.lock();
        for (sequence, rows) in plan_rows(plan).enumerate() {
            let id = self.planned[sequence];
            let chain = &self.journal.record(id).chain;
            self.ledger.note_written(chain, plan, sequence, positions(plan, rows));
            let logit_row = plan.scheduled[sequence].logit_row;
            let table = plan.block_table(sequence);
            if self.journal.check_output(id, logit_row, &device) {
                let complete = self.journal.note_complete(id);
                self.ledger.note_published(table.get(complete).unwrap_or_default());
            } else {
                // It fails, and nobody finds what it computed.
                let own = plan.kv_write_from[sequence] as usize / BLOCK_SLOTS;
                self.ledger.note_unpublished(table.get(own..).unwrap_or_default());
            }
        }
    }

    /// Compares the engine's memory with the accounts, between steps.
    pub(crate) fn account(&mut self) {
        self.fairness.note_admitted(&[], &self.journal);
        self.ledger.count(self.core.scheduler());
        self.ledger.compare(self.core.scheduler(), &self.journal);
    }
}

/// The rows of each sequence of a plan.
fn plan_rows(plan: &StepPlan) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut end = 0;
    plan.scheduled.iter().map(move |part| {
        let start = end;
        end += part.num_scheduled_tokens;
        start..end
    })
}

/// The positions of one sequence's rows.
fn positions(plan: &StepPlan, rows: Range<usize>) -> Range<usize> {
    let start = plan.positions[rows.start] as usize;
    start..start + rows.len()
}
