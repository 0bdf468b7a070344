"""Micro gpt-oss checkpoints with seeded random weights, in both on-disk layouts.

The Hugging Face layout is that of openai/gpt-oss-20b (sharded safetensors with an index, MXFP4 blocks and
scales, bf16 for the rest), the `original/` layout is the one OpenAI's reference model reads. Both hold the
same bytes per tensor (q, k and v stacked in `original/`). Needs numpy only.
"""
import dataclasses
import hashlib
import json
import os
import struct

import numpy as np

SEED = 20260301


@dataclasses.dataclass(frozen=True)
class Shape:
    """Shape and weight scales of one checkpoint. Lengths are in elements, scales are standard deviations."""

    hidden: int = 64
    intermediate: int = 96
    heads: int = 4
    kv_heads: int = 2
    layers: int = 2
    experts: int = 8
    top_k: int = 4
    window: int = 128
    original_length: int = 4096
    vocab: int = 128
    shards: int = 1
    original_layout: bool = False
    embedding_std: float = 1.0
    attention_out_std: float = 1.0  # of the out-projection's output for unit input; its bias has a tenth
    gate_std: float = 6.0  # of gate and up for unit input; 6 makes the clamp at 7 bite often
    gate_bias: tuple[float, float] | None = None  # uniform range; None: normal with std 0.5
    up_bias_std: float = 0.5
    down_std: float = 0.3  # of the down-projection's output per unit of its input
    down_bias_std: float = 0.3
    head_dim: int = 64
    qk_std: float = 1.0  # of queries and keys for unit input, without their bias

    factor = 32.0
    rope_theta = 150000


SHAPES = {
    # hidden != heads * head_dim, hidden != intermediate, 3 and 5 MX blocks per row, GQA 2
    "base": Shape(hidden=96, intermediate=160, shards=3, original_layout=True),
    # every query head on one KV head, fewer experts
    "heads8": Shape(heads=8, kv_heads=1, layers=1, experts=4, top_k=2, original_layout=True),
    # window far below the prompts, odd number of layers, GQA 3
    "window16": Shape(intermediate=32, heads=3, kv_heads=1, layers=3, window=16),
    # YaRN original length 256: prompts beyond it are cheap
    "yarn256": Shape(experts=6, top_k=3, original_length=256),
    # more and smaller experts, six layers, one MX block per hidden row, GQA 8
    "experts16": Shape(hidden=32, intermediate=64, heads=8, kv_heads=1, layers=6, experts=16, window=8),
    # every gate in SiLU's left tail: clamping the gate below, or another alpha, moves the logits
    "gate_tail": Shape(heads=2, kv_heads=1, layers=1, experts=4, top_k=2, gate_std=0.5, gate_bias=(-9.0, -4.5),
                       up_bias_std=4.0, down_std=200.0),
    # a residual stream whose mean square is near 1e-5: rms_norm_eps matters in all three norms
    "norm_eps": Shape(heads=2, kv_heads=1, layers=1, experts=4, top_k=2, embedding_std=2e-3,
                      attention_out_std=2e-3, down_std=2e-4, down_bias_std=5e-4),
    # the smallest that has both kinds of layers, for prompts as long as the context; queries and keys that look far back
    "long": Shape(hidden=32, intermediate=32, heads=1, kv_heads=1, experts=4, top_k=2, head_dim=16, qk_std=3.0),
}


def rng(*key):
    """Counter-based generator keyed by the words of `key`: independent of the order of calls."""
    digest = hashlib.sha256(":".join(map(str, (SEED, *key))).encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "little")))


def bf16_bits(x):
    """float32 array -> bf16 bit patterns (uint16), round to nearest even."""
    u = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def _mx(key, experts, rows, k, std):
    """Random E2M1 nibbles with E8M0 scales around the exponent that gives an output std of `std`."""
    g = rng(*key)
    blocks = g.integers(0, 256, (experts, rows, k // 32, 16), dtype=np.uint8)
    exponent = round(float(np.log2(std / 2.93 / np.sqrt(k)))) + 127
    scales = (exponent + g.integers(-2, 2, (experts, rows, k // 32))).astype(np.uint8)
    return ("U8", blocks), ("U8", scales)


def tensors(name):
    """All tensors of checkpoint `name` in Hugging Face naming: {name: (safetensors dtype, array)}."""
    s = SHAPES[name]
    assert s.hidden % 32 == 0 and s.intermediate % 32 == 0 and s.hidden != s.heads * s.head_dim

    def normal(key, shape, std, mean=0.0):
        return ("BF16", bf16_bits(mean + std * rng(name, key).standard_normal(shape, dtype=np.float32)))

    q, kv, h = s.heads * s.head_dim, s.kv_heads * s.head_dim, s.hidden
    out = {
        "model.embed_tokens.weight": normal("embedding", (s.vocab, h), s.embedding_std),
        "lm_head.weight": normal("unembedding", (s.vocab, h), 2.0 / np.sqrt(h)),
        "model.norm.weight": normal("norm", (h,), 0.2, 1.0),
    }
    for layer in range(s.layers):
        p = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out[p + norm + ".weight"] = normal(p + norm, (h,), 0.2, 1.0)
        for n, rows, std in (("q", q, s.qk_std), ("k", kv, s.qk_std), ("v", kv, 1.0)):
            out[p + f"self_attn.{n}_proj.weight"] = normal(p + n, (rows, h), std / np.sqrt(h))
            out[p + f"self_attn.{n}_proj.bias"] = normal(p + n + "_bias", (rows,), 0.5)
        out[p + "self_attn.o_proj.weight"] = normal(p + "o", (h, q), s.attention_out_std / np.sqrt(q))
        out[p + "self_attn.o_proj.bias"] = normal(p + "o_bias", (h,), 0.1 * s.attention_out_std)
        out[p + "self_attn.sinks"] = normal(p + "sinks", (s.heads,), 1.5, 1.0)
        out[p + "mlp.router.weight"] = normal(p + "router", (s.experts, h), 1.0 / np.sqrt(h))
        out[p + "mlp.router.bias"] = normal(p + "router_bias", (s.experts,), 0.5)
        out |= _expert_tensors(name, s, p, normal)
    return out


def _expert_tensors(name, s, p, normal):
    e = p + "mlp.experts."
    out = {}
    for n, rows, k, std in (("gate_up_proj", 2 * s.intermediate, s.hidden, s.gate_std),
                            ("down_proj", s.hidden, s.intermediate, s.down_std)):
        out[f"{e}{n}_blocks"], out[f"{e}{n}_scales"] = _mx((name, e, n), s.experts, rows, k, std)
    bias = np.empty((s.experts, 2 * s.intermediate), np.float32)
    gate = rng(name, e, "gate_bias")
    half = (s.experts, s.intermediate)
    bias[:, 0::2] = gate.uniform(*s.gate_bias, half) if s.gate_bias else 0.5 * gate.standard_normal(half)
    bias[:, 1::2] = s.up_bias_std * rng(name, e, "up_bias").standard_normal(half)
    out[e + "gate_up_proj_bias"] = ("BF16", bf16_bits(bias))
    out[e + "down_proj_bias"] = normal(e + "down_bias", (s.experts, s.hidden), s.down_bias_std)
    return out


def hf_config(s):
    """config.json as openai/gpt-oss-20b has it, with the numbers of shape `s`."""
    return {
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
        "eos_token_id": 2, "experts_per_token": s.top_k, "head_dim": s.head_dim, "hidden_act": "silu",
        "hidden_size": s.hidden, "initial_context_length": s.original_length, "initializer_range": 0.02,
        "intermediate_size": s.intermediate,
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(s.layers)],
        "max_position_embeddings": int(s.original_length * s.factor), "model_type": "gpt_oss",
        "num_attention_heads": s.heads, "num_experts_per_tok": s.top_k, "num_hidden_layers": s.layers,
        "num_key_value_heads": s.kv_heads, "num_local_experts": s.experts, "output_router_logits": False,
        "pad_token_id": 1,
        "quantization_config": {
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                       "model.embed_tokens", "lm_head"],
            "quant_method": "mxfp4"},
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": s.factor,
                         "original_max_position_embeddings": s.original_length, "rope_type": "yarn",
                         "truncate": False},
        "rope_theta": s.rope_theta, "router_aux_loss_coef": 0.9, "sliding_window": s.window,
        "swiglu_limit": 7.0, "tie_word_embeddings": False, "transformers_version": "4.55.0.dev0",
        "use_cache": True, "vocab_size": s.vocab,
    }


def original_config(s):
    """original/config.json with the numbers of shape `s`."""
    return {
        "num_hidden_layers": s.layers, "num_experts": s.experts, "experts_per_token": s.top_k,
        "vocab_size": s.vocab, "hidden_size": s.hidden, "intermediate_size": s.intermediate, "swiglu_limit": 7.0,
        "head_dim": s.head_dim, "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads,
        "sliding_window": s.window, "initial_context_length": s.original_length, "rope_theta": s.rope_theta,
        "rope_scaling_factor": s.factor, "rope_ntk_alpha": 1, "rope_ntk_beta": 32,
    }


def to_original(hf, layers):
    """Tensors in Hugging Face naming -> the same in the naming of `original/`."""
    out = {"embedding.weight": hf["model.embed_tokens.weight"], "norm.scale": hf["model.norm.weight"],
           "unembedding.weight": hf["lm_head.weight"]}
    for layer in range(layers):
        p, b = f"model.layers.{layer}.", f"block.{layer}."
        out[b + "attn.norm.scale"] = hf[p + "input_layernorm.weight"]
        out[b + "attn.sinks"] = hf[p + "self_attn.sinks"]
        out[b + "mlp.norm.scale"] = hf[p + "post_attention_layernorm.weight"]
        for part in ("weight", "bias"):
            stacked = np.concatenate([hf[f"{p}self_attn.{n}_proj.{part}"][1] for n in "qkv"])
            out[b + "attn.qkv." + part] = ("BF16", stacked)
            out[b + "attn.out." + part] = hf[p + "self_attn.o_proj." + part]
            out[b + "mlp.gate." + part] = hf[p + "mlp.router." + part]
        for ours, theirs in (("mlp1", "gate_up_proj"), ("mlp2", "down_proj")):
            for part in ("blocks", "scales"):
                out[f"{b}mlp.{ours}_weight.{part}"] = hf[f"{p}mlp.experts.{theirs}_{part}"]
            out[f"{b}mlp.{ours}_bias"] = hf[f"{p}mlp.experts.{theirs}_bias"]
    return out


def save_safetensors(path, named):
    """Write {name: (dtype, array)} in the given order; the header is padded to 8 bytes."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for n, (dtype, a) in named.items():
        header[n] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, a in named.values():
            f.write(np.ascontiguousarray(a).tobytes())


def _save_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def write_hf(path, name):
    """Write checkpoint `name` in the Hugging Face layout. With several shards, the cut is by bytes in
    alphabetical order, so a layer's blocks and scales may lie in different files."""
    s, named = SHAPES[name], tensors(name)
    os.makedirs(path, exist_ok=True)
    _save_json(f"{path}/config.json", hf_config(s))
    _save_json(f"{path}/generation_config.json", {"bos_token_id": 0, "do_sample": True, "eos_token_id": [2, 1, 3],
                                                  "pad_token_id": 1, "transformers_version": "4.55.0.dev0"})
    total = sum(a.nbytes for _, a in named.values())
    groups, done = [{} for _ in range(s.shards)], 0
    for n in sorted(named):
        groups[min(s.shards - 1, done * s.shards // total)][n] = named[n]
        done += named[n][1].nbytes
    weight_map = {}
    for i, group in enumerate(groups):
        file = f"model-{i:05d}-of-{len(groups) - 1:05d}.safetensors"
        save_safetensors(f"{path}/{file}", group)
        weight_map |= dict.fromkeys(group, file)
    _save_json(f"{path}/model.safetensors.index.json",
               {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})


def write_original(path, name):
    """Write checkpoint `name` in the layout of `original/`."""
    s = SHAPES[name]
    named = to_original(tensors(name), s.layers)
    os.makedirs(path, exist_ok=True)
    _save_json(f"{path}/config.json", original_config(s))
    _save_json(f"{path}/dtypes.json", {n: [d, list(a.shape)] for n, (d, a) in sorted(named.items())})
    save_safetensors(f"{path}/model.safetensors", {n: named[n] for n in sorted(named)})
