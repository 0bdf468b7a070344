//! FNV-1a, 64 bits: tells contents apart. Not against an adversary.

/// A hash under way.
#[derive(Clone, Debug)]
pub(crate) struct Fnv64(u64);

impl Fnv64 {
    /// The hash of nothing.
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Goes on with `bytes`.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Goes on with the little-endian bits of `values`: equal hashes mean equal bits.
    pub(crate) fn update_f32(&mut self, values: &[f32]) {
        values.iter().for_each(|value| self.update(&value.to_bits().to_le_bytes()));
    }

    /// Sixteen hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv_1a() {
        let hash = |bytes: &[u8]| {
            let mut hash = Fnv64::new();
            hash.update(bytes);
            hash.hex()
        };
        assert_eq!(hash(b""), "cbf29ce484222325");
        assert_eq!(hash(b"foobar"), "85944171f73967e8");
        let mut of_value = Fnv64::new();
        of_value.update_f32(&[f32::from_bits(u32::from_le_bytes(*b"abcd"))]);
        assert_eq!(of_value.hex(), hash(b"abcd"));
    }
}
