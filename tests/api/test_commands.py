"""The commands around models: check --model, tokenize, template."""
import json
import shutil
import subprocess

import pytest

from conftest import GGUF, LLMD, ROOT

TINY = ROOT / "tests/golden/data/tiny"
TEMPLATES = ROOT / "tests/golden/templates"


def llmd(*args, stdin=b"", code=0):
    r = subprocess.run([LLMD, *map(str, args)], input=stdin, capture_output=True, timeout=60)
    assert r.returncode == code, r.stderr.decode()
    return r.stdout if code == 0 else r.stderr.decode()


def test_check_model_file():
    text = llmd("check", "--model", GGUF).decode()
    for part in ("llama: 30 layers of 576", "134.5 million", "Q4_1 + Q8_0 + F32",
                 "8192 tokens, RoPE theta 100000", "22.5 KiB per token",
                 "49152 tokens, byte-level BPE split as smollm", "2 '<|im_end|>'", "tokenizer.chat_template", "runs on        cpu"):
        assert part in text
    facts = json.loads(llmd("check", "--json", "-m", GGUF))
    assert facts["supported"] and facts["fault"] is None
    assert facts["parameters"] == 134515008 and facts["kv_bytes_per_token"] == 23040
    assert facts["weight_bytes"] == sum(facts["bytes_by_dtype"].values())
    assert facts["kv_bytes_whole_context"] == 8192 * 23040
    assert facts["chat_template"] is True and facts["tokenizer"]["eos_ids"] == [2]
    assert facts["tokenizer"]["kind"] == "byte-level"


@pytest.mark.parametrize("name", sorted(p.name for p in TINY.iterdir() if p.is_dir()))
def test_check_model_folder(name):
    facts = json.loads(llmd("check", "--json", "--model", TINY / name))
    config = json.loads((TINY / name / "config.json").read_text())
    assert facts["architecture"] == config["model_type"]
    assert facts["layers"] == config["num_hidden_layers"]
    assert facts["vocabulary"] == config["vocab_size"]
    assert facts["supported"]


def test_check_shows_how_rope_is_scaled():
    said = llmd("check", "-m", TINY / "llama-llama3").decode()
    assert "RoPE theta 10000, llama3 scaling by 8 from 32 tokens\n" in said
    gguf = TINY / "llama-llama3.gguf"
    assert ", scaled by the tensor rope_freqs\n" in llmd("check", "-m", gguf).decode()
    assert json.loads(llmd("check", "--json", "-m", gguf))["rope_freqs"] is True
    assert "rope_freqs" not in llmd("check", "-m", TINY / "qwen2.gguf").decode()


def test_check_says_what_is_at_fault(tmp_path):
    said = llmd("check", "--model", tmp_path, code=1)
    assert str(tmp_path) in said and "config.json" in said
    (tmp_path / "config.json").write_text('{"architectures": ["FooForCausalLM"]}')
    said = llmd("check", "--model", tmp_path, code=1)
    assert "'FooForCausalLM' is not supported (LlamaForCausalLM, " in said
    r = subprocess.run([LLMD, "check", "--json", "--model", tmp_path], capture_output=True)
    assert r.returncode == 1
    facts = json.loads(r.stdout)
    assert not facts["supported"] and "FooForCausalLM" in facts["fault"]
    (tmp_path / "weights.safetensors").write_bytes(b"\x08" + bytes(7) + b"{}      ")
    said = llmd("check", "-m", tmp_path / "weights.safetensors", code=1)
    assert "give the folder" in said


def test_check_knows_what_a_worker_would_fail_at(tmp_path):
    conf = tmp_path / "llmd.conf"

    def check(options, code):
        conf.write_text(f'model "m" {{\npath = "{GGUF}"\n{options}\n}}\n')
        return llmd("check", "--config", conf, code=code)

    said = check("kv_cache_mb = 10", 1)
    assert f"{conf}:1: option 'kv_cache_mb': 10 is less than the 180 MiB that the 8192 tokens of max_model_len" in said
    assert said.count("\n") == 2
    check('kv_cache_mb = 10\ndevices = { "sim" }', 0)
    check("kv_cache_mb = 180", 0)
    assert "is less than the 360 MiB" in check('kv_cache_mb = 180\ndtype = "float32"', 1)
    check("kv_cache_mb = 10\nmax_model_len = 448", 0)
    assert b"45.0 KiB per token" in check('dtype = "float32"', 0)


def test_check_names_heads_that_the_cpu_does_not_take(tmp_path):
    shutil.copytree(TINY / "llama-mha", tmp_path / "model")
    path = tmp_path / "model/config.json"
    config = json.loads(path.read_text())
    config["num_attention_heads"] *= 2
    config["num_key_value_heads"] *= 2
    path.write_text(json.dumps(config))
    conf = tmp_path / "llmd.conf"
    conf.write_text('model "m" { path = "model" }\n')
    said = "head_dim 8: the CPU takes multiples of 16 up to 256"
    assert f'{conf}:1: model "m": {said}' in llmd("check", "--config", conf, code=1)
    r = subprocess.run([LLMD, "check", "--model", tmp_path / "model"], capture_output=True, text=True)
    assert r.returncode == 1 and f"runs on        nothing here: {said}" in r.stdout


def test_tokenize():
    text = "Hello, w\u00f6rld 12<|im_end|>\n"
    ids = llmd("tokenize", "-m", GGUF, stdin=text.encode()).decode()
    assert ids.split() == [str(int(i)) for i in ids.split()] and " 2 " in ids
    out = json.loads(llmd("tokenize", "-m", GGUF, "--json", stdin=text.encode()))
    assert out["ids"] == [int(i) for i in ids.split()] and out["count"] == len(out["ids"])
    assert "".join(out["pieces"]) == text
    lines = llmd("tokenize", "-m", GGUF, "--pieces", stdin=text.encode()).decode().splitlines()
    assert lines[0] == "19556\tHello" and lines[-1].endswith("\t\\n")
    assert len(lines) == out["count"]
    assert llmd("tokenize", "-m", GGUF, "--decode", stdin=ids.encode()).decode() == text
    assert llmd("tokenize", "-m", GGUF, "--decode", "--no-special",
                stdin=json.dumps(out["ids"]).encode()).decode() == text.replace("<|im_end|>", "")
    plain = llmd("tokenize", "-m", GGUF, "--plain", stdin=text.encode()).decode().split()
    assert "2" not in plain and len(plain) > len(ids.split())
    assert llmd("tokenize", "-m", GGUF).decode() == "\n"


def test_tokenize_faults():
    assert "not valid UTF-8 at byte 3" in llmd("tokenize", "-m", GGUF, stdin=b"caf\xe9", code=1)
    assert "'x' is not a token id" in llmd("tokenize", "-dm", GGUF, stdin=b"1 x", code=1)
    assert "there is no token 49152 (49152" in llmd("tokenize", "-dm", GGUF, stdin=b"49152 1 2", code=1)
    assert "NUL is not a token id" in llmd("tokenize", "-dm", GGUF, stdin=b"1 2\0 3", code=1)
    assert "there is no token" in llmd("tokenize", "-dm", GGUF, stdin=b"9" * 40, code=1)
    assert "--model" in llmd("tokenize", code=2)
    assert "--decode" in llmd("tokenize", "-dm", GGUF, "--json", code=2)
    assert "No such file" in llmd("tokenize", "-m", "/nonexistent", code=1)


def test_template():
    context = {"messages": [{"role": "user", "content": "h\u00e9 <b>"}],
               "add_generation_prompt": True}
    out = llmd("template", TEMPLATES / "Qwen-Qwen3-0.6B.jinja", stdin=json.dumps(context).encode())
    assert out.decode() == "<|im_start|>user\nh\u00e9 <b><|im_end|>\n<|im_start|>assistant\n"


def test_template_takes_the_context_as_it_is(tmp_path):
    f = tmp_path / "t.jinja"
    f.write_text("{% for k in [a, bos_token, tools] %}[{{ k }}]{% endfor %}\n")
    assert llmd("template", f, stdin=b'{"a": 1, "tools": null}') == b"[1][][None]"
    assert llmd("template", f) == b"[][][]"


def test_template_faults(tmp_path):
    f = tmp_path / "t.jinja"
    f.write_text("a\n{% if %}")
    said = llmd("template", f, code=1)
    assert str(f) in said and "line 2" in said
    f.write_text("{{ raise_exception('no ' ~ x) }}")
    assert "no thanks" in llmd("template", f, stdin=b'{"x": "thanks"}', code=1)
    assert "JSON object" in llmd("template", f, stdin=b"[1]", code=1)
    assert "line 1" in llmd("template", f, stdin=b"{", code=1)
    f.write_bytes(b"caf\xe9")
    assert "UTF-8" in llmd("template", f, code=1)
    assert "FILE" in llmd("template", code=2)
    assert "No such file" in llmd("template", "/nonexistent", code=1)
