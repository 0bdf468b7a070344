//! Frames on the socket between front and engine.
//!
//! | Bytes | What |
//! |---|---|
//! | 4 | length `n` of the payload, little endian, 1 to [`MAX_PAYLOAD_BYTES`] |
//! | 4 | CRC-32 (IEEE) of the length's four bytes and the payload, little endian |
//! | n | one message in postcard's encoding: data only, by the types of [`super::message`] |
//!
//! A length is checked before memory is taken for it, and a vector inside a message takes no more memory than a small
//! multiple of the payload's bytes.

use std::io::{self, ErrorKind, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes of one message. A token id takes at most 5, so sequences of three million tokens fit.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;
/// Length and checksum.
const HEADER_BYTES: usize = 8;
/// Bytes asked for at once.
const READ_BYTES: usize = 64 << 10;

/// Bytes that are no frame, or a frame that holds no message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length outside its bounds.
    #[error("a frame of {bytes} bytes; 1 to {MAX_PAYLOAD_BYTES} are allowed")]
    Length {
        /// The length.
        bytes: usize,
    },
    /// The bytes changed on their way.
    #[error("a frame of {bytes} bytes has checksum {computed:08x}; {stored:08x} was sent")]
    Checksum {
        /// Length of its payload.
        bytes: usize,
        /// The checksum in the frame.
        stored: u32,
        /// The checksum of what arrived.
        computed: u32,
    },
    /// A payload that is no message, or more than one.
    #[error("a frame of {bytes} bytes holds no message: {reason}")]
    Message {
        /// Length of its payload.
        bytes: usize,
        /// What the decoder says.
        reason: String,
    },
    /// The other side closed in the middle of a frame.
    #[error("the connection closed {missing_bytes} bytes before a frame's end")]
    Truncated {
        /// Bytes that did not come; at least so many if the length is not known.
        missing_bytes: usize,
    },
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

/// Appends a message's frame to `out`, which is left as it was on an error.
///
/// # Errors
/// [`FrameError::Length`] if the message is too long.
pub fn encode(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let result = postcard::to_io(message, &mut *out).map(drop);
    let bytes = out.len() - start - HEADER_BYTES;
    let checked = match result {
        Err(error) => Err(FrameError::Message { bytes, reason: error.to_string() }),
        Ok(()) => check_length(bytes),
    };
    if let Err(error) = checked {
        out.truncate(start);
        return Err(error);
    }
    let length = (bytes as u32).to_le_bytes();
    let checksum = checksum(length, &out[start + HEADER_BYTES..]);
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// The message of a payload.
///
/// # Errors
/// [`FrameError::Message`] if it is none, or if bytes are left over.
pub(crate) fn decode<M: DeserializeOwned>(payload: &[u8]) -> Result<M, FrameError> {
    let failed = |reason| FrameError::Message { bytes: payload.len(), reason };
    let (message, rest) = postcard::take_from_bytes(payload).map_err(|error| failed(error.to_string()))?;
    match rest.len() {
        0 => Ok(message),
        left => Err(failed(format!("{left} bytes are left over"))),
    }
}

/// What a [`FrameReader`] found.
#[derive(Debug, PartialEq)]
pub enum Received<M> {
    /// A message.
    Message(M),
    /// Nothing came before the source's timeout; a frame may have arrived in part.
    Quiet,
    /// The other side closed between two frames.
    Closed,
}

/// Reads frames from a byte stream, however the stream cuts them.
#[derive(Debug)]
pub struct FrameReader<R> {
    source: R,
    /// Bytes that arrived, from `start` on not yet read as frames. At most one frame and [`READ_BYTES`].
    buffer: Vec<u8>,
    start: usize,
}

impl<R: Read> FrameReader<R> {
    /// A reader at the beginning of a frame.
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), start: 0 }
    }

    /// The next message. After an error the stream can't be trusted and must not be read any further.
    ///
    /// # Errors
    /// [`FrameError`]: the bytes are no frame, or the source failed.
    pub fn receive<M: DeserializeOwned>(&mut self) -> Result<Received<M>, FrameError> {
        loop {
            let missing_bytes = match frame_length(&self.buffer[self.start..])? {
                Progress::Whole(length) => return self.take(length).map(Received::Message),
                Progress::Missing(bytes) => bytes,
            };
            match self.read_more(missing_bytes) {
                Ok(0) if self.start == self.buffer.len() => return Ok(Received::Closed),
                Ok(0) => return Err(FrameError::Truncated { missing_bytes }),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(Received::Quiet);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take<M: DeserializeOwned>(&mut self, length: usize) -> Result<M, FrameError> {
        let frame = &self.buffer[self.start..self.start + HEADER_BYTES + length];
        let message = open(frame)?;
        self.start += frame.len();
        Ok(message)
    }

    /// Moves what is left to the front, and reads once.
    fn read_more(&mut self, missing_bytes: usize) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + missing_bytes.clamp(READ_BYTES, 16 * READ_BYTES), 0);
        let result = self.source.read(&mut self.buffer[held..]);
        self.buffer.truncate(held + *result.as_ref().unwrap_or(&0));
        result
    }
}

/// How much of a frame is there.
enum Progress {
    /// All of it; the length of its payload.
    Whole(usize),
    /// At least so many bytes are missing.
    Missing(usize),
}

fn frame_length(bytes: &[u8]) -> Result<Progress, FrameError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(Progress::Missing(HEADER_BYTES - bytes.len()));
    };
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    check_length(length)?;
    match (HEADER_BYTES + length).checked_sub(bytes.len()) {
        Some(missing @ 1..) => Ok(Progress::Missing(missing)),
        _ => Ok(Progress::Whole(length)),
    }
}

/// The message of a whole frame.
fn open<M: DeserializeOwned>(frame: &[u8]) -> Result<M, FrameError> {
    let (header, payload) = frame.split_at(HEADER_BYTES);
    let stored = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let computed = checksum([header[0], header[1], header[2], header[3]], payload);
    if stored != computed {
        return Err(FrameError::Checksum { bytes: payload.len(), stored, computed });
    }
    decode(payload)
}

fn check_length(bytes: usize) -> Result<(), FrameError> {
    match bytes {
        1..=MAX_PAYLOAD_BYTES => Ok(()),
        _ => Err(FrameError::Length { bytes }),
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}
