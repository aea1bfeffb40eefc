"""What other software gives on the same GPU, beside run.sh perf's figures: transformers' generate, a
decode loop of one compiled step over a static cache, PyTorch's attention. A model of Qwen2.5-7B's shape
with random weights. Prints one JSON object; what cannot be measured says why, nothing of it is a gate.

  peers.py [--tiny] [--device cpu] [--seconds 90]
"""
import argparse
import json
import signal
import sys
import time

try:
    import torch
except ImportError:
    print(json.dumps({"missing": "torch", "ok": True}))
    sys.exit(0)

FULL = dict(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
            num_key_value_heads=4, vocab_size=152064, rope_theta=1e6)
TINY = dict(hidden_size=112, intermediate_size=96, num_hidden_layers=2, num_attention_heads=7,
            num_key_value_heads=1, vocab_size=211, rope_theta=1e4)


class TooLong(Exception):
    """The time for all peers is over."""


def on_alarm(_signal, _frame):
    raise TooLong("no time left")


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(fn, device, runs):
    """Mean of so many runs, after two that do not count."""
    for _ in range(2):
        fn()
    synchronize(device)
    began = time.perf_counter()
    for _ in range(runs):
        fn()
    synchronize(device)
    return (time.perf_counter() - began) / runs


class Peers:
    def __init__(self, tiny, device):
        self.device = device
        self.shape = TINY if tiny else FULL
        self.context, self.prompt, self.steps, self.runs = (20, 32, 3, 1) if tiny else (1024, 2048, 32, 10)
        self.model = None

    def open_model(self):
        from transformers import Qwen2Config, Qwen2ForCausalLM
        torch.manual_seed(1)
        torch.set_default_dtype(torch.bfloat16)
        config = Qwen2Config(max_position_embeddings=2 * self.prompt, tie_word_embeddings=False, **self.shape)
        with torch.device(self.device):
            self.model = Qwen2ForCausalLM(config).eval()

    def ids(self, batch, n):
        return torch.randint(0, self.shape["vocab_size"], (batch, n), device=self.device)

    def generate(self, batch):
        """Tokens per second of decodes behind a context, prefill taken off."""
        ids = self.ids(batch, self.context - self.steps)

        def run(n):
            self.model.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=n, max_new_tokens=n,
                                do_sample=False, pad_token_id=0, eos_token_id=None)
        runs = max(1, self.runs // 5)
        first = seconds_of(lambda: run(1), self.device, runs)
        all_of_them = seconds_of(lambda: run(1 + self.steps), self.device, runs)
        return batch * self.steps / (all_of_them - first)

    def compiled(self, batch):
        """The same of one compiled step with a cache of fixed size."""
        from transformers import StaticCache
        cache = StaticCache(config=self.model.config, max_cache_len=self.context + self.steps)
        ids = self.ids(batch, self.context - self.steps)
        at = torch.arange(ids.shape[1], device=self.device)
        self.model(ids, past_key_values=cache, cache_position=at, use_cache=True)
        mode = "reduce-overhead" if self.device == "cuda" else "default"
        step = torch.compile(self.model.forward, mode=mode, dynamic=False)
        token = self.ids(batch, 1)
        position = torch.tensor([self.context - 1], device=self.device)

        def run():
            logits = step(token, past_key_values=cache, cache_position=position, use_cache=True).logits
            token.copy_(logits[:, -1:].argmax(-1))
        return batch / seconds_of(run, self.device, self.steps)

    def prefill(self):
        """Milliseconds of a whole prompt."""
        ids = self.ids(1, self.prompt)
        return seconds_of(lambda: self.model(ids, use_cache=True, logits_to_keep=1), self.device,
                          self.runs) * 1e3

    def attention(self, batch, rows, context):
        """Milliseconds of all layers' attention."""
        s = self.shape
        dim = s["hidden_size"] // s["num_attention_heads"]

        def heads(n, length):
            return torch.randn(batch, n, length, dim, device=self.device, dtype=torch.bfloat16)
        q = heads(s["num_attention_heads"], rows)
        k, v = heads(s["num_key_value_heads"], context), heads(s["num_key_value_heads"], context)
        one = seconds_of(lambda: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=rows > 1, enable_gqa=True), self.device, self.runs)
        return one * s["num_hidden_layers"] * 1e3


def measure(peers):
    """The members of the report, most wanted first."""
    yield "torch_sdpa_prefill_2k_ms", lambda: peers.attention(1, peers.prompt, peers.prompt)
    yield "torch_sdpa_decode_b32_ms", lambda: peers.attention(32, 1, peers.context)
    yield "model", peers.open_model
    yield "transformers_prefill_2k_ms", peers.prefill
    yield "transformers_generate_b1", lambda: peers.generate(1)
    yield "torch_compile_decode_b1", lambda: peers.compiled(1)
    yield "transformers_generate_b32", lambda: peers.generate(32)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--tiny", action="store_true")
    options.add_argument("--device", default="cuda")
    options.add_argument("--seconds", type=int, default=90)
    given = options.parse_args()
    result = {"torch": torch.__version__}
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(given.seconds)
    with torch.inference_mode():
        for name, one in measure(Peers(given.tiny, given.device)):
            try:
                value = one()
            except TooLong as fault:
                result[name] = str(fault)
                break
            except Exception as fault:  # whatever that software raises is its own word
                result[name] = f"{type(fault).__name__}: {fault}"[:200]
                continue
            if value is not None:
                result[name] = float(f"{value:.5g}")
    signal.alarm(0)
    result["ok"] = True
    print(json.dumps(result))


if __name__ == "__main__":
    main()
