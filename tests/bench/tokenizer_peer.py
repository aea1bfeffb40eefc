#!/usr/bin/env python3
"""Speed of the tokenizer beside Hugging Face `tokenizers`, one thread each, for every vocabulary of
tests/vocabs: encoding of the goldens' corpus, and loading of the tokenizer.json. llmd gets the corpus
as one text; `tokenizers` as one text and in its parts, of which the faster counts.

Use: make build/bench/tokenizer_speed vocabs
     python3 tests/bench/tokenizer_peer.py [--binary PROGRAM] [NAME...]

Needs the package tokenizers (tests/golden/requirements.txt). Each figure is a median; theirs and ours
are taken in turns, so that other work on the machine hits both.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
from tokenizers import Tokenizer  # noqa: E402

import gen_tokenizer_vocabs as goldens  # noqa: E402

ROUNDS = 3


def ours(binary, vocabulary, text_path):
    out = subprocess.run([binary, vocabulary.path, text_path], check=True, capture_output=True)
    return [int(field) for field in out.stdout.split()]


def theirs(vocabulary, parts):
    begin = time.perf_counter()
    tok = Tokenizer.from_file(str(vocabulary.path))
    loaded = time.perf_counter()
    ids = tok.encode("".join(parts), add_special_tokens=False).ids
    whole = time.perf_counter()
    for part in parts:
        tok.encode(part, add_special_tokens=False)
    by_part = time.perf_counter() - whole
    return len(ids), min(whole - loaded, by_part) * 1e6, (loaded - begin) * 1e6


def compare(binary, name):
    v = goldens.Vocabulary(name, goldens.material())
    parts = [part for _, part in v.parts()]
    mine, peer = [], []
    with tempfile.NamedTemporaryFile() as text:
        text.write("".join(parts).encode())
        text.flush()
        for _ in range(ROUNDS):
            mine.append(ours(binary, v, text.name))
            peer.append(theirs(v, parts))
    if any(m[1] != p[0] for m, p in zip(mine, peer)):
        sys.exit(f"{name}: another number of ids: {mine[0][1]}, expected {peer[0][0]}")
    n = mine[0][0]
    us, load = median(m[2] for m in mine), median(m[3] for m in mine)
    peer_us, peer_load = median(p[1] for p in peer), median(p[2] for p in peer)
    print(f"{name:20} {n / us:9.1f} {n / peer_us:9.2f} {peer_us / us:8.1f}x {load / 1e3:9.0f} "
          f"{peer_load / 1e3:9.0f}", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--binary", default="build/bench/tokenizer_speed")
    p.add_argument("names", nargs="*", metavar="NAME")
    args = p.parse_args()
    print(f"{'':20} {'llmd':>9} {'theirs':>9} {'':9} {'load llmd':>9} {'theirs':>9}")
    print(f"{'vocabulary':20} {'MB/s':>9} {'MB/s':>9} {'ratio':>9} {'ms':>9} {'ms':>9}")
    for name in args.names or goldens.NAMES:
        compare(args.binary, name)


if __name__ == "__main__":
    main()
