#!/usr/bin/env python3
"""Writes data/tokenizer_forms.json: made-up vocabularies of every form, and what Hugging Face
`tokenizers` makes of texts with them.

Use: python3 tests/golden/gen_tokenizer_forms.py [SEED N_VOCABS FILE]

Each vocabulary draws its own form (byte-level with one of the split patterns; SentencePiece-style
with or without byte fallback, as Prepend and Replace or as Metaspace), merges, normalization, and
added tokens with random flags. Vocabularies with scores instead of merges are not known to
`tokenizers`: their ids are those of the definition, merged the slow way. With other arguments
further vocabularies can be put to test_tokenizer_forms, which takes the FILE.
"""
import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

OUT = Path(__file__).resolve().parent / "data/tokenizer_forms.json"
SPACE = "\u2581"

WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SMALL_A, SMALL_B = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"'(?i:[sdmt]|ll|ve|re)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DEEPSEEK = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
            "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")
# name, steps: a regular expression, or None for Digits
PATTERNS = [
    ("gpt-2", [GPT2]),
    ("smollm", [None, GPT2]),
    ("llama-bpe", [SMALL_A + WORDS + r"|\p{N}{1,3}" + REST]),
    ("llama-bpe", [SMALL_B + WORDS + r"|\p{N}{1,3}" + REST]),
    ("llama-bpe", [SMALL_B + r"|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
                   r"|\s*[\r\n]|\s+(?!\S)|\s+"]),
    ("qwen2", [SMALL_A + WORDS + r"|\p{N}" + REST]),
    ("qwen2", [SMALL_B + WORDS + r"|\p{N}" + REST]),
    ("tekken", [rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
                r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"]),
    ("deepseek-v3", [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK]),
    ("none", []),
]

# What texts are made of. The alphabets of the vocabularies know only part of it.
CHARS = list("aabbcc  \n\r\t'sStlLdD1234.,!/-_(") + [
    SPACE, "\u00e9", "e", "\u0301", "\u0323", "\u017f", "\u4e2d", "\u3042", "\u30fb", "\u01c5", "\u02b0",
    "\u00bd", "\u1100", "\u1161", "\u11a8", "\u212b", "\u00a0", "\u3000", "\u200b", "\U0001f916", "\x7f", "\x00"]
ADDED = ["<s>", "</s>", "<a>", "<a>b", " x", "x ", "b", "ab", "e\u0301", "\u00e9", " ", SPACE, "  ", "\n",
         "<0x41>", "<a b>", "\u212b", "c" + SPACE, "'s", "<s><s>"]


def byte_alphabet():
    visible = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    hidden = [b for b in range(256) if b not in visible]
    return {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def random_merges(r, tokens, parts, n):
    """Merges over `parts`; `tokens` grows by what they make."""
    merges, parts = [], list(parts)
    for _ in range(n):
        left, right = r.choice(parts), r.choice(parts)
        if len(left + right) > 12:
            continue
        if left + right not in tokens:
            tokens.append(left + right)
        parts.append(left + right)
        merges.append([left, right])
    return merges


def random_added(r, tokens):
    added = []
    for text in r.sample(ADDED, r.choice([0, 1, 3, 6, 10])):
        if r.random() < 0.2 and text not in tokens:
            tokens.append(text)
        special = r.random() < 0.5
        flags = [r.random() < 0.25 for _ in range(3)]
        added.append([text, None, special, *flags, r.random() < 0.4])
    return added


def byte_level(r, v):
    chars = byte_alphabet()
    missing = r.sample([0x00, 0x7F, 0xA9, 0xCC, 0xF0], r.choice([0, 0, 1, 3]))
    tokens = [chars[b] for b in range(256) if b not in missing]
    parts = [c for c in "abce'sl1\u0120\u010a\u00cc\u00c3\u00a9\u00e2\u0123" if c in tokens]
    v["pre"], v["steps"] = r.choice(PATTERNS)
    v["merges"] = random_merges(r, tokens, parts, r.choice([3, 20, 60]))
    v["ignore_merges"] = r.random() < 0.4
    v["nfc"] = r.random() < 0.4
    v["add_prefix_space"] = v["pre"] in ("gpt-2", "none") and r.random() < 0.5
    return tokens


def spm(r, v):
    tokens = ["<unk>"] + r.sample(["a", "b", "c", "e", "s", "1", ".", "\n", "\u00e9", "\u0301", "\u4e2d"], 9)
    v["byte_fallback"] = r.random() < 0.7
    if v["byte_fallback"]:
        some = r.random() < 0.2
        tokens += [f"<0x{b:02X}>" for b in range(256) if not some or r.random() < 0.9]
    if r.random() < 0.9:
        tokens.append(SPACE)
    parts = [t for t in tokens if len(t) == 1]
    if r.random() < 0.6:  # as in practice: U+2581 only in front
        front = [p for p in parts if p != SPACE]
        merges = random_merges(r, tokens, front, r.choice([3, 15]))
        if SPACE in tokens:
            for m in r.sample(merges, len(merges) // 2):
                merges.append([SPACE, m[0] + m[1]])
                if SPACE + m[0] + m[1] not in tokens:
                    tokens.append(SPACE + m[0] + m[1])
            merges.append([SPACE, SPACE])
            if SPACE * 2 not in tokens:
                tokens.append(SPACE * 2)
        r.shuffle(merges)
        v["merges"] = merges
    else:
        v["merges"] = random_merges(r, tokens, parts, r.choice([3, 15, 40]))
    v["ignore_merges"] = r.random() < 0.2
    v["nfc"] = r.random() < 0.15
    v["space_prefix"] = r.choice(["none", "every", "every", "absent", "first"])
    v["split_spaces"] = v["space_prefix"] != "every" and r.random() < 0.5
    v["strip"] = r.random() < 0.6
    return tokens


def reference(v, tokens):
    ids = {t: i for i, t in enumerate(tokens)}
    unk = {}
    if v["unk"] is not None:
        unk = {"unk_token": tokens[v["unk"]], "fuse_unk": v["fuse_unk"]}
    tok = Tokenizer(models.BPE(vocab=ids, merges=[tuple(m) for m in v["merges"]],
                               byte_fallback=v.get("byte_fallback", False),
                               ignore_merges=v["ignore_merges"], **unk))
    steps = [normalizers.NFC()] if v["nfc"] else []
    if v["form"] == "byte":
        if steps:
            tok.normalizer = steps[0]
        pre = [pre_tokenizers.Digits(individual_digits=True) if s is None
               else pre_tokenizers.Split(Regex(s), "isolated") for s in v["steps"]]
        if v["add_prefix_space"] and v["pre"] == "gpt-2":
            pre = [pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)]
        else:
            pre.append(pre_tokenizers.ByteLevel(v["add_prefix_space"], use_regex=False))
        tok.pre_tokenizer = pre_tokenizers.Sequence(pre)
        tok.decoder = decoders.ByteLevel()
        return tok
    if v["space_prefix"] == "every":
        steps += [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    else:
        scheme = {"none": "never", "absent": "always", "first": "first"}[v["space_prefix"]]
        tok.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, v["split_spaces"])
    if steps:
        tok.normalizer = normalizers.Sequence(steps)
    decode = [decoders.Replace(SPACE, " ")]
    if v["byte_fallback"]:
        decode.append(decoders.ByteFallback())
    decode.append(decoders.Fuse())
    if v["strip"]:
        decode.append(decoders.Strip(" ", 1, 0))
    tok.decoder = decoders.Sequence(decode)
    return tok


def random_text(r, added):
    pieces = []
    for _ in range(r.choice([1, 4, 12, 40])):
        kind = r.random()
        if kind < 0.25 and added:
            pieces.append(r.choice(added)[0])
        elif kind < 0.35:
            pieces.append(r.choice(CHARS) * r.randint(1, 6))
        elif kind < 0.4:
            pieces.append("".join(r.choice("abc") for _ in range(r.randint(20, 90))))
        else:
            pieces.append(r.choice(CHARS))
    return "".join(pieces)


def from_tokenizers(r, v):
    v["form"] = r.choice(["byte", "spm"])
    tokens = (byte_level if v["form"] == "byte" else spm)(r, v)
    v["unk"] = r.choice([None, 0, 0] if v["form"] == "spm" else [None, None, 1])
    v["fuse_unk"] = r.random() < 0.5
    v["added"] = random_added(r, tokens)
    tok = reference(v, tokens)
    v["texts"] = list(tokens)
    # of two that normalization makes equal `tokenizers` picks one by chance
    form = tok.normalizer.normalize_str if tok.normalizer else str
    v["added"] = list({(a[6], form(a[0]) if a[6] else a[0]): a for a in v["added"]}.values())
    for a in v["added"]:
        token = AddedToken(a[0], single_word=a[5], lstrip=a[3], rstrip=a[4], normalized=a[6],
                           special=a[2])
        (tok.add_special_tokens if a[2] else tok.add_tokens)([token])
        a[1] = tok.token_to_id(a[0])
        v["texts"] += [""] * (a[1] + 1 - len(v["texts"]))
    v["cases"], v["decodes"] = [], []
    for _ in range(14):
        text, special = random_text(r, v["added"]), r.random() < 0.6
        tok.encode_special_tokens = not special
        try:
            ids = tok.encode(text, add_special_tokens=False).ids
        except BaseException as fault:  # it panics where one token takes another one's white space
            if type(fault).__name__ != "PanicException":
                raise
            continue
        v["cases"].append([text, special, ids])
    # see "unlike it" in README.md of core/model
    unlike = [a[1] for a in v["added"] if a[2] and tok.id_to_token(a[1]) != a[0]]
    if v["form"] == "byte":
        unlike += [a[1] for a in v["added"] if not a[0].isascii()]
    for _ in range(6):
        first = r.choice([0, 0, max(0, len(v["texts"]) - 60)])
        ids = [r.randrange(first, len(v["texts"])) for _ in range(r.choice([1, 3, 12, 30]))]
        ids = [i for i in ids if i not in unlike]
        v["decodes"].append([ids, *(tok.decode(ids, skip_special_tokens=s) for s in (False, True))])


def by_scores(text, ids, scores, unk):
    """The best-scored joined token first, the leftmost of equals."""
    symbols = list(text)
    while True:
        best = None
        for i in range(len(symbols) - 1):
            joined = symbols[i] + symbols[i + 1]
            if joined in ids and (best is None or scores[ids[joined]] > scores[ids[best[1]]]):
                best = i, joined
        if best is None:
            break
        symbols[best[0] : best[0] + 2] = [best[1]]
    return [ids.get(s, unk) for s in symbols]


def with_scores(r, v):
    tokens = ["<unk>", SPACE, "a", "b", "c", "d"]
    random_merges(r, tokens, tokens[1:], r.choice([10, 40]))
    ids = {t: i for i, t in enumerate(tokens)}
    scores = [float(r.randint(-12, 0)) for _ in tokens]
    v |= {"form": "spm", "merges": [], "scores": scores, "unk": 0, "fuse_unk": False, "texts": tokens,
          "ignore_merges": False, "nfc": False, "space_prefix": r.choice(["none", "every"]),
          "split_spaces": False, "byte_fallback": False, "strip": False, "added": [], "decodes": []}
    v["cases"] = []
    own = {t: i for t, i in ids.items() if t != "<unk>"}
    for _ in range(14):
        text = "".join(r.choice("aabbcd z ") for _ in range(r.choice([3, 20, 120])))
        spaced = (SPACE if v["space_prefix"] == "every" else "") + text.replace(" ", SPACE)
        v["cases"].append([text, False, by_scores(spaced, own, scores, 0)])


def main():
    seed, n, out = 1, 48, OUT
    if len(sys.argv) == 4:
        seed, n, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    r = random.Random(seed)
    vocabs = []
    for i in range(n):
        v = {}
        (with_scores if i % 8 == 7 else from_tokenizers)(r, v)
        v.pop("steps", None)
        vocabs.append(json.dumps(v, separators=(",", ":")))
    out.write_text("[\n" + ",\n".join(vocabs) + "\n]\n")
    print(f"{out}: {n} vocabularies")


if __name__ == "__main__":
    main()
