"""Real clients end to end; run by clients.sh, not by pytest's own search."""
import asyncio
import hashlib
import json
import os
import pathlib
import subprocess
import threading
import time

import openai
import pytest

MODEL = "smollm2-135m-instruct"
CAPITAL = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
TOO_LONG = [{"role": "user", "content": "one two three four five " * 4000}]
KEY = "sk-clients-0123456789"


@pytest.fixture(scope="module")
def client(cpu):
    return openai.OpenAI(base_url=cpu.base + "/v1", api_key="none", max_retries=0)


# --- openai SDK ---


def test_openai_sync_and_stream(client):
    plain = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0, max_tokens=24)
    chunks = list(client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0, max_tokens=24,
                                                 stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "Paris" in text and text == plain.choices[0].message.content
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0
    assert client.models.retrieve(MODEL).id == MODEL and client.models.list().data


def test_openai_async(cpu):
    async def ask():
        async with openai.AsyncOpenAI(base_url=cpu.base + "/v1", api_key="none") as c:
            answers = await asyncio.gather(*(c.completions.create(
                model=MODEL, prompt=f"{i} plus {i} is", max_tokens=4, temperature=0) for i in range(8)))
            text = ""
            async for chunk in await c.chat.completions.create(model=MODEL, messages=CAPITAL, max_tokens=24,
                                                               temperature=0, stream=True):
                text += chunk.choices[0].delta.content or ""
            return answers, text

    answers, text = asyncio.run(ask())
    assert len(answers) == 8 and all(a.usage.completion_tokens == 4 for a in answers) and "Paris" in text


def test_openai_stream_helper_and_logprobs(client):
    with client.chat.completions.stream(model=MODEL, messages=CAPITAL, max_tokens=8, temperature=0, logprobs=True,
                                        top_logprobs=2) as stream:
        kinds = [e.type for e in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "logprobs.content.delta" in kinds
    content = final.choices[0].logprobs.content
    assert len(content) == 8 and all(t.logprob <= 0 and len(t.top_logprobs) == 2 for t in content)


def test_openai_typed_errors(cpu, client, make_server):
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=MODEL, messages=TOO_LONG)
    assert e.value.code == "context_length_exceeded" and e.value.param == "input_tokens"
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=3)
    assert e.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4", messages=CAPITAL)
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=MODEL, messages=CAPITAL, tools=[
            {"type": "function", "function": {"name": "f", "parameters": {}}}])
    assert e.value.param == "tools"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    s = make_server(top=f'key "k" {{ sha256 = "{digest}" }}', model='devices = { "sim" }')
    with pytest.raises(openai.AuthenticationError) as e:
        openai.OpenAI(base_url=s.base + "/v1", api_key="wrong").models.list()
    assert e.value.code == "invalid_api_key"
    assert openai.OpenAI(base_url=s.base + "/v1", api_key=KEY).models.list().data


def test_openai_retries_on_503(make_server):
    """One place, one to wait: who is turned away comes again by the SDK's own doing."""
    s = make_server(model='devices = { "sim" }\n  max_num_seqs = 1\n  max_queue = 1\n  sim_step_us = 20000')
    done, refused = [], []

    def ask(retries):
        c = openai.OpenAI(base_url=s.base + "/v1", api_key="none", max_retries=retries)
        try:
            done.append(c.completions.create(model=s.name, prompt="Hi", max_tokens=10))
        except openai.InternalServerError as e:
            refused.append(e.status_code)

    for retries, n in ((0, 6), (20, 4)):
        threads = [threading.Thread(target=ask, args=(retries,)) for _ in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
    assert refused and set(refused) == {503} and len(done) == 10 - len(refused)


def test_openai_retries_on_429(make_server):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    s = make_server(top=f'key "k" {{ sha256 = "{digest}"\n requests_per_minute = 60 }}',
                    model='devices = { "sim" }\n  sim_step_us = 100')
    once = openai.OpenAI(base_url=s.base + "/v1", api_key=KEY, max_retries=0)
    with pytest.raises(openai.RateLimitError) as e:
        for _ in range(200):
            once.completions.create(model=s.name, prompt="Hi", max_tokens=1)
    assert e.value.response.headers["retry-after"] and e.value.code == "rate_limit_exceeded"
    again = once.with_options(max_retries=10)
    assert again.completions.create(model=s.name, prompt="Hi", max_tokens=1).usage.completion_tokens == 1


# --- litellm ---


@pytest.fixture(scope="module")
def litellm():
    import litellm as module

    module.telemetry = False
    return module


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_litellm(cpu, litellm, provider):
    where = {"model": f"{provider}/{MODEL}", "api_base": cpu.base + "/v1", "api_key": "none", "num_retries": 0}
    r = litellm.completion(messages=CAPITAL, temperature=0, max_tokens=24, **where)
    assert "Paris" in r.choices[0].message.content and r.usage.completion_tokens > 3
    chunks = litellm.completion(messages=CAPITAL, temperature=0, max_tokens=24, stream=True, **where)
    assert "Paris" in "".join(c.choices[0].delta.content or "" for c in chunks)
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(messages=TOO_LONG, **where)
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(messages=CAPITAL, temperature=3, **where)
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(messages=CAPITAL, **where | {"model": provider + "/gpt-nothing"})
    r = asyncio.run(litellm.acompletion(messages=CAPITAL, temperature=0, max_tokens=8, logprobs=True, **where))
    assert len(r.choices[0].logprobs.content) == 8


# --- langchain ---


@pytest.fixture(scope="module")
def chain(cpu):
    import langchain_openai

    return langchain_openai.ChatOpenAI(model=MODEL, base_url=cpu.base + "/v1", api_key="none", temperature=0,
                                       max_tokens=24, max_retries=0, stream_usage=True)


def test_langchain(chain):
    question = CAPITAL[0]["content"]
    r = chain.invoke(question)
    assert "Paris" in r.content and r.usage_metadata["output_tokens"] > 3
    assert r.response_metadata["finish_reason"] in ("stop", "length")
    parts = list(chain.stream([("system", "You answer briefly."), ("human", question)]))
    total = parts[0]
    for p in parts[1:]:
        total += p
    assert total.content and total.usage_metadata["total_tokens"] > 0
    assert len(chain.batch([question, "Say hello."])) == 2
    assert "Paris" in asyncio.run(chain.ainvoke(question)).content
    r = chain.bind(logprobs=True, top_logprobs=1).invoke(question)
    assert len(r.response_metadata["logprobs"]["content"]) == r.usage_metadata["output_tokens"]


def test_langchain_knows_a_context_overflow(chain):
    with pytest.raises(Exception) as e:
        chain.invoke(TOO_LONG[0]["content"])
    assert "context_length_exceeded" in str(e.value)
    assert type(e.value).__name__ in ("OpenAIContextOverflowError", "ContextOverflowError"), type(e.value)


# --- guidellm ---


@pytest.mark.parametrize("kind", ["text_completions", "chat_completions"])
def test_guidellm(make_server, tmp_path, kind):
    venv = os.environ.get("GUIDELLM")
    if not venv:
        pytest.skip("without guidellm")
    s = make_server(model='devices = { "sim" }\n  max_num_seqs = 16\n  sim_step_us = 2000')
    path = tmp_path / "guidellm.json"
    formats = {"text_completions": "/v1/completions", "chat_completions": "/v1/chat/completions"}
    done = subprocess.run(
        [venv + "/bin/guidellm", "run", "--backend",
         f"kind=openai_http,target={s.base},model={s.name},request_format={formats[kind]}", "--profile",
         "kind=concurrent,streams=4", "--constraint", "kind=max_requests,count=20", "--tokenizer",
         f"kind=hf_auto,model={venv}/smollm2", "--data", "kind=synthetic_text,prompt_tokens=64,output_tokens=16",
         "--output", f"kind=json,path={path}", "--disable-console"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "GUIDELLM__MAX_WORKER_PROCESSES": "1"})
    assert done.returncode == 0, done.stdout[-4000:]
    requests = json.loads(path.read_text())["benchmarks"][0]["requests"]
    assert len(requests["successful"]) == 20 and not requests["errored"]
    assert all(r["output_tokens"] == 16 for r in requests["successful"])
