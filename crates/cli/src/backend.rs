//! The only place that chooses a backend.

use sostenuto_ops::Backend;

use crate::error::CliError;
use crate::model_args::ModelArgs;

/// The backend that the arguments ask for.
pub(crate) fn choose(_args: &ModelArgs) -> Result<Box<dyn Backend>, CliError> {
    Ok(Box::new(sostenuto_ops::scalar::ScalarBackend::new()))
}
