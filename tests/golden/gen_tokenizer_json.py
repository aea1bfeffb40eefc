#!/usr/bin/env python3
"""Writes data/tokenizer_json_cases.jsonl: small made-up tokenizer.json files of every form and
option that the reader knows, with what Hugging Face `tokenizers` makes of texts and ids.

Use: python3 tests/golden/gen_tokenizer_json.py

A line is {"json": the file as text, "cases": [[text, flags, ids], ...], "decodes": [[ids, text,
text without control tokens], ...]}; flags: 1 control tokens in the text, 2 what the post-processor
adds.
"""

import json
import os
import random
import sys
import unicodedata

from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gen_tokenizer import DATA  # noqa: E402
from make_vocabs import (LLAMA3_PATTERN, QWEN_PATTERN, alphabet, bpe, byte_level_part,  # noqa: E402
                         split_then_bytes, whole)

N_BYTE_LEVEL, N_SPM, N_CASES, N_DECODES = 24, 24, 16, 10
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN_PATTERN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|"
                  r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_PATTERNS = [
    r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
FRAGMENTS = ["a", "b", "c", "ab", "abc", "A", "aB", "  ", " ", "\n", "\r\n", "\t", "1", "22", "333",
             "é", "e\u0301", "\u0301", "漢", "字", "\U0001f600", "▁", "▁a", "<a>", "<a>b", "b<", "<unk>", "<s>",
             "'s", "'LL", "don't", "!", "...", "/", "x y", "<0x41>", "\u00a0", "\u3000", "ß", "\u1100\u1161",
             "가", "_", "Ġ", "\x00", "\x7f", "word", " word ", "q", "zz"]
ADDED = ["<a>", "<a>b", "b<a", "<a><a>", "é", "e\u0301", "ab", "a", "word", " x", "x y", "▁a", "Ġ", "\u1100\u1161",
         "b ", "<", "zz", "\n", "漢字", "<unk>", "caf\u00e9", "A\u030a"]


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def inverted(rng, pre):
    """Says the same with another word: what is no match is removed, and all is a match."""
    pre["pretokenizers"][0] |= rng.choice([{"behavior": "Removed", "invert": True}, {"invert": True}])
    return pre


def pre_tokenizers(rng):
    digits = {"type": "Digits", "individual_digits": True}
    alone = byte_level_part(use_regex=True, add_prefix_space=rng.random() < 0.5)
    return rng.choice([
        alone, byte_level_part(add_prefix_space=rng.random() < 0.5),
        {"type": "Sequence", "pretokenizers": [digits, byte_level_part(use_regex=True)]},
        split_then_bytes(QWEN_PATTERN), split_then_bytes(LLAMA3_PATTERN),
        split_then_bytes(TEKKEN_PATTERN),
        inverted(rng, split_then_bytes(rng.choice([QWEN_PATTERN, LLAMA3_PATTERN, TEKKEN_PATTERN]))),
        {"type": "Sequence",
         "pretokenizers": [*map(split, DEEPSEEK_PATTERNS), byte_level_part()]},
    ])


def merges_of(rng, tokens, alphabet_tokens, n):
    """Random merges, some of them listed twice; makes the tokens that they need, and a few others."""
    merges = []
    for _ in range(n):
        left, right = rng.choice(alphabet_tokens), rng.choice(alphabet_tokens)
        if len(left + right) > 16:
            continue
        merges.append((left, right))
        if rng.random() < 0.1:
            merges.append(rng.choice(merges))
        if left + right not in tokens:
            tokens.append(left + right)
            alphabet_tokens.append(left + right)
    for _ in range(3):
        text = "".join(rng.choice(alphabet_tokens) for _ in range(3))
        if len(text) < 16 and text not in tokens:
            tokens.append(text)
    return merges


def draw_added(rng, tokens, byte_level):
    """Not both of two that normalization makes one; in a byte-level vocabulary none that could be
    read as bytes (README of core/model: "Unlike it")."""
    out = []
    chars = set(alphabet().values())
    for content in rng.sample(ADDED, rng.choice([0, 1, 3, 6])):
        composed = unicodedata.normalize("NFC", content)
        if any(unicodedata.normalize("NFC", a["content"]) == composed for a in out):
            continue
        if byte_level and content not in tokens and not content.isascii() and chars >= set(composed):
            continue
        flags = {f: rng.random() < 0.25 for f in ("lstrip", "rstrip", "single_word")}
        flags["normalized"] = rng.random() < 0.5
        out.append({"id": 0, "content": content, "special": rng.random() < 0.5, **flags})
    next_id = len(tokens)
    for a in out:
        a["id"] = tokens.index(a["content"]) if a["content"] in tokens else next_id
        next_id = max(next_id, a["id"] + 1) if a["id"] >= len(tokens) else next_id
    return out


def draw_post(rng, tokens, byte_level):
    def special(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}

    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    ids = {name: rng.sample(range(len(tokens)), rng.choice([1, 1, 2])) for name in "XY"}
    template = {"type": "TemplateProcessing", "pair": [sequence, {"Sequence": {"id": "B", "type_id": 1}}],
                "single": rng.choice([[special("X"), sequence], [sequence, special("Y")], [sequence],
                                      [special("X"), special("Y"), sequence, special("X")]]),
                "special_tokens": {n: {"id": n, "ids": i, "tokens": [n] * len(i)} for n, i in ids.items()}}
    choices = [None, template]
    if byte_level:
        choices += [byte_level_part(), {"type": "Sequence", "processors": [byte_level_part(), template]}]
    return rng.choice(choices)


def byte_level_file(rng):
    hidden = [0x00, 0x7F, 0xC3, 0xA9, 0xF0, 0x9F, 0xE2]
    skip = set(rng.sample(hidden, rng.choice([0, 0, 1, 3])))
    chars = alphabet()
    tokens = [c for b, c in chars.items() if b not in skip]
    small = [c for c in (chars[b] for b in b"abc 1!\nA" + "é漢".encode()) if c in tokens]
    merges = merges_of(rng, tokens, small, rng.choice([4, 20, 60]))
    unk = rng.choice([None, "<unk>"])
    if unk:
        tokens.append(unk)
    rng.shuffle(tokens)
    added = draw_added(rng, tokens, True)
    # Ids need not follow each other, as long as no added token is numbered into a hole.
    gap = rng.random() < 0.3 and all(a["content"] in tokens for a in added)
    vocab = {t: i + (i // 50 if gap else 0) for i, t in enumerate(tokens)}
    for a in added:
        a["id"] = vocab.get(a["content"], a["id"])
    nfc = {"type": "NFC"}
    model = bpe(vocab, merges, rng.random() < 0.5, unk_token=unk, fuse_unk=rng.random() < 0.5,
                ignore_merges=rng.random() < 0.5)
    if rng.random() < 0.3:
        del model["type"], model["ignore_merges"], model["byte_fallback"]  # as old files
        model["ignore_merges"] = False
    return whole(model, added, pre_tokenizer=pre_tokenizers(rng), decoder=byte_level_part(),
                 normalizer=rng.choice([None, nfc, {"type": "Sequence", "normalizers": [nfc]},
                                        {"type": "Sequence", "normalizers": []}]),
                 post_processor=draw_post(rng, tokens, True))


def spm_file(rng):
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    small = ["▁", "a", "b", "c", "A", "1", "é", "漢", "\n", "!", "'", "w", "o", "r", "d"]
    tokens += small
    merges = merges_of(rng, tokens, small + ["▁"], rng.choice([4, 20, 60]))
    added = draw_added(rng, tokens, False)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = {"type": "Prepend", "prepend": "▁"}
    normalizer = pre = None
    if rng.random() < 0.5:
        normalizer = rng.choice([replace, {"type": "Sequence", "normalizers": [prepend, replace]},
                                 {"type": "Sequence", "normalizers": [prepend, replace]}])
        if rng.random() < 0.3:  # as Gemma has it: nothing is left to split at
            pre = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                   "invert": False}
    else:
        pre = {"type": "Metaspace", "replacement": "▁",
               "prepend_scheme": rng.choice(["always", "first", "never"]), "split": rng.random() < 0.5}
    steps = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
             {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    decoder = {"type": "Sequence", "decoders": steps[: rng.choice([3, 4])]}
    fallback = rng.random() < 0.8
    if not fallback:
        del decoder["decoders"][1]
    if rng.random() < 0.25 and not normalizer:
        decoder = {"type": "Metaspace", "replacement": "▁", "split": True,
                   "prepend_scheme": rng.choice(["always", "first", "never"])}
    model = bpe({t: i for i, t in enumerate(tokens)}, merges, rng.random() < 0.5, byte_fallback=fallback,
                unk_token=rng.choice([None, "<unk>"]), fuse_unk=rng.random() < 0.5,
                ignore_merges=rng.random() < 0.3)
    return whole(model, added, normalizer=normalizer, pre_tokenizer=pre,
                 decoder=decoder,
                 post_processor=draw_post(rng, tokens, False))


def draw_text(rng, file):
    contents = [a["content"] for a in file["added_tokens"]]
    fragments = FRAGMENTS + contents * 4 + [" " + c + "  " for c in contents]
    return "".join(rng.choice(fragments) for _ in range(rng.choice([0, 1, 3, 8, 20])))


def tame(file):
    """A special token whose normalized form is another text is not skipped by tokenizers 0.23 (README
    of core/model: "Unlike it"): none is made."""
    normalizer = Tokenizer.from_str(json.dumps(file)).normalizer
    for a in file["added_tokens"]:
        if a["special"] and normalizer and normalizer.normalize_str(a["content"]) != a["content"]:
            a["normalized"] = False


def line(rng, file):
    tame(file)
    text = json.dumps(file, separators=(",", ":"), ensure_ascii=rng.random() < 0.3)
    tok = Tokenizer.from_str(text)
    out = {"json": text, "cases": [], "decodes": []}
    all_ids = sorted(tok.get_vocab(with_added_tokens=True).values())
    for _ in range(N_CASES):
        string, flags = draw_text(rng, file), rng.randrange(4)
        tok.encode_special_tokens = not flags & 1
        ids = tok.encode(string, add_special_tokens=bool(flags & 2)).ids
        out["cases"].append([string, flags, ids])
    for i in range(N_DECODES):
        ids = out["cases"][i][2] if i % 2 else [rng.choice(all_ids) for _ in range(rng.randrange(9))]
        out["decodes"].append([ids, tok.decode(ids, skip_special_tokens=False),
                               tok.decode(ids, skip_special_tokens=True)])
    return json.dumps(out, separators=(",", ":"), ensure_ascii=False)


def main():
    rng = random.Random(17)
    files = [byte_level_file(rng) for _ in range(N_BYTE_LEVEL)] + [spm_file(rng) for _ in range(N_SPM)]
    path = DATA / "tokenizer_json_cases.jsonl"
    path.write_text("".join(line(rng, f) + "\n" for f in files))
    print(f"{path}: {len(files)} files, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
