#!/usr/bin/env python3
"""drill_reload.py SIM CPU - reloads under 32 streams: SIM of them on simulated workers, CPU on the demo model.

The configuration alternates: KV cache, number of workers, a second model, keys, a worker that does not start. Every
stream must be whole and have the text of an undisturbed server; every reload must end as it should. Last line:
"N passed, N failed" over streams and reloads."""
import pathlib
import sys
import tempfile

from conftest import GGUF
from test_reload import BODIES, SHORT, SIM, TINY, Load, Reloaded, key_section, texts

STREAMS = 32
KEYS = key_section("load", "sk-load"), key_section("other", "sk-other")


def variant(number, options, workers):
    """A configuration, and whether a reload to it succeeds."""
    kv = "kv_cache_mb = %d\n" % (48 + number % 3)
    m = options + workers(1 + number // 2 % 3) + kv
    models = {"m": (GGUF, m)}
    if number % 4 == 1:
        models["second"] = (TINY / "qwen2", SHORT)
    if number % 5 == 4:  # too small for a single sequence: its first worker dies
        models = {"m": (GGUF, m.replace(kv, "kv_cache_mb = 1\n"))}
    return models, KEYS[0] + (KEYS[1] if number % 3 == 0 else ""), number % 5 != 4


def drill(name, n, options, workers):
    if n == 0:
        return 0, 0
    passed, faults = 0, []
    with tempfile.TemporaryDirectory() as folder:
        server = Reloaded(folder, model=options + workers(2) + "kv_cache_mb = 47\n", top=KEYS[0])
        server.wait_ready()
        with Load(server, STREAMS, [[t] for t in texts(server, "sk-load")], "sk-load") as load:
            for number in range(n):
                models, top, good = variant(number, options, workers)
                server.write(models, top)
                state = server.reload(120)
                if (state["state"] == "done") == good:
                    passed += 1
                else:
                    faults.append((number, state))
                load.wait_more(STREAMS)
        server.stop()
        passed += load.done - len(load.faults)
        faults += load.faults
        print(f"{name}: {n} reloads, {load.done} streams, {len(faults)} faults")
        for f in faults[:10]:
            print("   ", f)
        if faults:
            print(pathlib.Path(server.log_path).read_text()[-4000:])
    return passed, len(faults)


def main():
    n_sim, n_cpu = (int(a) for a in (sys.argv[1:] + ["40", "6"])[:2])
    sim = drill("sim", n_sim, SIM, lambda n: f" sim_workers = {n}\n")
    cpu = drill("cpu", n_cpu, 'devices = { "cpu" }\n threads = 1\n max_num_seqs = 32\n max_model_len = 512\n',
                lambda n: f" cpu_workers = {min(n, 2)}\n")
    failed = sim[1] + cpu[1]
    print(f"{sim[0] + cpu[0]} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
