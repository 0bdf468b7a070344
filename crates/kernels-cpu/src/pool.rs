//! Threads that run one parallel region at a time.

// A region's closure lives on the stack of the thread that waits for it.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};

use crate::isa::CpuError;
use crate::numa::Nodes;

/// Looks for work before a worker parks: some tens of microseconds.
const WORKER_SPINS: usize = 10_000;

/// Looks for the workers' end before the caller yields between looks.
const CALLER_SPINS: usize = 10_000;

/// Most threads.
pub(crate) const MAX_THREADS: usize = 1_024;

/// Of a pool's state: whether workers may enter the region.
const OPEN: u64 = 1 << 11;

/// Of a pool's state: the workers that are in the region.
const INSIDE: u64 = OPEN - 1;

/// The number of a state's region.
fn number(state: u64) -> u64 {
    state / (2 * OPEN)
}

/// A region: called once per task with the task's and the thread's number.
type Region<'a> = &'a (dyn Fn(usize, usize) + Sync + 'a);

/// Threads of a backend. The thread that calls [`Pool::run`] is number 0 and works too.
///
/// Workers look for a region for a short while and then park. Starting a region allocates nothing and takes no lock. Nobody waits
/// for a worker that has not entered the region when all its tasks are taken, for example because another process has its
/// core.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
}

struct Shared {
    /// The present region; written by the caller while it is closed and no worker is inside.
    region: UnsafeCell<Option<Region<'static>>>,
    /// Tasks of the region.
    tasks: AtomicUsize,
    /// The next task that no thread has taken.
    next: AtomicUsize,
    /// Number of the region, [`OPEN`] and [`INSIDE`].
    state: AtomicU64,
    /// Workers that have not come to life.
    starting: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `region` is written only while the state is closed with nobody inside, and read only by a worker that entered
// it while it was open; opening and entering are a release and acquire pair, and so are leaving and the caller's wait.
unsafe impl Sync for Shared {}
// SAFETY: the region is `Sync`, so a reference to it may be sent.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts `threads - 1` workers, spread over the memory nodes.
    ///
    /// # Errors
    /// [`CpuError::Threads`], [`CpuError::ThreadStart`].
    pub(crate) fn new(threads: usize, nodes: &Nodes) -> Result<Self, CpuError> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(CpuError::Threads { got: threads, limit: MAX_THREADS });
        }
        let shared = Arc::new(Shared {
            region: UnsafeCell::new(None),
            tasks: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            state: AtomicU64::new(0),
            starting: AtomicUsize::new(threads - 1),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::new() };
        for index in 1..threads {
            let (shared, nodes) = (Arc::clone(&pool.shared), nodes.clone());
            let handle = thread::Builder::new()
                .name(format!("kernels-{index}"))
                .spawn(move || {
                    nodes.keep_thread(index);
                    shared.work(index);
                })
                .map_err(|error| CpuError::ThreadStart { index, reason: error.to_string() })?;
            pool.workers.push((handle.thread().clone(), Some(handle)));
        }
        // What a thread allocates when it starts is behind it before the first region.
        wait_until(|| pool.shared.starting.load(Ordering::Acquire) == 0);
        Ok(pool)
    }

    /// Threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `region(task, thread)` for every task below `tasks`, on all threads; returns when all are done.
    ///
    /// # Panics
    /// If a task did.
    pub(crate) fn run(&mut self, tasks: usize, region: Region<'_>) {
        if self.workers.is_empty() || tasks <= 1 {
            (0..tasks).for_each(|task| region(task, 0));
            return;
        }
        let shared = &*self.shared;
        let before = shared.state.load(Ordering::Acquire);
        assert_eq!(before & (OPEN | INSIDE), 0, "one region at a time");
        // SAFETY: the lifetime is only forgotten: `Close` keeps this call from returning or unwinding before every
        // worker that entered is done with the region. No worker is in a region now, so nobody reads the cell.
        unsafe {
            *shared.region.get() = Some(std::mem::transmute::<Region<'_>, Region<'static>>(region));
        }
        shared.tasks.store(tasks, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        shared.state.store(before + 2 * OPEN + OPEN, Ordering::Release);
        for (worker, _) in &self.workers {
            worker.unpark();
        }
        let close = Close(shared);
        shared.take_tasks(region, 0);
        drop(close);
        assert!(!shared.panicked.load(Ordering::Acquire), "a kernel panicked on a worker thread");
    }
}

impl Pool {
    /// As [`Pool::run`]; on the caller's thread alone unless `parallel`.
    pub(crate) fn run_if(&mut self, parallel: bool, tasks: usize, region: Region<'_>) {
        if parallel {
            self.run(tasks, region);
        } else {
            (0..tasks).for_each(|task| region(task, 0));
        }
    }
}

/// Closes the region when dropped and waits for the workers inside, so that an unwinding caller does too.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::Relaxed);
        wait_until(|| self.0.state.load(Ordering::Acquire) & INSIDE == 0);
    }
}

/// Spins for a while, then yields between looks.
fn wait_until(condition: impl Fn() -> bool) {
    let mut spins = 0;
    while !condition() {
        spins += 1;
        if spins < CALLER_SPINS {
            std::hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
}

impl Shared {
    /// A worker's life.
    fn work(&self, thread: usize) {
        let mut seen = 0;
        self.starting.fetch_sub(1, Ordering::Release);
        while let Some(entered) = self.enter_region(seen) {
            seen = entered;
            // SAFETY: the caller wrote the region before it opened it, and waits for this worker, which is inside.
            let region = unsafe { *self.region.get() }.expect("an open region is there");
            if catch_unwind(AssertUnwindSafe(|| self.take_tasks(region, thread))).is_err() {
                self.panicked.store(true, Ordering::Release);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// Enters a region other than `seen`, as soon as one is open, and returns its number; `None` when the pool stops.
    fn enter_region(&self, seen: u64) -> Option<u64> {
        let mut spins = 0;
        while !self.stop.load(Ordering::Acquire) {
            let state = self.state.load(Ordering::Relaxed);
            if state & OPEN != 0 && number(state) != seen {
                let entered =
                    self.state.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
                if entered.is_ok() {
                    return Some(number(state));
                }
                continue;
            }
            spins += 1;
            if spins < WORKER_SPINS {
                std::hint::spin_loop();
            } else {
                thread::park();
            }
        }
        None
    }

    fn take_tasks(&self, region: Region<'_>, thread: usize) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            region(task, thread);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for (worker, handle) in &mut self.workers {
            worker.unpark();
            if let Some(handle) = handle.take() {
                // A worker catches what its tasks throw, so there is no panic to pass on.
                let _ = handle.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_in_every_region() {
        for threads in [1, 2, 3, 8] {
            let mut pool = Pool::new(threads, &Nodes::detect()).unwrap();
            for tasks in [0, 1, 2, 7, 100] {
                for _ in 0..20 {
                    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(tasks, &|task, thread| {
                        assert!(thread < threads);
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn panic_of_a_task_reaches_the_caller() {
        for threads in [1, 3] {
            let mut pool = Pool::new(threads, &Nodes::detect()).unwrap();
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, &|task, _| assert_ne!(task, 40, "task 40"));
            }));
            assert!(result.is_err());
        }
    }

    #[test]
    fn parked_workers_wake_for_the_next_region() {
        let mut pool = Pool::new(2, &Nodes::detect()).unwrap();
        for _ in 0..3 {
            // Long enough for the worker to park: wait until it has spun itself out, measured in its own spins.
            (0..50 * WORKER_SPINS).for_each(|_| std::hint::spin_loop());
            let count = AtomicUsize::new(0);
            pool.run(1_000, &|_, _| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.load(Ordering::Relaxed), 1_000);
        }
    }

    #[test]
    fn worker_that_does_not_come_is_not_waited_for() {
        let mut pool = Pool::new(2, &Nodes::detect()).unwrap();
        pool.shared.stop.store(true, Ordering::Release);
        let (worker, handle) = &mut pool.workers[0];
        worker.unpark();
        handle.take().unwrap().join().unwrap();
        let count = AtomicUsize::new(0);
        pool.run(10, &|_, thread| {
            assert_eq!(thread, 0);
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn absurd_thread_counts_are_refused() {
        for got in [0, MAX_THREADS + 1] {
            assert_eq!(
                Pool::new(got, &Nodes::detect()).err(),
                Some(CpuError::Threads { got, limit: MAX_THREADS })
            );
        }
    }
}
