#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/tokenizer_json: small tokenizer.json files of every form, each followed
by a NUL byte and a text, and a few broken ones.

Use: python3 tests/fuzz/make_corpus_tokenizer_json.py
"""

import json
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden"))
from make_vocabs import LLAMA3_PATTERN, QWEN_PATTERN, added, bpe, byte_level_part, split_then_bytes, template, whole  # noqa: E402

OUT = ROOT / "tests/fuzz/corpus/tokenizer_json"
TEXTS = ["", "a b", " abc <a>  b\n", "don't 123 <s>é▁", "aaaa abab\r\n  x", "漢字 <a>b e\u0301"]


def byte_level_files(rng):
    tokens = [chr(c) for c in range(0x21, 0x7F)] + ["Ġ", "Ċ", "Ã", "©", "ab", "abc", "Ġa", "Ã©", "<s>"]
    vocab = {t: i for i, t in enumerate(tokens)}
    merges = [("a", "b"), ("ab", "c"), ("Ġ", "a"), ("Ã", "©")]
    flags = [{}, {"lstrip": True}, {"rstrip": True, "normalized": True}, {"single_word": True}]
    pres = [byte_level_part(use_regex=True), byte_level_part(add_prefix_space=True),
            split_then_bytes(QWEN_PATTERN), split_then_bytes(LLAMA3_PATTERN),
            {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": True}, byte_level_part(use_regex=True)]}]
    for i, pre in enumerate(pres * 2):
        model = bpe(vocab, merges, i % 2 == 0, unk_token="<s>" if i % 3 else None,
                    ignore_merges=i % 2 == 1, fuse_unk=i % 4 == 1)
        more = [added(len(tokens) + k, t, k % 2 == 0, **rng.choice(flags))
                for k, t in enumerate(["<a>", "<a>b", "e\u0301"][: i % 4])]
        yield whole(model, more, pre_tokenizer=pre, decoder=byte_level_part(),
                    normalizer={"type": "NFC"} if i % 2 else None,
                    post_processor=template("<s>", vocab["<s>"]) if i % 3 else byte_level_part())


def spm_files():
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokens += ["▁", "a", "b", "c", "▁a", "ab", "▁ab", "é"]
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    decoder = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    legacy = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}
    model = bpe({t: i for i, t in enumerate(tokens)}, merges, False, unk_token="<unk>",
                fuse_unk=True, byte_fallback=True)
    for normalizer, scheme, split in ((legacy, None, False), (replace, None, False),
                                      (None, "always", True), (None, "first", False)):
        pre = scheme and {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme,
                          "split": split}
        yield whole(model, [added(1, "<s>"), added(len(tokens), "<a>", False, lstrip=True)],
                    normalizer=normalizer, pre_tokenizer=pre, decoder=decoder,
                    post_processor=template("<s>", 1))


def main():
    rng = random.Random(3)
    OUT.mkdir(exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    files = [json.dumps(f, ensure_ascii=i % 3 == 0, separators=(",", ":"))
             for i, f in enumerate([*byte_level_files(rng), *spm_files()])]
    for i, text in enumerate(files):
        (OUT / f"sound-{i:02}").write_bytes(text.encode() + b"\0" + TEXTS[i % len(TEXTS)].encode())
    for i, (a, b) in enumerate([('"a b"', '"a q"'), ('"BPE"', '"Unigram"'), ('"ab":', '"a\\ud800":'),
                                ('"vocab":{', '"vocab":[{'), ('"NFC"', '"Sequence"')]):
        broken = next((t for t in files if a in t), files[0]).replace(a, b, 1)
        (OUT / f"broken-{i:02}").write_bytes(broken.encode())
    print(f"{OUT}: {len(list(OUT.iterdir()))} files")


if __name__ == "__main__":
    main()
