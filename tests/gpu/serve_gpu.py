"""A server whose GPUs are the host stand-in's and whose NVML is made up (fake_nvml.c). For pytest; see
tests/run.sh: $LLMD is build/stand-in/llmd, and the library is found by LD_LIBRARY_PATH."""
import subprocess

from conftest import LLMD, PATIENCE, ROOT, Server, wait_until

TINY = ROOT / "tests/golden/data/tiny/qwen3"
SMALL = ("max_num_seqs = 4 max_num_batched_tokens = 16 max_model_len = 64 kv_cache_mb = 4\n")
OWN = "cublaslt = false\n"  # a real library would not know the stand-in


def test_a_gpu_answers_and_is_watched(tmp_path, monkeypatch):
    xid = tmp_path / "xid"
    monkeypatch.setenv("FAKE_NVML_XID", str(xid))
    server = Server(tmp_path, 'devices = { "cuda:0" }\n' + OWN + SMALL, path=TINY).wait_ready()
    body = {"model": "m", "prompt": [1, 2, 3], "max_tokens": 4, "ignore_eos": True}
    status, answer = server.post("/v1/completions", body)
    assert status == 200 and answer["usage"]["completion_tokens"] == 4, answer
    worker = server.admin("GET", "workers")[1]["workers"][0]
    assert worker["device"] == "cuda:0"
    gpu = worker["gpu"]
    assert gpu["name"] == "Fake GPU 0" and gpu["uuid"] == "GPU-0000-0"
    assert gpu["power_w"] == 123.456 and gpu["memory_mib"] == 16384 and gpu["ecc_damaged"] == 1
    assert gpu["throttled"] == ["power_cap", "sw_thermal"] and gpu["last_xid"] == 0
    text = server.get("/metrics")[1]
    labels = '{gpu="0",UUID="GPU-0000-0",modelName="Fake GPU 0",pci_bus_id="00000000:01:00.0"'
    for series, value in (("llmd_gpu_busy_ratio", 0.75), ("DCGM_FI_DEV_GPU_UTIL", 75), ("DCGM_FI_DEV_FB_USED", 10240),
                          ("DCGM_FI_DEV_SM_CLOCK", 1980), ("DCGM_FI_DEV_GPU_TEMP", 50), ("llmd_gpu_ecc_corrected", 7),
                          ("DCGM_FI_DEV_POWER_USAGE", 123.456), ("DCGM_FI_DEV_XID_ERRORS", 0)):
        line = next(li for li in text.splitlines() if li.startswith(series + labels))
        assert ("Hostname=" in line) == series.startswith("DCGM_"), line
        assert float(line.rsplit(" ", 1)[1]) == value, line
    assert 'pci_bus_id="00000000:01:00.0",reason="power_cap"} 1.0' in text
    written = tmp_path / "xid.new"
    written.write_text("79")
    written.rename(xid)
    server.wait_metric("DCGM_FI_DEV_XID_ERRORS", 79)
    server.wait_metric("llmd_gpu_xid_errors_total", 1)
    wait_until(lambda: 'xid=79 gpu=cuda:0 name="Fake GPU 0"' in server.log_path.read_text())
    server.stop()


def test_without_nvml_it_serves(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    server = Server(tmp_path, 'devices = { "cuda" }\n' + SMALL, path=TINY).wait_ready()
    worker = server.admin("GET", "workers")[1]["workers"][0]
    assert worker["device"] == "cuda:0" and worker["gpu"] is None
    assert "llmd_gpu" not in server.get("/metrics")[1]
    server.stop()
    log = server.log_path.read_text()
    assert "the GPUs' state is not watched: NVML cannot be opened" in log
    said = "computed by llmd's own kernels: cuBLASLt cannot be opened" in log
    assert said or "cuBLASLt 1" in log, log  # that it is there; steps of 16 rows do not take it


def test_a_gpu_that_is_not_there(tmp_path):
    config = tmp_path / "llmd.conf"
    config.write_text(f'listen = {{ "127.0.0.1:0" }} control_socket = "" model m {{ path = "{TINY}"\n'
                      'devices = { "cpu", "cuda:5" } }')
    why = 'model "m": device "cuda:5": there is no such GPU; the machine has 1'
    run = subprocess.run([LLMD, "serve", "--config", config], capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 1 and why in run.stderr, run.stderr
    run = subprocess.run([LLMD, "check", "--config", config], capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 1 and why in run.stderr, run.stderr


def test_a_build_without_cuda_says_so(tmp_path):
    config = tmp_path / "llmd.conf"
    config.write_text(f'control_socket = "" model m {{ path = "{TINY}"\ndevices = {{ "cuda:0" }} }}')
    plain = ROOT / "build/llmd"
    if "without CUDA" not in subprocess.run([plain, "version"], capture_output=True, text=True).stdout:
        return
    run = subprocess.run([plain, "serve", "--config", config], capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 1 and "built without CUDA; build it with `make CUDA=1`" in run.stderr, run.stderr
