#!/usr/bin/env python3
"""Writes the rotary frequencies that transformers computes for every kind of scaling.

usage: python3 tests/golden/gen_rope.py [--out FILE.json]

Each case holds the parameters by our names (core/model/hparams.h), then what transformers makes of
them: inv_freq in float32 and the factor of cos and sin.
"""

import argparse
import json

CASES = [  # kind, head_dim, theta, rope_parameters
    ("none", 64, 10000.0, {}),
    ("none", 128, 1000000.0, {}),
    ("linear", 64, 10000.0, {"factor": 4.0}),
    ("llama3", 128, 500000.0, {"factor": 8.0, "orig": 8192, "low": 1.0, "high": 4.0}),
    ("llama3", 64, 500000.0, {"factor": 32.0, "orig": 8192, "low": 1.0, "high": 4.0}),
    ("llama3", 16, 10000.0, {"factor": 2.5, "orig": 32, "low": 0.5, "high": 2.0}),
    ("yarn", 128, 1000000.0, {"factor": 4.0, "orig": 32768}),
    ("yarn", 128, 10000.0, {"factor": 16.0, "orig": 4096, "beta_fast": 16.0, "beta_slow": 2.0}),
    ("yarn", 64, 150000.0, {"factor": 32.0, "orig": 4096, "truncate": False}),
    ("yarn", 64, 10000.0, {"factor": 8.0, "orig": 2048, "attention_factor": 1.125}),
    ("yarn", 32, 10000.0, {"factor": 1.0, "orig": 2048}),
    ("yarn", 32, 500.0, {"factor": 3.0, "orig": 16}),
    ("yarn", 16, 10000.0, {"factor": 4.0, "orig": 8, "beta_fast": 1.0, "beta_slow": 1.0}),
]
THEIRS = {
    "orig": "original_max_position_embeddings",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
}


def compute(kind, head_dim, theta, params):
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rope = {THEIRS.get(k, k): v for k, v in params.items()}
    rope.update(rope_type="default" if kind == "none" else kind, rope_theta=theta)
    config = LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        head_dim=head_dim,
        max_position_embeddings=int(params.get("orig", 4096) * params.get("factor", 1)),
        rope_parameters=rope,
    )
    module = LlamaRotaryEmbedding(config)
    assert module.inv_freq.dtype == torch.float32
    return module.inv_freq.tolist(), float(module.attention_scaling)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--out", default="tests/golden/data/rope.json")
    lines = []
    for kind, head_dim, theta, params in CASES:
        freqs, scale = compute(kind, head_dim, theta, params)
        case = {"kind": kind, "head_dim": head_dim, "theta": theta, **params}
        case["inv_freq"] = [float(f"{x:.9g}") for x in freqs]
        case["scale"] = scale
        lines.append(json.dumps(case))
    with open(ap.parse_args().out, "w") as f:
        f.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
