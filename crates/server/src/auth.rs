//! API keys.

use std::{fmt, path::Path};

use hyper::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::ServerError;

/// Shortest key that is accepted, in bytes.
const MIN_KEY_BYTES: usize = 16;

/// The keys that open `/v1`, kept as SHA-256.
#[derive(Clone, Default)]
pub struct ApiKeys {
    digests: Vec<[u8; 32]>,
}

impl ApiKeys {
    /// The keys in `text`, one a line; empty lines and lines that start with `#` are skipped. `source` names where
    /// they come from in errors.
    ///
    /// # Errors
    /// [`ServerError::WeakApiKey`] when a key is shorter than 16 bytes.
    pub fn parse(text: &str, source: &str) -> Result<ApiKeys, ServerError> {
        let mut digests = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if key.len() < MIN_KEY_BYTES {
                return Err(ServerError::WeakApiKey {
                    source_name: source.to_owned(),
                    line: index + 1,
                    bytes: key.len(),
                    min_bytes: MIN_KEY_BYTES,
                });
            }
            digests.push(Sha256::digest(key).into());
        }
        Ok(ApiKeys { digests })
    }

    /// The keys of a file that only its owner can read.
    ///
    /// # Errors
    /// [`ServerError::ApiKeyFile`], [`ServerError::ApiKeyFileMode`] when others may read it,
    /// [`ServerError::WeakApiKey`].
    pub fn from_file(path: &Path) -> Result<ApiKeys, ServerError> {
        let failed = |source| ServerError::ApiKeyFile { path: path.to_owned(), source };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(ServerError::ApiKeyFileMode { path: path.to_owned(), mode });
            }
        }
        ApiKeys::parse(&std::fs::read_to_string(path).map_err(failed)?, &path.display().to_string())
    }

    /// Whether there is no key, so that nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Which of the keys the request carries, as `Authorization: Bearer …` or `x-api-key`; none if it must carry one
    /// and does not. Where there are no keys, all requests are of the same [`KeyId`].
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Option<KeyId> {
        if self.is_empty() {
            return Some(KeyId::default());
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, key)| key);
        let plain = headers.get("x-api-key").map(|value| value.as_bytes());
        [bearer, plain].into_iter().flatten().find_map(|key| self.find(key.trim_ascii()))
    }

    /// Takes the same time whichever key it is, and whether or not it is one.
    fn find(&self, key: &[u8]) -> Option<KeyId> {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let hit = self.digests.iter().fold(Choice::from(0), |hit, known| hit | known.ct_eq(&digest));
        bool::from(hit).then(|| {
            let (head, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
            KeyId(u64::from_le_bytes(*head))
        })
    }
}

/// Tells the holders of keys apart: the first bytes of the key's hash, 0 where no key is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyId(pub(crate) u64);

impl fmt::Debug for ApiKeys {
    /// Shows how many there are, never what they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.digests.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "correct-horse-battery";

    fn identified(name: &'static str, value: &str) -> Option<KeyId> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        ApiKeys::parse(&format!("# mine\n\nanother-long-enough-key\n  {KEY} \n"), "test")
            .unwrap()
            .identify(&headers)
    }

    fn admitted(name: &'static str, value: &str) -> bool {
        identified(name, value).is_some()
    }

    #[test]
    fn holders_are_told_apart_by_their_keys_alone() {
        let mine = identified("x-api-key", KEY).unwrap();
        assert_eq!(identified("authorization", &format!("Bearer {KEY}")), Some(mine));
        let other = identified("x-api-key", "another-long-enough-key").unwrap();
        assert!(mine != other && mine != KeyId::default() && other != KeyId::default());
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", KEY.parse().unwrap());
        assert_eq!(ApiKeys::default().identify(&headers), Some(KeyId::default()), "nobody asks for a key");
    }

    #[test]
    fn key_is_admitted_under_both_headers() {
        assert!(admitted("authorization", &format!("Bearer {KEY}")));
        assert!(admitted("authorization", &format!("bearer {KEY}")));
        assert!(admitted("x-api-key", KEY));
    }

    /// text-generation-inference compared keys without regard to case.
    #[test]
    fn anything_but_the_exact_key_is_refused() {
        let wrong = [KEY.to_uppercase(), KEY[1..].to_owned(), format!("{KEY}x"), String::new(), "*".into()];
        for key in wrong {
            assert!(!admitted("authorization", &format!("Bearer {key}")), "{key}");
            assert!(!admitted("x-api-key", &key), "{key}");
        }
        assert!(!admitted("authorization", KEY));
        assert!(!admitted("authorization", &format!("Basic {KEY}")));
        assert!(!admitted("cookie", KEY));
    }

    #[test]
    fn short_key_is_refused_with_its_line() {
        let error = ApiKeys::parse("# c\nshort\n", "keys").unwrap_err();
        assert!(matches!(error, ServerError::WeakApiKey { line: 2, bytes: 5, .. }), "{error}");
    }

    #[test]
    fn debug_output_hides_the_keys() {
        assert_eq!(format!("{:?}", ApiKeys::parse(KEY, "test").unwrap()), "ApiKeys(1)");
    }
}
