//! The formulas of [`Op`], literally. Numerics: see the module above.

use sostenuto_formats::codes::{bf16_to_f32, e2m1_to_f32, e8m0_to_f32};

use super::kv::Part;
use super::{Buffer, ScalarBackend, Weight};
use crate::op::{Op, Rows};
use crate::spec::{BufferId, KvLayerId, WeightFormat, WeightId};
use crate::step::StepInputs;

impl ScalarBackend {
    /// Runs one op of a checked program on a checked step.
    pub(super) fn run(&mut self, op: &Op, step: &StepInputs<'_>) {
        match *op {
            Op::Embed { table, out } => self.embed(step, table, out),
            Op::RmsNorm { rows, input, weight, eps, out } => {
                self.rms_norm(count(rows, step), input, weight, eps, out);
            }
            Op::Linear { .. } => self.linear(op, step),
            Op::RopeTable { ref inv_freq, concentration, out } => {
                self.rope_table(step, inv_freq, concentration, out);
            }
            Op::RopeKvWrite { qkv, table, layer, num_heads } => {
                self.rope_kv_write(step, qkv, table, layer, num_heads);
            }
            Op::Attention { .. } => self.attention(op, step),
            Op::TopK { logits, experts, weights } => self.top_k(step.rows(), logits, experts, weights),
            Op::MoeGateUp { .. } => self.moe_gate_up(op, step.rows()),
            Op::MoeDown { .. } => self.moe_down(op, step.rows()),
            Op::GatherLogitRows { input, out } => self.gather_logit_rows(step, input, out),
        }
    }

    fn embed(&mut self, step: &StepInputs<'_>, table: WeightId, out: BufferId) {
        let mut result = self.take_f32(out);
        let table = self.weight(table);
        let width = table.spec.in_features;
        for (row, &token) in result.chunks_exact_mut(width).zip(step.token_ids) {
            for (i, value) in row.iter_mut().enumerate() {
                *value = table.at(0, token as usize, i) as f32;
            }
        }
        self.put(out, Buffer::F32(result));
    }

    fn rms_norm(&mut self, rows: usize, input: BufferId, weight: WeightId, eps: f32, out: BufferId) {
        let width = self.width(input);
        let mut result = self.take_f32(out);
        let gain = self.weight(weight);
        for t in 0..rows {
            let range = t * width..(t + 1) * width;
            if input != out {
                result[range.clone()].copy_from_slice(&self.f32_buffer(input)[range.clone()]);
            }
            let row = &mut result[range];
            let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let scale = 1.0 / (squares / width as f64 + f64::from(eps)).sqrt();
            for (i, x) in row.iter_mut().enumerate() {
                *x = (f64::from(*x) * scale * gain.at(0, 0, i)) as f32;
            }
        }
        self.put(out, Buffer::F32(result));
    }

    fn linear(&mut self, op: &Op, step: &StepInputs<'_>) {
        let Op::Linear { rows, input, weight, bias, out, accumulate } = *op else {
            unreachable!("linear only")
        };
        let mut result = self.take_f32(out);
        let weight = self.weight(weight);
        let (n, k) = (weight.spec.out_features, weight.spec.in_features);
        let inputs = self.f32_buffer(input).chunks_exact(k).take(count(rows, step));
        for (row, x) in result.chunks_exact_mut(n).zip(inputs) {
            for (o, value) in row.iter_mut().enumerate() {
                let bias = bias.map_or(0.0, |bias| self.weight(bias).at(0, 0, o));
                let before = if accumulate { f64::from(*value) } else { 0.0 };
                *value = (before + weight.dot(0, o, x) + bias) as f32;
            }
        }
        self.put(out, Buffer::F32(result));
    }

    fn rope_table(&mut self, step: &StepInputs<'_>, inv_freq: &[f64], concentration: f64, out: BufferId) {
        let half = inv_freq.len();
        let mut result = self.take_f32(out);
        for (row, &position) in result.chunks_exact_mut(2 * half).zip(step.positions) {
            for (i, frequency) in inv_freq.iter().enumerate() {
                let angle = f64::from(position) * frequency;
                row[i] = (angle.cos() * concentration) as f32;
                row[half + i] = (angle.sin() * concentration) as f32;
            }
        }
        self.put(out, Buffer::F32(result));
    }

    fn rope_kv_write(
        &mut self,
        step: &StepInputs<'_>,
        qkv: BufferId,
        table: BufferId,
        layer: KvLayerId,
        num_heads: usize,
    ) {
        let mut result = self.take_f32(qkv);
        let mut kv = self.kv.take().expect("the program was checked: there is a KV store");
        let (kv_heads, dim) = (kv.spec().num_kv_heads, kv.spec().head_dim);
        let width = (num_heads + 2 * kv_heads) * dim;
        let angles = self.f32_buffer(table).chunks_exact(dim);
        for (t, (row, angles)) in result.chunks_exact_mut(width).zip(angles).take(step.rows()).enumerate() {
            let slot = kv.slot(layer, step, step.sequences[t] as usize, step.positions[t] as usize);
            let writes = step.writes_kv(t, kv.kind(layer));
            let (rotated, values) = row.split_at_mut((num_heads + kv_heads) * dim);
            for head in rotated.chunks_exact_mut(dim) {
                rotate(head, angles);
            }
            if !writes {
                continue;
            }
            let keys = rotated[num_heads * dim..].chunks_exact(dim);
            for (head, (key, value)) in keys.zip(values.chunks_exact(dim)).enumerate() {
                kv.set(layer, slot, Part::Key, head, key);
                kv.set(layer, slot, Part::Value, head, value);
            }
        }
        self.kv = Some(kv);
        self.put(qkv, Buffer::F32(result));
    }

    fn attention(&mut self, op: &Op, step: &StepInputs<'_>) {
        let Op::Attention { qkv, layer, num_heads, sinks, window, scale, out } = *op else {
            unreachable!("attention only")
        };
        let mut result = self.take_f32(out);
        let mut sum = std::mem::take(&mut self.scratch);
        let kv = self.kv.as_ref().expect("the program was checked: there is a KV store");
        let (kv_heads, dim) = (kv.spec().num_kv_heads, kv.spec().head_dim);
        let queries = self.f32_buffer(qkv).chunks_exact((num_heads + 2 * kv_heads) * dim);
        for (t, (row, qkv)) in result.chunks_exact_mut(num_heads * dim).zip(queries).enumerate() {
            if t == step.rows() {
                break;
            }
            let (sequence, position) = (step.sequences[t] as usize, step.positions[t] as usize);
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            for (head, out) in row.chunks_exact_mut(dim).enumerate() {
                let query = &qkv[head * dim..(head + 1) * dim];
                let kv_head = head / (num_heads / kv_heads);
                let sink = self.weight(sinks).at(0, 0, head);
                let score = |j: usize| {
                    let slot = kv.slot(layer, step, sequence, j);
                    let key = |i: usize| kv.get(layer, slot, Part::Key, kv_head, i);
                    let dot: f64 = query.iter().enumerate().map(|(i, &q)| f64::from(q) * key(i)).sum();
                    dot * f64::from(scale)
                };
                let max = (first..=position).map(score).fold(sink, f64::max);
                let mut denominator = (sink - max).exp();
                sum.fill(0.0);
                for j in first..=position {
                    let weight = (score(j) - max).exp();
                    denominator += weight;
                    let slot = kv.slot(layer, step, sequence, j);
                    for (i, sum) in sum.iter_mut().enumerate() {
                        *sum += weight * kv.get(layer, slot, Part::Value, kv_head, i);
                    }
                }
                for (out, sum) in out.iter_mut().zip(&sum) {
                    *out = (sum / denominator) as f32;
                }
            }
        }
        self.scratch = sum;
        self.put(out, Buffer::F32(result));
    }

    fn top_k(&mut self, rows: usize, logits: BufferId, experts: BufferId, weights: BufferId) {
        let (num_experts, k) = (self.width(logits), self.width(experts));
        let (mut chosen, mut shares) = (self.take_u32(experts), self.take_f32(weights));
        for t in 0..rows {
            let logits = &self.f32_buffer(logits)[t * num_experts..(t + 1) * num_experts];
            let chosen = &mut chosen[t * k..(t + 1) * k];
            let shares = &mut shares[t * k..(t + 1) * k];
            for i in 0..k {
                let free = (0..num_experts).filter(|&e| !chosen[..i].contains(&(e as u32)));
                let best = free.reduce(|best, e| if logits[e] > logits[best] { e } else { best });
                chosen[i] = best.expect("k is at most the number of experts") as u32;
            }
            let logit = |e: u32| f64::from(logits[e as usize]);
            let max = logit(chosen[0]);
            let sum: f64 = chosen.iter().map(|&e| (logit(e) - max).exp()).sum();
            for (share, &e) in shares.iter_mut().zip(&*chosen) {
                *share = ((logit(e) - max).exp() / sum) as f32;
            }
        }
        self.put(experts, Buffer::U32(chosen));
        self.put(weights, Buffer::F32(shares));
    }

    fn moe_gate_up(&mut self, op: &Op, rows: usize) {
        let Op::MoeGateUp { input, experts, weight, bias, limit, alpha, out } = *op else {
            unreachable!("moe_gate_up only")
        };
        let mut result = self.take_f32(out);
        let (weight, bias, k) = (self.weight(weight), self.weight(bias), self.width(experts));
        let (hidden, intermediate) = (weight.spec.in_features, weight.spec.out_features / 2);
        let (limit, alpha) = (f64::from(limit), f64::from(alpha));
        for (choice, out) in result.chunks_exact_mut(intermediate).take(rows * k).enumerate() {
            let x = &self.f32_buffer(input)[choice / k * hidden..(choice / k + 1) * hidden];
            let e = self.u32_buffer(experts)[choice] as usize;
            for (i, out) in out.iter_mut().enumerate() {
                let gate = (weight.dot(e, 2 * i, x) + bias.at(e, 0, 2 * i)).min(limit);
                let up = weight.dot(e, 2 * i + 1, x) + bias.at(e, 0, 2 * i + 1);
                let swish = gate / (1.0 + (-alpha * gate).exp());
                *out = (swish * (up.clamp(-limit, limit) + 1.0)) as f32;
            }
        }
        self.put(out, Buffer::F32(result));
    }

    fn moe_down(&mut self, op: &Op, rows: usize) {
        let Op::MoeDown { input, experts, weights, weight, bias, out } = *op else {
            unreachable!("moe_down only")
        };
        let mut result = self.take_f32(out);
        let (weight, bias, k) = (self.weight(weight), self.weight(bias), self.width(experts));
        let (hidden, intermediate) = (weight.spec.out_features, weight.spec.in_features);
        for (t, row) in result.chunks_exact_mut(hidden).take(rows).enumerate() {
            for (o, out) in row.iter_mut().enumerate() {
                let mut sum = f64::from(*out);
                for choice in t * k..(t + 1) * k {
                    let x = &self.f32_buffer(input)[choice * intermediate..(choice + 1) * intermediate];
                    let e = self.u32_buffer(experts)[choice] as usize;
                    let share = f64::from(self.f32_buffer(weights)[choice]);
                    sum += share * (weight.dot(e, o, x) + bias.at(e, 0, o));
                }
                *out = sum as f32;
            }
        }
        self.put(out, Buffer::F32(result));
    }

    fn gather_logit_rows(&mut self, step: &StepInputs<'_>, input: BufferId, out: BufferId) {
        let width = self.width(input);
        let mut result = self.take_f32(out);
        for (out, &t) in result.chunks_exact_mut(width).zip(step.logit_rows) {
            out.copy_from_slice(&self.f32_buffer(input)[t as usize * width..(t as usize + 1) * width]);
        }
        self.put(out, Buffer::F32(result));
    }
}

impl Weight {
    /// Element `[expert, row, column]`.
    fn at(&self, expert: usize, row: usize, column: usize) -> f64 {
        let index = (expert * self.spec.out_features + row) * self.spec.in_features + column;
        f64::from(match self.spec.format {
            WeightFormat::Bf16 => {
                bf16_to_f32(u16::from_le_bytes([self.values[2 * index], self.values[2 * index + 1]]))
            }
            WeightFormat::Mxfp4 => {
                let code = self.values[index / 2] >> (4 * (index % 2));
                return f64::from(e2m1_to_f32(code)) * f64::from(e8m0_to_f32(self.scales[index / 32]));
            }
        })
    }

    /// Dot product of a row with `x`.
    fn dot(&self, expert: usize, row: usize, x: &[f32]) -> f64 {
        x.iter().enumerate().map(|(i, &x)| self.at(expert, row, i) * f64::from(x)).sum()
    }
}

/// Rotates one head by a row of the table: cosines, then sines.
fn rotate(head: &mut [f32], angles: &[f32]) {
    let half = head.len() / 2;
    for i in 0..half {
        let (a, b) = (f64::from(head[i]), f64::from(head[half + i]));
        let (cos, sin) = (f64::from(angles[i]), f64::from(angles[half + i]));
        head[i] = (a * cos - b * sin) as f32;
        head[half + i] = (b * cos + a * sin) as f32;
    }
}

fn count(rows: Rows, step: &StepInputs<'_>) -> usize {
    match rows {
        Rows::Step => step.rows(),
        Rows::Logits => step.logit_rows.len(),
    }
}
