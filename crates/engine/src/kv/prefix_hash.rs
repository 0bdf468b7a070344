//! Names of prompt prefixes.

use sha2::{Digest, Sha256};

use crate::limits::BLOCK_SLOTS;

/// Names a whole number of blocks of tokens from a sequence's start: the first 128 bits of a SHA-256 chain over key and
/// tokens. Different prefixes, and equal prefixes of different keys, have different names, also where a client
/// chooses the tokens to make them collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixHash([u8; 16]);

impl PrefixHash {
    /// The empty prefix of a key.
    pub fn root(key: u64) -> Self {
        let mut hasher = Sha256::new_with_prefix(b"root");
        hasher.update(key.to_le_bytes());
        Self::of(hasher)
    }

    /// This prefix and one block more.
    ///
    /// # Panics
    /// If `tokens` is not one block.
    pub fn extend(self, tokens: &[u32]) -> Self {
        assert_eq!(tokens.len(), BLOCK_SLOTS, "a prefix grows by whole blocks");
        let mut hasher = Sha256::new_with_prefix(self.0);
        for token in tokens {
            hasher.update(token.to_le_bytes());
        }
        Self::of(hasher)
    }

    fn of(hasher: Sha256) -> Self {
        let digest = hasher.finalize();
        Self(digest[..16].try_into().expect("a SHA-256 digest has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_depends_on_key_on_every_token_and_on_the_blocks_before() {
        let block: Vec<u32> = (0..16).collect();
        let base = PrefixHash::root(0).extend(&block);
        assert_eq!(base, PrefixHash::root(0).extend(&block));
        assert_ne!(base, PrefixHash::root(1).extend(&block));
        assert_ne!(base, base.extend(&block));
        for place in 0..16 {
            let mut other = block.clone();
            other[place] ^= 1 << 20;
            assert_ne!(base, PrefixHash::root(0).extend(&other), "token {place}");
        }
    }
}
