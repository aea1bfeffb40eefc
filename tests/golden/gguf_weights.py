"""Reads a llama GGUF for the golden generators: metadata, tokenizer, weights as float32.

GGUF stores the rows of Q and K interleaved for each head (element 2i rotates with 2i + 1);
transformers rotates element i with i + head_dim / 2. hf_state_dict() undoes that order.
"""

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize


class Gguf:
    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}

    def get(self, key, default=None):
        field = self.reader.get_field(key)
        return default if field is None else field.contents()

    def weight(self, name):
        """float32, shape [rows, cols] (or [cols])."""
        t = self.tensors[name]
        values = dequantize(t.data, t.tensor_type).astype(np.float32)
        return values.reshape([int(n) for n in reversed(t.shape)])


def unpermute(w, n_heads):
    """Rows of one head from (i, half) back to (half, i)."""
    head_dim = w.shape[0] // n_heads
    return (
        w.reshape(n_heads, head_dim // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
    )


def hf_config(g):
    from transformers import LlamaConfig

    heads = g.get("llama.attention.head_count")
    hidden = g.get("llama.embedding_length")
    return LlamaConfig(
        vocab_size=len(g.get("tokenizer.ggml.tokens")),
        hidden_size=hidden,
        intermediate_size=g.get("llama.feed_forward_length"),
        num_hidden_layers=g.get("llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=g.get("llama.attention.head_count_kv", heads),
        head_dim=hidden // heads,
        max_position_embeddings=g.get("llama.context_length"),
        rms_norm_eps=g.get("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": g.get("llama.rope.freq_base", 10000.0),
        },
        attention_bias=False,
        mlp_bias=False,
        hidden_act="silu",
        tie_word_embeddings="output.weight" not in g.tensors,
    )


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


def hf_state_dict(g):
    import torch

    heads = g.get("llama.attention.head_count")
    permuted = {
        "attn_q": heads,
        "attn_k": g.get("llama.attention.head_count_kv", heads),
    }
    out = {
        "model.embed_tokens.weight": g.weight("token_embd.weight"),
        "model.norm.weight": g.weight("output_norm.weight"),
    }
    head = "output.weight" if "output.weight" in g.tensors else "token_embd.weight"
    out["lm_head.weight"] = g.weight(head)
    for i in range(g.get("llama.block_count")):
        for ours, theirs in LAYER_NAMES.items():
            w = g.weight(f"blk.{i}.{ours}.weight")
            if ours in permuted:
                w = unpermute(w, permuted[ours])
            out[f"model.layers.{i}.{theirs}.weight"] = w
    return {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in out.items()}


def load_llama(g):
    """The model in float32, evaluation mode, every weight taken from the file."""
    import torch
    from transformers import LlamaForCausalLM

    torch.set_default_dtype(torch.float32)
    model = LlamaForCausalLM._from_config(hf_config(g), attn_implementation="eager")
    missing, unexpected = model.load_state_dict(hf_state_dict(g), strict=False)
    if missing or unexpected:
        raise SystemExit(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    return model.eval()


def byte_bpe_tokenizer(g):
    """tokenizers.Tokenizer from the metadata (pre-tokenizer "smollm": digits, then GPT-2's)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pre = g.get("tokenizer.ggml.pre")
    if g.get("tokenizer.ggml.model") != "gpt2" or pre != "smollm":
        raise SystemExit(f"tokenizer '{pre}' is not known to this script")
    texts = g.get("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in g.get("tokenizer.ggml.merges")]
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(texts)}, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    control = [t for t, k in zip(texts, g.get("tokenizer.ggml.token_type")) if k == 3]
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    return tok
