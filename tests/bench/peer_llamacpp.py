#!/usr/bin/env python3
"""Times llama.cpp's library and our engine side by side on the same file and threads.

Run by peer-llamacpp.sh inside a virtual environment that has llama-cpp-python. Both sides stay
loaded; every round times first one, then the other, on fresh tokens; medians of the rounds and the
ratio of each pair are reported. Nothing of the peer is used by llmd: it is a yardstick.
"""
import argparse
import ctypes
import json
import random
import statistics
import subprocess
import sys
import time

import llama_cpp as ll

MAX_SEQS, SEQ_TOKENS, BATCH_PROMPT = 32, 1024, 128


class Peer:
    """llama.cpp through its C API: llama_decode on batches that we fill ourselves."""

    def __init__(self, path, threads, repack=True):
        self.quiet = ll.llama_log_callback(lambda level, text, data: None)
        ll.llama_log_set(self.quiet, ctypes.c_void_p(0))
        ll.llama_backend_init()
        model_params = ll.llama_model_default_params()
        model_params.n_gpu_layers = 0
        model_params.use_extra_bufts = repack
        self.model = ll.llama_model_load_from_file(path.encode(), model_params)
        params = ll.llama_context_default_params()
        params.n_ctx = MAX_SEQS * SEQ_TOKENS
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = MAX_SEQS
        params.n_threads = params.n_threads_batch = threads
        if hasattr(params, "kv_unified"):
            params.kv_unified = True
        self.ctx = ll.llama_init_from_model(self.model, params)
        self.batch = ll.llama_batch_init(512, 0, MAX_SEQS)
        self.vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        self.random = random.Random(1)

    def token(self):
        return self.random.randrange(1000, self.vocab - 1000)

    def clear(self):
        ll.llama_memory_clear(ll.llama_get_memory(self.ctx), True)

    def step(self, rows):
        """rows: (token, position, sequence, wants logits)"""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, pos, seq, out) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i] = token, pos, 1
            b.seq_id[i][0], b.logits[i] = seq, out
        if ll.llama_decode(self.ctx, b) != 0:
            raise RuntimeError("llama_decode failed")
        ll.llama_synchronize(self.ctx)

    def prefill(self, n):
        self.clear()
        rows = [(self.token(), i, 0, i == n - 1) for i in range(n)]
        start = time.perf_counter()
        self.step(rows)
        return time.perf_counter() - start

    def decode(self, n):
        self.clear()
        tokens = [self.token() for _ in range(n)]
        start = time.perf_counter()
        for i in range(n):
            self.step([(tokens[i], i, 0, True)])
        return time.perf_counter() - start

    def batch_decode(self, seqs, n):
        self.clear()
        for s in range(seqs):
            self.step([(self.token(), i, s, False) for i in range(BATCH_PROMPT)])
        rows = [[(self.token(), BATCH_PROMPT + i, s, True) for s in range(seqs)] for i in range(n)]
        start = time.perf_counter()
        for r in rows:
            self.step(r)
        return time.perf_counter() - start


class Ours:
    def __init__(self, binary, path, threads):
        self.p = subprocess.Popen([binary, path, str(threads)], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        self.isa = self.p.stdout.readline().split()[1]

    def ask(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        return float(self.p.stdout.readline())

    def prefill(self, n):
        return self.ask(f"prefill {n}")

    def decode(self, n):
        return self.ask(f"decode {n}")

    def batch_decode(self, seqs, n):
        return self.ask(f"batch {seqs} {n}")

    def close(self):
        self.p.stdin.close()
        self.p.wait()


def compare(name, tokens, run, peer, ours, rounds):
    mine, theirs = [], []
    run(ours), run(peer)  # warm-up
    for _ in range(rounds):
        time.sleep(0.3)  # let the other side's threads stop spinning
        mine.append(tokens / run(ours))
        time.sleep(0.3)
        theirs.append(tokens / run(peer))
    ratio = statistics.median(a / b for a, b in zip(mine, theirs))
    row = {"case": name, "llmd_tok_s": round(statistics.median(mine), 1),
           "peer_tok_s": round(statistics.median(theirs), 1), "ratio": round(ratio, 2)}
    print(f"{name:22} llmd {row['llmd_tok_s']:8.1f} tok/s   llama.cpp {row['peer_tok_s']:8.1f} tok/s"
          f"   ratio {row['ratio']:.2f}", flush=True)
    return row


def peer_survives_repacking(path):
    """On some machines with AMX the peer's repacked kernels crash (0.3.36): tried in a process of
    its own, so that the comparison can go on with its plain kernels, and says so."""
    code = ("import runpy, sys; sys.argv[0:] = ['probe'];"
            f"m = runpy.run_path({__file__!r}, run_name='probe');"
            f"m['Peer']({path!r}, 1).prefill(64)")
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode == 0


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--model", required=True)
    a.add_argument("--binary", required=True)
    a.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--quick", action="store_true", help="last number of threads, no batches")
    a.add_argument("--json", help="write the figures here")
    args = a.parse_args()
    rows, threads = [], args.threads[-1:] if args.quick else args.threads
    repack = peer_survives_repacking(args.model)
    if not repack:
        print("the peer's repacked kernels crash on this machine: its plain ones are timed")
    for t in threads:
        peer, ours = Peer(args.model, t, repack), Ours(args.binary, args.model, t)
        print(f"{t} thread(s), llmd {ours.isa}, llama-cpp-python {ll.__version__}", flush=True)
        cases = [("prefill-512", 512, lambda x: x.prefill(512)),
                 ("decode-128", 128, lambda x: x.decode(128))]
        if not args.quick:
            for s in (4, 8, 16):
                cases.append((f"decode-{s}-sequences", s * 32,
                              lambda x, s=s: x.batch_decode(s, 32)))
        for name, tokens, run in cases:
            rows.append({"threads": t, "isa": ours.isa, "peer_repack": repack}
                        | compare(name, tokens, run, peer, ours, args.rounds))
        ours.close()
    if args.json:
        with open(args.json, "w") as f:
            json.dump(rows, f, indent=1)
            f.write("\n")
    last = {r["case"]: r["ratio"] for r in rows if r["threads"] == threads[-1]}
    print(f"decode={last['decode-128']:.2f} prefill={last['prefill-512']:.2f}")


if __name__ == "__main__":
    main()
