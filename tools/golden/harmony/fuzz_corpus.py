"""Makes the first corpus of the harmony fuzz targets.

Usage: fuzz_corpus.py RENDER.json FUZZ_DIR

parse: sequences of the one-byte opcodes of `fuzz_parse` that follow the broken sequences of the tests, and random ones.
render: conversations of the render golden.
"""

import json
import sys

from tokenizer_corpus import SplitMix64

START, MESSAGE, END, RETURN, CALL, CHANNEL, CONSTRAIN, EOT, RESERVED, UNKNOWN = range(10)
PHRASES = [
    "assistant", "user", "tool", "functions.lookup1", "analysis", "commentary", "final", " to=functions.get2", " to=",
    " json", "json", " code", "??", " ", "\n", "Привет", "<|channel|>", "<|constrain|>", "<|end|>", "assistantassistant",
    "3", " 47 ", "{\"a\":1}", "python",
]


def word(text):
    return 10 + PHRASES.index(text)


FINAL = [CHANNEL, word("final"), MESSAGE, word(" 47 "), RETURN]
CALL_3 = [CHANNEL, word("commentary"), word(" to=functions.get2"), word(" "), CONSTRAIN, word("json"), MESSAGE, word("3"), CALL]
NAMED = {
    "empty": [],
    "final": FINAL,
    "call": CALL_3,
    "thought_final": [CHANNEL, word("analysis"), MESSAGE, word("3"), END, START, word("assistant"), *FINAL],
    "doubled_role": [word("assistantassistant"), *FINAL],
    "doubled_channel": [CHANNEL, word("analysis"), *FINAL],
    "no_channel_value": [CHANNEL, MESSAGE, word("3"), RETURN],
    "no_message_token": [CHANNEL, word("final"), word(" 47 "), RETURN],
    "free_text": [word(" 47 "), word("Привет"), RETURN],
    "question_marks": [CHANNEL, word("final"), word("??"), MESSAGE, word("3"), RETURN],
    "cut_in_header": [CHANNEL, word("commentary"), word(" to=")],
    "glued_marker": [word(" to=functions.get2"), word("<|channel|>"), word("commentary"), MESSAGE, word("3"), CALL],
    "constrain_as_text": [CHANNEL, word("final"), word("<|constrain|>"), word("json"), MESSAGE, word("3"), RETURN],
    "stray_everything": [START, MESSAGE, END, RETURN, CALL, CHANNEL, CONSTRAIN, EOT, RESERVED, UNKNOWN] * 3,
    "stray_in_text": [*FINAL[:-1], MESSAGE, CONSTRAIN, RESERVED, UNKNOWN, word("3"), CHANNEL, word("3"), EOT],
    "surplus": [*FINAL, RETURN, START, word("assistant"), *FINAL],
    "tool_result": [*CALL_3, START, word("functions.lookup1"), word(" to="), word("assistant"), MESSAGE, word("3"), END, *FINAL],
    "no_starts": [*FINAL, *CALL_3, *FINAL],
    "long_header": [CHANNEL, *[word(" 47 ")] * 300, MESSAGE, word("3"), END],
    "many_markers": [CHANNEL] * 200 + [word("3")],
    "half_character": [CHANNEL, word("final"), MESSAGE, 40, 0xD0, 0, 41, 0x80, 0, RETURN],
}


def main():
    render_path, fuzz_dir = sys.argv[1:]
    for name, opcodes in NAMED.items():
        with open(f"{fuzz_dir}/corpus/parse/{name}", "wb") as file:
            file.write(bytes(opcodes))
    for index in range(40):
        rng = SplitMix64(index)
        opcodes = [rng.below(34 if rng.below(8) else 256) for _ in range(1 + rng.below(120))]
        with open(f"{fuzz_dir}/corpus/parse/random_{index:02}", "wb") as file:
            file.write(bytes(opcodes))
    rows = json.load(open(render_path, encoding="utf-8"))
    for row in rows[::3]:
        with open(f"{fuzz_dir}/corpus/render/{row['name']}.json", "w", encoding="utf-8") as file:
            json.dump(row["conversation"], file, ensure_ascii=False)


if __name__ == "__main__":
    main()
