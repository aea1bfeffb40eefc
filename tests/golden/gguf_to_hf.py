#!/usr/bin/env python3
"""Converts a llama GGUF file to a folder in Hugging Face form, weights in float32.

usage: python3 tests/golden/gguf_to_hf.py FILE.gguf FOLDER [--layers N]

FOLDER gets config.json, generation_config.json, tokenizer.json, tokenizer_config.json and
model.safetensors. Nothing but Python's own library is needed. With --layers, the first N layers
only. The rows of Q and K are put back in order: GGUF has element 2i of a head rotate with 2i + 1,
transformers has element i rotate with i + head_dim / 2.
"""

import argparse
import array
import concurrent.futures
import json
import mmap
import os
import struct
import sys

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
CHUNK_ROWS_BYTES = 1 << 20

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class Gguf:
    """Keys and tensors of a GGUF file of version 3."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        self.at = 0
        magic, version, n_tensors, n_keys = self.take("4sIQQ")
        if magic != b"GGUF" or version != 3:
            raise SystemExit(f"{path}: not a GGUF file of version 3")
        self.keys = {}
        for _ in range(n_keys):
            name = self.string()
            self.keys[name] = self.value(self.take("I")[0])
        self.tensors = {}  # name: (shape, rows last; type; offset)
        for _ in range(n_tensors):
            name = self.string()
            dims = self.take(f"{self.take('I')[0]}Q")
            kind, offset = self.take("IQ")
            self.tensors[name] = (tuple(reversed(dims)), kind, offset)
        align = self.keys.get("general.alignment", 32)
        self.base = (self.at + align - 1) // align * align

    def take(self, form):
        form = "<" + form
        out = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return out

    def string(self):
        n = self.take("Q")[0]
        self.at += n
        return self.data[self.at - n : self.at].decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.take(SCALARS[kind])[0]
        item, n = self.take("IQ")
        if item in SCALARS:
            return list(self.take(f"{n}{SCALARS[item]}"))
        return [self.value(item) for _ in range(n)]

    def rows(self, name):
        """Rows of a tensor as they are stored, with their type and number of columns."""
        shape, kind, offset = self.tensors[name]
        n_rows, cols = (1, shape[0]) if len(shape) == 1 else shape
        elems, size, _ = TYPES[kind]
        row = cols // elems * size
        start = self.base + offset
        return [self.data[start + i * row : start + (i + 1) * row] for i in range(n_rows)], kind


# --- blocks to numbers ---


def q4_0(data):
    for d, *q in struct.iter_unpack("<e16B", data):
        v = [d * (i - 8) for i in range(16)]
        yield [v[i & 15] for i in q] + [v[i >> 4] for i in q]


def q4_1(data):
    for d, m, *q in struct.iter_unpack("<ee16B", data):
        v = [d * i + m for i in range(16)]
        yield [v[i & 15] for i in q] + [v[i >> 4] for i in q]


def q8_0(data):
    for d, *q in struct.iter_unpack("<e32b", data):
        yield [d * i for i in q]


def f16(data):
    yield struct.unpack(f"<{len(data) // 2}e", data)


def f32(data):
    yield struct.unpack(f"<{len(data) // 4}f", data)


# number in the file: elements and bytes of a block, how to read it
TYPES = {0: (1, 4, f32), 1: (1, 2, f16), 2: (32, 18, q4_0), 3: (32, 20, q4_1), 8: (32, 34, q8_0)}


def floats(job):
    """Stored bytes as float32, little endian."""
    kind, data = job
    out = array.array("f")
    for block in TYPES[kind][2](data):
        out.extend(block)
    if sys.byteorder == "big":
        out.byteswap()
    return out.tobytes()


# --- the folder ---


def unpermute(rows, n_heads):
    """Rows of each head from (i, half) back to (half, i)."""
    head_dim = len(rows) // n_heads
    order = [2 * i + half for half in (0, 1) for i in range(head_dim // 2)]
    return [rows[head * head_dim + i] for head in range(n_heads) for i in order]


def plan(g, n_layers):
    """Their names and ours, in the order of the file; heads where rows are out of order."""
    heads = g.keys["llama.attention.head_count"]
    permuted = {"attn_q": heads, "attn_k": g.keys.get("llama.attention.head_count_kv", heads)}
    out = [("model.embed_tokens.weight", "token_embd.weight", 0)]
    for i in range(n_layers):
        for ours, theirs in LAYER_NAMES.items():
            out.append((f"model.layers.{i}.{theirs}.weight", f"blk.{i}.{ours}.weight",
                        permuted.get(ours, 0)))
    out.append(("model.norm.weight", "output_norm.weight", 0))
    if "output.weight" in g.tensors:
        out.append(("lm_head.weight", "output.weight", 0))
    return out


def write_weights(g, path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for theirs, ours, _ in tensors:
        shape = g.tensors[ours][0]
        size = 4
        for n in shape:
            size *= n
        header[theirs] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()

    def jobs():
        for _, ours, heads in tensors:
            rows, kind = g.rows(ours)
            if heads:
                rows = unpermute(rows, heads)
            step = max(1, CHUNK_ROWS_BYTES // len(rows[0]))
            for i in range(0, len(rows), step):
                yield kind, b"".join(rows[i : i + step])

    with open(path, "wb") as f, concurrent.futures.ProcessPoolExecutor() as pool:
        f.write(struct.pack("<Q", len(text)) + text)
        for data in pool.map(floats, jobs()):
            f.write(data)


def config(g, n_layers):
    k = g.keys
    heads = k["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(k["tokenizer.ggml.tokens"]),
        "hidden_size": k["llama.embedding_length"],
        "intermediate_size": k["llama.feed_forward_length"],
        "num_hidden_layers": n_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": k.get("llama.attention.head_count_kv", heads),
        "max_position_embeddings": k["llama.context_length"],
        "rms_norm_eps": k["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": k.get("llama.rope.freq_base", 10000.0),
        "rope_scaling": None,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "output.weight" not in g.tensors,
        "bos_token_id": k.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": k.get("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "float32",
    }


def tokenizer(g):
    k = g.keys
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    splitters = {
        "gpt-2": byte_level,
        "smollm": {"type": "Sequence",
                   "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
    }
    if k["tokenizer.ggml.model"] != "gpt2" or k["tokenizer.ggml.pre"] not in splitters:
        raise SystemExit(f"tokenizer '{k['tokenizer.ggml.pre']}' is not known to this script")
    texts, kinds = k["tokenizer.ggml.tokens"], k["tokenizer.ggml.token_type"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": kind == 3}
            for i, (t, kind) in enumerate(zip(texts, kinds)) if kind in (3, 4)
        ],
        "normalizer": None,
        "pre_tokenizer": splitters[k["tokenizer.ggml.pre"]],
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(texts)},
            "merges": k["tokenizer.ggml.merges"],
        },
    }


def tokenizer_config(g):
    k, out = g.keys, {"tokenizer_class": "GPT2Tokenizer"}
    texts = k["tokenizer.ggml.tokens"]
    for name in ("bos", "eos"):
        if f"tokenizer.ggml.{name}_token_id" in k:
            out[f"{name}_token"] = texts[k[f"tokenizer.ggml.{name}_token_id"]]
    if "tokenizer.chat_template" in k:
        out["chat_template"] = k["tokenizer.chat_template"]
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("gguf")
    ap.add_argument("folder")
    ap.add_argument("--layers", type=int, help="the first N layers only")
    args = ap.parse_args()
    g = Gguf(args.gguf)
    n_layers = g.keys["llama.block_count"]
    if args.layers is not None:
        n_layers = min(n_layers, args.layers)
    os.makedirs(args.folder, exist_ok=True)
    generation = {"eos_token_id": g.keys.get("tokenizer.ggml.eos_token_id")}
    files = {
        "config.json": config(g, n_layers),
        "generation_config.json": generation,
        "tokenizer.json": tokenizer(g),
        "tokenizer_config.json": tokenizer_config(g),
    }
    for name, content in files.items():
        with open(os.path.join(args.folder, name), "w", encoding="utf-8") as f:
            json.dump(content, f, ensure_ascii=False, indent=1)
    write_weights(g, os.path.join(args.folder, "model.safetensors"), plan(g, n_layers))


if __name__ == "__main__":
    main()
