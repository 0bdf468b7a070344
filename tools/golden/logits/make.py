#!/usr/bin/env python3
"""Write the micro checkpoints and their golden logits: `make.py [--out DIR] [--scratch DIR]`.

Two references, both in fp32 on a CPU: Hugging Face transformers' GptOssForCausalLM (MXFP4 dequantised on
load, eager attention, eager experts) and OpenAI's gpt-oss torch model (`original/` layout). README.md has the
format and the versions. The oracle only chooses prompts, so that no golden stands on a near-tie.
"""
import argparse
import importlib.metadata
import json
import os
import shutil
import tempfile

import numpy as np
import torch
from gpt_oss.torch.model import Transformer
from transformers import GptOssForCausalLM, Mxfp4Config

import checkpoint
import oracle

PROMPTS = {  # prompt lengths in tokens, per checkpoint
    "base": (1, 7, 129, 300, 700),
    "heads8": (1, 7, 129, 300),
    "window16": (1, 7, 17, 129, 300),
    "yarn256": (1, 7, 129, 300, 700),
    "experts16": (1, 7, 9, 129, 300),
    "gate_tail": (1, 7, 129),
    "norm_eps": (1, 7, 129),
}
LAST = 4  # positions kept per prompt
GREEDY = 16  # tokens continued
FIRST_ID = 4  # ids below are reserved for special tokens
GAP = 0.02  # least distance of the best two logits at every greedy step
ATTEMPTS = 400  # prompts tried per golden
LADDER = (1e-3, 5e-4, 2e-4, 1e-4)  # router margins asked for, by how many router decisions a golden has


def margin_floor(shape, length):
    """The largest margin of the ladder that a random prompt of this length has a fair chance to keep."""
    decisions = shape.layers * (length + GREEDY)
    return next((m for m in LADDER if decisions * m * shape.experts < 4.0), LADDER[-1])


def choose_prompt(name, model, length):
    """A prompt and its greedy continuation (by the oracle) without near-ties, and its least router margin.

    Every layer and every token of prompt and continuation counts for the margin. Raises when no prompt
    within ATTEMPTS keeps the margin and the greedy gap."""
    floor = margin_floor(model.shape, length)
    for attempt in range(ATTEMPTS):
        prompt = checkpoint.rng(name, "prompt", length, attempt).integers(FIRST_ID, model.shape.vocab, length)
        ids, least = [int(i) for i in prompt], np.inf
        for _ in range(GREEDY + 1):
            logits, margins = model.forward(ids, last=1)
            least, best = min(least, margins.min()), np.sort(logits[0])[-2:]
            if least < floor or best[1] - best[0] < GAP:
                break
            ids.append(int(logits[0].argmax()))
        else:
            return ids[:length], ids[length:-1], float(least)
    raise SystemExit(f"{name}, {length} tokens: no prompt with margin {floor} in {ATTEMPTS} attempts")


def load_references(name, scratch):
    """{reference: function from token ids to f32 logits [n, vocab]} for checkpoint `name`."""
    path = f"{scratch}/{name}"
    checkpoint.write_hf(path, name)
    checkpoint.write_original(f"{path}/original", name)
    hf = GptOssForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager",
        quantization_config=Mxfp4Config(dequantize=True)).eval()
    openai = Transformer.from_checkpoint(f"{path}/original", device="cpu").float()
    for model in (hf, openai):
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    return {"transformers": lambda ids: hf(torch.tensor([ids]), use_cache=False).logits[0].numpy(),
            "openai": lambda ids: openai(torch.tensor(ids)).numpy()}


@torch.inference_mode()
def golden(name, model, references, length, store):
    """One entry of goldens.json; its logits are appended to `store` (bytearray)."""
    prompt, greedy, margin = choose_prompt(name, model, length)
    last = min(LAST, length)
    exact, _ = model.forward(prompt, last=last)
    rows, entry_references = {}, {}
    for reference, forward in references.items():
        ids = list(prompt)
        for step in range(GREEDY):
            logits = forward(ids)
            if step == 0:
                rows[reference] = logits[-last:].astype("<f4")
            ids.append(int(logits[-1].argmax()))
        assert ids[length:] == greedy, f"{name}, {length} tokens: {reference} continues differently"
        entry_references[reference] = {"offset": len(store), "count": rows[reference].size}
        store.extend(rows[reference].tobytes())
    a, b = rows["transformers"], rows["openai"]
    entry = {
        "checkpoint": name, "layouts": layouts(name), "prompt": prompt, "last_k": last,
        "vocab_size": model.shape.vocab, "tolerance": 2e-4 if length <= 300 else 2e-3,
        "references": entry_references, "greedy": greedy, "min_router_margin": float(f"{margin:.3g}"),
        "logits_std": float(f"{exact.std():.3g}"), "max_delta_references": float(f"{abs(a - b).max():.2e}"),
        "max_delta_float64": float(f"{max(abs(a - exact).max(), abs(b - exact).max()):.2e}"),
    }
    print(f"{name:10} n={length:<4} margin {margin:.1e}  std {exact.std():.2f}  references {abs(a - b).max():.1e}"
          f"  float64: transformers {abs(a - exact).max():.1e}, openai {abs(b - exact).max():.1e}", flush=True)
    assert max(abs(a - exact).max(), abs(b - exact).max()) < entry["tolerance"]
    return entry


def layouts(name):
    """The layouts of checkpoint `name` that are committed."""
    return ["hf", "original"] if checkpoint.SHAPES[name].original_layout else ["hf"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--scratch", help="folder for both layouts of every checkpoint; default: a temporary one")
    args = parser.parse_args()
    torch.set_num_threads(1)
    shutil.rmtree(f"{args.out}/checkpoints", ignore_errors=True)
    entries, store = [], bytearray()
    with tempfile.TemporaryDirectory() as temporary:
        for name, lengths in PROMPTS.items():
            references, model = load_references(name, args.scratch or temporary), oracle.Model(name)
            entries += [golden(name, model, references, length, store) for length in lengths]
            checkpoint.write_hf(f"{args.out}/checkpoints/{name}", name)
            if "original" in layouts(name):
                checkpoint.write_original(f"{args.out}/checkpoints/{name}/original", name)
    with open(f"{args.out}/logits.bin", "wb") as f:
        f.write(store)
    with open(f"{args.out}/goldens.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n")
    versions = {p: importlib.metadata.version(p) for p in ("transformers", "gpt-oss", "torch", "numpy")}
    print(f"{len(entries)} goldens, {len(store)} bytes of logits, {versions}")


if __name__ == "__main__":
    main()
