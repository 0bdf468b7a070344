//! Sends the requests of a run: in an open loop at times that do not depend on the answers, or in a closed loop, each
//! after the end of another.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::exchange::exchange;
use super::goodput::Goals;
use super::tally::Tally;
use super::workload::Workload;
use crate::client::Client;
use crate::error::CliError;

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// At random times, so many per second on average.
    Open {
        /// Requests per second.
        rate: f64,
        /// See [`Arrivals`].
        burstiness: f64,
        /// Requests are sent at whole multiples of this, the first that is not before they are due.
        tick: Duration,
        /// Requests under way at most; one that is due beyond it is counted and not sent.
        max_in_flight: usize,
    },
    /// So many at a time.
    Closed {
        /// Requests under way.
        concurrency: usize,
    },
}

/// When no further request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Until {
    /// After so many.
    Requests(u64),
    /// After so long; what is under way then is waited for.
    Elapsed(Duration),
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Whom to ask.
    pub(crate) client: Client,
    /// What to ask.
    pub(crate) workload: Workload,
    /// How requests follow each other.
    pub(crate) pace: Pace,
    /// When no further one is sent.
    pub(crate) until: Until,
    /// Time for one request.
    pub(crate) timeout: Duration,
}

/// What the tasks of a run share.
struct Shared {
    run: Run,
    next: AtomicU64,
    start: Instant,
    tally: Mutex<Tally>,
    /// The first failure to write the CSV file.
    write_error: Mutex<Option<io::Error>>,
}

impl Run {
    /// Sends everything, waits for it, and returns what came of it. `progress` is called now and then with the tally.
    /// Ends early, with what there is, when `stop` is done.
    ///
    /// # Errors
    /// A rate that is none, or a CSV file that can't be written.
    pub(crate) async fn drive(
        self,
        goals: Goals,
        csv: Option<&Path>,
        mut progress: impl FnMut(&Tally),
        stop: impl Future<Output = ()>,
    ) -> Result<Tally, CliError> {
        let tally = Tally::new(goals, csv).map_err(|error| cannot_write(csv, &error))?;
        let shared = Arc::new(Shared {
            next: AtomicU64::new(0),
            start: Instant::now(),
            tally: Mutex::new(tally),
            write_error: Mutex::new(None),
            run: self,
        });
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let (mut sending, mut stop) = (Box::pin(send_all(Arc::clone(&shared))), std::pin::pin!(stop));
        loop {
            tokio::select! {
                result = &mut sending => break result?,
                () = &mut stop => break,
                _ = tick.tick() => progress(&shared.tally()),
            }
        }
        // Ends the tasks that were stopped, and with them their hold on the tally.
        drop(sending);
        let mut tally = shared.tally();
        let written = tally.finish();
        let failed = shared.write_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        written.and(failed.map_or(Ok(()), Err)).map_err(|error| cannot_write(csv, &error))?;
        progress(&tally);
        let empty = Tally::new(Goals::default(), None)?;
        Ok(std::mem::replace(&mut *tally, empty))
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next request, if there is to be one.
    fn next_index(&self) -> Option<u64> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let goes_on = match self.run.until {
            Until::Requests(count) => index < count,
            Until::Elapsed(time) => self.start.elapsed() < time,
        };
        goes_on.then_some(index)
    }

    /// Sends the request `index`, which was due `late` ago, and records what comes of it.
    async fn ask(&self, index: u64, late: Duration) {
        let body = self.run.workload.request(index);
        self.tally().send(late);
        let sent = Instant::now();
        let outcome = exchange(&self.run.client, &body, self.run.timeout).await;
        if let Err(error) = self.tally().record(index, sent, &outcome) {
            self.write_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

async fn send_all(shared: Arc<Shared>) -> Result<(), CliError> {
    match shared.run.pace {
        Pace::Open { rate, burstiness, tick, max_in_flight } => {
            let arrivals = Arrivals::new(rate, burstiness, shared.run.workload.seed)?;
            send_open(shared, arrivals, tick, max_in_flight).await;
        }
        Pace::Closed { concurrency } => send_closed(shared, concurrency).await,
    }
    Ok(())
}

async fn send_open(shared: Arc<Shared>, arrivals: Arrivals, tick: Duration, max_in_flight: usize) {
    let permits = Arc::new(Semaphore::new(max_in_flight));
    let (due_requests, queue) = mpsc::channel(max_in_flight);
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    let idle = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for due_after in arrivals {
        let due = shared.start + due_after;
        if matches!(shared.run.until, Until::Elapsed(time) if due >= shared.start + time) {
            break;
        }
        tokio::time::sleep_until(shared.start + next_tick(due_after, tick)).await;
        let Some(index) = shared.next_index() else { break };
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => {
                let one_less = |count: usize| count.checked_sub(1);
                if idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
                    tasks.spawn(ask_in_turn(Arc::clone(&shared), Arc::clone(&queue), Arc::clone(&idle)));
                }
                let sent = due_requests.try_send((index, due, permit));
                assert!(sent.is_ok(), "the channel has a place for each permit");
            }
            Err(_) => shared.tally().unsent += 1,
        }
    }
    drop(due_requests);
    while tasks.join_next().await.is_some() {}
}

/// The first whole multiple of `tick` from `time` on; `time` itself if there are no ticks.
fn next_tick(time: Duration, tick: Duration) -> Duration {
    match tick.as_nanos() {
        0 => time,
        nanos => tick * u32::try_from(time.as_nanos().div_ceil(nanos)).unwrap_or(u32::MAX),
    }
}

/// A request that is due, and its permit.
type DueRequest = (u64, Instant, OwnedSemaphorePermit);

/// Sends requests from the queue one after the other. Refusals end at once, and a task for each would cost more than they do.
async fn ask_in_turn(
    shared: Arc<Shared>,
    queue: Arc<tokio::sync::Mutex<mpsc::Receiver<DueRequest>>>,
    idle: Arc<AtomicUsize>,
) {
    loop {
        let next = queue.lock().await.recv().await;
        let Some((index, due, permit)) = next else { return };
        shared.ask(index, due.elapsed()).await;
        drop(permit);
        idle.fetch_add(1, Ordering::Relaxed);
    }
}

async fn send_closed(shared: Arc<Shared>, concurrency: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency {
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            while let Some(index) = shared.next_index() {
                shared.ask(index, Duration::ZERO).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn cannot_write(csv: Option<&Path>, error: &io::Error) -> CliError {
    let path = csv.map(|path| path.display().to_string()).unwrap_or_default();
    CliError::new(format!("cannot write {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_not_before_what_is_due() {
        let ms = Duration::from_millis;
        for (time, tick, expected) in [(7, 0, 7), (0, 4, 0), (1, 4, 4), (4, 4, 4), (5, 4, 8)] {
            assert_eq!(next_tick(ms(time), ms(tick)), ms(expected), "{time} ms, ticks of {tick} ms");
        }
    }
}
