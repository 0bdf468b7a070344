#!/usr/bin/env python3
"""Writes a trained model in the on-disk layout of openai/gpt-oss-20b (Hugging Face form).

    export.py --weights weights.pt --tokenizer tokenizer.json --out checkpoint
"""

import argparse
import json
import pathlib
import shutil
import struct

import torch

import make_data
from model import Model, Shape, mxfp4_parts

MAGNITUDES = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
MAX_POSITIONS = 131072


def mxfp4_bytes(weight):
    """[..., k] to blocks [..., k / 32, 16] (low nibble first) and E8M0 scales [..., k / 32]."""
    values, exponent = mxfp4_parts(weight)
    code = torch.bucketize(values.abs(), MAGNITUDES) + 8 * torch.signbit(values)
    blocks = (code[..., 0::2] | (code[..., 1::2] << 4)).to(torch.uint8)
    return blocks, (exponent.squeeze(-1) + 127).to(torch.uint8)


def interleave(stacked):
    """[experts, gate rows then up rows, ...] to gate and up rows in turn."""
    gate, up = stacked.chunk(2, 1)
    return torch.stack([gate, up], 2).flatten(1, 2)


def layer_tensors(layer, shape):
    q, kv = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    out = {"input_layernorm.weight": layer.norm1, "post_attention_layernorm.weight": layer.norm2, "self_attn.sinks": layer.sinks,
           "self_attn.o_proj.weight": layer.out.weight, "self_attn.o_proj.bias": layer.out.bias,
           "mlp.router.weight": layer.router.weight, "mlp.router.bias": layer.router.bias,
           "mlp.experts.gate_up_proj_bias": interleave(layer.mlp1_bias), "mlp.experts.down_proj_bias": layer.mlp2_bias}
    for name, weight, bias in zip("qkv", layer.qkv.weight.split([q, kv, kv]), layer.qkv.bias.split([q, kv, kv])):
        out[f"self_attn.{name}_proj.weight"], out[f"self_attn.{name}_proj.bias"] = weight, bias
    out = {name: tensor.detach().to(torch.bfloat16) for name, tensor in out.items()}
    for name, weight in (("gate_up_proj", interleave(layer.mlp1.detach())), ("down_proj", layer.mlp2.detach())):
        out[f"mlp.experts.{name}_blocks"], out[f"mlp.experts.{name}_scales"] = mxfp4_bytes(weight)
    return out


def all_tensors(model):
    out = {"model.embed_tokens.weight": model.embed, "lm_head.weight": model.head, "model.norm.weight": model.norm}
    out = {name: tensor.detach().to(torch.bfloat16) for name, tensor in out.items()}
    for number, layer in enumerate(model.layers):
        out |= {f"model.layers.{number}.{name}": tensor for name, tensor in layer_tensors(layer, model.shape).items()}
    return dict(sorted(out.items()))


def raw_bytes(tensor):
    view = tensor.contiguous().view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor.contiguous()
    return view.numpy().tobytes()


def save_safetensors(path, tensors):
    header, offset, data = {"__metadata__": {"format": "pt"}}, 0, []
    for name, tensor in tensors.items():
        data.append(raw_bytes(tensor))
        kind = "BF16" if tensor.dtype == torch.bfloat16 else "U8"
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data[-1])]}
        offset += len(data[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    return offset


def config(shape, special):
    return {
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0, "eos_token_id": special["return"],
        "experts_per_token": shape.num_experts_per_tok, "head_dim": shape.head_dim, "hidden_act": "silu", "hidden_size": shape.hidden_size,
        "initial_context_length": shape.rope_original, "initializer_range": 0.02, "intermediate_size": shape.intermediate_size,
        "layer_types": ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(shape.num_hidden_layers)],
        "max_position_embeddings": MAX_POSITIONS, "model_type": "gpt_oss", "num_attention_heads": shape.num_attention_heads,
        "num_experts_per_tok": shape.num_experts_per_tok, "num_hidden_layers": shape.num_hidden_layers,
        "num_key_value_heads": shape.num_key_value_heads, "num_local_experts": shape.num_local_experts, "output_router_logits": False,
        "pad_token_id": special["endoftext"],
        "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
                                "quant_method": "mxfp4"},
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": shape.rope_factor, "original_max_position_embeddings": shape.rope_original,
                         "rope_type": "yarn", "truncate": False},
        "rope_theta": int(shape.rope_theta), "router_aux_loss_coef": 0.9, "sliding_window": shape.sliding_window, "swiglu_limit": 7.0,
        "tie_word_embeddings": False, "transformers_version": "4.55.0.dev0", "use_cache": True, "vocab_size": shape.vocab_size,
    }


def generation_config(special):
    return {"bos_token_id": special["startoftext"], "do_sample": True, "eos_token_id": [special["return"], special["endoftext"], special["call"]],
            "pad_token_id": special["endoftext"], "transformers_version": "4.55.0.dev0"}


def tokenizer_config(special):
    token = lambda name: {"content": f"<|{name}|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {"added_tokens_decoder": {str(number): token(name) for name, number in special.items()}, "bos_token": "<|startoftext|>",
            "clean_up_tokenization_spaces": False, "eos_token": "<|return|>", "extra_special_tokens": {},
            "model_input_names": ["input_ids", "attention_mask"], "model_max_length": MAX_POSITIONS, "pad_token": "<|endoftext|>",
            "tokenizer_class": "PreTrainedTokenizerFast"}


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header, kinds = json.loads(data[8:8 + length]), {"BF16": torch.bfloat16, "U8": torch.uint8}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=kinds[entry["dtype"]]).view(entry["shape"])
    return tensors


def mxfp4_weight(blocks, scales):
    """The inverse of `mxfp4_bytes`."""
    code = torch.stack([blocks & 15, blocks >> 4], -1).flatten(-2).long()
    values = torch.cat([MAGNITUDES, -MAGNITUDES])[code]
    return (values * torch.exp2(scales[..., None].float() - 127)).flatten(-2)


def deinterleave(rows):
    """The inverse of `interleave`."""
    return torch.cat([rows[:, 0::2], rows[:, 1::2]], 1)


def layer_state(tensors, prefix):
    """The inverse of `layer_tensors`, as a state dictionary."""
    part = lambda name: tensors[prefix + name]
    experts = lambda name: mxfp4_weight(part(f"mlp.experts.{name}_blocks"), part(f"mlp.experts.{name}_scales"))
    return {"norm1": part("input_layernorm.weight"), "norm2": part("post_attention_layernorm.weight"), "sinks": part("self_attn.sinks"),
            "out.weight": part("self_attn.o_proj.weight"), "out.bias": part("self_attn.o_proj.bias"),
            "router.weight": part("mlp.router.weight"), "router.bias": part("mlp.router.bias"),
            "qkv.weight": torch.cat([part(f"self_attn.{name}_proj.weight") for name in "qkv"]),
            "qkv.bias": torch.cat([part(f"self_attn.{name}_proj.bias") for name in "qkv"]),
            "mlp1": deinterleave(experts("gate_up_proj")), "mlp1_bias": deinterleave(part("mlp.experts.gate_up_proj_bias")),
            "mlp2": experts("down_proj"), "mlp2_bias": part("mlp.experts.down_proj_bias")}


def read_model(checkpoint, shape):
    """The inverse of `write`: a model whose export is the checkpoint, byte for byte."""
    (path,) = pathlib.Path(checkpoint).glob("*.safetensors")
    tensors, model = read_safetensors(path), Model(shape)
    state = {"embed": tensors["model.embed_tokens.weight"], "head": tensors["lm_head.weight"], "norm": tensors["model.norm.weight"]}
    for number in range(shape.num_hidden_layers):
        state |= {f"layers.{number}.{name}": value for name, value in layer_state(tensors, f"model.layers.{number}.").items()}
    model.load_state_dict(state)
    return model


def load_model(path):
    saved = torch.load(path)
    model = Model(Shape(**saved["shape"]))
    model.load_state_dict(saved["model"])
    return model


def write(weights, tokenizer, out):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model, vocabulary = load_model(weights), make_data.Vocabulary(tokenizer)
    tensors, name = all_tensors(model), "model-00000-of-00000.safetensors"
    total = save_safetensors(out / name, tensors)
    dump = lambda file, value: (out / file).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    dump("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": {tensor: name for tensor in tensors}})
    dump("config.json", config(model.shape, vocabulary.special))
    dump("generation_config.json", generation_config(vocabulary.special))
    dump("tokenizer_config.json", tokenizer_config(vocabulary.special))
    if pathlib.Path(tokenizer).resolve() != (out / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer, out / "tokenizer.json")
    print(f"{total / 1e6:.2f} MB of tensors, vocabulary {vocabulary.size}, special ids {vocabulary.special}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    write(args.weights, args.tokenizer, args.out)
