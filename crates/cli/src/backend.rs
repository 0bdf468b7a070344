//! The only place that chooses a backend.

use clap::ValueEnum;
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions};
use sostenuto_ops::Backend;
use sostenuto_ops::scalar::ScalarBackend;

use crate::error::CliError;
use crate::model_args::ModelArgs;

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
        BackendKind::Cpu => {
            let defaults = CpuOptions::default();
            let threads = args.threads.map_or(defaults.threads, usize::from);
            let options = CpuOptions { threads, precision: args.mode.precision(), isa: None };
            Ok(Box::new(CpuBackend::new(options)?))
        }
        BackendKind::Scalar => Ok(Box::new(ScalarBackend::new())),
    }
}
