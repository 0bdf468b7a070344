"""Makes the tokenizer golden: a checksum of the ids of every string of a generated corpus.

Usage: tokenizer_corpus.py ENCODINGS_DIR FRAGMENTS.txt OUT.bin

ENCODINGS_DIR holds o200k_base.tiktoken. Every string is encoded by openai-harmony and by tiktoken; where both can encode it
they must agree. The strings themselves are not stored: crates/tokenizer/tests/corpus.rs generates the same ones.
OUT.bin: for each string four bytes, FNV-1a (32 bits, little endian) of its ids as little-endian 32-bit words.
"""

import os
import struct
import sys

MASK = (1 << 64) - 1
RANDOM_STRINGS = 12_000
BLOCK = 64
CODE_POINT_RANGES = [(0, 0x3FFFF), (0xE0000, 0xE01FF), (0x10FF00, 0x10FFFF)]
SCRIPTS = [
    (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x1C4, 0x1F3), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF),
    (0x400, 0x52F), (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF),
    (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F),
    (0x13A0, 0x13FF), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F),
    (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2800, 0x28FF), (0x3000, 0x303F), (0x3040, 0x30FF),
    (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xAC00, 0xD7AF), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFF00, 0xFFEF),
    (0x10330, 0x1034F), (0x10400, 0x1044F), (0x12000, 0x123FF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF),
    (0x20000, 0x2A6DF), (0xE0100, 0xE01EF),
]
SPACES = [" ", " ", " ", "\t", "\n", "\n", "\r", "\r\n", "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", "\x0b",
          "a", "1", ".", "/", "Ж", "字", "'s"]
CASED = ["a", "b", "z", "A", "B", "Z", "ß", "É", "é", "Ж", "ж", "ǅ", "ǈ", "ʰ", "ª", "ひ", "字", "\u0301", "\u20e3",
         "'s", "'S", "'T", "'re", "'rE", "'Ve", "'m", "'LL", "'ll", "'d", "'x", "'ſ", "'", "’s", " ", "-", "1"]
DIGITS = ["0", "1", "7", "99", "123", "4567", "٣", "५", "Ⅳ", "½", "²", "𝟘", "㊿", ".", ",", " ", "e", "-", "x", "/"]
EMOJI = ["😀", "👍", "🏽", "\u200d", "\ufe0f", "❤", "🏳", "🌈", "🇷", "🇺", "👩", "👧", "🔥", "#", "\u20e3", "1", " ", "\U000e0067"]


class SplitMix64:
    def __init__(self, seed):
        self.state = seed & MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n):
        return self.next() % n

    def pick(self, items):
        return items[self.below(len(items))]

    def code_point(self, low, high):
        code = low + self.below(high - low + 1)
        return "\ufffd" if 0xD800 <= code <= 0xDFFF else chr(code)

    def byte(self):
        return self.below(256)


def random_string(index, fragments):
    rng = SplitMix64(index + 1)
    kind = index % 12
    count = 1 + rng.below(40)
    if kind == 0:
        low, high = rng.pick(SCRIPTS)
        return "".join(rng.code_point(low, high) for _ in range(count))
    if kind == 1:
        return "".join(rng.code_point(*rng.pick(SCRIPTS)) for _ in range(count))
    if kind == 2:
        return "".join(rng.pick(fragments) + rng.pick(SPACES) for _ in range(1 + count // 4))
    if kind == 3:
        return bytes(rng.byte() for _ in range(count)).decode("utf-8", "replace")
    if kind == 4:
        return "".join(rng.pick(SPACES) for _ in range(count))
    if kind == 5:
        return "".join(rng.pick(CASED) for _ in range(count))
    if kind == 6:
        return "".join(rng.pick(DIGITS) for _ in range(count))
    if kind == 7:
        return "".join(rng.pick(EMOJI) for _ in range(count))
    if kind == 8:
        return "".join("    " * rng.below(5) + rng.pick(fragments) + "\n" * rng.below(3) for _ in range(1 + count // 4))
    if kind == 9:
        return "".join(rng.code_point(0, 0x10FFFF) for _ in range(count))
    if kind == 10:
        unit = "".join(rng.pick(CASED) for _ in range(1 + rng.below(3)))
        return unit * (1 + rng.below(300))
    text = bytearray(rng.pick(fragments).encode() + b" " + rng.pick(fragments).encode())
    for _ in range(1 + rng.below(4)):
        value = rng.byte()
        text[rng.below(len(text))] = value
    return bytes(text).decode("utf-8", "replace")


def code_point_strings():
    for low, high in CODE_POINT_RANGES:
        for start in range(low, high + 1, BLOCK):
            if 0xD800 <= start <= 0xDFFF:
                continue
            chars = [chr(code) for code in range(start, start + BLOCK)]
            yield "".join(chars)
            yield "".join("xA" + c + "a" + c + " " for c in chars)


def long_words():
    rng = SplitMix64(2_026)
    yield "a" * 200_000
    yield "A" * 200_000
    yield "ab" * 100_000
    yield "ひ" * 66_000
    yield "".join(chr(97 + rng.below(26)) for _ in range(200_000))
    yield "".join(chr(97 + rng.below(2)) for _ in range(200_000))
    yield "".join(chr(0x430 + rng.below(32)) for _ in range(100_000))
    yield "".join(chr(0x4E00 + rng.below(2_000)) for _ in range(66_000))
    yield "".join("Aひ"[rng.below(2)] for _ in range(60_000))
    yield "=" * 200_000
    yield "-=" * 100_000
    yield "\u0301" * 100_000
    yield "\n" * 200_000
    yield "7" * 200_000
    yield "/" * 200_000
    yield "\n/" * 50_000
    yield " " * 200_000 + "x"
    yield "\u3000" * 66_000


def checksum(ids):
    value = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def load_tiktoken(encodings):
    from tiktoken.load import load_tiktoken_bpe
    from tiktoken_ext import openai_public

    local_file = os.path.join(encodings, "o200k_base.tiktoken")
    openai_public.load_tiktoken_bpe = lambda _url, expected_hash: load_tiktoken_bpe(local_file, expected_hash)
    import tiktoken

    return tiktoken.Encoding(**openai_public.o200k_harmony())


def main():
    encodings, fragments_path, out_path = sys.argv[1:]
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = encodings
    import openai_harmony

    harmony = openai_harmony.load_harmony_encoding("HarmonyGptOss")
    tiktoken = load_tiktoken(encodings)
    fragments = open(fragments_path, encoding="utf-8").read().split("\n")[:-1]
    golden = bytearray()
    short = [random_string(index, fragments) for index in range(RANDOM_STRINGS)] + list(code_point_strings())
    for text in short:
        ids = harmony.encode(text, disallowed_special=())
        assert ids == tiktoken.encode_ordinary(text), repr(text)
        golden += struct.pack("<I", checksum(ids))
    print(len(short), "strings")
    for text in long_words():
        ids = tiktoken.encode_ordinary(text)
        golden += struct.pack("<I", checksum(ids))
        print(repr(text[:4]), len(text.encode()), "bytes", len(ids), "ids")
    with open(out_path, "wb") as file:
        file.write(golden)


if __name__ == "__main__":
    main()
