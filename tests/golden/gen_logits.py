#!/usr/bin/env python3
"""Writes the golden logits: what transformers computes from the same dequantized weights.

usage: python3 tests/golden/gen_logits.py [--model FILE.gguf] [--out FILE.bin]

Both default to the demo model and its golden file.

For each of 32 prompts: the token ids, at up to 16 positions log-sum-exp and the 64 largest
logits, and the 64-token greedy continuation (end-of-sequence tokens do not end it) with the
margin between the two best logits of each step. All in float32. The file format is described
in tests/golden/README.md; tests/golden/logits_golden.h reads it.

A prompt whose continuation passes a near tie (margin below MIN_MARGIN) is refused: two correct
float32 implementations may part there, so it proves nothing. Replace the prompt.
"""

import argparse
import hashlib
import os
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gguf_weights  # noqa: E402
from prompts_logits import PROMPTS  # noqa: E402

MAGIC = b"LLMDLOGI"
VERSION = 1
TOP_K = 64
N_GREEDY = 64
MAX_POSITIONS = 16
N_PROMPTS = 32
MIN_MARGIN = 0.004


def positions_of(n_tokens):
    """Evenly spread, first and last included."""
    k = min(n_tokens, MAX_POSITIONS)
    return sorted({round(i * (n_tokens - 1) / max(k - 1, 1)) for i in range(k)})


def pack_position(position, logits):
    import torch

    top = torch.topk(logits, TOP_K)
    out = struct.pack("<If", position, torch.logsumexp(logits.double(), 0).item())
    out += top.indices.numpy().astype("<u4").tobytes()
    return out + top.values.numpy().astype("<f4").tobytes()


def continue_greedily(model, ids):
    """Logits of the prompt, then N_GREEDY (id, margin)."""
    import torch

    step, past, prompt_logits, ids_out, margins = list(ids), None, None, [], []
    for _ in range(N_GREEDY):
        out = model(torch.tensor([step]), past_key_values=past, use_cache=True)
        past = out.past_key_values
        if prompt_logits is None:
            prompt_logits = out.logits[0]
        best = torch.topk(out.logits[0, -1], 2)
        ids_out.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        step = [ids_out[-1]]
    return prompt_logits, ids_out, margins


def pack_prompt(label, ids, prompt_logits, greedy, margins):
    positions = positions_of(len(ids))
    out = struct.pack("<16sII", label.encode(), len(ids), len(positions))
    out += np.asarray(ids, "<u4").tobytes()
    for p in positions:
        out += pack_position(p, prompt_logits[p])
    return out + np.asarray(greedy, "<u4").tobytes() + np.asarray(margins, "<f4").tobytes()


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    ap.add_argument("--out", default="tests/golden/data/smollm2_logits.bin")
    args = ap.parse_args()
    import torch

    torch.manual_seed(0)
    g = gguf_weights.Gguf(args.model)
    model = gguf_weights.load_llama(g)
    tok = gguf_weights.byte_bpe_tokenizer(g)
    with open(args.model, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").digest()
    if len(PROMPTS) != N_PROMPTS:
        raise SystemExit(f"{len(PROMPTS)} prompts, not {N_PROMPTS}")

    vocab = model.config.vocab_size
    blob = struct.pack("<8sIIIIII32s", MAGIC, VERSION, N_PROMPTS, vocab, TOP_K, N_GREEDY, 0, digest)
    near_ties = 0
    with torch.no_grad():
        for label, text in PROMPTS:
            ids = tok.encode(text, add_special_tokens=False).ids
            logits, greedy, margins = continue_greedily(model, ids)
            blob += pack_prompt(label, ids, logits, greedy, margins)
            tie = min(margins) < MIN_MARGIN
            near_ties += tie
            print(
                f"{label:16} {len(ids):4} tokens, smallest margin {min(margins):.4f}"
                f"{' NEAR TIE' if tie else ''}: {tok.decode(greedy)[:60]!r}",
                flush=True,
            )
    if near_ties:
        raise SystemExit(f"{near_ties} prompts pass a near tie: nothing written")
    tmp = args.out + ".tmp"
    with open(tmp, "wb") as f:
        f.write(blob)
    os.replace(tmp, args.out)
    print(f"{args.out}: {len(blob)} bytes")


if __name__ == "__main__":
    main()
