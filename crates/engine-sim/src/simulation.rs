//! One seed: an engine, its users and its faults, until enough steps have run.

use std::time::Duration;

use sostenuto_engine::{FinishReason, GenerateRequest, RequestEvent, SubmitError};

use crate::coverage::Coverage;
use crate::device::Fault;
use crate::journal::Cause;
use crate::life::Life;
use crate::model::SoloRun;
use crate::record::Record;
use crate::rng::Rng;
use crate::scenario::{FaultRates, Scenario, step_time};
use crate::traffic::Traffic;

/// Steps with rows after which a seed admits nothing more.
const STEPS: u64 = 1_520;

/// Steps after which whatever was open has ended, once nothing arrives.
const MAX_DRAIN_STEPS: u64 = 20_000;

/// The simulation of one seed.
pub(crate) struct Simulation {
    scenario: Scenario,
    rng: Rng,
    traffic: Traffic,
    now: Duration,
    life: Life,
    events: Vec<RequestEvent>,
    coverage: Coverage,
}

impl Simulation {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::of_seed(&mut rng);
        let traffic = Traffic::new(scenario.users, scenario.limits.sequence_capacity(), Rng::new(rng.next()));
        let life = Life::new(&scenario, &mut rng);
        let coverage = Coverage { seeds: 1, ..Coverage::default() };
        let now = Duration::from_millis(rng.below(1_000_000) as u64);
        Self { scenario, rng, traffic, now, life, events: Vec::new(), coverage }
    }

    /// Runs the seed to its end.
    ///
    /// # Panics
    /// If an invariant breaks.
    pub(crate) fn run(mut self) -> Coverage {
        while self.coverage.steps < STEPS {
            let arrivals = self.traffic.arrivals(self.life.journal.live().len());
            for _ in 0..arrivals {
                let request = self.traffic.next_request();
                self.submit(request, None);
            }
            self.disturb();
            self.step();
        }
        self.drain();
        self.coverage
    }

    /// Lets everything that is open end, and finds all memory where it was at the start.
    fn drain(&mut self) {
        let last = self.coverage.steps + MAX_DRAIN_STEPS;
        while !self.life.journal.live().is_empty() {
            assert!(
                self.coverage.steps < last,
                "requests are open after {MAX_DRAIN_STEPS} steps without new ones"
            );
            self.step();
        }
        let scheduler = self.life.core.scheduler();
        assert!(scheduler.is_idle(), "no request is open, so the scheduler is idle");
        let counts = scheduler.block_counts();
        assert_eq!((counts.held, counts.promised), (0, 0), "an idle engine holds and promises no block");
        self.coverage.note_life(scheduler);
    }

    fn submit(&mut self, request: GenerateRequest, solo: Option<SoloRun>) {
        let Life { core, journal, .. } = &mut self.life;
        let valid = core.rules().check(request.clone()).expect("traffic makes valid requests");
        let prompt_tokens = request.prompt.len();
        let (queued, queued_tokens) = journal.queued();
        let options = &self.scenario.options;
        let fits = queued < options.max_queued_requests
            && queued_tokens + prompt_tokens <= options.max_queued_prompt_tokens;
        match core.submit(journal.next_id(), valid, self.now) {
            Ok(()) => {
                assert!(fits, "a request was accepted beside {queued} others, {queued_tokens} tokens");
                journal.accept(request, solo, self.now);
                self.coverage.accepted += 1;
            }
            Err(SubmitError::QueueFull { .. }) => {
                assert!(!fits, "a request was refused beside {queued} others, {queued_tokens} tokens");
                self.coverage.refused += 1;
            }
            Err(error) => panic!("a valid request was refused: {error}"),
        }
        let load = self.life.core.scheduler().queue_load();
        assert_eq!((load.requests, load.prompt_tokens), self.life.journal.queued(), "queue load");
    }

    /// What goes wrong, or what somebody wants, between two steps.
    fn disturb(&mut self) {
        let FaultRates { kill, cancel, shutdown, .. } = self.scenario.faults;
        if self.happens(cancel) {
            self.cancel();
        }
        if self.happens(shutdown) {
            self.shut_down();
        } else if self.happens(kill) {
            self.coverage.kills += 1;
            self.replace_engine();
        }
    }

    /// What goes wrong in the step at hand.
    fn fault(&mut self) -> Option<Fault> {
        let FaultRates { step, device, nan, .. } = self.scenario.faults;
        if self.happens(step) {
            return Some(Fault::Step);
        }
        if self.happens(device) {
            return Some(Fault::Device);
        }
        let (rows, layers) = (self.life.core.plan().rows(), self.scenario.shape.layers.len());
        let nan = self.happens(nan);
        nan.then(|| Fault::Nan { row: self.rng.below(rows), layer: self.rng.below(layers) })
    }

    fn happens(&mut self, rate: usize) -> bool {
        rate > 0 && self.rng.one_in(rate)
    }

    fn cancel(&mut self) {
        let live = self.life.journal.live();
        if live.is_empty() {
            return;
        }
        let id = self.rng.pick(live);
        self.life.core.cancel(id, &mut self.events);
        // Once more: a cancel may cross the end on its way.
        self.life.core.cancel(id, &mut self.events);
        self.take_events(Cause::Cancelled(id));
        self.life.account();
    }

    /// An orderly end; users come back to a new engine.
    fn shut_down(&mut self) {
        self.life.core.shut_down(&mut self.events);
        self.take_events(Cause::ShutDown);
        self.life.account();
        self.drain();
        self.life = Life::new(&self.scenario, &mut self.rng);
        self.coverage.shutdowns += 1;
    }

    /// A new engine takes over what is open, with the tokens so far; some may find its queue full.
    fn replace_engine(&mut self) {
        self.coverage.note_life(self.life.core.scheduler());
        let life = std::mem::replace(&mut self.life, Life::new(&self.scenario, &mut self.rng));
        for record in life.journal.into_open() {
            self.resume(record);
        }
    }

    /// Gives a request to the engine again, with the tokens it got.
    fn resume(&mut self, record: Record) {
        self.coverage.replays += 1;
        let (request, solo) = record.into_replay(self.now);
        self.submit(request, Some(solo));
    }

    /// One step, if anything runs, with every check around it.
    fn step(&mut self) {
        let now = self.now;
        let rows = self.life.core.begin_step(now, &mut self.events);
        self.take_events(Cause::Planned { now });
        self.life.note_planned(now, self.coverage.steps + 1);
        self.now += step_time(rows);
        if rows == 0 {
            assert!(self.life.journal.live().is_empty(), "requests are open and nothing runs");
            let idle = self.life.core.finish_step(&mut self.events);
            assert!(idle.is_ok_and(|report| report.rows == 0) && self.events.is_empty(), "nothing ran");
            return;
        }
        self.coverage.note_plan(self.life.core.plan());
        let fault = self.fault();
        if let Some(fault) = fault {
            self.life.inject(fault);
        }
        let lost = match self.life.core.finish_step(&mut self.events) {
            Ok(_) => {
                self.life.check_computed();
                self.take_events(Cause::Computed);
                Vec::new()
            }
            Err(error) => {
                assert!(matches!(fault, Some(Fault::Step | Fault::Device)), "a step failed: {error}");
                let cause = if error.recoverable() { Cause::StepFailed } else { Cause::DeviceLost };
                self.coverage.failed_steps += 1;
                self.take_events(cause)
            }
        };
        self.life.account();
        if fault == Some(Fault::Device) {
            self.coverage.note_life(self.life.core.scheduler());
            self.life = Life::new(&self.scenario, &mut self.rng);
        }
        lost.into_iter().for_each(|record| self.resume(record));
    }

    /// Takes in the events that came of `cause`. Returns the requests that the device lost.
    fn take_events(&mut self, cause: Cause) -> Vec<Record> {
        let mut lost = Vec::new();
        for event in self.events.drain(..) {
            let Some(ended) = self.life.journal.take_event(event, cause) else { continue };
            self.coverage.note_end(&ended);
            match ended.reason {
                Some(FinishReason::StopToken(_) | FinishReason::Length) => {
                    self.traffic.remember(ended.record.request.key, &ended.record.tokens);
                }
                None if cause != Cause::Computed => lost.push(ended.record),
                _ => {}
            }
        }
        if matches!(cause, Cause::StepFailed | Cause::DeviceLost) {
            self.life.ledger.note_cleared(self.life.core.scheduler());
        }
        self.life.journal.check_ended(cause);
        lost
    }
}
