use std::collections::BTreeMap;

use serde_json::Value;

use crate::json::{describe, parse_strict};
use crate::safetensors::{MAX_NAME_BYTES, MAX_TENSORS};

/// Longest `model.safetensors.index.json` that is accepted, in bytes.
pub const MAX_INDEX_BYTES: u64 = 32 << 20;

/// Longest file name that an index may give, in bytes.
const MAX_FILE_NAME_BYTES: usize = 255;

/// Why an index of shards is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the fields are the facts that each message names
pub enum IndexError {
    /// Not JSON, or a tensor is named twice.
    #[error("expected a JSON object with weight_map, found: {reason}")]
    Json { reason: String },
    /// No `weight_map`, or one of another type, or an empty one.
    #[error("weight_map: expected an object of file name by tensor name, found {found}")]
    WeightMap { found: String },
    /// More tensors than the bound.
    #[error("weight_map: expected at most {MAX_TENSORS} tensors, found {found}")]
    TooManyTensors { found: usize },
    /// A tensor name longer than the bound, or empty.
    #[error("weight_map: tensor name {start:?}…: expected 1 to {MAX_NAME_BYTES} bytes, found {found}")]
    NameLength { start: String, found: usize },
    /// A file that is not a plain `*.safetensors` name: it could lie outside the folder.
    #[error("tensor {name:?}: expected the plain name of a .safetensors file in this folder, found {found}")]
    FileName { name: String, found: String },
}

/// Which shard holds which tensor: `model.safetensors.index.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Parses and checks an index.
    ///
    /// # Errors
    /// The first violation; in particular a file name that is a path.
    pub fn parse(json: &[u8]) -> Result<ShardIndex, IndexError> {
        let value = parse_strict(json).map_err(|error| IndexError::Json { reason: error.to_string() })?;
        let Value::Object(mut object) = value else {
            return Err(IndexError::Json { reason: describe(&value) });
        };
        let map = match object.remove("weight_map") {
            Some(Value::Object(map)) if !map.is_empty() => map,
            Some(other) => return Err(IndexError::WeightMap { found: describe(&other) }),
            None => return Err(IndexError::WeightMap { found: "nothing".to_owned() }),
        };
        if map.len() > MAX_TENSORS {
            return Err(IndexError::TooManyTensors { found: map.len() });
        }
        let weight_map =
            map.into_iter().map(|(name, file)| check_entry(name, &file)).collect::<Result<_, _>>()?;
        Ok(ShardIndex { weight_map })
    }

    /// Tensor names with their files, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.weight_map.iter().map(|(name, file)| (name.as_str(), file.as_str()))
    }

    /// The file that holds the tensor called `name`.
    pub fn shard_of(&self, name: &str) -> Option<&str> {
        self.weight_map.get(name).map(String::as_str)
    }

    /// For each file, sorted by name: how many tensors it holds, and the first one's name.
    pub fn shards(&self) -> BTreeMap<&str, (usize, &str)> {
        let mut shards = BTreeMap::new();
        for (name, file) in self.entries() {
            shards.entry(file).or_insert((0, name)).0 += 1;
        }
        shards
    }
}

fn check_entry(name: String, file: &Value) -> Result<(String, String), IndexError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(IndexError::NameLength { start: name.chars().take(32).collect(), found: name.len() });
    }
    match file.as_str().filter(|file| is_plain_file_name(file)) {
        Some(file) => Ok((name, file.to_owned())),
        None => Err(IndexError::FileName { name, found: describe(file) }),
    }
}

fn is_plain_file_name(file: &str) -> bool {
    file.len() <= MAX_FILE_NAME_BYTES
        && file.len() > ".safetensors".len()
        && file.ends_with(".safetensors")
        && !file.contains(['/', '\\', '\0', ':'])
}
