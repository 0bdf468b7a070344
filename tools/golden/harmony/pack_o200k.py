"""Packs o200k_base.tiktoken into the form embedded in the tokenizer crate.

Usage: pack_o200k.py FILE.tiktoken OUT.bin
Format: for each token in rank order one length byte, then the token's bytes.
"""

import base64
import hashlib
import sys

SOURCE_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"


def main() -> None:
    source, out = sys.argv[1:]
    data = open(source, "rb").read()
    found = hashlib.sha256(data).hexdigest()
    if found != SOURCE_SHA256:
        sys.exit(f"{source}: sha256 {found}, expected {SOURCE_SHA256}")
    packed = bytearray()
    for expected_rank, line in enumerate(data.splitlines()):
        token, rank = line.split()
        token = base64.b64decode(token)
        assert int(rank) == expected_rank and 1 <= len(token) <= 255
        packed.append(len(token))
        packed += token
    with open(out, "wb") as file:
        file.write(packed)
    print(hashlib.sha256(packed).hexdigest(), len(packed))


if __name__ == "__main__":
    main()
