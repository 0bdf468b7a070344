//! One step at a time: schedule, execute, sample, apply. No thread, clock or sink: time comes in as an argument, on a
//! clock that starts anywhere and does not run backwards.

use std::time::Duration;

use crate::error::{EngineError, ExecutorError, StartError, SubmitError};
use crate::event::{FinishReason, RequestEvent};
use crate::executor::Executor;
use crate::limits::EngineOptions;
use crate::plan::{StepOutput, StepPlan};
use crate::queue::QueueLoad;
use crate::request::{RequestId, RequestRules, ValidRequest};
use crate::sampler::Sampler;
use crate::scheduler::Scheduler;

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// Rows computed; 0 means that there was nothing to run.
    pub rows: usize,
    /// Tokens sampled.
    pub sampled: usize,
}

/// The scheduler, an executor and a sampler.
#[derive(Debug)]
pub struct EngineCore<E> {
    executor: E,
    scheduler: Scheduler,
    rules: RequestRules,
    sampler: Sampler,
    plan: StepPlan,
    output: StepOutput,
    /// One row's logits `[vocab_size]`.
    logits: Vec<f32>,
    /// Between the halves of a step.
    in_step: bool,
}

impl<E: Executor> EngineCore<E> {
    /// Allocates everything a step needs.
    ///
    /// # Errors
    /// [`StartError::Limit`] if requests could not run under these limits.
    pub fn new(executor: E, options: &EngineOptions) -> Result<Self, StartError> {
        let vocab_size = executor.vocab_size();
        if vocab_size == 0 {
            return Err(StartError::Limit { field: "vocab_size", value: 0, rule: "at least 1" });
        }
        let limits = options.resolve(executor.limits())?;
        let scheduler = Scheduler::new(limits, options.queue_limit());
        let plan = scheduler.new_plan();
        let output = StepOutput { rows: Vec::with_capacity(limits.executor.max_running()) };
        Ok(Self {
            executor,
            scheduler,
            rules: RequestRules::new(vocab_size, &limits.executor),
            sampler: Sampler::new(vocab_size),
            plan,
            output,
            logits: vec![0.0; vocab_size],
            in_step: false,
        })
    }

    /// What requests are checked against.
    pub fn rules(&self) -> RequestRules {
        self.rules
    }

    /// Queue, running sequences and pool.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// The plan of the last step.
    pub fn plan(&self) -> &StepPlan {
        &self.plan
    }

    /// Queues a request at time `now`.
    ///
    /// # Errors
    /// As [`Scheduler::submit`].
    pub fn submit(&mut self, id: RequestId, request: ValidRequest, now: Duration) -> Result<(), SubmitError> {
        self.scheduler.submit(id, request, now)
    }

    /// Ends a request, queued or running.
    pub fn cancel(&mut self, id: RequestId, events: &mut Vec<RequestEvent>) {
        assert!(!self.in_step, "requests are cancelled between steps");
        self.scheduler.cancel(id, FinishReason::Cancelled, events);
    }

    /// Ends every request because the engine shuts down.
    pub fn shut_down(&mut self, events: &mut Vec<RequestEvent>) {
        assert!(!self.in_step, "requests are cancelled between steps");
        self.scheduler.cancel_all(FinishReason::ShuttingDown, events);
    }

    /// Runs one step at time `now` and appends what happened to `events`.
    ///
    /// # Errors
    /// As [`EngineCore::finish_step`].
    pub fn step(
        &mut self,
        now: Duration,
        events: &mut Vec<RequestEvent>,
    ) -> Result<StepReport, ExecutorError> {
        self.begin_step(now, events);
        self.finish_step(events)
    }

    /// The first half of a step: ends what is past its deadline, admits what fits, and plans. Returns the planned rows; 0 means that nothing runs.
    /// Until the second half nothing can be cancelled.
    pub fn begin_step(&mut self, now: Duration, events: &mut Vec<RequestEvent>) -> usize {
        assert!(!self.in_step, "a step ends before the next one begins");
        self.scheduler.schedule(now, &mut self.plan, events);
        self.in_step = true;
        self.plan.rows()
    }

    /// The second half: executes the plan, samples, and takes in the results.
    ///
    /// # Errors
    /// The executor's. Every running sequence has failed then; after an error that is not recoverable the queued
    /// ones too.
    pub fn finish_step(&mut self, events: &mut Vec<RequestEvent>) -> Result<StepReport, ExecutorError> {
        assert!(self.in_step, "a step begins before it ends");
        self.in_step = false;
        if self.plan.rows() == 0 {
            return Ok(StepReport::default());
        }
        if let Err(error) = self.execute() {
            let failure = EngineError::Executor(error.clone());
            match error.recoverable() {
                true => self.scheduler.fail_running(&failure, events),
                false => self.scheduler.fail_all(&failure, events),
            }
            return Err(error);
        }
        let sampled = self.plan.scheduled.iter().filter(|part| part.gives_token).count();
        let report = StepReport { rows: self.plan.rows(), sampled };
        self.scheduler.apply(&self.plan, &mut self.output, events);
        Ok(report)
    }

    fn execute(&mut self) -> Result<(), ExecutorError> {
        self.output.rows.clear();
        self.executor.execute(&self.plan)?;
        for part in &self.plan.scheduled {
            self.executor.logits(part.logit_row, &mut self.logits)?;
            self.output.rows.push(if part.gives_token {
                let row = self.scheduler.sampler_row(part.ring);
                self.sampler.sample(&mut self.logits, &row).map(Some)
            } else {
                Sampler::check(&self.logits).map(|()| None)
            });
        }
        Ok(())
    }
}

impl EngineOptions {
    pub(crate) fn queue_limit(&self) -> QueueLoad {
        QueueLoad { requests: self.max_queued_requests, prompt_tokens: self.max_queued_prompt_tokens }
    }
}
