"""Writes a tiny model (gen_tiny_models.py) as GGUF, as llama.cpp's converter lays it out.

Rows of Q and K of llama models are permuted so that element 2i rotates with 2i + 1; llama3 scaling
becomes a tensor of divisors (rope_freqs.weight), other scalings keys.
"""

import numpy as np

TENSORS = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def byte_letters():
    """GPT-2's letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    out, extra = {}, 256
    for b in range(256):
        out[b] = chr(b) if b in plain else chr(extra)
        extra += b not in plain
    return [out[b] for b in range(256)]


def vocabulary():
    """Tokens without the control ones, merges, control tokens."""
    letters = byte_letters()
    space = letters[ord(" ")]
    merges = [("t", "h"), ("th", "e"), (space, "the"), ("i", "n"), ("in", "g"), ("e", "r")]
    merges += [("a", "n"), ("an", "d"), (space, "and"), ("o", "u"), ("r", "e"), (space, "a")]
    control = ["<|begin|>", "<|end|>", "<|turn|>", "<|pad|>"]
    return letters + [a + b for a, b in merges], merges, control


def gguf_name(name):
    if name in TOP:
        return TOP[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{TENSORS[rest]}"


def permute(w, n_heads):
    half = w.shape[0] // n_heads // 2
    return w.reshape(n_heads, 2, half, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def add_tokenizer(writer):
    from gguf import TokenType

    vocab, merges, control = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocab + control)
    kinds = [TokenType.NORMAL] * len(vocab) + [TokenType.CONTROL] * len(control)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(m) for m in merges])
    writer.add_bos_token_id(len(vocab))
    writer.add_eos_token_id(len(vocab) + 1)


def add_rope(writer, config, inv_freq):
    from gguf import RopeScalingType

    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = config.get("rope_theta") or rope["rope_theta"]
    writer.add_rope_freq_base(theta)
    kind = rope.get("rope_type", "default")
    if kind == "llama3":
        half = len(inv_freq)
        plain = theta ** (-np.arange(half, dtype=np.float64) / half)
        writer.add_tensor("rope_freqs.weight", (plain / inv_freq).astype(np.float32))
    elif kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    elif kind != "default":
        raise SystemExit(f"rope_type {kind}: this script cannot write it as GGUF")


def write(path, name, config, tensors, inv_freq):
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter

    arch = config["model_type"]
    n_heads, n_kv = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim", config["hidden_size"] // n_heads)
    writer = GGUFWriter(path, arch)
    writer.add_name(name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_kv)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if arch == "llama":
        writer.add_rope_dimension_count(head_dim)
        writer.add_vocab_size(config["vocab_size"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    add_rope(writer, config, inv_freq)
    add_tokenizer(writer)
    for key, t in tensors.items():
        if arch == "llama" and ("q_proj" in key or "k_proj" in key):
            t = permute(t, n_heads if "q_proj" in key else n_kv)
        if t.ndim == 1:
            writer.add_tensor(gguf_name(key), t.float().numpy())
            continue
        bits = t.contiguous().view(torch.uint8).numpy()
        writer.add_tensor(gguf_name(key), bits, raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
