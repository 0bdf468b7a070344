use serde_json::{Map, Value};

use super::ConfigError;
use crate::json::{describe, parse_strict};

/// Longest `config.json` or `generation_config.json` that is accepted, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A JSON object read field by field; a field that is `null` counts as not there.
pub(super) struct Fields {
    /// Put before names in errors: empty, or the object's own name and a dot.
    prefix: &'static str,
    map: Map<String, Value>,
}

impl Fields {
    pub(super) fn parse(json: &[u8]) -> Result<Fields, ConfigError> {
        if json.len() as u64 > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { found: json.len() as u64 });
        }
        match parse_strict(json) {
            Ok(Value::Object(map)) => Ok(Fields { prefix: "", map }),
            Ok(other) => Err(ConfigError::Json { reason: describe(&other) }),
            Err(error) => Err(ConfigError::Json { reason: error.to_string() }),
        }
    }

    /// The object under `key`, whose fields are called `prefix` + name in errors.
    pub(super) fn object(
        &self,
        key: &str,
        prefix: &'static str,
        expected: &'static str,
    ) -> Result<Option<Fields>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields { prefix, map: map.clone() })),
            Some(other) => Err(self.wrong_type(key, expected, other)),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn size(&self, key: &str) -> Result<usize, ConfigError> {
        self.size_opt(key)?.ok_or_else(|| self.missing(key, "a whole number"))
    }

    pub(super) fn size_opt(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let parse = |value: &Value| {
            value.as_u64().map(|n| n as usize).ok_or_else(|| self.wrong_type(key, "a whole number", value))
        };
        self.get(key).map(parse).transpose()
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, ConfigError> {
        self.number_opt(key)?.ok_or_else(|| self.missing(key, "a number"))
    }

    pub(super) fn number_opt(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let parse = |value: &Value| value.as_f64().ok_or_else(|| self.wrong_type(key, "a number", value));
        self.get(key).map(parse).transpose()
    }

    pub(super) fn bool_opt(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let parse =
            |value: &Value| value.as_bool().ok_or_else(|| self.wrong_type(key, "true or false", value));
        self.get(key).map(parse).transpose()
    }

    /// A token id, or a list of them.
    pub(super) fn token_ids_opt(&self, key: &str) -> Result<Option<Vec<u32>>, ConfigError> {
        let expected = "a token id or a list of token ids";
        let id = |value: &Value| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| self.wrong_type(key, expected, value))
        };
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(values)) => values.iter().map(id).collect::<Result<_, _>>().map(Some),
            Some(value) => Ok(Some(vec![id(value)?])),
        }
    }

    pub(super) fn token_id_opt(&self, key: &str) -> Result<Option<u32>, ConfigError> {
        let id = |value: &Value| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| self.wrong_type(key, "a token id", value))
        };
        self.get(key).map(id).transpose()
    }

    /// If `key` is there, it must equal `expected`, the value of the field called `other`.
    pub(super) fn agrees(&self, key: &str, other: &'static str, expected: usize) -> Result<(), ConfigError> {
        match self.size_opt(key)? {
            Some(found) if found != expected => {
                Err(ConfigError::Disagree { field: self.name(key), other, expected, found })
            }
            _ => Ok(()),
        }
    }

    /// If `key` is there, it must be the string `expected`.
    pub(super) fn only(&self, key: &str, expected: &'static str) -> Result<(), ConfigError> {
        match self.get(key) {
            Some(value) if value.as_str() != Some(expected) => {
                Err(ConfigError::unsupported(self.name(key), expected, describe(value)))
            }
            _ => Ok(()),
        }
    }

    /// As [`Fields::only`], and the field must be there.
    pub(super) fn must_be(&self, key: &str, expected: &'static str) -> Result<(), ConfigError> {
        if !self.has(key) {
            return Err(self.missing(key, expected));
        }
        self.only(key, expected)
    }

    pub(super) fn missing(&self, key: &str, expected: &'static str) -> ConfigError {
        ConfigError::Missing { field: self.name(key), expected }
    }

    pub(super) fn wrong_type(&self, key: &str, expected: &'static str, found: &Value) -> ConfigError {
        ConfigError::WrongType { field: self.name(key), expected, found: describe(found) }
    }

    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}
