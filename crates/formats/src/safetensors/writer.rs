use std::collections::BTreeMap;

use serde_json::json;

use super::PREFIX_BYTES;
use crate::weights::TensorSpec;

/// The start of a safetensors file whose data are `tensors` in this order: length prefix and JSON header, padded with
/// spaces so that the data begin at a multiple of 8 bytes, as Hugging Face's writer does.
pub fn encode_header(tensors: &[TensorSpec]) -> Vec<u8> {
    let mut entries = BTreeMap::new();
    let mut begin = 0;
    for spec in tensors {
        let end = begin + spec.size_bytes();
        let entry = json!({ "dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [begin, end] });
        entries.insert(spec.name.as_str(), entry);
        begin = end;
    }
    assert_eq!(entries.len(), tensors.len(), "tensor names are unique");
    entries.insert("__metadata__", json!({ "format": "pt" }));
    let mut header = serde_json::to_vec(&entries).expect("JSON values always serialise");
    header.resize(header.len().next_multiple_of(PREFIX_BYTES), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.append(&mut header);
    file
}
