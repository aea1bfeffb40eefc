#!/usr/bin/env python3
"""Writes data/utf8_lossy.txt: what Python's errors="replace" makes of all short byte strings.

usage: python3 tests/golden/gen_utf8_lossy.py [--out FILE]

One line per length of 1 to 4 bytes: the length, the number of strings, and the 64-bit FNV-1a of
all their decoded forms, each followed by a zero byte. Strings of 1 and 2 bytes are all there are;
longer ones are all combinations of CLASSES, which has both sides of every border that UTF-8 draws.
tests/unit/test_utf8.c walks the same strings in the same order.
"""

import argparse
import itertools

CLASSES = bytes.fromhex("41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")


def fnv1a(data, h):
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--out", default="tests/golden/data/utf8_lossy.txt")
    args = ap.parse_args()
    with open(args.out, "w", encoding="ascii") as f:
        for length in range(1, 5):
            alphabet = range(256) if length <= 2 else CLASSES
            h, n = 0xCBF29CE484222325, 0
            for s in itertools.product(alphabet, repeat=length):
                text = bytes(s).decode("utf-8", errors="replace").encode() + b"\0"
                h = fnv1a(text, h)
                n += 1
            f.write(f"{length} {n} {h:016x}\n")


if __name__ == "__main__":
    main()
