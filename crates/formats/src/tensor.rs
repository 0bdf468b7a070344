//! Element types and a tensor's view.

use std::fmt;

use crate::bytes::SharedBytes;
use crate::codes::bf16_bytes_to_f32;

/// Element type of a tensor in a safetensors file; every type whose elements are whole bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the names are the container's own
pub enum Dtype {
    Bool,
    U8,
    I8,
    F8E4M3,
    F8E5M2,
    F8E8M0,
    U16,
    I16,
    F16,
    Bf16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
}

impl Dtype {
    /// All types, with the name the container gives them.
    pub const NAMES: [(Dtype, &'static str); 16] = [
        (Dtype::Bool, "BOOL"),
        (Dtype::U8, "U8"),
        (Dtype::I8, "I8"),
        (Dtype::F8E4M3, "F8_E4M3"),
        (Dtype::F8E5M2, "F8_E5M2"),
        (Dtype::F8E8M0, "F8_E8M0"),
        (Dtype::U16, "U16"),
        (Dtype::I16, "I16"),
        (Dtype::F16, "F16"),
        (Dtype::Bf16, "BF16"),
        (Dtype::U32, "U32"),
        (Dtype::I32, "I32"),
        (Dtype::F32, "F32"),
        (Dtype::U64, "U64"),
        (Dtype::I64, "I64"),
        (Dtype::F64, "F64"),
    ];

    /// The type that the container calls `name`.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(dtype, _)| *dtype)
    }

    /// The container's name of this type.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// Bytes of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2 | Dtype::F8E8M0 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One tensor of an opened file: its bytes belong to the file's mapping or are the tensor's own, and may be kept by
/// cloning.
#[derive(Clone, Debug)]
pub struct TensorView {
    /// Name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, slowest dimension first; row-major and without holes.
    pub shape: Vec<usize>,
    /// Little-endian elements; exactly product(shape) × element size. Any alignment is possible.
    pub bytes: SharedBytes,
}

impl TensorView {
    /// Number of elements: the product of the shape.
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements of a bf16 tensor, widened; `None` for any other type.
    pub fn bf16_to_f32(&self) -> Option<Vec<f32>> {
        if self.dtype != Dtype::Bf16 {
            return None;
        }
        let mut values = vec![0.0; self.num_elements()];
        bf16_bytes_to_f32(&self.bytes, &mut values);
        Some(values)
    }
}
