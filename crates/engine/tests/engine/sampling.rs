//! The sampler against definitions, exact probabilities and hand-computed cases.

use proptest::prelude::*;
use sostenuto_engine::{
    SampleError, SampledToken, Sampler, SamplerRow, SamplingParams, TokenCounts, uniform,
};

use crate::support::Random;

/// Chooses one token without company or history.
fn sample_at(sampler: &mut Sampler, logits: &[f32], params: &SamplingParams, position: usize) -> u32 {
    let counts = TokenCounts::default();
    let row = SamplerRow {
        params,
        stop_token_ids: &[],
        counts: &counts,
        position,
        completion_tokens: 0,
        logprobs: None,
    };
    sampler.sample(&mut logits.to_vec(), &row).unwrap().id
}

/// Pearson's statistic of counts against probabilities.
fn chi_square(counts: &[usize], probabilities: &[f64]) -> f64 {
    let total: usize = counts.iter().sum();
    let terms = counts.iter().zip(probabilities).map(|(&count, p)| {
        let expected = p * total as f64;
        (count as f64 - expected).powi(2) / expected
    });
    terms.sum()
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

const LOGITS: [f32; 10] = [1.0, -0.5, 0.0, 2.0, 0.25, -1.5, 1.75, -2.0, 0.5, 1.25];
/// 99.9 % quantiles of chi-square.
const QUANTILE_9: f64 = 27.88;
const QUANTILE_15: f64 = 37.70;
const QUANTILE_3: f64 = 16.27;

#[test]
fn frequencies_agree_with_exact_probabilities_over_positions_and_over_seeds() {
    let mut sampler = Sampler::new(LOGITS.len());
    for temperature in [0.5_f32, 1.0, 1.7] {
        let exact = softmax(&LOGITS, f64::from(temperature));
        let (mut by_position, mut by_seed) = (vec![0; 10], vec![0; 10]);
        for i in 0..40_000 {
            let params = SamplingParams { temperature, seed: 11, ..SamplingParams::default() };
            by_position[sample_at(&mut sampler, &LOGITS, &params, i) as usize] += 1;
            let params = SamplingParams { temperature, seed: i as u64, ..SamplingParams::default() };
            by_seed[sample_at(&mut sampler, &LOGITS, &params, 500) as usize] += 1;
        }
        assert!(chi_square(&by_position, &exact) < QUANTILE_9, "{by_position:?}");
        assert!(chi_square(&by_seed, &exact) < QUANTILE_9, "{by_seed:?}");
    }
}

#[test]
fn filtered_frequencies_agree_with_renormalised_probabilities() {
    // Of the four most probable (2, 1.75, 1.25, 1), top_k keeps all four.
    let params = SamplingParams { top_k: 4, seed: 5, ..SamplingParams::default() };
    let exact = softmax(&[2.0, 1.75, 1.25, 1.0], 1.0);
    let mut sampler = Sampler::new(LOGITS.len());
    let mut counts = [0; 4];
    for position in 0..40_000 {
        let token = sample_at(&mut sampler, &LOGITS, &params, position);
        counts[[3, 6, 9, 0].iter().position(|&kept| kept == token).expect("only the top 4 are drawn")] += 1;
    }
    assert!(chi_square(&counts, &exact) < QUANTILE_3, "{counts:?}");
}

#[test]
fn adjacent_positions_and_adjacent_seeds_draw_independently() {
    let quarter = |u: f64| (u * 4.0) as usize;
    let (mut positions, mut seeds) = (vec![0; 16], vec![0; 16]);
    for i in 0..40_000 {
        positions[quarter(uniform(3, i)) * 4 + quarter(uniform(3, i + 1))] += 1;
        seeds[quarter(uniform(i, 9)) * 4 + quarter(uniform(i + 1, 9))] += 1;
    }
    let exact = [1.0 / 16.0; 16];
    assert!(chi_square(&positions, &exact) < QUANTILE_15);
    assert!(chi_square(&seeds, &exact) < QUANTILE_15);
}

#[test]
fn greedy_takes_the_lowest_id_on_ties() {
    let mut sampler = Sampler::new(5);
    let greedy = SamplingParams::greedy();
    assert_eq!(sample_at(&mut sampler, &[0.0, 3.0, 1.0, 3.0, 3.0], &greedy, 0), 1);
    assert_eq!(sample_at(&mut sampler, &[-0.0, 0.0, -1.0, 0.0, -0.0], &greedy, 0), 0);
}

#[test]
fn top_k_of_one_is_greedy_at_any_temperature_and_position() {
    let mut sampler = Sampler::new(4);
    let params = SamplingParams { top_k: 1, temperature: 2.0, ..SamplingParams::default() };
    for position in 0..100 {
        assert_eq!(sample_at(&mut sampler, &[0.0, 1.0, 1.0, -3.0], &params, position), 1);
    }
}

#[test]
fn tiny_temperature_gives_the_most_probable_token() {
    let mut sampler = Sampler::new(LOGITS.len());
    let params = SamplingParams { temperature: f32::MIN_POSITIVE, ..SamplingParams::default() };
    for position in 0..100 {
        assert_eq!(sample_at(&mut sampler, &LOGITS, &params, position), 3);
    }
}

/// Logits after penalties and bias, as the sampler leaves them.
fn changed_logits(logits: &[f32], params: &SamplingParams, prompt: &[u32], output: &[u32]) -> Vec<f32> {
    let mut counts = TokenCounts::default();
    counts.count_prompt(prompt);
    output.iter().for_each(|&token| counts.count_output(token));
    let mut changed = logits.to_vec();
    let row = SamplerRow {
        params,
        stop_token_ids: &[],
        counts: &counts,
        position: prompt.len() + output.len(),
        completion_tokens: output.len(),
        logprobs: None,
    };
    Sampler::new(logits.len()).sample(&mut changed, &row).unwrap();
    changed
}

#[test]
fn penalties_change_logits_as_computed_by_hand() {
    let logits = [2.0, -1.0, 0.5, 3.0];
    let (prompt, output) = ([3, 3], [0, 0, 1]);
    let repetition = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::greedy() };
    assert_eq!(changed_logits(&logits, &repetition, &prompt, &output), [1.0, -2.0, 0.5, 1.5]);
    let frequency = SamplingParams { frequency_penalty: 0.5, ..SamplingParams::greedy() };
    assert_eq!(changed_logits(&logits, &frequency, &prompt, &output), [1.0, -1.5, 0.5, 3.0]);
    let presence = SamplingParams { presence_penalty: 0.25, ..SamplingParams::greedy() };
    assert_eq!(changed_logits(&logits, &presence, &prompt, &output), [1.75, -1.25, 0.5, 3.0]);
    // Token 0: (2 + 4) / 2 − 2 · 0.5 − 0.25; token 1: −1 · 2 − 0.5 − 0.25; token 3: 3 / 2.
    let all = SamplingParams {
        repetition_penalty: 2.0,
        frequency_penalty: 0.5,
        presence_penalty: 0.25,
        logit_bias: vec![(0, 4.0)],
        ..SamplingParams::greedy()
    };
    assert_eq!(changed_logits(&logits, &all, &prompt, &output), [1.75, -2.75, 0.5, 1.5]);
}

#[test]
fn extreme_bias_and_penalty_leave_finite_logits() {
    let params = SamplingParams {
        repetition_penalty: 10.0,
        logit_bias: vec![(0, 100.0), (1, -100.0)],
        ..SamplingParams::greedy()
    };
    let changed = changed_logits(&[f32::MAX, f32::MIN, 0.0], &params, &[0, 1], &[1]);
    assert!(changed.iter().all(|logit| logit.is_finite()), "{changed:?}");
}

/// The row's token with logprobs, after a bias and penalties that must not show in them.
fn with_logprobs(logits: &[f32], n: u8) -> SampledToken {
    let mut counts = TokenCounts::default();
    counts.count_output(2);
    let params = SamplingParams {
        temperature: 0.3,
        top_k: 1,
        frequency_penalty: 2.0,
        logit_bias: vec![(1, 50.0)],
        ..SamplingParams::default()
    };
    let row = SamplerRow {
        params: &params,
        stop_token_ids: &[],
        counts: &counts,
        position: 4,
        completion_tokens: 1,
        logprobs: Some(n),
    };
    Sampler::new(logits.len()).sample(&mut logits.to_vec(), &row).unwrap()
}

#[test]
fn logprobs_are_those_of_the_raw_logits() {
    let logits: Vec<f32> = [1.0_f32, 2.0, 5.0].iter().map(|weight| weight.ln() + 7.0).collect();
    let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
    for n in 0..=4_u8 {
        let sampled = with_logprobs(&logits, n);
        assert_eq!(sampled.id, 1);
        assert!(near(sampled.logprob.unwrap(), 0.25_f32.ln()));
        let expected = [(2, 0.625_f32.ln()), (1, 0.25_f32.ln()), (0, 0.125_f32.ln())];
        assert_eq!(sampled.top_logprobs.len(), usize::from(n).min(3));
        for (got, want) in sampled.top_logprobs.iter().zip(expected) {
            assert!(got.0 == want.0 && near(got.1, want.1), "{got:?} {want:?}");
        }
    }
}

#[test]
fn top_logprobs_list_the_lower_id_first_on_ties() {
    let ids =
        |n| with_logprobs(&[1.0, 3.0, 3.0, 5.0, 3.0], n).top_logprobs.iter().map(|t| t.0).collect::<Vec<_>>();
    assert_eq!(ids(3), [3, 1, 2]);
    assert_eq!(ids(5), [3, 1, 2, 4, 0]);
}

#[test]
fn logits_that_are_no_finite_number_are_refused_with_token_and_value() {
    let counts = TokenCounts::default();
    let params = SamplingParams::default();
    let row = SamplerRow {
        params: &params,
        stop_token_ids: &[],
        counts: &counts,
        position: 0,
        completion_tokens: 0,
        logprobs: None,
    };
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for token in [0_u32, 3, 6] {
            let mut logits = vec![1.0; 7];
            logits[token as usize] = bad;
            let error = Sampler::new(7).sample(&mut logits, &row).unwrap_err();
            let SampleError::NonFinite { token: named, value } = error else { panic!("{error:?}") };
            assert_eq!((named, value.to_bits()), (token, bad.to_bits()));
        }
    }
}

#[test]
fn sampler_keeps_nothing_from_one_row_to_the_next() {
    let mut random = Random::new(1);
    let rows: Vec<Vec<f32>> =
        (0..50).map(|_| (0..300).map(|_| random.below(900) as f32 / 100.0).collect()).collect();
    let params = |i: usize| SamplingParams {
        top_p: [1.0, 0.9][i % 2],
        top_k: [0, 7, 0][i % 3],
        ..SamplingParams::default()
    };
    let mut shared = Sampler::new(300);
    for (i, logits) in rows.iter().enumerate() {
        let alone = sample_at(&mut Sampler::new(300), logits, &params(i), 9);
        assert_eq!(sample_at(&mut shared, logits, &params(i), 9), alone);
    }
}

#[test]
fn full_vocabulary_is_sampled_flat_and_peaked() {
    const VOCAB_SIZE: usize = 201_088;
    let mut sampler = Sampler::new(VOCAB_SIZE);
    let flat = vec![0.5; VOCAB_SIZE];
    let params = SamplingParams { top_p: 0.9, ..SamplingParams::default() };
    // Of equal tokens the nucleus keeps the lower ids.
    let kept = (VOCAB_SIZE as f64 * 0.9).ceil() as u32;
    let drawn: Vec<u32> = (0..20).map(|position| sample_at(&mut sampler, &flat, &params, position)).collect();
    assert!(
        drawn.iter().all(|&token| token < kept) && drawn.iter().any(|&token| token > kept / 2),
        "{drawn:?}"
    );
    let mut peaked = flat;
    peaked[123_456] = 40.0;
    assert_eq!(sample_at(&mut sampler, &peaked, &params, 0), 123_456);
}

#[test]
fn nucleus_of_many_tokens_agrees_with_its_definition() {
    let mut random = Random::new(2);
    let mut sampler = Sampler::new(1_500);
    for case in 0..12 {
        let logits: Vec<f32> = (0..1_500).map(|_| random.below(1_000) as f32 / 900.0).collect();
        let top_p = [0.3, 0.6, 0.95][case % 3];
        let params = SamplingParams { top_p, seed: case as u64, ..SamplingParams::default() };
        for position in 0..3 {
            let drawn = sample_at(&mut sampler, &logits, &params, position);
            assert_eq!(drawn, naive(&logits, &params, position), "case {case} position {position}");
        }
    }
}

/// The sampler's contract, word by word and without any shortcut.
fn naive(logits: &[f32], params: &SamplingParams, position: usize) -> u32 {
    let rank = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| ((logit - max) / params.temperature).exp();
    let mut kept: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    kept.retain(|&(_, logit)| weight(logit) >= params.min_p);
    let top_k = params.top_k as usize;
    if top_k > 0 && top_k < logits.len() || params.top_p < 1.0 {
        kept.sort_by(rank);
    }
    if top_k > 0 {
        kept.truncate(top_k);
    }
    let total = |kept: &[(u32, f32)]| kept.iter().map(|&(_, logit)| f64::from(weight(logit))).sum::<f64>();
    if params.top_p < 1.0 {
        let target = f64::from(params.top_p) * total(&kept);
        let mut fewest = 1;
        while fewest < kept.len() && total(&kept[..fewest]) < target {
            fewest += 1;
        }
        kept.truncate(fewest);
    }
    let target = uniform(params.seed, position as u64) * total(&kept);
    let place = (0..kept.len()).find(|&i| total(&kept[..=i]) > target);
    kept[place.unwrap_or(kept.len() - 1)].0
}

fn logits_strategy() -> impl Strategy<Value = Vec<f32>> {
    // Multiples of 1/4 make many ties; the second kind makes none.
    let ties = prop::collection::vec((-24_i32..24).prop_map(|i| i as f32 / 4.0), 1..60);
    let free = prop::collection::vec(-9.0_f32..9.0, 1..400);
    let near = prop::collection::vec(0.0_f32..0.5, 300..900);
    prop_oneof![4 => ties, 4 => free, 1 => near]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn filters_agree_with_their_definitions(
        logits in logits_strategy(),
        temperature in prop_oneof![Just(1.0_f32), 0.2_f32..2.0],
        top_p in prop_oneof![2 => Just(1.0_f32), 1 => Just(0.5), 5 => 0.01_f32..1.0],
        top_k in prop_oneof![2 => Just(0_u32), 3 => 1_u32..40, 1 => 1_u32..1_000],
        min_p in prop_oneof![2 => Just(0.0_f32), 1 => Just(1.0), 3 => 0.0_f32..0.6],
        seed in any::<u64>(),
    ) {
        let params = SamplingParams { temperature, top_p, top_k, min_p, seed, ..SamplingParams::default() };
        let mut sampler = Sampler::new(logits.len());
        for position in 0..4 {
            let drawn = sample_at(&mut sampler, &logits, &params, position);
            prop_assert_eq!(drawn, naive(&logits, &params, position));
        }
    }
}
