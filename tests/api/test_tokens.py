"""Logprobs and the other fields that speak of tokens, by the openai SDK against the real model."""
import math

import openai
import pytest

from conftest import wait_until

MODEL = "smollm2-135m-instruct"
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def client(cpu):
    return openai.OpenAI(base_url=cpu.base + "/v1", api_key="none", max_retries=0)


def complete(client, **kw):
    args = {"model": MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 4}
    return client.completions.create(**(args | kw))


def chat(client, **kw):
    args = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "temperature": 0,
            "max_tokens": 6}
    return client.chat.completions.create(**(args | kw))


def close(a, b):
    return math.isclose(a, b, abs_tol=1e-4)


def test_chat_logprobs(client):
    r = chat(client, logprobs=True, top_logprobs=3).choices[0]
    plain = chat(client).choices[0]
    assert plain.logprobs is None and plain.message.content == r.message.content
    content = r.logprobs.content
    shown = bytes(b for t in content for b in t.bytes).decode()
    assert shown.removesuffix("<|im_end|>") == r.message.content
    for t in content:
        assert len(t.top_logprobs) == 3
        values = [x.logprob for x in t.top_logprobs]
        assert values == sorted(values, reverse=True) and sum(map(math.exp, values)) <= 1.0001
        assert t.top_logprobs[0].token == t.token and close(t.logprob, values[0])  # greedy


def test_streamed_logprobs_are_the_same(client):
    plain = chat(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    streamed = [t for c in chat(client, logprobs=True, top_logprobs=2, stream=True)
                if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert streamed == plain


def test_stream_interval(client):
    one = list(chat(client, stream=True, max_tokens=9, extra_body={"ignore_eos": True}))
    four = list(chat(client, stream=True, max_tokens=9, logprobs=True,
                     extra_body={"ignore_eos": True, "stream_interval": 4}))
    text = lambda chunks: "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text(one) == text(four)
    sizes = [len(c.choices[0].logprobs.content) for c in four if c.choices[0].logprobs]
    assert sizes == [1, 4, 4] and len(four) < len(one)


def test_echo_scores_the_prompt(client):
    """What lm-evaluation-harness asks for; an answer scored as part of a prompt has the same numbers."""
    first = complete(client, logprobs=2, max_tokens=2)
    whole = complete(client, prompt=PROMPT + first.choices[0].text, logprobs=2, echo=True, max_tokens=0)
    lp, n = whole.choices[0].logprobs, first.usage.prompt_tokens
    assert whole.choices[0].text == PROMPT + first.choices[0].text
    assert whole.usage.completion_tokens == 0 and whole.usage.prompt_tokens == len(lp.tokens)
    assert lp.token_logprobs[0] is None and lp.top_logprobs[0] is None
    assert "".join(lp.tokens) == whole.choices[0].text
    assert [whole.choices[0].text[o:o + len(t)] for o, t in zip(lp.text_offset, lp.tokens)] == lp.tokens
    answer = first.choices[0].logprobs
    assert lp.tokens[n:] == answer.tokens
    assert all(close(a, b) for a, b in zip(lp.token_logprobs[n:], answer.token_logprobs))
    assert all(2 <= len(t) <= 3 for t in lp.top_logprobs[1:])
    streamed = list(complete(client, prompt=PROMPT, logprobs=2, echo=True, max_tokens=2, stream=True))
    tokens = [t for c in streamed for t in c.choices[0].logprobs.tokens]
    assert tokens == lp.tokens[:n] + answer.tokens[:2]
    assert "".join(c.choices[0].text for c in streamed) == "".join(tokens)


def test_prompt_logprobs(client):
    r = complete(client, prompt=[PROMPT, "Two plus two is"], n=2, temperature=1, max_tokens=1,
                 extra_body={"prompt_logprobs": 1, "return_token_ids": True})
    assert [c.index for c in r.choices] == [0, 1, 2, 3]
    assert r.choices[0].prompt_logprobs == r.choices[1].prompt_logprobs
    for c in r.choices:
        assert c.prompt_logprobs[0] is None and len(c.prompt_logprobs) == len(c.prompt_token_ids)
        assert len(c.token_ids) == 1
        for token, told in zip(c.prompt_token_ids[1:], c.prompt_logprobs[1:]):
            own = told[str(token)]
            assert own["logprob"] <= 0 and own["rank"] >= 1 and len(told) == (1 if own["rank"] == 1 else 2)
            best = max(told.values(), key=lambda x: x["logprob"])
            assert best["rank"] == 1 or own["rank"] == best["rank"]


def test_token_ids(client):
    r = chat(client, logprobs=True, extra_body={"return_token_ids": True, "return_tokens_as_token_ids": True,
                                                "return_prompt_text": True})
    c = r.choices[0]
    assert [t.token for t in c.logprobs.content] == [f"token_id:{i}" for i in c.token_ids]
    assert len(r.prompt_token_ids) == r.usage.prompt_tokens and "Say hello." in r.prompt_text
    again = complete(client, prompt=r.prompt_token_ids, max_tokens=6)
    assert again.choices[0].text == c.message.content
    chunks = list(chat(client, stream=True, extra_body={"return_token_ids": True}))
    assert chunks[0].prompt_token_ids == r.prompt_token_ids
    assert [i for x in chunks for i in getattr(x.choices[0], "token_ids", None) or []] == c.token_ids


def test_allowed_and_forbidden_tokens(client):
    paris = complete(client, max_tokens=1, extra_body={"return_token_ids": True}).choices[0]
    assert paris.text == " Paris"
    without = complete(client, extra_body={"bad_words": ["Paris"]}).choices[0]
    assert "Paris" not in without.text
    only = complete(client, extra_body={"allowed_token_ids": paris.token_ids, "ignore_eos": True}).choices[0]
    assert only.text == " Paris" * 4
    listed = complete(client, max_tokens=1, logprobs=0, extra_body={"logprob_token_ids": [5, 6]}).choices[0]
    assert len(listed.logprobs.top_logprobs[0]) == 3


def test_stop_token_ids(client):
    """They end an answer, are counted and not shown, and the reply says which; not before min_tokens."""
    ids = complete(client, max_tokens=6, extra_body={"return_token_ids": True}).choices[0].token_ids
    stop = next(i for k, i in enumerate(ids) if k > 0 and i not in ids[:k])
    fields = {"stop_token_ids": [stop], "return_token_ids": True}
    r = complete(client, max_tokens=6, extra_body=fields)
    c = r.choices[0]
    assert (c.finish_reason, c.stop_reason) == ("stop", stop)
    assert c.token_ids == ids[:ids.index(stop) + 1] and r.usage.completion_tokens == len(c.token_ids)
    later = complete(client, max_tokens=6, extra_body=fields | {"min_tokens": 6}).choices[0]
    assert later.finish_reason == "length" and stop not in later.token_ids


def test_allowed_tokens_of_many_prompts(cpu):
    """Each prompt's request has a copy of the list."""
    status, r = cpu.post("/v1/completions", {"prompt": ["a"] * 1000, "allowed_token_ids": list(range(49000))})
    assert status == 400 and r["error"]["param"] == "allowed_token_ids"


def test_chat_goes_on_and_echoes(client):
    messages = [{"role": "user", "content": "Name the capital of France."},
                {"role": "assistant", "content": "The capital of France is"}]
    go_on = {"continue_final_message": True, "add_generation_prompt": False}
    bare = chat(client, messages=messages, extra_body=go_on).choices[0].message.content
    echoed = chat(client, messages=messages, extra_body=go_on | {"echo": True}).choices[0].message.content
    assert "Paris" in bare and echoed == "The capital of France is" + bare
    chunks = chat(client, messages=messages, stream=True, extra_body=go_on | {"echo": True})
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == echoed


def test_truncation(client):
    long = "one two three four five " * 2000
    with pytest.raises(openai.BadRequestError) as e:
        complete(client, prompt=long)
    assert e.value.code == "context_length_exceeded" and "maximum context length is" in str(e.value)
    r = complete(client, prompt=long, max_tokens=1, extra_body={"truncate_prompt_tokens": 10})
    assert r.usage.prompt_tokens == 10
    r = complete(client, prompt=long, max_tokens=1, echo=True,
                 extra_body={"truncate_prompt_tokens": 3, "truncation_side": "right"})
    assert r.choices[0].text.startswith("one two three")


def test_overflow_status(make_server):
    s = make_server(top='context_overflow_status = "413"', model='devices = { "sim" }')
    status, body = s.post("/v1/completions", {"prompt": "one two three four five " * 3000})
    assert status == 413 and "maximum context length is" in body["error"]["message"]


def test_a_simulated_worker_is_certain(make_server):
    s = make_server(model='devices = { "sim" }')
    c = openai.OpenAI(base_url=s.base + "/v1", api_key="none", max_retries=0)
    r = c.completions.create(model=s.name, prompt=PROMPT, max_tokens=3, logprobs=2, echo=True)
    assert r.choices[0].logprobs.token_logprobs == [None] + [0] * (r.usage.total_tokens - 1)


def test_each_prompt_is_echoed_when_it_is_scored(make_server):
    """The short prompt's answer comes long before the long one's scores are complete."""
    s = make_server(model='devices = { "sim" }\n  max_num_batched_tokens = 64\n  max_num_seqs = 8')
    c = openai.OpenAI(base_url=s.base + "/v1", api_key="none", max_retries=0)
    long = list(range(100, 400))
    chunks = c.completions.create(model=s.name, prompt=[[100], long], max_tokens=2, logprobs=0, echo=True, stream=True)
    told = [0, 0]
    for choice in (x.choices[0] for x in chunks):
        told[choice.index] += len(choice.logprobs.tokens)
    assert told == [1 + 2, len(long) + 2]


def test_tokenize_and_detokenize(cpu):
    status, r = cpu.post("/tokenize", {"prompt": PROMPT, "return_token_strs": True})
    assert status == 200 and r["count"] == len(r["tokens"]) and "".join(r["token_strs"]) == PROMPT
    assert r["max_model_len"] > 0
    assert cpu.post("/detokenize", {"tokens": r["tokens"]}) == (200, {"prompt": PROMPT})
    messages = [{"role": "user", "content": "Say hello."}]
    r = cpu.post("/tokenize", {"messages": messages})[1]
    u = cpu.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1})[1]["usage"]
    assert r["count"] == u["prompt_tokens"] and r["token_strs"] is None
    assert cpu.post("/detokenize", {"tokens": [10**9]})[0] == 400


def test_small_routes(cpu):
    assert cpu.get("/livez") == (200, "") and cpu.get("/ping") == (200, "")
    assert cpu.request("POST", "/ping")[0] == 200
    assert cpu.get("/is_sleeping") == (200, '{"is_sleeping":false}')
    wait_until(lambda: cpu.get("/load") == (200, '{"server_load":0}'))  # a reply counts until it has left


def test_priority_header(cpu):
    body = {"prompt": "Hi", "max_tokens": 1}
    assert cpu.post("/v1/completions", body, {"X-Vllm-Priority": "-5"})[0] == 200
    status, r = cpu.post("/v1/completions", body, {"X-Vllm-Priority": "high"})
    assert status == 400 and r["error"]["param"] == "X-Vllm-Priority"
