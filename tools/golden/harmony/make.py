"""Makes the goldens of the harmony crate with openai-harmony.

Usage: make.py ENCODINGS_DIR OUT_DIR

ENCODINGS_DIR holds o200k_base.tiktoken. Writes OUT_DIR/render.json: conversations with the ids that openai-harmony renders for
completion by the assistant, with and without dropping analysis; and OUT_DIR/parse.json: completions and what it parses from
them. See README.md.
"""

import json
import os
import sys

from conversations import conversations
from completions import completions


def dump(path, rows):
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"[\n{lines}\n]\n")


def main():
    encodings, out_dir = sys.argv[1:]
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = encodings
    import openai_harmony as oh

    encoding = oh.load_harmony_encoding("HarmonyGptOss")
    rendered = []
    for name, conversation in conversations(oh):
        # The JSON goes to the library as it stands, so that a missing field is missing there too.
        text = json.dumps(conversation, ensure_ascii=False)
        render = encoding._inner.render_conversation_for_completion
        row = {"name": name, "conversation": conversation}
        row["ids"] = render(text, "assistant", {"auto_drop_analysis": True})
        kept = render(text, "assistant", {"auto_drop_analysis": False})
        if kept != row["ids"]:
            row["ids_keeping_analysis"] = kept
        rendered.append(row)
    assert len({row["name"] for row in rendered}) == len(rendered)
    dump(f"{out_dir}/render.json", rendered)

    parsed = []
    for name, completion in completions():
        ids = encoding.encode(completion, allowed_special="all")
        messages = encoding._inner.parse_messages_from_completion_tokens(ids, "assistant", True)
        parsed.append({"name": name, "completion": completion, "ids": ids, "messages": json.loads(messages)})
    dump(f"{out_dir}/parse.json", parsed)
    print(len(rendered), "conversations,", len(parsed), "completions")


if __name__ == "__main__":
    main()
