"""The gpt-oss architecture in torch, small: a training forward with a shared prefix.

Gate and up rows are kept as two halves here; the export interleaves them as gpt-oss stores them.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

ALPHA, LIMIT, EPS = 1.702, 7.0, 1e-5


@dataclasses.dataclass
class Shape:
    vocab_size: int = 3072
    hidden_size: int = 256
    intermediate_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    sliding_window: int = 128
    rope_theta: float = 150000.0
    rope_factor: float = 32.0
    rope_original: int = 4096


def rope_tables(shape, length):
    """YaRN cos and sin, [length, head_dim / 2], with the concentration in both."""
    dim, base = shape.head_dim, shape.rope_theta
    freq = base ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    corner = lambda turns: dim * math.log(shape.rope_original / (turns * 2 * math.pi)) / (2 * math.log(base))
    low, high = max(corner(32.0), 0), min(corner(1.0), dim - 1)
    ramp = ((torch.arange(dim // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    inverse = ramp / (shape.rope_factor * freq) + (1 - ramp) / freq
    angle = torch.arange(length, dtype=torch.float64)[:, None] * inverse
    concentration = 0.1 * math.log(shape.rope_factor) + 1.0
    return (angle.cos() * concentration).float(), (angle.sin() * concentration).float()


def rotate(x, cos, sin):
    """Half-split RoPE; cos and sin broadcast against x [..., head_dim / 2]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def mxfp4_parts(weight):
    """Weight [..., k] to signed E2M1 values [..., k / 32, 32] and exponents [..., k / 32, 1]."""
    blocks = weight.unflatten(-1, (-1, 32))
    largest = blocks.abs().amax(-1, keepdim=True).clamp(min=2.0 ** -100)
    exponent = torch.floor(torch.log2(largest * (8 / 7))) - 2
    scaled = blocks * torch.exp2(-exponent)
    size = scaled.abs()
    step = 0.5 * (1 + (size >= 2).float() + 2 * (size >= 4).float())
    return torch.copysign((torch.round(size / step) * step).clamp(max=6.0), scaled), exponent


def mxfp4_round(weight):
    """The weight as MXFP4 holds it; the gradient passes straight through."""
    with torch.no_grad():
        values, exponent = mxfp4_parts(weight)
        rounded = (values * torch.exp2(exponent)).flatten(-2)
    return weight + (rounded - weight).detach()


def linear(x, weight, bias=None):
    """x [N, k] times weight^T, plus bias: bf16 factors for the processor's matrix units, f32 out.

    The rows are padded to a multiple of 64: a kernel is compiled for every new shape.
    """
    n = len(x)
    y = F.linear(F.pad(x.bfloat16(), (0, 0, 0, -n % 64)), weight.bfloat16())[:n].float()
    return y if bias is None else y + bias


class Layer(nn.Module):
    def __init__(self, shape, window):
        super().__init__()
        self.shape, self.window = shape, window
        hidden, head, inter, experts = shape.hidden_size, shape.head_dim, shape.intermediate_size, shape.num_local_experts
        q, kv = shape.num_attention_heads * head, shape.num_key_value_heads * head
        self.norm1, self.norm2 = nn.Parameter(torch.ones(hidden)), nn.Parameter(torch.ones(hidden))
        self.qkv, self.out = nn.Linear(hidden, q + 2 * kv), nn.Linear(q, hidden)
        self.sinks = nn.Parameter(torch.zeros(shape.num_attention_heads))
        self.router = nn.Linear(hidden, experts)
        self.mlp1 = nn.Parameter(torch.randn(experts, 2 * inter, hidden) / hidden ** 0.5)
        self.mlp1_bias = nn.Parameter(torch.zeros(experts, 2 * inter))
        self.mlp2 = nn.Parameter(torch.randn(experts, hidden, inter) / inter ** 0.5 * 0.5 / shape.num_hidden_layers ** 0.5)
        self.mlp2_bias = nn.Parameter(torch.zeros(experts, hidden))
        nn.init.normal_(self.qkv.weight, std=hidden ** -0.5)
        nn.init.normal_(self.out.weight, std=q ** -0.5 * 0.5 / shape.num_hidden_layers ** 0.5)
        for linear in (self.qkv, self.out, self.router):
            nn.init.zeros_(linear.bias)
        nn.init.normal_(self.router.weight, std=0.5 * hidden ** -0.5)

    def heads(self, h):
        """h [..., hidden] to q [..., heads, D], k and v [..., kv heads, D]."""
        s = self.shape
        return linear(h, self.qkv.weight, self.qkv.bias).unflatten(-1, (-1, s.head_dim)).split([s.num_attention_heads, s.num_key_value_heads, s.num_key_value_heads], -2)

    def attend(self, q, k, v, mask):
        """q [B, T, heads, D], k and v [B, S, kv, D], mask [B or 1, 1, T, S] additive; gives [B, T, heads * D].

        The sink is one more key, whose score is the sink's value, with a value of zeros.
        """
        b, t, heads, dim = q.shape
        kv, s = k.shape[2], k.shape[1] + 1
        q = (q * dim ** -0.5).bfloat16().view(b, t, kv, heads // kv, dim).permute(0, 2, 3, 1, 4).reshape(b, kv, -1, dim)
        k, v = (F.pad(y.bfloat16().transpose(1, 2), (0, 0, 0, 1)) for y in (k, v))
        sink = self.sinks.view(1, heads, 1, 1).expand(len(mask), heads, t, 1)
        mask = torch.cat([mask.expand(-1, heads, -1, -1), sink], -1)
        weights = ((q @ k.transpose(-1, -2)).view(b, heads, t, s).float() + mask).softmax(-1)
        mixed = weights.bfloat16().view(b, kv, -1, s) @ v
        return mixed.view(b, kv, heads // kv, t, dim).permute(0, 3, 1, 2, 4).reshape(b, t, -1).float()

    def experts(self, h, quantised):
        """h [N, hidden]; gives the weighted sum of the chosen experts and the balance loss."""
        s = self.shape
        logits = self.router(h)
        top, chosen = logits.topk(s.num_experts_per_tok, -1)
        weight = top.softmax(-1)
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=s.num_local_experts)
        token = order // s.num_experts_per_tok
        mlp1, mlp2 = (mxfp4_round(self.mlp1), mxfp4_round(self.mlp2)) if quantised else (self.mlp1, self.mlp2)
        parts, outs = h[token].split(counts.tolist()), []
        for expert, part in enumerate(parts):
            if len(part):
                gate, up = linear(part, mlp1[expert], self.mlp1_bias[expert]).chunk(2, -1)
                gate, up = gate.clamp(max=LIMIT), up.clamp(-LIMIT, LIMIT)
                outs.append(linear(gate * torch.sigmoid(ALPHA * gate) * (up + 1), mlp2[expert], self.mlp2_bias[expert]))
        mixed = torch.cat(outs) * weight.flatten()[order, None]
        balance = s.num_local_experts * (logits.softmax(-1).mean(0) * (counts / flat.numel())).sum()
        return torch.zeros_like(h).index_add(0, token, mixed), balance


class Model(nn.Module):
    def __init__(self, shape, positions=2048):
        super().__init__()
        self.shape = shape
        self.embed = nn.Parameter(torch.randn(shape.vocab_size, shape.hidden_size) * 0.1)
        self.layers = nn.ModuleList(Layer(shape, shape.sliding_window if i % 2 == 0 else None) for i in range(shape.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.head = nn.Parameter(torch.randn(shape.vocab_size, shape.hidden_size) * 0.5 * shape.hidden_size ** -0.5)
        cos, sin = rope_tables(shape, positions)
        self.register_buffer("cos", cos[:, None], persistent=False)
        self.register_buffer("sin", sin[:, None], persistent=False)

    def mask(self, queries, keys, window):
        """Additive mask for query positions [..., T] and key positions [S]."""
        distance = queries[..., :, None] - keys
        hidden = (distance < 0) if window is None else (distance < 0) | (distance >= window)
        return torch.zeros(distance.shape).masked_fill_(hidden, -1e30)

    def forward(self, prefix, ids, pick, quantised=False):
        """prefix [P], shared by all rows of ids [B, T]; pick: flat indices into [B * T]. Gives their logits and the balance loss."""
        p, (b, t) = len(prefix), ids.shape
        here, before = torch.arange(p, p + t), torch.arange(p)
        masks = {w: (self.mask(before, before, w)[None, None], self.mask(here, torch.arange(p + t), w)[None, None]) for w in (None, self.shape.sliding_window)}
        x = torch.cat([F.embedding(prefix, self.embed), F.embedding(ids, self.embed).flatten(0, 1)])
        balance = 0.0
        for layer in self.layers:
            q, k, v = layer.heads(F.rms_norm(x, x.shape[-1:], layer.norm1, EPS))
            cos, sin = torch.cat([self.cos[:p], self.cos[p:p + t].repeat(b, 1, 1)]), torch.cat([self.sin[:p], self.sin[p:p + t].repeat(b, 1, 1)])
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            first = layer.attend(q[None, :p], k[None, :p], v[None, :p], masks[layer.window][0])[0]
            both = lambda y: torch.cat([y[None, :p].expand(b, -1, -1, -1), y[p:].unflatten(0, (b, t))], 1)
            rest = layer.attend(q[p:].unflatten(0, (b, t)), both(k), both(v), masks[layer.window][1])
            x = x + linear(torch.cat([first, rest.flatten(0, 1)]), layer.out.weight, layer.out.bias)
            moved, uneven = layer.experts(F.rms_norm(x, x.shape[-1:], layer.norm2, EPS), quantised)
            x, balance = x + moved, balance + uneven
        x = F.rms_norm(x[p:][pick], x.shape[-1:], self.norm, EPS)
        return linear(x, self.head), balance / len(self.layers)
