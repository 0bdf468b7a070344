//! Frames between front and engine process: what is sent arrives, and nothing else passes for it.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use sostenuto_engine::remote::{
    FrameError, FrameReader, MAX_PAYLOAD_BYTES, PROTOCOL_VERSION, Received, ToEngine, ToFront, WireEvent,
    WireFailure, encode, fuzz_frames,
};
use sostenuto_engine::{
    EngineStats, FinishReason, GenerateRequest, RequestRules, SamplingParams, TokenEvent, Usage,
};

/// One message of each kind.
fn to_front() -> Vec<ToFront> {
    let event = |event| ToFront::Events {
        events: vec![(7, event), (u64::MAX, WireEvent::Failed(WireFailure::Other(String::new())))],
    };
    let token = TokenEvent {
        id: 200_002,
        index: 41,
        logprob: Some(-0.25),
        top_logprobs: vec![(200_002, -0.25), (3, f32::NEG_INFINITY)],
    };
    let failure = WireFailure::NonFiniteLogits { position: 9, token: 1, value: f32::INFINITY };
    vec![
        ToFront::Hello { version: PROTOCOL_VERSION },
        ToFront::Ready { rules: RequestRules { vocab_size: 201_088, sequence_capacity: 131_072 } },
        ToFront::Refused { message: "Ошибка: no such file".into() },
        ToFront::StepBegun { rows: 256 },
        ToFront::StepEnded { took: Duration::from_micros(1_234_567), stats: EngineStats::default() },
        event(WireEvent::Started { prompt_tokens: 3, max_tokens: 100, cached_tokens: 2 }),
        event(WireEvent::Token(token)),
        event(WireEvent::Finished {
            reason: FinishReason::StopToken(200_002),
            usage: Usage { prompt_tokens: 3, completion_tokens: 42, ..Usage::default() },
        }),
        event(WireEvent::Failed(failure)),
        event(WireEvent::Failed(WireFailure::NoCandidate { position: 5 })),
        event(WireEvent::Failed(WireFailure::Other(String::new()))),
        ToFront::Ended { message: "the device failed".into() },
    ]
}

fn request() -> GenerateRequest {
    GenerateRequest {
        stop_token_ids: vec![200_002, 200_012],
        sampling: SamplingParams {
            logit_bias: vec![(5, -100.0)],
            seed: u64::MAX,
            ..SamplingParams::default()
        },
        logprobs: Some(20),
        generated: vec![4, 5, 6],
        ..GenerateRequest::greedy((0..1_000).collect(), usize::MAX)
    }
}

fn framed(message: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).unwrap();
    bytes
}

/// Reads one message from bytes that end.
fn read(bytes: &[u8]) -> Result<Received<ToFront>, FrameError> {
    FrameReader::new(bytes).receive()
}

#[test]
fn messages_arrive_in_order_and_the_end_is_seen() {
    let messages = to_front();
    let bytes: Vec<u8> = messages.iter().flat_map(framed).collect();
    let mut reader = FrameReader::new(&bytes[..]);
    for message in messages {
        assert_eq!(reader.receive().unwrap(), Received::Message(message));
    }
    assert_eq!(reader.receive::<ToFront>().unwrap(), Received::Closed);
    let message = ToEngine::Submit { id: u64::MAX, request: request() };
    let bytes = framed(&message);
    assert_eq!(FrameReader::new(&bytes[..]).receive().unwrap(), Received::Message(message));
}

#[test]
fn every_flipped_bit_is_found() {
    for message in to_front() {
        let frame = framed(&message);
        for bit in 0..frame.len() * 8 {
            let mut broken = frame.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let result = read(&broken);
            assert!(result.is_err(), "bit {bit} of {message:?}: {result:?}");
        }
    }
}

#[test]
fn every_cut_is_found() {
    let frame = framed(&to_front()[6]);
    assert!(matches!(read(&[]), Ok(Received::Closed)));
    for length in 1..frame.len() {
        let result = read(&frame[..length]);
        assert!(matches!(result, Err(FrameError::Truncated { missing_bytes: 1.. })), "{length}: {result:?}");
    }
}

#[test]
fn lengths_outside_their_bounds_are_refused_before_anything_is_read_for_them() {
    let header = |length: usize| [(length as u32).to_le_bytes(), [0; 4]].concat();
    for length in [0, MAX_PAYLOAD_BYTES + 1, u32::MAX as usize] {
        let result = read(&header(length));
        assert!(matches!(result, Err(FrameError::Length { bytes }) if bytes == length), "{result:?}");
    }
    for length in [1, MAX_PAYLOAD_BYTES] {
        assert!(
            matches!(read(&header(length)), Err(FrameError::Truncated { missing_bytes }) if missing_bytes == length)
        );
    }
}

#[test]
fn message_too_long_for_a_frame_is_not_sent() {
    let mut bytes = framed(&to_front()[0]);
    let before = bytes.clone();
    let message = ToFront::Ended { message: "x".repeat(MAX_PAYLOAD_BYTES) };
    assert!(matches!(encode(&message, &mut bytes), Err(FrameError::Length { .. })));
    assert_eq!(bytes, before, "what was encoded before stays whole");
}

#[test]
fn bytes_left_over_in_a_frame_are_refused() {
    // A greeting, and one byte.
    let result = read(&framed(&(0_u8, PROTOCOL_VERSION, 0_u8)));
    assert!(matches!(result, Err(FrameError::Message { .. })), "{result:?}");
}

/// A source that has nothing more for now.
struct Pausing<'a>(&'a [u8]);

impl std::io::Read for Pausing<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.0.is_empty() {
            true => Err(std::io::ErrorKind::WouldBlock.into()),
            false => self.0.read(out),
        }
    }
}

#[test]
fn timeout_inside_a_frame_loses_nothing() {
    let frame = framed(&to_front()[6]);
    for cut in 0..frame.len() {
        // The reader keeps what it has when its source pauses, here by swapping the source's bytes.
        let (first, second) = frame.split_at(cut);
        let source = std::cell::RefCell::new(Pausing(first));
        let mut reader = FrameReader::new(Shared(&source));
        assert_eq!(reader.receive::<ToFront>().unwrap(), Received::Quiet);
        source.borrow_mut().0 = second;
        assert_eq!(reader.receive().unwrap(), Received::Message(to_front()[6].clone()), "cut at {cut}");
    }
}

struct Shared<'a, 'b>(&'a std::cell::RefCell<Pausing<'b>>);

impl std::io::Read for Shared<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().read(out)
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_frames(&data);
    }

    #[test]
    fn any_payload_with_a_true_checksum_is_read_without_a_panic(
        payload in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let length = (payload.len() as u32).to_le_bytes();
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&length);
        checksum.update(&payload);
        let frame = [&length[..], &checksum.finalize().to_le_bytes(), &payload].concat();
        let result = read(&frame);
        let is_read = matches!(result, Ok(Received::Message(_)) | Err(FrameError::Message { .. }));
        prop_assert!(is_read, "{:?}", result);
    }

    #[test]
    fn requests_arrive_however_the_stream_is_cut(
        prompt in prop::collection::vec(any::<u32>(), 1..300),
        generated in prop::collection::vec(any::<u32>(), 0..300),
        seed in any::<u64>(),
        cut in any::<u8>(),
    ) {
        let mut request = GenerateRequest { prompt, generated, ..request() };
        request.sampling.seed = seed;
        let message = ToEngine::Submit { id: seed, request };
        let frame = framed(&message);
        prop_assert_eq!(FrameReader::new(&frame[..]).receive().unwrap(), Received::Message(message));
        fuzz_frames(&[&[cut], &frame[..]].concat());
    }
}

#[test]
fn corpus_of_the_fuzz_target_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frames");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        fuzz_frames(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs >= 10, "{inputs} inputs");
}
