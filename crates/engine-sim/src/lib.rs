//! Test only: the production scheduler and engine core under a fake model, a virtual clock, seeded users and faults.
//!
//! A seed decides everything: model shape and limits, what users ask for and when, what goes wrong. [`run_seed`] runs the
//! seed's steps and checks after each that
//!
//! - every logit row and token equals the request's solo run, computed from the fake model's definition;
//! - blocks, promises, the queue's load and evictions equal a naive account kept from block tables, rows and events;
//! - nobody writes what another reads, keys share nothing, a hit is the longest that there is;
//! - a request starts at most once, gives up its place at most once, and ends exactly once, for a reason that was due.
//!
//! A panic of the engine or of a check is a [`Violation`], which names the command that replays it.
//!
//! | Part | Is |
//! |---|---|
//! | `model` | the fake model's definition, and a sequence run alone |
//! | `device` | the same model on blocks, rings and window snapshots; faults |
//! | `scenario`, `traffic` | what a seed decides, and what users ask for |
//! | `record`, `journal` | what requests are owed and what they got |
//! | `ledger` | who holds which block and what is in it |
//! | `life`, `simulation`, `runner` | one engine; one seed; many seeds |

mod coverage;
mod device;
mod fairness;
mod journal;
mod ledger;
mod life;
mod model;
mod record;
mod rng;
mod runner;
mod scenario;
mod simulation;
mod traffic;

pub use coverage::Coverage;
pub use runner::{Violation, run_seed, run_seeds};
