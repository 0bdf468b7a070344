//! What breaks the op contract.

use crate::spec::{BufferId, BufferKind, KvLayerId, ProgramId, WeightFormat, WeightId};

/// A spec, program, step or transfer that breaks the contract: a bug of the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// No such buffer.
    #[error("{op}: {id:?} does not exist, {count} buffers do")]
    UnknownBuffer {
        /// Op, or `transfer`.
        op: &'static str,
        /// The id asked for.
        id: BufferId,
        /// How many there are.
        count: usize,
    },
    /// No such weight.
    #[error("{op}: {id:?} does not exist, {count} weights do")]
    UnknownWeight {
        /// Op.
        op: &'static str,
        /// The id asked for.
        id: WeightId,
        /// How many there are.
        count: usize,
    },
    /// No such layer in the KV store.
    #[error("{op}: {id:?} does not exist, the KV store has {count} layers")]
    UnknownKvLayer {
        /// Op.
        op: &'static str,
        /// The id asked for.
        id: KvLayerId,
        /// How many there are.
        count: usize,
    },
    /// No such program.
    #[error("{id:?} does not exist, {count} programs do")]
    UnknownProgram {
        /// The id asked for.
        id: ProgramId,
        /// How many there are.
        count: usize,
    },
    /// The KV store was created a second time.
    #[error("the KV store exists already")]
    KvExists,
    /// The element type of a buffer is not the one needed.
    #[error("{op}: buffer {buffer} must hold {expected:?}, it holds {got:?}")]
    BufferKind {
        /// Op, or `transfer`.
        op: &'static str,
        /// Buffer name.
        buffer: &'static str,
        /// Kind needed.
        expected: BufferKind,
        /// Kind it has.
        got: BufferKind,
    },
    /// A weight's storage format is not the one needed.
    #[error("{op}: weight {weight} must be {expected:?}, it is {got:?}")]
    WeightFormat {
        /// Op.
        op: &'static str,
        /// Weight name.
        weight: String,
        /// Format needed.
        expected: WeightFormat,
        /// Format it has.
        got: WeightFormat,
    },
    /// Two sizes that belong together differ.
    #[error("{op}: {what} of {name} must be {expected}, got {got}")]
    Size {
        /// Op, or what was being created.
        op: &'static str,
        /// Which size.
        what: &'static str,
        /// Of which buffer or weight.
        name: String,
        /// Size needed.
        expected: usize,
        /// Size it has.
        got: usize,
    },
    /// A number breaks a rule.
    #[error("{op}: {what} {got} breaks the rule: {rule}")]
    Rule {
        /// Op, or what was being created.
        op: &'static str,
        /// Which number.
        what: &'static str,
        /// The number.
        got: usize,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// An op reads and writes the same buffer where it may not.
    #[error("{op}: buffer {buffer} is both read and written")]
    Aliased {
        /// Op.
        op: &'static str,
        /// Buffer name.
        buffer: &'static str,
    },
    /// A window on a full layer, or none on a sliding one.
    #[error("attention: window {window:?} on {layer:?}, which is {kind}")]
    Window {
        /// The layer.
        layer: KvLayerId,
        /// The op's window.
        window: Option<usize>,
        /// `full` or `sliding`.
        kind: &'static str,
    },
    /// A list of the step has the wrong length.
    #[error("step: {field} has {got} entries, {expected} expected")]
    StepLength {
        /// Which list.
        field: &'static str,
        /// Length needed.
        expected: usize,
        /// Length it has.
        got: usize,
    },
    /// The step is larger than the buffers of the program.
    #[error("step: {got} {what}, the program's buffers hold {limit}")]
    StepTooLarge {
        /// `rows` or `logit rows`.
        what: &'static str,
        /// Number in the step.
        got: usize,
        /// Most there may be.
        limit: usize,
    },
    /// An entry of the step lies outside its range.
    #[error("step: {field}[{index}] is {got}, it must be below {limit}")]
    StepRange {
        /// Which list.
        field: &'static str,
        /// Where in it.
        index: usize,
        /// The entry.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// Entries of the step are out of order.
    #[error("step: {field}[{index}] is {got}: {rule}")]
    StepOrder {
        /// Which list.
        field: &'static str,
        /// Where in it.
        index: usize,
        /// The entry.
        got: usize,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A sequence has more rows in the step than its rings allow.
    #[error(
        "step: sequence {sequence} has {rows} rows; a ring of {ring_slots} slots and a window of {window} allow {limit}"
    )]
    RingTooSmall {
        /// The sequence.
        sequence: usize,
        /// Its rows in the step.
        rows: usize,
        /// Slots of a ring.
        ring_slots: usize,
        /// Widest window.
        window: usize,
        /// Most rows there may be.
        limit: usize,
    },
    /// A copy within the KV store names something that does not exist.
    #[error("copy {index}: {what} {got} must be below {limit}")]
    CopyRange {
        /// Which copy of the list.
        index: usize,
        /// `block`, `ring` or `snapshot`.
        what: &'static str,
        /// Its number.
        got: u32,
        /// How many there are.
        limit: usize,
    },
    /// A block would be copied to itself.
    #[error("copy {index}: block {block} to itself")]
    CopyToItself {
        /// Which copy of the list.
        index: usize,
        /// The block.
        block: u32,
    },
    /// A transfer that is not whole rows, or reaches beyond the buffer.
    #[error("transfer: {len} elements from row {first_row} of {buffer}, which has {rows} rows of {width}")]
    Transfer {
        /// Buffer name.
        buffer: &'static str,
        /// First row.
        first_row: usize,
        /// Elements.
        len: usize,
        /// Rows of the buffer.
        rows: usize,
        /// Width of the buffer.
        width: usize,
    },
}
