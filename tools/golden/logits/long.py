#!/usr/bin/env python3
"""Write the checkpoint `long` and logits at the end of the longest context: `long.py [--out DIR]`.

Neither reference can run 131,072 tokens on an ordinary machine: both hold every score at once. The float64 pass of oracle.py
can, because the sliding layer comes first and only the last rows of the full layer are wanted. README.md has
the format. Needs numpy only.
"""
import argparse
import json
import os
import shutil

import numpy as np

import checkpoint
import oracle

NAME = "long"
LENGTH = 131_072
LAST = 4  # positions kept
CHUNK = 2048  # rows of the sliding layer at once
MARGIN = 1e-2  # least router margin of the kept positions, and least distance of their best two logits
MISTAKES = {
    "window one too wide": oracle.Rules(window_delta=1),
    "window one too narrow": oracle.Rules(window_delta=-1),
    "YaRN truncate = true": oracle.Rules(frequencies="truncated"),
    "no YaRN frequencies (plain RoPE)": oracle.Rules(frequencies="plain"),
    "linear interpolation": oracle.Rules(frequencies="linear"),
    "no concentration": oracle.Rules(concentration=0.0),
    "no sinks": oracle.Rules(sinks="none"),
}


def prompt(seed, length=LENGTH):
    """Token ids 4..127 of a linear congruential generator."""
    ids, state = [], seed
    for _ in range(length):
        state = (1103515245 * state + 12345) % 2**31
        ids.append(4 + (state >> 16) % 124)
    return ids


def forward(model, ids, last=LAST):
    """Logits [last, vocab] and the least router margin of the last positions."""
    s, n = model.shape, len(ids)
    assert s.layers == 2, "a sliding layer, then a full one"
    embedded, tables = model.w["model.embed_tokens.weight"][np.asarray(ids)], model._rope_tables(n)
    x, margins = np.empty_like(embedded), np.empty(n)
    for start in range(0, n, CHUNK):
        # Positions that the window reaches, one more for the mistakes.
        seen, end = max(0, start - s.window), min(n, start + CHUNK)
        rows = model._attention(embedded[seen:end], "model.layers.0.", 0, [t[seen:end] for t in tables])
        x[start:end], margins[start:end] = model._experts(rows[start - seen:], "model.layers.0.")
    x, last_margins = model._experts(model._attention(x, "model.layers.1.", 1, tables, last), "model.layers.1.")
    logits = model._norm(x, model.w["model.norm.weight"]) @ model.w["lm_head.weight"].T
    return logits, min(margins[-last:].min(), last_margins.min())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), NAME))
    out = parser.parse_args().out
    model = oracle.Model(NAME)
    # The shortcut is the whole pass.
    short = prompt(1, 3000)
    assert abs(forward(model, short)[0] - model.forward(short, last=LAST)[0]).max() < 1e-12
    for seed in range(1, 400):
        ids = prompt(seed)
        logits, margin = forward(model, ids)
        best = np.sort(logits, -1)[:, -2:]
        if margin >= MARGIN and (best[:, 1] - best[:, 0]).min() >= MARGIN:
            break
    else:
        raise SystemExit("no prompt without near-ties")
    for mistake, rules in MISTAKES.items():
        print(f"{mistake:34} {abs(forward(oracle.Model(NAME, rules), ids)[0] - logits).max():.2g}")
    print(f"seed {seed}, margin {margin:.2g}, logits' std {logits.std():.2f}")
    shutil.rmtree(out, ignore_errors=True)
    checkpoint.write_hf(out, NAME)
    golden = {"seed": seed, "length": LENGTH, "last_k": LAST, "vocab_size": model.shape.vocab,
              "logits": [[float(f"{v:.9g}") for v in row] for row in logits]}
    with open(f"{out}/golden.json", "w") as f:
        json.dump(golden, f)
        f.write("\n")


if __name__ == "__main__":
    main()
