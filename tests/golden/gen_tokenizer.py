#!/usr/bin/env python3
"""Writes the goldens of the tokenizer: what Hugging Face `tokenizers` makes of much mixed text.

Use: python3 tests/golden/gen_tokenizer.py [--model FILE.gguf]      write tests/golden/data/tokenizer*
     python3 tests/golden/gen_tokenizer.py --show KIND N            explain one entry; KIND is
                                                                    part, string or decode
     python3 tests/golden/gen_tokenizer.py --time                   time `tokenizers` on the corpus

The text is not stored. It is drawn from data/tokenizer_text.json by a small generator that
tokenizer_text.h repeats in C, draw for draw; of each text only a hash of its ids is kept
(data/tokenizer_hashes.bin; the format is in README.md). data/tokenizer_cases.json holds a readable
set with all ids, and small made-up vocabularies that exercise merging.
"""

import argparse
import json
import os
import struct
import sys
import time
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gen_unicode_tables  # noqa: E402
from gguf_weights import Gguf, byte_bpe_tokenizer  # noqa: E402

DATA = Path(__file__).resolve().parent / "data"
MODEL = Path(__file__).resolve().parents[2] / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
MAGIC = b"LLMDTOKN"
VERSION = 1
CORPUS_BYTES = 1_100_000
N_STRINGS = 20_000
GPT2_EVERY = 4  # of the strings every fourth is also tokenized with GPT-2's splitter
N_DECODES = 4_000
N_VOCABS = 24
LONG = [("a", "z"), ("a", "c"), ("-", "-")]  # letters of the long pieces
LONG_CHARS = 300_000
SEED_CORPUS, SEED_STRINGS, SEED_DECODES, SEED_VOCABS, SEED_LONG = 1, 2, 3, 4, 5
MASK = (1 << 64) - 1


class Source:
    """Draws text. tokenizer_text.h makes the same calls in the same order."""

    def __init__(self, raw, token_texts, seed):
        self.ranges, self.words, self.lines = raw["ranges"], raw["words"], raw["lines"]
        self.token_texts = token_texts
        self.state = seed

    def below(self, n):  # splitmix64
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n

    def pick(self, items):
        return items[self.below(len(items))]

    def char(self, first, last):
        return chr(first + self.below(last - first + 1))

    def chars(self, n, first, last):
        return "".join(self.char(first, last) for _ in range(n))

    def slice(self):
        line = self.pick(self.lines)
        begin = self.below(len(line))
        return line[begin : begin + 1 + self.below(40)]

    def scalar(self):
        cp = self.below(0x110000 - 0x800)
        return chr(cp + 0x800 if cp >= 0xD800 else cp)

    def item(self):
        kind = self.below(16)
        if kind < 4:
            return self.pick(self.words)
        if kind < 6:
            first, last = self.pick(self.ranges)
            return self.chars(1 + self.below(6), first, last)
        if kind == 6:
            first, last = self.pick(self.ranges)
            c = self.char(first, last)
            return c * (1 + self.below(12))
        if kind == 7:
            return self.scalar()
        if kind == 8:
            word = self.pick(self.words)
            return word * (1 + self.below(20))
        if kind == 9:
            return self.chars(1 + self.below(60), ord("a"), ord("z"))
        if kind == 10:
            return self.chars(1 + self.below(12), ord("0"), ord("9"))
        if kind == 11:
            return self.chars(1 + self.below(4), 0, 0x1F)
        if kind < 14:
            return self.slice()
        return "".join(self.pick(self.token_texts) for _ in range(1 + self.below(8)))

    def string(self):
        return "".join(self.item() for _ in range(1 + self.below(24)))

    def part(self):
        kind = self.below(4)
        if kind == 0:
            return self.string() + "\n"
        if kind == 1:
            return "".join(self.slice() + " " for _ in range(1 + self.below(6)))
        line = self.pick(self.lines)
        return line + self.pick(["\n", "\n\n", " ", "\r\n"])

    def ids(self, n_tokens):
        """Random ids; every fourth from the beginning of the vocabulary (control, bytes)."""
        n = 1 + self.below(40)
        return [self.below(400 if self.below(4) == 0 else n_tokens) for _ in range(n)]


def hash64(values):
    """FNV-1a over whole words."""
    h = 0xCBF29CE484222325
    for v in values:
        h = ((h ^ v) * 0x100000001B3) & MASK
    return h


def hash32(values):
    h = hash64(values)
    return (h ^ h >> 32) & 0xFFFFFFFF


class Reference:
    """The two pipelines over the model's vocabulary."""

    def __init__(self, path):
        g = Gguf(str(path))
        self.smollm = byte_bpe_tokenizer(g)
        self.gpt2 = byte_bpe_tokenizer(g)
        self.gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        self.n_tokens = self.smollm.get_vocab_size()
        self.token_texts = [
            self.smollm.decode([i], skip_special_tokens=False) for i in range(self.n_tokens)
        ]


def encode(tok, text, special=True):
    tok.encode_special_tokens = not special
    return tok.encode(text, add_special_tokens=False).ids


def draw_parts(source):
    total = 0
    while total < CORPUS_BYTES:
        part = source.part()
        total += len(part.encode())
        yield part


def draw_strings(source):
    for _ in range(N_STRINGS):
        special = source.below(2) == 1
        yield special, source.string()


def write_hashes(ref, raw, path):
    parts = list(draw_parts(Source(raw, ref.token_texts, SEED_CORPUS)))
    corpus = "".join(parts)
    words = []
    whole = [encode(tok, corpus) for tok in (ref.smollm, ref.gpt2)]
    for tok in (ref.smollm, ref.gpt2):
        words += [hash32(encode(tok, part)) for part in parts]
    strings = list(draw_strings(Source(raw, ref.token_texts, SEED_STRINGS)))
    words += [hash32(encode(ref.smollm, s, special)) for special, s in strings]
    words += [hash32(encode(ref.gpt2, s, special)) for special, s in strings[::GPT2_EVERY]]
    source = Source(raw, ref.token_texts, SEED_DECODES)
    for _ in range(N_DECODES):
        ids = source.ids(ref.n_tokens)
        for skip in (False, True):
            words.append(hash32(ref.smollm.decode(ids, skip_special_tokens=skip).encode()))
    source = Source(raw, ref.token_texts, SEED_LONG)
    for first, last in LONG:
        words.append(hash32(encode(ref.smollm, source.chars(LONG_CHARS, ord(first), ord(last)))))
    corpus_bytes = corpus.encode()
    head = struct.pack("<8s6I", MAGIC, VERSION, len(parts), N_STRINGS, GPT2_EVERY, N_DECODES,
                       len(corpus_bytes))
    head += struct.pack("<4Q2I", hash64(gen_unicode_tables.classes()), hash64(corpus_bytes),
                        hash64(whole[0]), hash64(whole[1]), len(whole[0]), len(whole[1]))
    path.write_bytes(head + struct.pack(f"<{len(words)}I", *words))
    print(f"{path}: {len(corpus_bytes)} bytes in {len(parts)} parts, {len(whole[0])} ids; "
          f"{sum(len(s.encode()) for _, s in strings)} bytes in {N_STRINGS} strings")


def model_cases(ref, raw):
    def case(text, special):
        tokens = encode(ref.smollm, text, special)
        return {"text": text, "special": special, "ids": tokens}

    texts = ["", " ", "a", *raw["lines"], *("x" + w + "y" for w in raw["words"])]
    cases = []
    for text in texts:
        cases.append(case(text, True))
        if "<" in text:
            cases.append(case(text, False))
    return cases


def random_vocab(source):
    """A made-up vocabulary: all bytes but a few, merges over a tiny alphabet, added tokens."""
    alphabet = ["a", "b", "c", "\u0120", "\u00c3", "\u00a9"]  # of the byte-level alphabet
    skip = [source.pick([0x00, 0x04, 0xA9, 0xF1, 0xFF]) for _ in range(source.below(3))]
    tokens, merges = list(alphabet), []
    for _ in range(4 + source.below(40)):
        left, right = source.pick(tokens), source.pick(tokens)
        if len(left + right) > 24 or (merges and source.below(8) == 0):
            left, right = source.pick(merges) if merges else ("a", "b")
        merges.append((left, right))
        if left + right not in tokens:
            tokens.append(left + right)
    if 0xA9 in skip:
        merges = [m for m in merges if "\u00a9" not in m[0] + m[1]]
    added = [["<a>", "control"], ["<a>b", "control"], ["b<a", "user_defined"], ["\u00e9\u2581", "user_defined"],
             ["<a>bc<a>", "user_defined"], ["a<a>", "unknown"]]
    return {"skip_bytes": sorted(set(skip)), "merges": [f"{a} {b}" for a, b in merges],
            "added": added[: source.below(len(added) + 1)]}


def vocab_tokens(vocab):
    """Ids in order: the bytes, what the merges make, the added tokens (tokenizer_text.h)."""
    visible = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    hidden = [b for b in range(256) if b not in visible]
    char = {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}
    tokens = [char[b] for b in range(256) if b not in vocab["skip_bytes"]]
    made = dict.fromkeys(m.replace(" ", "") for m in vocab["merges"])
    return tokens + list(made) + [a[0] for a in vocab["added"]]


def vocab_cases(source):
    vocab = random_vocab(source)
    ids = {t: i for i, t in enumerate(vocab_tokens(vocab))}
    tok = Tokenizer(models.BPE(vocab=ids, merges=[tuple(m.split(" ")) for m in vocab["merges"]]))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    for text, kind in vocab["added"]:
        token = AddedToken(text, special=kind != "user_defined", normalized=False)
        (tok.add_tokens if kind == "user_defined" else tok.add_special_tokens)([token])
    fragments = ["a", "b", "c", "ab", " ", "é", "à", "\x04", "<a>", "<a>b", "a<a>bc<a>b", "é▁", "aaaa"]
    vocab["cases"] = []
    for _ in range(8):
        n = 1 + source.below(70 if source.below(6) == 0 else 12)
        text = "".join(source.pick(fragments) for _ in range(n))
        special = source.below(2) == 1
        vocab["cases"].append({"text": text, "special": special, "ids": encode(tok, text, special)})
    return vocab


def write_cases(ref, raw, path):
    source = Source(raw, ref.token_texts, SEED_VOCABS)
    cases = model_cases(ref, raw)
    vocabs = [vocab_cases(source) for _ in range(N_VOCABS)]

    def rows(items):
        return ",\n".join(json.dumps(i, separators=(",", ":")) for i in items)

    path.write_text(f'{{"model":[\n{rows(cases)}\n],\n"vocabs":[\n{rows(vocabs)}\n]}}\n')
    print(f"{path}: {len(cases)} texts, {len(vocabs)} vocabularies")


def show(ref, raw, kind, n):
    if kind == "decode":
        source = Source(raw, ref.token_texts, SEED_DECODES)
        for _ in range(n + 1):
            ids = source.ids(ref.n_tokens)
        print("ids", ids)
        for skip in (False, True):
            print("skip" if skip else "all ", ascii(ref.smollm.decode(ids, skip_special_tokens=skip)))
        return
    if kind == "part":
        special, text = True, list(draw_parts(Source(raw, ref.token_texts, SEED_CORPUS)))[n]
    else:
        special, text = list(draw_strings(Source(raw, ref.token_texts, SEED_STRINGS)))[n]
    print("special" if special else "plain", ascii(text))
    for name, tok in (("smollm", ref.smollm), ("gpt-2", ref.gpt2)):
        ids = encode(tok, text, special)
        print(f"{name}:", " ".join(f"{i}={ascii(ref.token_texts[i])}" for i in ids))


def time_corpus(ref, raw):
    """One thread; the whole corpus in one call and part by part."""
    parts = list(draw_parts(Source(raw, ref.token_texts, SEED_CORPUS)))
    corpus = "".join(parts)
    for name, texts in (("whole", [corpus]), ("by part", parts)):
        runs = []
        for _ in range(9):
            begin = time.perf_counter()
            for text in texts:
                ref.smollm.encode(text, add_special_tokens=False)
            runs.append(time.perf_counter() - begin)
        median, size = sorted(runs)[4], len(corpus.encode())
        print(f"corpus {name:8} {size} bytes {median * 1e3:9.1f} ms {size / median / 1e6:7.2f} MB/s")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", type=Path, default=MODEL)
    p.add_argument("--show", nargs=2, metavar=("KIND", "N"))
    p.add_argument("--time", action="store_true")
    args = p.parse_args()
    ref = Reference(args.model)
    raw = json.loads((DATA / "tokenizer_text.json").read_text(encoding="utf-8"))
    if args.time:
        time_corpus(ref, raw)
        return
    if args.show:
        show(ref, raw, args.show[0], int(args.show[1]))
        return
    write_hashes(ref, raw, DATA / "tokenizer_hashes.bin")
    write_cases(ref, raw, DATA / "tokenizer_cases.json")


if __name__ == "__main__":
    main()
