use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::{MAX_HEADER_BYTES, MAX_NAME_BYTES, MAX_RANK, MAX_TENSORS, PREFIX_BYTES, SafetensorsError};
use crate::tensor::Dtype;

/// Where one tensor lies; offsets count from the first byte after the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, slowest dimension first.
    pub shape: Vec<usize>,
    /// First byte.
    pub begin: usize,
    /// One past the last byte.
    pub end: usize,
}

impl TensorInfo {
    /// Bytes of the tensor.
    pub fn size_bytes(&self) -> usize {
        self.end - self.begin
    }
}

/// A checked header: every range lies in the file and belongs to exactly one tensor.
#[derive(Clone, Debug)]
pub struct Header {
    tensors: Vec<TensorInfo>,
    by_name: BTreeMap<String, usize>,
    metadata: BTreeMap<String, String>,
    data_start: usize,
}

impl Header {
    /// Reads and checks the header at the start of `reader`, a file of `file_len` bytes.
    ///
    /// # Errors
    /// The first violation found, with the tensor's name, what was expected and what was found.
    pub fn read(reader: &mut impl Read, file_len: u64) -> Result<Header, SafetensorsError> {
        if file_len < PREFIX_BYTES as u64 {
            return Err(SafetensorsError::TooShort { file_len });
        }
        let mut prefix = [0; PREFIX_BYTES];
        reader.read_exact(&mut prefix)?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > MAX_HEADER_BYTES {
            return Err(SafetensorsError::HeaderTooLong { header_len });
        }
        let after_prefix = file_len - PREFIX_BYTES as u64;
        if header_len > after_prefix {
            return Err(SafetensorsError::HeaderPastEnd { header_len, found: after_prefix });
        }
        let mut json = Vec::new();
        reader.take(header_len).read_to_end(&mut json)?;
        if json.len() as u64 != header_len {
            return Err(SafetensorsError::HeaderPastEnd { header_len, found: json.len() as u64 });
        }
        Header::from_json(&json, after_prefix - header_len)
    }

    /// Checks the header `json` of a file that has `data_len` bytes after it.
    ///
    /// # Errors
    /// As [`Header::read`].
    pub fn from_json(json: &[u8], data_len: u64) -> Result<Header, SafetensorsError> {
        let raw = RawHeader::parse(json)?;
        let mut tensors = Vec::with_capacity(raw.entries.len());
        for (name, entry) in raw.entries {
            tensors.push(entry.check(name, data_len)?);
        }
        tensors.sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
        check_ranges(&tensors, data_len)?;
        let by_name = tensors.iter().enumerate().map(|(index, info)| (info.name.clone(), index)).collect();
        Ok(Header { tensors, by_name, metadata: raw.metadata, data_start: PREFIX_BYTES + json.len() })
    }

    /// The tensors in the order of their bytes.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|index| &self.tensors[*index])
    }

    /// The file's free-form `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Offset in the file of the first byte of tensor data.
    pub fn data_start(&self) -> usize {
        self.data_start
    }
}

/// The ranges, sorted, must follow each other from 0 to `data_len`.
fn check_ranges(tensors: &[TensorInfo], data_len: u64) -> Result<(), SafetensorsError> {
    let mut expected = 0;
    let mut previous: Option<&TensorInfo> = None;
    for info in tensors {
        let name = || info.name.clone();
        let begin = info.begin as u64;
        if begin < expected {
            let other = previous.map(|other| other.name.clone()).unwrap_or_default();
            return Err(SafetensorsError::Overlap { name: name(), other, expected, begin });
        }
        if begin > expected {
            return Err(SafetensorsError::Gap { name: name(), expected, begin });
        }
        expected = info.end as u64;
        previous = Some(info);
    }
    if expected != data_len {
        return Err(SafetensorsError::TrailingBytes { expected, found: data_len });
    }
    Ok(())
}

struct RawHeader {
    entries: BTreeMap<String, RawEntry>,
    metadata: BTreeMap<String, String>,
}

impl RawHeader {
    fn parse(json: &[u8]) -> Result<RawHeader, SafetensorsError> {
        let mut raw = RawHeader { entries: BTreeMap::new(), metadata: BTreeMap::new() };
        let mut fault = None;
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let parsed = HeaderSeed { raw: &mut raw, fault: &mut fault }
            .deserialize(&mut deserializer)
            .and_then(|()| deserializer.end());
        match (fault, parsed) {
            (Some(fault), _) => Err(fault),
            (None, Err(error)) => Err(SafetensorsError::HeaderJson { reason: error.to_string() }),
            (None, Ok(())) => Ok(raw),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    #[serde(deserialize_with = "bounded_shape")]
    shape: RawShape,
    data_offsets: (u64, u64),
}

impl RawEntry {
    fn check(self, name: String, data_len: u64) -> Result<TensorInfo, SafetensorsError> {
        let Some(dtype) = Dtype::from_name(&self.dtype) else {
            let found = self.dtype.chars().take(64).collect();
            return Err(SafetensorsError::UnknownDtype { name, found });
        };
        if self.shape.rank > MAX_RANK {
            return Err(SafetensorsError::Rank { name, found: self.shape.rank });
        }
        let shape = self.shape.dims;
        let Some(expected) = checked_size(&shape, dtype) else {
            return Err(SafetensorsError::SizeOverflow { name, dtype, shape });
        };
        let (begin, end) = self.data_offsets;
        if begin > end {
            return Err(SafetensorsError::ReversedRange { name, begin, end });
        }
        let found = end - begin;
        if found != expected {
            return Err(SafetensorsError::ByteRange { name, dtype, shape, expected, found });
        }
        if end > data_len {
            return Err(SafetensorsError::PastEnd { name, end, data_len });
        }
        let shape = shape.into_iter().map(|dim| dim as usize).collect();
        Ok(TensorInfo { name, dtype, shape, begin: begin as usize, end: end as usize })
    }
}

/// Bytes of a tensor; `None` if a product passes 2^63, even one that a later dimension 0 would cancel.
fn checked_size(shape: &[u64], dtype: Dtype) -> Option<u64> {
    let mut size = dtype.size_bytes() as u64;
    for dim in shape {
        size = size.checked_mul((*dim).max(1)).filter(|size| *size < 1 << 63)?;
    }
    Some(if shape.contains(&0) { 0 } else { size })
}

/// The first dimensions of a shape, and how many there are: a shape of millions of dimensions takes no memory.
struct RawShape {
    dims: Vec<u64>,
    rank: usize,
}

fn bounded_shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RawShape, D::Error> {
    struct ShapeVisitor;
    impl<'de> Visitor<'de> for ShapeVisitor {
        type Value = RawShape;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("shape: an array of non-negative integers")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<RawShape, A::Error> {
            let mut shape = RawShape { dims: Vec::new(), rank: 0 };
            while let Some(dim) = seq.next_element::<u64>()? {
                shape.rank += 1;
                if shape.rank <= MAX_RANK {
                    shape.dims.push(dim);
                }
            }
            Ok(shape)
        }
    }
    deserializer.deserialize_seq(ShapeVisitor)
}

/// Parses the header object entry by entry. A violation that can name its tensor goes to `fault`.
struct HeaderSeed<'a> {
    raw: &'a mut RawHeader,
    fault: &'a mut Option<SafetensorsError>,
}

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl HeaderSeed<'_> {
    fn refuse<E: de::Error>(&mut self, fault: SafetensorsError) -> E {
        let message = E::custom(&fault);
        *self.fault = Some(fault);
        message
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut seen_metadata, true) {
                    return Err(self.refuse(SafetensorsError::DuplicateTensor { name }));
                }
                self.raw.metadata = map.next_value()?;
                continue;
            }
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                let start = name.chars().take(32).collect();
                return Err(self.refuse(SafetensorsError::NameLength { start, len: name.len() }));
            }
            if self.raw.entries.contains_key(&name) {
                return Err(self.refuse(SafetensorsError::DuplicateTensor { name }));
            }
            if self.raw.entries.len() == MAX_TENSORS {
                return Err(self.refuse(SafetensorsError::TooManyTensors));
            }
            match map.next_value::<RawEntry>() {
                Ok(entry) => self.raw.entries.insert(name, entry),
                Err(error) => {
                    return Err(self.refuse(SafetensorsError::Entry { name, reason: error.to_string() }));
                }
            };
        }
        Ok(())
    }
}
