//! Errors of loading a model.

use sostenuto_formats::CheckpointError;
use sostenuto_ops::{ContractError, DeviceError};

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A weight can't be read, or is none.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A model under these limits can't be put on any device.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The system starts no further thread.
    #[error("no thread can be started to find the weights: {reason}")]
    Thread {
        /// What the system says.
        reason: String,
    },
    /// A limit can't be kept.
    #[error("{field} is {value}; {rule}")]
    Limit {
        /// Field of [`crate::ModelLimits`].
        field: &'static str,
        /// Its value.
        value: usize,
        /// What it must be.
        rule: String,
    },
}
