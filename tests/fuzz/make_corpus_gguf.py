#!/usr/bin/env python3
"""Writes the seed corpus of fuzz_gguf: small well-formed GGUF files, one odd thing each.

usage: python3 tests/fuzz/make_corpus_gguf.py [FOLDER]    default tests/fuzz/corpus/gguf
"""

import os
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B"}
PACK.update({U64: "Q", I64: "q", F64: "d"})
# element type: (number, elements per block, bytes per block)
TYPES = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q8_0": (8, 32, 34),
    "Q4_K": (12, 256, 144),
    "Q6_K": (14, 256, 210),
    "BF16": (30, 1, 2),
}


def string(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    if kind == STRING:
        return string(v)
    if kind == ARRAY:
        element, items = v
        head = struct.pack("<IQ", element, len(items))
        return head + b"".join(value(element, i) for i in items)
    return struct.pack("<" + PACK[kind], v)


def gguf(keys, tensors, alignment=32):
    """keys: [(name, kind, value)], tensors: [(name, type, dims)]."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    head += b"".join(string(k) + struct.pack("<I", t) + value(t, v) for k, t, v in keys)
    data = b""
    for name, kind, dims in tensors:
        number, elements, n_bytes = TYPES[kind]
        n = 1
        for d in dims:
            n *= d
        data += b"\0" * (-len(data) % alignment)
        head += string(name) + struct.pack("<I", len(dims))
        head += struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", number, len(data))
        data += bytes(i % 251 for i in range(n // elements * n_bytes))
    return head + b"\0" * (-len(head) % alignment) + data


TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
PLAIN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTES = [chr(b) for b in PLAIN] + [chr(256 + i) for i in range(256 - len(PLAIN))]
VOCAB = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *BYTES, "ab", "\u0120a"]


def model_keys():
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "Tiny"),
        ("general.sampling.temp", F32, 0.5),
        ("llama.block_count", U32, 1),
        ("llama.context_length", U32, 64),
        ("llama.embedding_length", U32, 4),
        ("llama.feed_forward_length", U32, 6),
        ("llama.attention.head_count", U32, 2),
        ("llama.attention.head_count_kv", U32, 1),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("llama.rope.freq_base", F32, 10000.0),
        ("llama.rope.dimension_count", U32, 2),
        ("llama.vocab_size", U32, len(VOCAB)),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "smollm"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, VOCAB)),
        ("tokenizer.ggml.token_type", ARRAY, (I32, [3, 3, 3] + [1] * (len(VOCAB) - 3))),
        ("tokenizer.ggml.merges", ARRAY, (STRING, ["a b", "\u0120 a"])),
        ("tokenizer.ggml.bos_token_id", U32, 1),
        ("tokenizer.ggml.eos_token_id", U32, 2),
        ("tokenizer.ggml.add_bos_token", BOOL, 0),
        ("tokenizer.chat_template", STRING, TEMPLATE),
    ]


def model_tensors(tied):
    shapes = {
        "attn_norm": [4],
        "attn_q": [4, 4],
        "attn_k": [4, 2],
        "attn_v": [4, 2],
        "attn_output": [4, 4],
        "ffn_norm": [4],
        "ffn_gate": [4, 6],
        "ffn_up": [4, 6],
        "ffn_down": [6, 4],
    }
    out = [("token_embd.weight", "F16", [4, len(VOCAB)]), ("output_norm.weight", "F32", [4])]
    out += [(f"blk.0.{n}.weight", "BF16" if len(d) > 1 else "F32", d) for n, d in shapes.items()]
    return out if tied else out + [("output.weight", "F32", [4, len(VOCAB)])]


def corpus():
    scalars = [(U8, 255), (I8, -1), (U16, 65535), (I16, -2), (U32, 7), (I32, -7), (F32, 1.5)]
    scalars += [(BOOL, 1), (STRING, "text"), (U64, 2**64 - 1), (I64, -(2**63)), (F64, 1e300)]
    yield "empty", gguf([], [])
    yield "scalars", gguf([(f"k.{t}", t, v) for t, v in scalars], [])
    arrays = [(f"a.{t}", ARRAY, (t, [v] * 3)) for t, v in scalars]
    yield "arrays", gguf(arrays + [("none", ARRAY, (STRING, []))], [])
    nested = (STRING, ["x", ""])
    for _ in range(6):
        nested = (ARRAY, [nested])
    yield "nested", gguf([("n", ARRAY, nested)], [])
    blocks = [(t.lower(), t, [TYPES[t][1], 2]) for t in TYPES]
    yield "types", gguf([], blocks)
    yield "dims", gguf([], [("four", "F32", [2, 3, 1, 1]), ("one", "F16", [5])])
    yield "aligned", gguf([("general.alignment", U32, 8)], [("x", "F32", [3]), ("y", "F16", [1])], 8)
    yield "model", gguf(model_keys(), model_tensors(tied=True))
    yield "untied", gguf(model_keys()[:-1], model_tensors(tied=False))


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "tests/fuzz/corpus/gguf"
    os.makedirs(folder, exist_ok=True)
    for name, data in corpus():
        with open(os.path.join(folder, name + ".gguf"), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
