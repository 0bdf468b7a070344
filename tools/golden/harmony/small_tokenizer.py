"""Makes a small tokenizer.json in the form of gpt-oss and the checksums of its ids.

Usage: small_tokenizer.py FRAGMENTS.txt OUT_DIR

Trains byte-level BPE with the tokenizers library on the fragments, adds the Harmony control tokens at its own ids, and writes
OUT_DIR/small_tokenizer.json and OUT_DIR/small_corpus.bin: for each of the first strings of tokenizer_corpus.py four bytes,
FNV-1a of the library's ids; first with ignore_merges true, then false.
"""

import json
import struct
import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tokenizer_corpus import checksum, random_string

STRINGS = 3_000
ORDINARY = 900
PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = [
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
    "<|message|>", "<|call|>",
]


def main():
    fragments_path, out_dir = sys.argv[1:]
    fragments = open(fragments_path, encoding="utf-8").read().split("\n")[:-1]
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=ORDINARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(fragments * 3, trainer)
    tokenizer.add_special_tokens(SPECIALS)
    path = f"{out_dir}/small_tokenizer.json"
    tokenizer.save(path, pretty=False)
    golden = bytearray()
    for ignore_merges in (True, False):
        content = json.load(open(path, encoding="utf-8"))
        content["model"]["ignore_merges"] = ignore_merges
        variant = Tokenizer.from_str(json.dumps(content))
        variant.encode_special_tokens = True
        for index in range(STRINGS):
            golden += struct.pack("<I", checksum(variant.encode(random_string(index, fragments)).ids))
    with open(f"{out_dir}/small_corpus.bin", "wb") as file:
        file.write(golden)
    print(tokenizer.get_vocab_size())


if __name__ == "__main__":
    main()
