//! An engine process for tests: the hash executor behind a front's socket, with faults where its arguments ask for them.
//!
//! `hash_engine PARENT [FAULT]…`. A fault `NAME=TOKEN` acts in the step that computes the token: `abort`, `hang`, `fatal` (the
//! device fails), `garbage` (bytes that are no frame), `nan`. `crash-at-start` and
//! `refuse` act before the engine is ready; with `slow` a step takes 10 ms.

#[cfg(target_os = "linux")]
fn main() {
    linux::run();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("hash_engine is for tests on Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use sostenuto_engine::remote::{EngineEnd, tie_to_parent};
    use sostenuto_engine::testing::{HashExecutor, HashExecutorError};
    use sostenuto_engine::{Engine, Executor, ExecutorError, ExecutorLimits, StepPlan};

    const VOCAB_SIZE: usize = 50;

    fn limits() -> ExecutorLimits {
        ExecutorLimits {
            max_step_rows: 96,
            max_logit_rows: 64,
            max_chunk: 16,
            max_sequences: 64,
            max_context: 1_024,
            num_blocks: 64 * 64,
            ..HashExecutor::small_limits()
        }
    }

    pub(super) fn run() {
        let mut arguments = std::env::args().skip(1);
        let parent = arguments.next().and_then(|text| text.parse().ok()).expect("the parent's process id");
        tie_to_parent(parent).expect("the parent lives");
        let faults: Vec<String> = arguments.collect();
        let has = |name: &str| faults.iter().any(|fault| fault == name);
        if has("crash-at-start") {
            std::process::abort();
        }
        let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input is open");
        let front = EngineEnd::open(UnixStream::from(socket), || std::process::exit(3)).expect("threads");
        if has("refuse") {
            return front.refuse("no such model".to_owned());
        }
        let token_of = |name: &str| {
            let of_name = |fault: &String| fault.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
            faults.iter().find_map(of_name)
        };
        let limits = limits();
        let mut hash = HashExecutor::new(VOCAB_SIZE, limits);
        if let Some(token) = token_of("nan") {
            hash = hash.with_nan_token(token);
        }
        let executor = FaultyExecutor {
            hash,
            slow: has("slow"),
            abort: token_of("abort"),
            hang: token_of("hang"),
            fatal: token_of("fatal"),
            garbage: token_of("garbage"),
        };
        let options = EngineEnd::options(limits.max_sequences, limits.sequence_capacity());
        let engine = Engine::start_observed(executor, options, front.observer()).expect("limits that work");
        if front.serve(engine).is_err() {
            std::process::exit(1);
        }
    }

    /// Computes hashes, and does what a token asks for.
    struct FaultyExecutor {
        hash: HashExecutor,
        slow: bool,
        abort: Option<u32>,
        hang: Option<u32>,
        fatal: Option<u32>,
        garbage: Option<u32>,
    }

    impl Executor for FaultyExecutor {
        fn vocab_size(&self) -> usize {
            self.hash.vocab_size()
        }

        fn limits(&self) -> ExecutorLimits {
            self.hash.limits()
        }

        fn execute(&mut self, plan: &StepPlan) -> Result<(), ExecutorError> {
            if self.slow {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let holds = |token: Option<u32>| token.is_some_and(|token| plan.token_ids.contains(&token));
            if holds(self.abort) {
                std::process::abort();
            }
            while holds(self.hang) {
                std::thread::park();
            }
            if holds(self.fatal) {
                let source = std::sync::Arc::new(HashExecutorError::Fault { step: 0 });
                return Err(ExecutorError::Device { source });
            }
            if holds(self.garbage) {
                let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input is open");
                File::from(socket).write_all(&[0xa5; 64]).expect("the front listens");
            }
            self.hash.execute(plan)
        }

        fn logits(&mut self, logit_row: usize, out: &mut [f32]) -> Result<(), ExecutorError> {
            self.hash.logits(logit_row, out)
        }
    }
}
