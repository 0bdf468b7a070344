//! Bounded reading of JSON bodies.

use serde::de::DeserializeOwned;

use crate::{
    ValidationError,
    limits::{JSON_DEPTH, Limit},
};

/// Reads `body` as a `T`. Nesting is checked before anything is built, and a type error names the field.
///
/// # Errors
/// [`ValidationError::Limit`] (nesting), [`ValidationError::Syntax`], [`ValidationError::Type`].
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ValidationError> {
    check_depth(body, "", &JSON_DEPTH)?;
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => data_error(&path, &inner),
            _ => ValidationError::Syntax { message: inner.to_string() },
        }
    })?;
    json.end().map_err(|error| ValidationError::Syntax { message: error.to_string() })?;
    Ok(value)
}

/// A type error of the JSON reader, with the field's path as the parameter.
fn data_error(path: &str, error: &serde_json::Error) -> ValidationError {
    let param = if path == "." { "the request body" } else { path };
    ValidationError::Type { param: param.to_owned(), message: error.to_string() }
}

/// Refuses `json` when it nests deeper than `limit`. Does not check the syntax otherwise.
pub(crate) fn check_depth(json: &[u8], param: &str, limit: &'static Limit) -> Result<(), ValidationError> {
    let (mut depth, mut deepest) = (0u64, 0u64);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if deepest > limit.max {
        return Err(ValidationError::Limit { param: param.to_owned(), limit, got: deepest });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        [vec![b'['; depth], vec![b']'; depth]].concat()
    }

    #[test]
    fn nesting_is_allowed_up_to_the_limit_and_refused_beyond() {
        let limit = JSON_DEPTH.max as usize;
        for depth in [limit - 1, limit] {
            assert!(read::<Value>(&nested(depth)).is_ok(), "{depth}");
        }
        for depth in [limit + 1, limit * 10_000, limit * 1_000_000] {
            let got = depth as u64;
            assert_eq!(
                read::<Value>(&nested(depth)),
                Err(ValidationError::Limit { param: String::new(), limit: &JSON_DEPTH, got })
            );
        }
    }

    #[test]
    fn brackets_inside_strings_do_not_nest() {
        let text = format!("\"{}\\\"{}\"", "[".repeat(1_000), "{".repeat(1_000));
        assert!(read::<Value>(text.as_bytes()).is_ok());
    }

    #[test]
    fn text_after_the_document_is_refused() {
        assert!(matches!(read::<Value>(b"{} {}"), Err(ValidationError::Syntax { .. })));
    }
}
