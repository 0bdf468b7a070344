//! Ordinary tokens: id → bytes and bytes → id.

use std::borrow::Cow;

use crate::tokenizer::TokenId;

const EMPTY: u32 = u32::MAX;

/// The ordinary tokens of a tokenizer. Ids may have gaps (where control tokens are); no two ids have the same bytes.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// All tokens' bytes; `spans` says where each lies.
    bytes: Cow<'static, [u8]>,
    /// By id: start and length in `bytes`; length 0 is no token.
    spans: Vec<(u32, u32)>,
    /// Open addressing with linear probing, at most half full; holds ids.
    slots: Vec<u32>,
    longest_token_bytes: usize,
}

impl Vocabulary {
    /// Builds the table. Returns the two ids of the first pair with equal bytes as the error.
    pub(crate) fn new(bytes: Cow<'static, [u8]>, spans: Vec<(u32, u32)>) -> Result<Self, (TokenId, TokenId)> {
        let slot_count = (spans.len() * 2).next_power_of_two().max(2);
        let longest_token_bytes = spans.iter().map(|&(_, len)| len as usize).max().unwrap_or(0);
        let mut vocabulary = Self { bytes, spans, slots: vec![EMPTY; slot_count], longest_token_bytes };
        for id in 0..vocabulary.spans.len() as u32 {
            let Some(token) = vocabulary.token_bytes(id) else { continue };
            let slot = vocabulary.slot_of(token);
            if vocabulary.slots[slot] != EMPTY {
                return Err((vocabulary.slots[slot], id));
            }
            vocabulary.slots[slot] = id;
        }
        Ok(vocabulary)
    }

    /// Bytes of an ordinary token.
    pub(crate) fn token_bytes(&self, id: TokenId) -> Option<&[u8]> {
        let &(start, len) = self.spans.get(id as usize)?;
        (len > 0).then(|| &self.bytes[start as usize..(start + len) as usize])
    }

    /// The token with exactly these bytes.
    pub(crate) fn id_of(&self, token: &[u8]) -> Option<TokenId> {
        if token.is_empty() || token.len() > self.longest_token_bytes {
            return None;
        }
        let id = self.slots[self.slot_of(token)];
        (id != EMPTY).then_some(id)
    }

    /// One more than the largest id.
    pub(crate) fn id_end(&self) -> u32 {
        self.spans.len() as u32
    }

    /// The slot that holds `token`, or the empty one where it would go.
    fn slot_of(&self, token: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash(token) as usize & mask;
        loop {
            let id = self.slots[slot];
            if id == EMPTY || self.token_bytes(id) == Some(token) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// Folded-multiply hash over 8-byte words. Keys are a fixed vocabulary, so flooding is not a concern.
fn hash(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u128 = 0x9e37_79b9_7f4a_7c15;
    let mut state = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let product = u128::from(state.rotate_left(23) ^ u64::from_le_bytes(word)) * MULTIPLIER;
        state = product as u64 ^ (product >> 64) as u64;
    }
    state
}
