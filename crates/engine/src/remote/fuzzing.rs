//! What the fuzz target and its replay run.

use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::remote::frame::{FrameReader, Received, decode, encode};
use crate::remote::message::{ToEngine, ToFront};

/// Reads `data` as frames, cut as its first byte says, and its rest as a bare payload of either direction, which a fuzzer
/// gets past the checksum with.
///
/// # Panics
/// If a message that was read does not survive being written and read again.
pub fn fuzz_frames(data: &[u8]) {
    let Some((&cut, rest)) = data.split_first() else { return };
    let mut reader = FrameReader::new(Pieces { rest, longest: usize::from(cut) + 1 });
    while let Ok(Received::Message(message)) = reader.receive::<ToFront>() {
        survives(&message);
    }
    if let Ok(message) = decode::<ToFront>(rest) {
        survives(&message);
    }
    if let Ok(message) = decode::<ToEngine>(rest) {
        survives(&message);
    }
}

/// Compares encodings, since a NaN does not equal itself.
fn survives<M: Serialize + DeserializeOwned>(message: &M) {
    let mut frame = Vec::new();
    encode(message, &mut frame).expect("what was read can be written");
    let mut reader = FrameReader::new(&frame[..]);
    let Ok(Received::Message(again)) = reader.receive::<M>() else { panic!("what was written can be read") };
    let mut second = Vec::new();
    encode(&again, &mut second).expect("what was read can be written");
    assert_eq!(frame, second, "writing and reading change nothing");
}

/// Gives its bytes in pieces.
struct Pieces<'a> {
    rest: &'a [u8],
    longest: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.rest.len().min(self.longest).min(out.len());
        let (piece, rest) = self.rest.split_at(count);
        out[..count].copy_from_slice(piece);
        self.rest = rest;
        Ok(count)
    }
}
