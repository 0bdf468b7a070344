#!/usr/bin/env python3
"""Prints conversations of the kind that training draws, under another seed, as ids: `ids.py [--lines N] [--tokens N]`.

A line is {"ids": [...]} of N tokens, conversations one after another: what `sostenuto debug kv` and `debug logits` read.
Needs the package tokenizers.
"""
import argparse
import json
import pathlib
import random

import make_data

FOLDER = pathlib.Path(__file__).parent


def line(vocabulary, rng, tokens):
    ids = []
    while len(ids) < tokens:
        tools = rng.random() < 0.5
        head, effort = make_data.sample_head(rng, tools)
        ids += vocabulary.encode(head + "".join(text for text, _ in make_data.sample_body(effort, tools, rng)))
    return ids[:tokens]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=2048)
    args = parser.parse_args()
    vocabulary, rng = make_data.Vocabulary(FOLDER / "checkpoint" / "tokenizer.json"), random.Random("ids")
    for _ in range(args.lines):
        print(json.dumps({"ids": line(vocabulary, rng, args.tokens)}))


if __name__ == "__main__":
    main()
