//! The only place that chooses a backend.

use clap::ValueEnum;
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions};
use sostenuto_ops::Backend;
use sostenuto_ops::scalar::ScalarBackend;

use crate::error::CliError;
use crate::model_args::{Mode, ModelArgs};

/// What runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendKind {
    /// The processor, with the best instruction set it has (SOSTENUTO_ISA forces a lower one).
    Cpu,
    /// The reference: one thread, sums in f64; slow, to compare with.
    Scalar,
}

/// The backend that the arguments ask for.
pub(crate) fn choose(args: &ModelArgs) -> Result<Box<dyn Backend>, CliError> {
    match args.backend {
        BackendKind::Cpu => cpu(args.threads, args.mode),
        BackendKind::Scalar => Ok(Box::new(ScalarBackend::new())),
    }
}

/// The processor with so many threads, or one for each core.
pub(crate) fn cpu(threads: Option<u16>, mode: Mode) -> Result<Box<dyn Backend>, CliError> {
    let threads = threads.map_or(CpuOptions::default().threads, usize::from);
    let options = CpuOptions { threads, precision: mode.precision(), isa: None };
    Ok(Box::new(CpuBackend::new(options)?))
}
