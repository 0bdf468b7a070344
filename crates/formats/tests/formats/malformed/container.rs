//! Broken headers and byte ranges.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Case, NORM, check, weights};
use crate::support::*;

fn header(folder: &Path, edit: fn(&mut Map<String, Value>)) {
    edit_header(&weights(folder), edit);
}

fn header_text(folder: &Path, edit: fn(String) -> String) {
    let (header, data) = split(&fs::read(weights(folder)).unwrap());
    fs::write(weights(folder), join(edit(header.to_string()).as_bytes(), &data)).unwrap();
}

fn bytes(folder: &Path, edit: fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(weights(folder)).unwrap();
    edit(&mut bytes);
    fs::write(weights(folder), bytes).unwrap();
}

/// Moves the byte range of the tensor that lies last.
fn shift_last(header: &mut Map<String, Value>, by: i64) {
    let (_, last) = header
        .iter_mut()
        .filter(|(name, _)| *name != "__metadata__")
        .max_by_key(|(_, entry)| entry["data_offsets"][1].as_u64().unwrap())
        .unwrap();
    for end in [0, 1] {
        last["data_offsets"][end] = (last["data_offsets"][end].as_i64().unwrap() + by).into();
    }
}

const HEADER_LENGTHS: &[Case] = &[
    ("empty file", |folder| bytes(folder, Vec::clear), &["model.safetensors", "at least 8 bytes", "found 0"]),
    ("four bytes", |folder| bytes(folder, |bytes| bytes.truncate(4)), &["at least 8 bytes", "found 4"]),
    ("length only", |folder| bytes(folder, |bytes| bytes.truncate(8)), &["truncated header", "found 0"]),
    (
        "cut in the header",
        |folder| bytes(folder, |bytes| bytes.truncate(108)),
        &["truncated header", "found 100"],
    ),
    (
        "header of 2^64 − 1 bytes",
        |folder| bytes(folder, |bytes| bytes[..8].fill(0xff)),
        &["header length", "at most 100000000", "found 18446744073709551615"],
    ),
    (
        "header of 100,000,001 bytes",
        |folder| bytes(folder, |bytes| bytes[..8].copy_from_slice(&100_000_001_u64.to_le_bytes())),
        &["at most 100000000", "found 100000001"],
    ),
    (
        "header of 100,000,000 bytes in a small file",
        |folder| bytes(folder, |bytes| bytes[..8].copy_from_slice(&100_000_000_u64.to_le_bytes())),
        &["truncated header", "expected 100000000"],
    ),
    (
        "header of no bytes",
        |folder| bytes(folder, |bytes| bytes[..8].fill(0)),
        &["expected a JSON object", "EOF"],
    ),
];

#[test]
fn a_file_without_a_whole_header_is_refused() {
    check(single_file_checkpoint, HEADER_LENGTHS);
}

const HEADERS: &[Case] = &[
    ("no JSON", |folder| bytes(folder, |bytes| bytes[8] = b'?'), &["expected a JSON object", "column 1"]),
    ("no UTF-8", |folder| bytes(folder, |bytes| bytes[11] = 0xff), &["expected a JSON object", "found: "]),
    ("an array", |folder| header_text(folder, |text| format!("[{text}]")), &["expected a JSON object"]),
    (
        "text after it",
        |folder| header_text(folder, |text| text + "{}"),
        &["expected a JSON object", "trailing"],
    ),
    (
        "cut JSON",
        |folder| header_text(folder, |text| text[..200].to_owned()),
        &["found: ", "EOF while parsing"],
    ),
    (
        "NaN",
        |folder| header_text(folder, |text| text.replace("[48,64]", "[48,NaN]")),
        &["expected {dtype, shape, data_offsets: [begin, end]}"],
    ),
    (
        "nested 100,000 deep",
        |folder| header_text(folder, |_| format!("{{\"deep\":{}", "[".repeat(100_000))),
        &["tensor \"deep\"", "expected {dtype"],
    ),
    (
        "metadata of numbers",
        |folder| header(folder, |header| header["__metadata__"] = json!({ "format": 1 })),
        &["expected a string"],
    ),
    (
        "metadata twice",
        |folder| {
            header_text(folder, |text| text.replacen('{', "{\"__metadata__\":{},\"__metadata__\":{},", 1))
        },
        &["__metadata__", "described once", "found twice"],
    ),
    (
        "a tensor twice",
        |folder| {
            header_text(folder, |text| {
                let entry = r#"{"model.norm.weight":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"#;
                text.replacen('{', entry, 1)
            })
        },
        &[NORM, "described once", "found twice"],
    ),
    (
        "100,001 tensors",
        |folder| {
            header_text(folder, |_| {
                let entry = |i| format!(r#""t{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
                format!("{{{}}}", (0..100_001).map(entry).collect::<Vec<_>>().join(","))
            })
        },
        &["at most 100000", "found more"],
    ),
    (
        "a tensor without a name",
        |folder| {
            header(folder, |header| drop(header.insert("".into(), json!({}))));
        },
        &["1 to 512 bytes", "found 0"],
    ),
    (
        "a name of 100,000 bytes",
        |folder| {
            header(folder, |header| drop(header.insert("x".repeat(100_000), json!({}))));
        },
        &["xxxx", "1 to 512 bytes", "found 100000"],
    ),
];

#[test]
fn a_header_that_is_no_json_of_tensors_is_refused() {
    check(single_file_checkpoint, HEADERS);
}

const DESCRIPTIONS: &[Case] = &[
    ("not an object", |f| header(f, |h| h[NORM] = json!(7)), &[NORM, "expected {dtype, shape", "found: "]),
    (
        "no offsets",
        |f| header(f, |h| drop(h[NORM].as_object_mut().unwrap().remove("data_offsets"))),
        &[NORM, "missing field `data_offsets`"],
    ),
    ("a field more", |f| header(f, |h| h[NORM]["strides"] = json!([1])), &[NORM, "unknown field `strides`"]),
    ("three offsets", |f| header(f, |h| h[NORM]["data_offsets"] = json!([0, 1, 2])), &[NORM, "data_offsets"]),
    ("a negative offset", |f| header(f, |h| h[NORM]["data_offsets"][0] = json!(-1)), &[NORM, "`-1`"]),
    ("a fractional size", |f| header(f, |h| h[NORM]["shape"] = json!([63.5])), &[NORM, "`63.5`"]),
    ("a negative size", |f| header(f, |h| h[NORM]["shape"] = json!([-64])), &[NORM, "`-64`"]),
    (
        "a size of 2^64",
        |f| header_text(f, |text| text.replace("[64]", "[18446744073709551616]")),
        &["expected {dtype", "1.8446744073709552e+19", "expected u64"],
    ),
    ("a numeric dtype", |f| header(f, |h| h[NORM]["dtype"] = json!(16)), &[NORM, "expected a string"]),
    (
        "an unknown dtype",
        |f| header(f, |h| h[NORM]["dtype"] = json!("BF17")),
        &[NORM, "expected one of the element types BOOL, U8", "found \"BF17\""],
    ),
    (
        "an absurdly long dtype",
        |f| header(f, |h| h[NORM]["dtype"] = json!("F".repeat(1_000_000))),
        &[NORM, "found \"FFFF"],
    ),
    (
        "nine dimensions",
        |f| header(f, |h| h[NORM]["shape"] = json!([1, 1, 1, 1, 1, 1, 1, 1, 64])),
        &[NORM, "at most 8 dimensions", "found 9"],
    ),
    (
        "a million dimensions",
        |f| header(f, |h| h[NORM]["shape"] = json!(vec![1; 1_000_000])),
        &[NORM, "at most 8 dimensions", "found 1000000"],
    ),
    (
        "a product beyond 2^64",
        |f| header(f, |h| h[NORM]["shape"] = json!([1_u64 << 40, 1_u64 << 40])),
        &[NORM, "absurd size", "found shape [1099511627776, 1099511627776]"],
    ),
    (
        "a product beyond 2^64 hidden behind a zero",
        |f| header(f, |h| h[NORM]["shape"] = json!([0, 1_u64 << 40, 1_u64 << 40])),
        &[NORM, "absurd size"],
    ),
];

#[test]
fn a_tensor_description_of_the_wrong_form_is_refused_with_its_name() {
    check(single_file_checkpoint, DESCRIPTIONS);
}

const RANGES: &[Case] = &[
    (
        "begin after end",
        |f| header(f, |h| h[NORM]["data_offsets"] = json!([200, 100])),
        &[NORM, "begin <= end", "[200, 100]"],
    ),
    (
        "shape larger than range",
        |f| header(f, |h| h[NORM]["shape"] = json!([65])),
        &[NORM, "expected 130 bytes", "found data_offsets of 128"],
    ),
    (
        "dtype wider than range",
        |f| header(f, |h| h[NORM]["dtype"] = json!("F32")),
        &[NORM, "expected 256 bytes for shape [64] of F32", "128"],
    ),
    (
        "offset beyond the file",
        |f| header(f, |h| h[NORM]["data_offsets"] = json!([1_000_000_000, 1_000_000_128])),
        &[NORM, "truncated file", "expected 1000000128 bytes"],
    ),
    (
        "offset near 2^64",
        |f| header(f, |h| h[NORM]["data_offsets"] = json!([u64::MAX - 128, u64::MAX])),
        &[NORM, "expected 18446744073709551615 bytes"],
    ),
    ("overlap", |f| header(f, |h| shift_last(h, -2)), &["overlaps", "expected to begin at"]),
    (
        "gap",
        |f| {
            header(f, |h| shift_last(h, 2));
            bytes(f, |bytes| bytes.extend([0, 0]));
        },
        &["gap before it", "expected to begin at"],
    ),
    (
        "two tensors on the same bytes",
        |f| {
            header(f, |h| {
                h[NORM]["data_offsets"] = h["model.layers.0.input_layernorm.weight"]["data_offsets"].clone()
            })
        },
        &[NORM, "overlaps \"model.layers.0.input_layernorm.weight\""],
    ),
    (
        "bytes after the last tensor",
        |f| bytes(f, |bytes| bytes.push(0)),
        &["file too long", "expected", "found"],
    ),
    (
        "a byte cut off",
        |f| bytes(f, |bytes| bytes.truncate(bytes.len() - 1)),
        &["truncated file", "expected", "found"],
    ),
    ("half cut off", |f| bytes(f, |bytes| bytes.truncate(bytes.len() / 2)), &["truncated file", "found"]),
];

#[test]
fn a_byte_range_that_is_not_the_tensors_own_is_refused_with_its_name() {
    check(single_file_checkpoint, RANGES);
}
