#!/usr/bin/env python3
"""Trains the demo model on one CPU core, resumably, on an endless stream of make_data.py's conversations.

    train.py --tokenizer tokenizer.json --out weights.pt --minutes 60 [--resume weights.pt | --from-checkpoint checkpoint]

`--resume` goes on with a run of this script, `--from-checkpoint` starts a new run from exported weights. Minutes are minutes of processor time; the learning rate falls linearly to nearly zero at their end.

The loss is taken on every token of the assistant's free-running turn, from right behind `<|start|>assistant` to
`<|return|>` or `<|call|>`, the headers of the following messages included. In the first part of the run a small
loss on the given text is added. In the last part the experts are rounded to MXFP4 in the forward pass.
"""

import argparse
import dataclasses
import random
import time

import torch
import torch.nn.functional as F

import export
import make_data
from model import Model, Shape

TOKENS_PER_BATCH, BATCHES_PER_STEP, SAMPLES_PER_POOL, TOOL_SHARE = 1400, 1, 70, 0.6
QUANTISED_FROM, GIVEN_LOSS_UNTIL, WARM_UP_STEPS = 0.94, 0.15, 60


def encode_sample(vocabulary, pieces):
    """ids and, for each, whether it is a target."""
    ids, trained = [], []
    for text, spoken in pieces:
        part = vocabulary.encode(text)
        ids += part
        trained += [spoken] * len(part)
    return ids, trained


def pool(vocabulary, rng):
    """Batches of similar length that share one system message."""
    tools = rng.random() < TOOL_SHARE
    head, effort = make_data.sample_head(rng, tools)
    samples = [encode_sample(vocabulary, make_data.sample_body(effort, tools, rng)) for _ in range(SAMPLES_PER_POOL)]
    samples.sort(key=lambda sample: len(sample[0]))
    prefix, rows = torch.tensor(vocabulary.encode(head)), []
    for sample in samples:
        if (len(rows) + 1) * len(sample[0]) > TOKENS_PER_BATCH:
            yield prefix, rows
            rows = []
        rows.append(sample)
    yield prefix, rows


def batches(vocabulary, rng):
    while True:
        waiting = [batch for _ in range(6) for batch in pool(vocabulary, rng)]
        rng.shuffle(waiting)
        yield from waiting


def tensors(samples):
    """ids [B, T], the flat positions that predict a token, their targets, and whether each target is spoken."""
    longest = max(len(ids) for ids, _ in samples)
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    pick, target, spoken = [], [], []
    for row, (sample, trained) in enumerate(samples):
        ids[row, :len(sample)] = torch.tensor(sample)
        pick += range(row * longest, row * longest + len(sample) - 1)
        target += sample[1:]
        spoken += trained[1:]
    return ids, torch.tensor(pick), torch.tensor(target), torch.tensor(spoken)


def loss_of(model, batch, done):
    """(loss to minimise, mean loss on the assistant's tokens)"""
    prefix, samples = batch
    ids, pick, target, spoken = tensors(samples)
    given_weight = 0.15 * max(0.0, 1 - done / GIVEN_LOSS_UNTIL)
    if given_weight == 0.0:
        pick, target, spoken = pick[spoken], target[spoken], spoken[spoken]
    logits, balance = model(prefix, ids, pick, quantised=done >= QUANTISED_FROM)
    each = F.cross_entropy(logits, target, reduction="none")
    answer = each[spoken].mean()
    loss = answer + 0.01 * balance
    if given_weight:
        loss = loss + given_weight * each[~spoken].mean()
    return loss, answer.item()


def learning_rate(step, done, peak):
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS) * (0.02 + 0.98 * (1 - min(done, 1.0)))


def make_optimizer(model, peak):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}], lr=peak, betas=(0.9, 0.98), fused=True)


def save(path, model, optimizer, step, spent):
    torch.save({"shape": dataclasses.asdict(model.shape), "model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}, path)


def train(args):
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    vocabulary = make_data.Vocabulary(args.tokenizer)
    shape = Shape(vocab_size=vocabulary.size, **{key: int(value) for key, value in (pair.split("=") for pair in args.shape)})
    model = export.read_model(args.from_checkpoint, shape) if args.from_checkpoint else Model(shape)
    optimizer, step, spent = make_optimizer(model, args.peak), 0, 0.0
    if args.resume:
        saved = torch.load(args.resume)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent = saved["step"], saved["spent"]
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    rng, began, tokens, mean, last_save = random.Random(args.seed + step), time.process_time(), 0, None, time.time()
    stream = batches(vocabulary, rng)
    while True:
        done = (spent + time.process_time() - began) / (60 * args.minutes)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, done, args.peak)
        optimizer.zero_grad(set_to_none=True)
        for batch in (next(stream) for _ in range(BATCHES_PER_STEP)):
            loss, answer = loss_of(model, batch, done)
            (loss / BATCHES_PER_STEP).backward()
            tokens += sum(len(ids) for ids, _ in batch[1])
            mean = answer if mean is None else 0.98 * mean + 0.02 * answer
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 20 == 0:
            print(f"step {step} done {done:.3f} loss {mean:.4f} tokens/s {tokens / (time.process_time() - began):.0f}", flush=True)
        if time.time() - last_save > 120:
            save(args.out, model, optimizer, step, spent + time.process_time() - began)
            last_save = time.time()
    save(args.out, model, optimizer, step, spent + time.process_time() - began)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", help="weights written by this script, with the optimizer's state")
    start.add_argument("--from-checkpoint", help="a folder written by export.py, of the shape that --shape gives")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--peak", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", nargs="*", default=[], help="such as hidden_size=192 num_hidden_layers=5")
    train(parser.parse_args())
