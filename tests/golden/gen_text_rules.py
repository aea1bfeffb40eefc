#!/usr/bin/env python3
"""Writes data/text_rules.json: how Hugging Face `tokenizers` splits and normalizes every code point.

Each pattern cuts texts in which every code point stands once, in several contexts; a hash of where
the pieces end is kept. NFC is put to the same texts; a hash of what comes out is kept. Texts come in
blocks of code points, as test_text_rules.c makes them.

Use: python3 tests/golden/gen_text_rules.py
"""
import json
import os
import sys
from pathlib import Path

from tokenizers import Regex, normalizers, pre_tokenizers

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gen_tokenizer import hash64  # noqa: E402
from gen_tokenizer_forms import PATTERNS  # noqa: E402

OUT = Path(__file__).resolve().parent / "data/text_rules.json"
SCALARS = [cp for cp in range(0x110000) if not 0xD800 <= cp <= 0xDFFF]
BLOCK = 1 << 14
# what stands before and behind each code point
SPLIT_CONTEXTS = [["", ""], ["A", "a"], [" ", "\n"], ["'", "1"]]
NFC_CONTEXTS = [["", ""], ["a\u0345", "\u0301|"], ["\u1100", "\u11a8"]]


def blocks(before, behind):
    for i in range(0, len(SCALARS), BLOCK):
        yield "".join(before + chr(cp) + behind for cp in SCALARS[i : i + BLOCK])


def pre_tokenizer(steps):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True) if s is None
         else pre_tokenizers.Split(Regex(s), "isolated") for s in steps])


def piece_ends(split, text):
    at = 0
    for piece, _ in split.pre_tokenize_str(text):
        at += len(piece.encode())
        yield at


def main():
    rows, seen = [], set()
    for name, steps in PATTERNS:
        if name in seen or not steps:
            continue
        seen.add(name)
        split = pre_tokenizer(steps)
        for before, behind in SPLIT_CONTEXTS:
            ends = (e for text in blocks(before, behind) for e in piece_ends(split, text))
            rows.append(["split", name, before, behind, f"{hash64(ends):016x}"])
    nfc = normalizers.NFC()
    for before, behind in NFC_CONTEXTS:
        data = (b for text in blocks(before, behind) for b in nfc.normalize_str(text).encode())
        rows.append(["nfc", "", before, behind, f"{hash64(data):016x}"])
    OUT.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
    print(f"{OUT}: {len(rows)} rows")


if __name__ == "__main__":
    main()
