#!/usr/bin/env python3
"""Print, as a markdown table, how far each known mistake moves the committed goldens: `sensitivity.py`.

Reads goldens.json beside it, runs oracle.py right and with each mistake, and takes max |difference| of the
last positions per checkpoint. Exits 1 when a mistake moves no golden by LEAST or more. Needs numpy only.
"""
import dataclasses
import json
import os
import sys

import checkpoint
import oracle

LEAST = 5e-3
HERE = os.path.dirname(os.path.abspath(__file__))
MISTAKES = {
    "window one too wide": {"window_delta": 1},
    "window one too narrow": {"window_delta": -1},
    "sliding and full layers swapped": {"layers": "odd_sliding"},
    "no sinks": {"sinks": "none"},
    "sink scaled by 1/sqrt(head_dim)": {"sinks": "scaled"},
    "sinks in reversed head order": {"sinks": "reversed"},
    "query head h reads KV head h mod KV heads": {"kv_head": "modulo"},
    "score scale sqrt(hidden/heads)": {"score_scale": "hidden"},
    "q, k, v biases dropped": {"qkv_bias": False},
    "out-projection bias dropped": {"out_bias": False},
    "YaRN truncate = true": {"frequencies": "truncated"},
    "no YaRN frequencies (plain RoPE)": {"frequencies": "plain"},
    "linear interpolation": {"frequencies": "linear"},
    "interleaved pairs": {"pairs": "interleaved"},
    "no concentration": {"concentration": 0.0},
    "square root of the concentration": {"concentration": 0.5},
    "gate and up as halves": {"rows": "halves"},
    "gate and up swapped": {"rows": "swapped"},
    "gate and up biases as halves": {"rows": "bias_halves"},
    "no clamp": {"gate_high": float("inf"), "up_low": -float("inf"), "up_high": float("inf")},
    "up clamped above only": {"up_low": -float("inf")},
    "gate clamped on both sides": {"gate_low": -7.0},
    "gate not clamped": {"gate_high": float("inf")},
    "plain SiLU (alpha 1)": {"alpha": 1.0},
    "alpha 1.7": {"alpha": 1.7},
    "no (up + 1)": {"up_plus": 0.0},
    "softmax before top-k": {"softmax": "before_top_k"},
    "router bias ignored": {"router_bias": False},
    "router weights ranked, experts by index": {"router_order": "by_index"},
    "one expert too few": {"top_k_delta": -1},
    "down bias outside the weighting": {"down_bias": "unweighted"},
    "down bias dropped": {"down_bias": "dropped"},
    "high nibble first": {"nibbles": "high_first"},
    "GGUF nibble order": {"nibbles": "split_halves"},
    "E8M0 bias 128": {"e8m0_bias": 128},
    "rms eps 1e-6": {"eps": 1e-6},
    "unembedding tied to the embedding": {"unembedding": "tied"},
}


def logits(model, goldens):
    """The oracle's logits of the last positions of every golden."""
    return [model.forward(g["prompt"], last=g["last_k"])[0] for g in goldens]


def moved(name, goldens):
    """{mistake: max |difference| over the goldens of checkpoint `name`}."""
    right = logits(oracle.Model(name), goldens)
    out = {}
    for mistake, fields in MISTAKES.items():
        wrong = logits(oracle.Model(name, dataclasses.replace(oracle.RIGHT, **fields)), goldens)
        out[mistake] = max(float(abs(a - b).max()) for a, b in zip(right, wrong))
    return out


def main():
    with open(f"{HERE}/goldens.json") as f:
        goldens = json.load(f)
    of = {name: [g for g in goldens if g["checkpoint"] == name] for name in checkpoint.SHAPES}
    table = {name: moved(name, kept) for name, kept in of.items() if kept}
    print("| mistake | " + " | ".join(table) + " | max |\n" + "|---" * (len(table) + 2) + "|")
    unseen = []
    for mistake in MISTAKES:
        row = [table[name][mistake] for name in table]
        print(f"| {mistake} | " + " | ".join(f"{x:.2g}" if x else "0" for x in row) + f" | {max(row):.2g} |", flush=True)
        unseen += [mistake] if max(row) < LEAST else []
    if unseen:
        sys.exit(f"moves no golden by {LEAST}: {', '.join(unseen)}")


if __name__ == "__main__":
    main()
