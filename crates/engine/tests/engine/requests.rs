//! Every rule for requests, at its limit, beside it and far beyond.

use sostenuto_engine::{
    GenerateRequest, MAX_LOGIT_BIAS_ENTRIES, MAX_STOP_TOKENS, RequestRules, SamplingParams, SubmitError,
};

const RULES: RequestRules = RequestRules { vocab_size: 5_000, sequence_capacity: 1_000 };

fn request() -> GenerateRequest {
    GenerateRequest::greedy(vec![1, 2, 3], 10)
}

fn sampling(change: impl FnOnce(&mut SamplingParams)) -> GenerateRequest {
    let mut request = request();
    change(&mut request.sampling);
    request
}

fn accepted(request: GenerateRequest) {
    RULES.check(request).unwrap();
}

/// Asserts that the request is refused for `field`, and that the message states value and rule.
fn refused(request: GenerateRequest, name: &str, shown: &str) {
    match RULES.check(request) {
        Err(error @ SubmitError::InvalidSampling { field, .. }) => {
            assert_eq!(field, name);
            let text = error.to_string();
            assert!(text.contains(shown) && text.contains("must be"), "{text}");
        }
        other => panic!("{name} {shown}: {other:?}"),
    }
}

#[test]
fn prompt_must_leave_room_for_a_token() {
    let with = |len: usize| GenerateRequest { prompt: vec![0; len], ..request() };
    assert!(matches!(RULES.check(with(0)), Err(SubmitError::EmptyPrompt)));
    accepted(with(1));
    accepted(with(998));
    accepted(with(999));
    for len in [1_000, 1_001, 1_000_000] {
        let result = RULES.check(with(len));
        assert!(
            matches!(result, Err(SubmitError::PromptTooLong { prompt_tokens, max_prompt_tokens: 999 }) if prompt_tokens == len)
        );
    }
}

#[test]
fn token_ids_must_lie_in_the_vocabulary() {
    let out_of_range = |request: GenerateRequest, name: &str| {
        let result = RULES.check(request);
        assert!(
            matches!(result, Err(SubmitError::TokenOutOfRange { field, vocab_size: 5_000, .. }) if field == name)
        );
    };
    accepted(GenerateRequest { prompt: vec![4_999], stop_token_ids: vec![4_999], ..request() });
    for token in [5_000, 5_001, u32::MAX] {
        out_of_range(GenerateRequest { prompt: vec![0, token], ..request() }, "prompt");
        out_of_range(GenerateRequest { stop_token_ids: vec![token], ..request() }, "stop_token_ids");
        out_of_range(sampling(|p| p.logit_bias = vec![(token, 1.0)]), "logit_bias");
    }
}

#[test]
fn max_tokens_is_at_least_one_and_cut_to_the_context() {
    refused(GenerateRequest { max_tokens: 0, ..request() }, "max_tokens", "0");
    for (asked, total) in [(1, 4), (996, 999), (997, 1_000), (998, 1_000), (usize::MAX, 1_000)] {
        let valid = RULES.check(GenerateRequest { max_tokens: asked, ..request() }).unwrap();
        assert_eq!(valid.max_sequence_tokens(), total);
    }
}

#[test]
fn counts_are_bounded() {
    let stops = |n: usize| GenerateRequest { stop_token_ids: vec![7; n], ..request() };
    accepted(stops(MAX_STOP_TOKENS - 1));
    accepted(stops(MAX_STOP_TOKENS));
    refused(stops(MAX_STOP_TOKENS + 1), "stop_token_ids", "65 ids");
    refused(stops(1_000_000), "stop_token_ids", "1000000 ids");
    let bias = |n: usize| sampling(|p| p.logit_bias = (0..n as u32).map(|token| (token, 0.5)).collect());
    accepted(bias(MAX_LOGIT_BIAS_ENTRIES - 1));
    accepted(bias(MAX_LOGIT_BIAS_ENTRIES));
    refused(bias(MAX_LOGIT_BIAS_ENTRIES + 1), "logit_bias", "1025 entries");
    refused(bias(1_000_000), "logit_bias", "1000000 entries");
    accepted(GenerateRequest { logprobs: Some(20), ..request() });
    refused(GenerateRequest { logprobs: Some(21), ..request() }, "top_logprobs", "21");
    refused(GenerateRequest { logprobs: Some(255), ..request() }, "top_logprobs", "255");
}

#[test]
fn sampling_numbers_keep_their_ranges() {
    type Set = fn(&mut SamplingParams, f32);
    let rows: [(&str, Set, &[f32], &[f32]); 7] = [
        ("temperature", |p, x| p.temperature = x, &[0.0, 1e-30, 1.0, 2.0], &[-0.1, 2.000_001, 2e6]),
        ("top_p", |p, x| p.top_p = x, &[1e-30, 0.5, 1.0], &[0.0, -0.5, 1.000_001, 1e6]),
        ("min_p", |p, x| p.min_p = x, &[0.0, 0.5, 1.0], &[-0.1, 1.000_001, 1e6]),
        ("presence_penalty", |p, x| p.presence_penalty = x, &[-2.0, 0.0, 2.0], &[-2.000_001, 2.000_001, 2e6]),
        ("frequency_penalty", |p, x| p.frequency_penalty = x, &[-2.0, 0.0, 2.0], &[-2.000_001, 2.000_001]),
        ("repetition_penalty", |p, x| p.repetition_penalty = x, &[1e-3, 1.0, 10.0], &[0.0, -1.0, 10.1, 1e7]),
        ("logit_bias", |p, x| p.logit_bias = vec![(1, x)], &[-100.0, 100.0], &[-100.1, 100.1, 1e8]),
    ];
    for (name, set, good, bad) in rows {
        good.iter().for_each(|&x| accepted(sampling(|p| set(p, x))));
        let never = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        bad.iter().chain(&never).for_each(|&x| refused(sampling(|p| set(p, x)), name, &x.to_string()));
    }
}

#[test]
fn min_tokens_is_at_most_max_tokens() {
    accepted(sampling(|p| p.min_tokens = 9));
    accepted(sampling(|p| p.min_tokens = 10));
    refused(sampling(|p| p.min_tokens = 11), "min_tokens", "11");
}

#[test]
fn token_biased_twice_is_refused() {
    refused(sampling(|p| p.logit_bias = vec![(3, 1.0), (4, 1.0), (3, 2.0)]), "logit_bias", "token 3 twice");
}
