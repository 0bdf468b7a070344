"""A float64 forward pass of gpt-oss over the weights of checkpoint.py, with every known mistake as a switch.

It judges prompts (router margins, greedy gaps) and measures how far each mistake moves the logits. The
goldens themselves come from the two references, never from here. Needs numpy only.
"""
import dataclasses
import math

import numpy as np

import checkpoint

E2M1 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6])


@dataclasses.dataclass(frozen=True)
class Rules:
    """The defaults are the model; each other value is a mistake an implementation could make."""

    window_delta: int = 0
    layers: str = "even_sliding"  # | odd_sliding
    sinks: str = "yes"  # | none | scaled | reversed
    kv_head: str = "consecutive"  # | modulo
    score_scale: str = "head_dim"  # | hidden
    pairs: str = "halves"  # | interleaved
    frequencies: str = "yarn"  # | plain | linear | truncated
    concentration: float = 1.0  # exponent of the concentration
    rows: str = "interleaved"  # gate and up | halves | swapped | bias_halves
    gate_low: float = -np.inf
    gate_high: float = 7.0
    up_low: float = -7.0
    up_high: float = 7.0
    alpha: float = 1.702
    up_plus: float = 1.0
    softmax: str = "after_top_k"  # | before_top_k
    router_bias: bool = True
    router_order: str = "ranked"  # | by_index: weights stay ranked, experts are taken in ascending order
    top_k_delta: int = 0
    down_bias: str = "weighted"  # | unweighted | dropped
    nibbles: str = "low_first"  # | high_first | split_halves
    e8m0_bias: int = 127
    eps: float = 1e-5
    qkv_bias: bool = True
    out_bias: bool = True
    unembedding: str = "own"  # | tied


RIGHT = Rules()


def widen(bits):
    """bf16 bit patterns -> float64."""
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def decode_mx(blocks, scales, rules=RIGHT):
    """[..., G, 16] nibble pairs and [..., G] exponents -> [..., 32 G] float64."""
    low, high = E2M1[blocks & 15], E2M1[blocks >> 4]
    if rules.nibbles == "split_halves":
        values = np.concatenate([low, high], -1)
    else:
        pair = (low, high) if rules.nibbles == "low_first" else (high, low)
        values = np.stack(pair, -1).reshape(*blocks.shape[:-1], 32)
    values = values * np.exp2(scales.astype(np.float64) - rules.e8m0_bias)[..., None]
    return values.reshape(*blocks.shape[:-2], -1)


class Model:
    """Checkpoint `name` under `rules`; decoded once, float64 throughout."""

    def __init__(self, name, rules=RIGHT):
        self.shape, self.rules = checkpoint.SHAPES[name], rules
        self.w = {}
        for n, (dtype, a) in (raw := checkpoint.tensors(name)).items():
            if dtype == "BF16":
                self.w[n] = widen(a)
            elif n.endswith("_blocks"):
                self.w[n[:-7]] = decode_mx(a, raw[n[:-7] + "_scales"][1], rules)

    def _norm(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.rules.eps) * weight

    def _rope_tables(self, n):
        s, r = self.shape, self.rules
        half, freq = s.head_dim // 2, s.rope_theta ** (np.arange(0, s.head_dim, 2) / s.head_dim)

        def dimension(rotations):
            return half * math.log(s.original_length / (rotations * 2 * math.pi)) / math.log(s.rope_theta)

        low, high = dimension(32.0), dimension(1.0)
        if r.frequencies == "truncated":
            low, high = math.floor(low), math.ceil(high)
        ramp = np.clip((np.arange(half) - low) / (high - low), 0, 1)
        ramp = {"plain": 0 * ramp, "linear": 0 * ramp + 1}.get(r.frequencies, ramp)
        inverse = ramp / (s.factor * freq) + (1 - ramp) / freq
        angle = np.arange(n)[:, None, None] * inverse
        concentration = (0.1 * math.log(s.factor) + 1.0) ** r.concentration
        return np.cos(angle) * concentration, np.sin(angle) * concentration

    def _rotate(self, x, cos, sin):
        half = x.shape[-1] // 2
        if self.rules.pairs == "interleaved":
            a, b = x[..., 0::2], x[..., 1::2]
            return np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def _attention(self, x, p, layer, tables, last=None):
        """x plus attention, for the last rows (all when None)."""
        s, r, w, n = self.shape, self.rules, self.w, len(x)
        first = 0 if last is None else n - last
        h = self._norm(x, w[p + "input_layernorm.weight"])
        p += "self_attn."
        q, k, v = ((h @ w[f"{p}{m}_proj.weight"].T + r.qkv_bias * w[f"{p}{m}_proj.bias"]).reshape(n, -1, s.head_dim)
                   for m in "qkv")
        q, k = self._rotate(q, *tables)[first:], self._rotate(k, *tables)
        i, j = np.arange(first, n)[:, None], np.arange(n)[None]
        mask = j <= i
        if (layer % 2 == 0) == (r.layers == "even_sliding"):
            mask = mask & (i - j < s.window + r.window_delta)
        scale = 1 / math.sqrt(s.head_dim if r.score_scale == "head_dim" else s.hidden / s.heads)
        sinks = {"none": np.full(s.heads, -np.inf), "scaled": w[p + "sinks"] * scale,
                 "reversed": w[p + "sinks"][::-1]}.get(r.sinks, w[p + "sinks"])
        out = np.empty_like(q)
        for head in range(s.heads):
            kv = head % s.kv_heads if r.kv_head == "modulo" else head // (s.heads // s.kv_heads)
            score = np.where(mask, q[:, head] @ k[:, kv].T * scale, -np.inf)
            top = np.maximum(score.max(-1, keepdims=True), sinks[head])
            e = np.exp(score - top)
            out[:, head] = e / (e.sum(-1, keepdims=True) + np.exp(sinks[head] - top)) @ v[:, kv]
        return x[first:] + out.reshape(n - first, -1) @ w[p + "o_proj.weight"].T + r.out_bias * w[p + "o_proj.bias"]

    def _route(self, h, p):
        """Chosen experts [n, k], their weights [n, k], and the margin to the first expert left out [n]."""
        r, k = self.rules, self.shape.top_k + self.rules.top_k_delta
        g = h @ self.w[p + "router.weight"].T + r.router_bias * self.w[p + "router.bias"]
        order = np.argsort(-g, -1, kind="stable")
        ranked = np.take_along_axis(g, order, -1)
        margin = ranked[:, k - 1] - ranked[:, k] if k < g.shape[1] else np.full(len(g), np.inf)
        e = np.exp(ranked - ranked[:, :1])
        weights = e[:, :k] / (e if r.softmax == "before_top_k" else e[:, :k]).sum(-1, keepdims=True)
        chosen = order[:, :k] if r.router_order == "ranked" else np.sort(order[:, :k], -1)
        return chosen, weights, margin

    def _gate_up(self, h, e, expert):
        r, w = self.rules, self.w
        y, bias = h @ w[e + "gate_up_proj"][expert].T, w[e + "gate_up_proj_bias"][expert]
        half = y.shape[-1] // 2
        if r.rows == "bias_halves":
            return y[:, 0::2] + bias[:half], y[:, 1::2] + bias[half:]
        y = y + bias
        gate, up = (y[:, :half], y[:, half:]) if r.rows == "halves" else (y[:, 0::2], y[:, 1::2])
        return (up, gate) if r.rows == "swapped" else (gate, up)

    def _experts(self, x, p):
        r, w = self.rules, self.w
        h = self._norm(x, w[p + "post_attention_layernorm.weight"])
        p += "mlp."
        chosen, weights, margin = self._route(h, p)
        out, e = np.zeros_like(x), p + "experts."
        for expert in range(self.shape.experts):
            token, slot = np.nonzero(chosen == expert)
            if len(token) == 0:
                continue
            gate, up = self._gate_up(h[token], e, expert)
            gate, up = np.clip(gate, r.gate_low, r.gate_high), np.clip(up, r.up_low, r.up_high)
            y = gate / (1 + np.exp(-r.alpha * gate)) * (up + r.up_plus) @ w[e + "down_proj"][expert].T
            bias = w[e + "down_proj_bias"][expert] * (r.down_bias != "dropped")
            weight = weights[token, slot][:, None]
            out[token] += weight * y + bias if r.down_bias == "unweighted" else weight * (y + bias)
        return x + out, margin

    def forward(self, ids, last=None):
        """Logits [last, vocab] of the last positions (all when None), and every router margin [layers, n]."""
        w, margins = self.w, []
        x = w["model.embed_tokens.weight"][np.asarray(ids)]
        tables = self._rope_tables(len(ids))
        with np.errstate(over="ignore"):
            for layer in range(self.shape.layers):
                p = f"model.layers.{layer}."
                x, margin = self._experts(self._attention(x, p, layer, tables), p)
                margins.append(margin)
        x = x if last is None else x[-last:]
        unembedding = "lm_head" if self.rules.unembedding == "own" else "model.embed_tokens"
        return self._norm(x, w["model.norm.weight"]) @ w[unembedding + ".weight"].T, np.array(margins)
