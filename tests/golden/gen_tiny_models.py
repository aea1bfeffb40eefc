#!/usr/bin/env python3
"""Writes tiny models of every architecture and option, and what transformers computes with them.

usage: python3 tests/golden/gen_tiny_models.py [--out FOLDER]

FOLDER defaults to tests/golden/data/tiny. Each model is a folder as the Hugging Face hub has them
(random weights from a fixed seed, in the type that its name says), some have a twin in GGUF form;
logits.bin holds logits of a prompt of each at some positions, computed in float32 from the written
folder. Format and purpose: tests/golden/README.md; tests/golden/tiny_golden.h reads it.
"""

import argparse
import json
import os
import shutil
import struct
import sys
import zlib

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_gguf  # noqa: E402

MAGIC = b"LLMDTINY"
VERSION = 1
N_PROMPT = 90
POSITIONS = [0, 1, 7, 8, 15, 20, 21, 31, 32, 64, 89]

VOCAB = 272  # 256 bytes, 12 merges, 4 control tokens
BASE = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "bos_token_id": 268,
    "eos_token_id": 269,
}

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}


def heads(n, n_kv, head_dim=None):
    out = {"num_attention_heads": n, "num_key_value_heads": n_kv}
    return out if head_dim is None else {**out, "head_dim": head_dim}


# name: (configuration, type of the weights, shards, a GGUF twin is wanted)
MODELS = {
    "llama-mha": (
        {**LLAMA, **heads(3, 3), "rope_theta": 10000.0, "tie_word_embeddings": True},
        "float32",
        1,
        False,
    ),
    "llama-gqa-bias": (
        {
            **LLAMA,
            **heads(4, 2, 32),
            "rope_theta": 500000.0,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
        "float16",
        1,
        False,
    ),
    "llama-llama3": (
        {
            **LLAMA,
            **heads(2, 1, 32),
            "rope_theta": 10000.0,
            "rope_scaling": {
                "factor": 8.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 32,
                "rope_type": "llama3",
            },
            "tie_word_embeddings": True,
        },
        "bfloat16",
        1,
        True,
    ),
    "llama-linear": (
        {
            **LLAMA,
            **heads(2, 1, 32),
            "rope_theta": 10000.0,
            "rope_scaling": {"factor": 4.0, "type": "linear"},
            "tie_word_embeddings": False,
        },
        "bfloat16",
        2,
        False,
    ),
    "llama-yarn": (
        {
            **LLAMA,
            **heads(2, 1, 32),
            "rope_theta": 10000.0,
            "rope_scaling": {
                "factor": 4.0,
                "original_max_position_embeddings": 32,
                "rope_type": "yarn",
            },
            "tie_word_embeddings": True,
        },
        "bfloat16",
        1,
        True,
    ),
    "mistral-window": (
        {
            **MISTRAL,
            **heads(3, 1, 32),
            "rope_theta": 1000000.0,
            "sliding_window": 8,
            "tie_word_embeddings": False,
        },
        "bfloat16",
        1,
        False,
    ),
    "qwen2-window": (
        {
            **QWEN2,
            **heads(3, 1),
            "num_hidden_layers": 3,
            "rope_theta": 1000000.0,
            "use_sliding_window": True,
            "sliding_window": 21,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
        },
        "bfloat16",
        1,
        False,
    ),
    "qwen2-yarn": (
        {
            **QWEN2,
            **heads(3, 3),
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 50000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
                "beta_fast": 4.0,
                "beta_slow": 0.5,
                "mscale": 1.0,
                "mscale_all_dim": 0.5,
                "truncate": False,
            },
            "tie_word_embeddings": True,
        },
        "bfloat16",
        1,
        False,
    ),
    "qwen2": (
        {**QWEN2, **heads(3, 1), "rope_theta": 10000.0, "tie_word_embeddings": False},
        "bfloat16",
        1,
        True,
    ),
    "qwen3": (
        {
            **QWEN3,
            **heads(4, 2, 32),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            "attention_bias": False,
            "tie_word_embeddings": True,
        },
        "bfloat16",
        1,
        True,
    ),
}


def random_weights(model, rng):
    """Of a size at which attention is no mean, and logits spread over several units."""
    import torch

    for name, p in model.named_parameters():
        x = rng.standard_normal(tuple(p.shape)).astype(np.float32)
        if name.endswith("bias"):
            x *= 0.5
        elif "norm" in name:
            x = 1 + 0.3 * x
        elif "embed" in name or "lm_head" in name:
            x *= 3 / np.sqrt(p.shape[1])
        else:
            x *= 1.5 / np.sqrt(p.shape[1])
        p.data = torch.from_numpy(x)


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2, sort_keys=True)
        f.write("\n")


def write_weights(folder, tensors, shards):
    from safetensors.torch import save_file

    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
        return
    where = {}
    for i in range(shards):
        part = names[i * len(names) // shards : (i + 1) * len(names) // shards]
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        save_file({n: tensors[n] for n in part}, f"{folder}/{file}", metadata={"format": "pt"})
        where.update({n: file for n in part})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(
        f"{folder}/model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": where},
    )


def write_tokenizer(folder):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocab, merges, control = tiny_gguf.vocabulary()
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(vocab)}, merges))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    if tok.get_vocab_size() != VOCAB:
        raise SystemExit(f"the vocabulary has {tok.get_vocab_size()} tokens, not {VOCAB}")
    tok.save(f"{folder}/tokenizer.json")
    write_json(
        f"{folder}/tokenizer_config.json",
        {
            "bos_token": control[0],
            "eos_token": control[1],
            "clean_up_tokenization_spaces": False,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    write_json(
        f"{folder}/generation_config.json",
        {"do_sample": True, "eos_token_id": [269, 270], "temperature": 0.7, "top_k": 20},
    )


def write_model(out, name, spec):
    """The folder, its GGUF twin, and the packed logits of its prompt."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config, dtype, shards, twin = spec
    folder = f"{out}/{name}"
    os.makedirs(folder)
    config = {**BASE, **config, "torch_dtype": dtype}
    write_json(f"{folder}/config.json", config)
    write_tokenizer(folder)

    rng = np.random.default_rng(zlib.crc32(name.encode()))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    random_weights(model, rng)
    tensors = {k: t.to(getattr(torch, dtype)) for k, t in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        del tensors["lm_head.weight"]
    write_weights(folder, {k: t.contiguous() for k, t in tensors.items()}, shards)

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = rng.integers(0, VOCAB, N_PROMPT)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)[None]).logits[0]
    if twin:
        freqs = model.model.rotary_emb.inv_freq.numpy()
        tiny_gguf.write(f"{out}/{name}.gguf", name, config, tensors, freqs)
    picked = logits[POSITIONS].numpy().astype("<f4")
    print(f"{name}: logits {picked.min():.2f} to {picked.max():.2f}, std {picked.std():.2f}")
    blob = struct.pack("<32s", name.encode())
    return blob + ids.astype("<u4").tobytes() + picked.tobytes()


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--out", default="tests/golden/data/tiny")
    out = ap.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    blob = struct.pack(
        "<8sIIIII", MAGIC, VERSION, len(MODELS), VOCAB, N_PROMPT, len(POSITIONS)
    )
    blob += np.asarray(POSITIONS, "<u4").tobytes()
    for name, spec in MODELS.items():
        blob += write_model(out, name, spec)
    with open(f"{out}/logits.bin", "wb") as f:
        f.write(blob)
    for folder, _, files in os.walk(out):
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)


if __name__ == "__main__":
    main()
