#!/usr/bin/env python3
"""Writes the goldens of the tokenizers of other models: what Hugging Face `tokenizers` makes of much
mixed text with each tokenizer.json of tests/vocabs (packaging/fetch-vocabs.sh).

Use: python3 tests/golden/gen_tokenizer_vocabs.py                       write data/vocab_*
     python3 tests/golden/gen_tokenizer_vocabs.py --show NAME KIND N    explain group N of a
                                                                        vocabulary; KIND is part,
                                                                        string or decode
     python3 tests/golden/gen_tokenizer_vocabs.py --time [NAME...]      time `tokenizers`

The text is drawn as that of gen_tokenizer.py, from data/tokenizer_text.json and data/vocab_text.json,
which also holds some tokens of each vocabulary. Sixteen texts are a group, of which one hash of all
ids is kept (data/vocab_hashes.bin; the format is in README.md).
"""

import argparse
import json
import os
import struct
import sys
import time
from pathlib import Path

from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gen_tokenizer import DATA, SEED_CORPUS, SEED_DECODES, SEED_STRINGS, Source, hash32, hash64  # noqa: E402

VOCABS = Path(__file__).resolve().parents[1] / "vocabs"
MAGIC = b"LLMDVOCB"
VERSION = 1
GROUP = 16
FULL, PART = (1_100_000, 20_000, 4_000), (300_000, 5_000, 1_000)  # bytes, strings, decodes
NAMES = {
    "qwen": FULL, "qwen-plain": FULL, "qwen-distill": PART, "qwen-odd": FULL, "llama3": FULL,
    "mistral1": FULL, "mistral1-metaspace": FULL, "mistral1-odd": FULL, "mistral3": FULL,
    "mistral3-metaspace": FULL, "tekken": FULL, "tekken-merged": PART,
}
SEED_TOKENS = 11
N_TOKENS = 150  # drawn from each vocabulary
PARSE, ADD = 1, 2  # flags of a string: control tokens in the text; what the post-processor adds

# What the main model's text lacks: case, marks, normalization, line breaks, spaces near tokens.
WORDS = """HTTPServer|iPhone|McDonald|JSONParser2|XMLHttpRequest|aB|Ab|ABc|abC|AbCdEfG|ÀÉÎõü|ÉCOLE|École|ǅ
ǈabc|ǅungla|ŉ|ªº|ʰʲ|ΑΒΓδεζ|Στους|ЖЗИклм|ԱԲգդ|ᏣᎳᎩ|ꮳꮃꭹ|Ⴀⴀ
ＡＢｃｄ|DON'T|We'LL|I'Ve|'S'T'RE|'ſ|'ſt|it'ſ|'Kelvin|'Re-do|'vET|e\u0301|E\u0301|a\u0323\u0302
a\u0302\u0323|\u1ea5|o\u0308\u0304|\u212b|\u2126|\u0958|\u0915\u093c|\u09c7\u09be|\u1100\u1161\u11a8
\u1112\u1161|\uac00\u11a8|\u0344|\u0f73|\ufb01|\ufb2a|x\u0301y\u0301|\u0301|\u0301\u0301\u0301|q\u0307\u0323
\u1e9b\u0323|\ud7a3\u11a7|A\u030a\u0301|\u0061\u05ae\u0300\u0315\u0062|\u2adc|\u1d15e|\u304b\u3099
\u30cf\u309a|cafe\u0301s|हिन्दी|தமிழ்|ภาษาไทย|བོད|ភាសា
မြန်မာ|বাংলা|עִבְרִית|اَلْعَرَبِيَّةُ|漢字かな交じり
简体中文字|繁體|한국어|㐀㐁|𠀀𠀁|々〆ヶ|1234567|12|123|1234|0.001|１２３４|٣٤٥٦
१२३४|①②③|½¾|Ⅷ|㊿|²³|1e10|007|3.14159265358979|\r\n\r\n|\r\r|\n\r\n|  \n|\n  |\t\r\n
 \n \n |\n\n\n\n |   \r\n   x|/\n|//\r\n|!\n|...\n\n|;\r\n}|\n/|/|//|*/\n|\x0b\n|\x85\n|\u2581|\u2581\u2581
\u2581a| \u2581 |<0x41>|<0xE4>|<0x0A>|<unk>|<s>|</s>|<s> |  <s>|<s>  a|[INST]| [/INST] |[TOOL_CALLS]|<
im_start|<|im_end|>|<|im_end|> | <|endoftext|>|<|eot_id|>|\n<|eot_id|>\n|<|begin_of_text|>|<｜User｜>
<think>\n|</think>| <left>|   <left>|\t\n<left> |<right>|<right>   a|<right>\n\n|  <both>  |x<both>y
\u3000<both>\u3000|word|swords|word2|_word| word.|wordé|two words|two  words|TWO words|two wordss
  two words  |\u01ebra|o\u0328ra|o\u0328rama|\u01ebra |café|\u00c5ngstr\u00f6m|A\u030angstro\u0308m|\ud55c
\u1112\u1161\u11ab|▁<PRE>|<PRE>| <PRE> a|<name>|▁<name>|a<name>b| <name>|<|end|<|endof
\U0001f468\u200d\U0001f469\u200d\U0001f467|\U0001f1e9\U0001f1ea|\U0001f44d\U0001f3fd|\ue000|\uffff
\U0010ffff|\u0378|\U000e0041|\u00ad|\u034f|\u061c|\u2060|\u3164|\u115f|\ufffd|\ufe0f|\u0300""".replace("\n", "|")
LINES = [
    "class HTTPServerFactory extends AbstractFactory<XMLHttpRequest> { int maxRetryCount42 = 0x7FFF; }",
    "Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë au delà des îles.",
    "Tie\u0302\u0301ng Vie\u0323\u0302t co\u0301 nhie\u0302\u0300u da\u0302\u0301u thanh; tiếng Việt có nhiều dấu thanh.",
    "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165 and 한국어 mixed with 日本語の文章、そして中文。",
    "In 1984, 65536 + 131072 = 196608; phone +49 30 1234567890, π ≈ 3.14159265358979323846.",
    "POST /v1/chat/completions HTTP/1.1\r\nHost: example.org\r\n\r\n{\"stream\": true}\r\n\r\n\r\n",
    "SELECT COUNT(*) FROM users WHERE NAME LIKE 'O''Brien%' AND NOT(deleted);--ok\r\n\t\t\tGO",
    "ΟΔΥΣΣΕΥΣ Οδυσσεύς ὈΔΥΣΣΕΎΣ; ЁЛКИ-палки; ŽLUŤOUČKÝ kůň; İSTANBUL ısı ǅUNGLA ǆungla.",
    "    def f(self):\n        return [x for x in self.items() if x  is  not   None]\n\n\n    # end",
    "क्षत्रिय ज्ञान श्रीमान् र्क ड़ ढ़ फ़ "
    "— \u0958\u0959\u095a — ਪੰਜਾਬੀ ગુજરાતી ଓଡ଼ିଆ "
    "తెలుగు ಕನ್ನಡ മലയാളം",
    "  leading and trailing  ", "\u2581already\u2581written\u2581so\u2581", "a  b   c    d     e      f",
    "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n",
    "<s>[INST] What is 2+2? [/INST] It is 4.</s>[INST]   And 3+3?  [/INST]",
    "<|start_header_id|>user<|end_header_id|>\n\nHELLO there<|eot_id|>  <|eot_id|>\n",
    "x <left> y <right> z <both> word sword word two words twowords <name> o\u0328ra \u01ebra",
]
RANGES = [[0x1E00, 0x1EFF], [0x300, 0x345], [0x1100, 0x11FF], [0xAC00, 0xD7A3], [0x1F00, 0x1FFF],
          [0x4E00, 0x9FFF], [0xFB00, 0xFB4F], [0x2F800, 0x2FA1D], [0x0900, 0x0983], [0x20, 0x7E]]


def vocab_file(name):
    path = VOCABS / name / "tokenizer.json"
    if not path.exists():
        sys.exit(f"{path} is missing: packaging/fetch-vocabs.sh makes it")
    return path


def draw_tokens(tok):
    """Texts of some tokens: drawn ones, then the added ones."""
    source = Source({"ranges": [], "words": [], "lines": []}, [], SEED_TOKENS)
    n = n_tokens(tok)
    added = sorted(tok.get_added_tokens_decoder())
    ids = [source.below(n) for _ in range(N_TOKENS)] + added[:40]
    texts = (tok.decode([i], skip_special_tokens=False) for i in ids)
    return list(dict.fromkeys(t for t in texts if t))


def n_tokens(tok):
    return max(tok.get_vocab(with_added_tokens=True).values()) + 1


class Vocabulary:
    def __init__(self, name, material=None):
        self.name, self.path = name, vocab_file(name)
        self.tok = Tokenizer.from_file(str(self.path))
        self.n_bytes, self.n_strings, self.n_decodes = NAMES[name]
        self.raw = material

    def source(self, seed):
        return Source(self.raw, self.raw["tokens"][self.name], seed)

    def encode(self, text, flags):
        self.tok.encode_special_tokens = not flags & PARSE
        return self.tok.encode(text, add_special_tokens=bool(flags & ADD)).ids

    def parts(self):
        source, total = self.source(SEED_CORPUS), 0
        while total < self.n_bytes:
            part = source.part()
            total += len(part.encode())
            yield PARSE, part

    def strings(self):
        source = self.source(SEED_STRINGS)
        for _ in range(self.n_strings):
            flags = source.below(4)
            yield flags, source.string()

    def decodes(self):
        """(ids, skip): random ids, then those of every other string."""
        source, n = self.source(SEED_DECODES), n_tokens(self.tok)
        for _ in range(self.n_decodes):
            ids = source.ids(n)
            yield ids, False
            yield ids, True
        for i, (flags, text) in enumerate(self.strings()):
            if i % 2 == 0:
                yield self.encode(text, flags), i % 4 == 0


def groups(items):
    """Hash of each group of lists: of the length and the members of each."""
    words, n, out = [], 0, []
    for item in items:
        words += [len(item), *item]
        n += 1
        if n % GROUP == 0:
            out.append(hash32(words))
            words = []
    if words:
        out.append(hash32(words))
    return n, out


def record(v):
    parts = list(v.parts())
    corpus = "".join(p for _, p in parts)
    whole = v.encode(corpus, PARSE | ADD)
    n_parts, part_hashes = groups(v.encode(p, f) for f, p in parts)
    n_strings, string_hashes = groups(v.encode(s, f) for f, s in v.strings())
    n_decodes, decode_hashes = groups(
        v.tok.decode(ids, skip_special_tokens=skip).encode() for ids, skip in v.decodes())
    data = corpus.encode()
    head = struct.pack("<24s6I3Q", v.name.encode(), n_parts, n_strings, v.n_decodes, n_decodes,
                       len(whole), n_tokens(v.tok), v.path.stat().st_size, hash64(data),
                       hash64(whole))
    words = part_hashes + string_hashes + decode_hashes
    print(f"{v.name}: {len(data)} bytes in {n_parts} parts, {len(whole)} ids; {n_strings} strings")
    return head + struct.pack(f"<{len(words)}I", *words)


def show(v, kind, n):
    if kind == "decode":
        for ids, skip in list(v.decodes())[n * GROUP : (n + 1) * GROUP]:
            print("skip" if skip else "all ", " ".join(map(str, ids)))
            print("    ", ascii(v.tok.decode(ids, skip_special_tokens=skip)))
        return
    for flags, text in list(v.parts() if kind == "part" else v.strings())[n * GROUP : (n + 1) * GROUP]:
        print("parse" if flags & PARSE else "plain", "add" if flags & ADD else "bare", ascii(text))
        print("    ", " ".join(map(str, v.encode(text, flags))))


def time_corpus(v):
    """One thread, the corpus as one text; median of 5."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    corpus = "".join(p for _, p in v.parts())
    begin = time.perf_counter()
    Tokenizer.from_file(str(v.path))
    load = time.perf_counter() - begin
    runs = []
    for _ in range(5):
        begin = time.perf_counter()
        v.encode(corpus, PARSE)
        runs.append(time.perf_counter() - begin)
    n, median = len(corpus.encode()), sorted(runs)[2]
    print(f"{v.name} {n} {median * 1e6:.0f} {load * 1e6:.0f}", flush=True)


def material():
    raw = json.loads((DATA / "tokenizer_text.json").read_text(encoding="utf-8"))
    more = json.loads((DATA / "vocab_text.json").read_text(encoding="utf-8"))
    out = {key: raw[key] + more[key] for key in ("ranges", "words", "lines")}
    return out | {"tokens": more["tokens"]}


def write_text(path):
    rows = [f'"about":{json.dumps("Further material of the vocabularies goldens; see README.md.")}']
    for key, items in (("ranges", RANGES), ("words", WORDS.split("|")), ("lines", LINES)):
        rows.append(f'"{key}":{json.dumps(items, ensure_ascii=True)}')
    tokens = {name: draw_tokens(Tokenizer.from_file(str(vocab_file(name)))) for name in NAMES}
    items = ",\n".join(f'"{n}":{json.dumps(t, ensure_ascii=True)}' for n, t in tokens.items())
    rows.append(f'"tokens":{{\n{items}\n}}')
    path.write_text("{" + ",\n".join(rows) + "}\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--show", nargs=3, metavar=("NAME", "KIND", "N"))
    p.add_argument("--time", nargs="*", metavar="NAME")
    args = p.parse_args()
    if args.show:
        show(Vocabulary(args.show[0], material()), args.show[1], int(args.show[2]))
        return
    if args.time is not None:
        for name in args.time or NAMES:
            time_corpus(Vocabulary(name, material()))
        return
    write_text(DATA / "vocab_text.json")
    raw = material()
    records = [record(Vocabulary(name, raw)) for name in NAMES]
    path = DATA / "vocab_hashes.bin"
    path.write_bytes(struct.pack("<8s2I", MAGIC, VERSION, len(records)) + b"".join(records))
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
