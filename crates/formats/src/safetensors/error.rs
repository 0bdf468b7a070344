use std::io;

use crate::safetensors::{MAX_HEADER_BYTES, MAX_NAME_BYTES, MAX_RANK, MAX_TENSORS, PREFIX_BYTES};
use crate::tensor::Dtype;

/// Why a safetensors file is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields are the facts that each message names
pub enum SafetensorsError {
    /// Shorter than the length prefix.
    #[error(
        "file too short for a safetensors header: expected at least {PREFIX_BYTES} bytes, found {file_len}"
    )]
    TooShort { file_len: u64 },
    /// The header's length is beyond the bound.
    #[error("header length: expected at most {MAX_HEADER_BYTES} bytes, found {header_len}")]
    HeaderTooLong { header_len: u64 },
    /// The header reaches beyond the file.
    #[error("truncated header: expected {header_len} bytes after the length, found {found}")]
    HeaderPastEnd { header_len: u64, found: u64 },
    /// The header is no JSON object of tensor descriptions.
    #[error(
        "header is not valid: expected a JSON object of {{dtype, shape, data_offsets}} by tensor name, found: {reason}"
    )]
    HeaderJson { reason: String },
    /// More tensors than the bound.
    #[error("too many tensors: expected at most {MAX_TENSORS}, found more")]
    TooManyTensors,
    /// A name longer than the bound, or empty.
    #[error("tensor name {start:?}…: expected 1 to {MAX_NAME_BYTES} bytes, found {len}")]
    NameLength { start: String, len: usize },
    /// The same name twice.
    #[error("tensor {name:?}: expected to be described once, found twice")]
    DuplicateTensor { name: String },
    /// A description whose fields are of the wrong kind.
    #[error("tensor {name:?}: expected {{dtype, shape, data_offsets: [begin, end]}}, found: {reason}")]
    Entry { name: String, reason: String },
    /// An element type that is not known.
    #[error("tensor {name:?}: expected one of the element types {known}, found {found:?}", known = known_dtypes())]
    UnknownDtype { name: String, found: String },
    /// More dimensions than the bound.
    #[error("tensor {name:?}: expected at most {MAX_RANK} dimensions, found {found}")]
    Rank { name: String, found: usize },
    /// The number of bytes does not fit the machine.
    #[error(
        "tensor {name:?}: absurd size: expected a byte count below 2^63, found shape {shape:?} of {dtype}"
    )]
    SizeOverflow { name: String, dtype: Dtype, shape: Vec<u64> },
    /// Begin after end.
    #[error("tensor {name:?}: expected data_offsets begin <= end, found [{begin}, {end}]")]
    ReversedRange { name: String, begin: u64, end: u64 },
    /// Shape and byte range do not agree.
    #[error(
        "tensor {name:?}: expected {expected} bytes for shape {shape:?} of {dtype}, found data_offsets of {found} bytes"
    )]
    ByteRange { name: String, dtype: Dtype, shape: Vec<u64>, expected: u64, found: u64 },
    /// The tensor reaches beyond the file: a truncated file or a wrong offset.
    #[error("tensor {name:?}: truncated file: expected {end} bytes of data, found {data_len}")]
    PastEnd { name: String, end: u64, data_len: u64 },
    /// Two tensors share bytes.
    #[error("tensor {name:?}: overlaps {other:?}: expected to begin at {expected}, found {begin}")]
    Overlap { name: String, other: String, expected: u64, begin: u64 },
    /// Bytes between two tensors that belong to none.
    #[error("tensor {name:?}: gap before it: expected to begin at {expected}, found {begin}")]
    Gap { name: String, expected: u64, begin: u64 },
    /// Bytes after the last tensor.
    #[error("file too long: expected {expected} bytes of tensor data, found {found}")]
    TrailingBytes { expected: u64, found: u64 },
    /// The file's length changed between two looks at it.
    #[error("file changed while it was opened: expected {expected} bytes, found {found}")]
    LengthChanged { expected: u64, found: u64 },
    /// The header could not be read.
    #[error("cannot read the header: {0}")]
    Io(#[from] io::Error),
}

fn known_dtypes() -> String {
    Dtype::NAMES.map(|(_, name)| name).join(", ")
}
