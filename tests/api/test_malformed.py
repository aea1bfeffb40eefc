"""Bad requests: each gets its documented status, an OpenAI error object, and the field's name."""
import json

import pytest

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Hi"}]


def chat(**kw):
    return {"model": "sim", "messages": HELLO, "max_tokens": 2} | kw


def text(**kw):
    return {"model": "sim", "prompt": "Hi", "max_tokens": 2} | kw


# id: (path, body, status, param that the error must carry, words in its message)
CASES = {
    "empty body": (CHAT, "", 400, None, "body"),
    "not json": (CHAT, "hello", 400, None, "JSON"),
    "cut json": (CHAT, '{"model": "sim", "messages": [', 400, None, "JSON"),
    "two values": (CHAT, "{} {}", 400, None, "JSON"),
    "array": (CHAT, "[]", 400, None, "object"),
    "number": (CHAT, "1", 400, None, "object"),
    "deep nesting": (CHAT, '{"a":' * 5000 + "1" + "}" * 5000, 400, None, "nested"),
    "deep arrays": (CHAT, "[" * 100000, 400, None, "nested"),
    "lone surrogate": (CHAT, '{"model":"sim","messages":[{"role":"user","content":"\\ud800"}]}',
                       400, None, "JSON"),
    "bad utf-8": (CHAT, b'{"model":"sim","messages":[{"role":"user","content":"\xff"}]}',
                  400, None, "JSON"),
    "huge integer": (CHAT, '{"model":"sim","messages":[],"seed":99999999999999999999}',
                     400, None, "JSON"),
    "no messages": (CHAT, {"model": "sim"}, 400, "messages", "messages"),
    "messages null": (CHAT, chat(messages=None), 400, "messages", "messages"),
    "messages empty": (CHAT, chat(messages=[]), 400, "messages", "messages"),
    "messages string": (CHAT, chat(messages="Hi"), 400, "messages", "messages"),
    "message no object": (CHAT, chat(messages=["Hi"]), 400, "messages", "messages"),
    "message without role": (CHAT, chat(messages=[{"content": "x"}]), 400, "messages", "role"),
    "message role number": (CHAT, chat(messages=[{"role": 1, "content": "x"}]), 400, "messages",
                            "role"),
    "message bad role": (CHAT, chat(messages=[{"role": "king", "content": "x"}]), 400, "messages",
                         "role"),
    "content number": (CHAT, chat(messages=[{"role": "user", "content": 5}]), 400, "messages",
                       "content"),
    "image part": (CHAT, chat(messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "x"}}]}]), 400, "messages", "image_url"),
    "unknown model": (CHAT, chat(model="gpt-4"), 404, "model", "does not exist"),
    "model number": (CHAT, chat(model=4), 400, "model", "model"),
    "temperature high": (CHAT, chat(temperature=2.1), 400, "temperature", "temperature"),
    "temperature negative": (CHAT, chat(temperature=-0.1), 400, "temperature", "temperature"),
    "temperature string": (CHAT, chat(temperature="hot"), 400, "temperature", "temperature"),
    "temperature bool": (CHAT, chat(temperature=True), 400, "temperature", "temperature"),
    "top_p zero": (CHAT, chat(top_p=0), 400, "top_p", "top_p"),
    "top_p high": (CHAT, chat(top_p=1.5), 400, "top_p", "top_p"),
    "top_k low": (CHAT, chat(top_k=-2), 400, "top_k", "top_k"),
    "top_k float": (CHAT, chat(top_k=1.5), 400, "top_k", "top_k"),
    "min_p high": (CHAT, chat(min_p=1.1), 400, "min_p", "min_p"),
    "presence_penalty": (CHAT, chat(presence_penalty=3), 400, "presence_penalty", "penalty"),
    "frequency_penalty": (CHAT, chat(frequency_penalty=-3), 400, "frequency_penalty", "penalty"),
    "repetition_penalty": (CHAT, chat(repetition_penalty=0), 400, "repetition_penalty",
                           "repetition_penalty"),
    "n zero": (CHAT, chat(n=0), 400, "n", "n"),
    "n huge": (CHAT, chat(n=100000, temperature=1), 400, "n", "n"),
    "n greedy": (CHAT, chat(n=2, temperature=0), 400, "n", "n"),
    "seed string": (CHAT, chat(seed="a"), 400, "seed", "seed"),
    "max_tokens zero": (CHAT, chat(max_tokens=0), 400, "max_tokens", "max_tokens"),
    "max_tokens negative": (CHAT, chat(max_tokens=-1), 400, "max_tokens", "max_tokens"),
    "max_tokens string": (CHAT, chat(max_tokens="5"), 400, "max_tokens", "max_tokens"),
    "max_tokens over context": (CHAT, chat(max_tokens=10**6), 400, "max_tokens", "max_tokens"),
    "max_completion_tokens": (CHAT, chat(max_completion_tokens=0), 400, "max_completion_tokens",
                              "max_completion_tokens"),
    "min_tokens over max": (CHAT, chat(min_tokens=5), 400, "min_tokens", "min_tokens"),
    "stop number": (CHAT, chat(stop=5), 400, "stop", "stop"),
    "stop empty string": (CHAT, chat(stop=""), 400, "stop", "stop"),
    "stop empty item": (CHAT, chat(stop=["a", ""]), 400, "stop", "stop"),
    "stop five": (CHAT, chat(stop=list("abcde")), 400, "stop", "stop"),
    "stop_token_ids range": (CHAT, chat(stop_token_ids=[10**7]), 400, "stop_token_ids",
                             "stop_token_ids"),
    "stop_token_ids type": (CHAT, chat(stop_token_ids="a"), 400, "stop_token_ids",
                            "stop_token_ids"),
    "stop_token_ids many": (CHAT, chat(stop_token_ids=[5] * 2000), 400, "stop_token_ids",
                            "at most"),
    "logit_bias list": (CHAT, chat(logit_bias=[1]), 400, "logit_bias", "logit_bias"),
    "logit_bias key": (CHAT, chat(logit_bias={"a": 1}), 400, "logit_bias", "logit_bias"),
    "logit_bias range": (CHAT, chat(logit_bias={"9999999": 1}), 400, "logit_bias", "logit_bias"),
    "logit_bias value": (CHAT, chat(logit_bias={"5": "x"}), 400, "logit_bias", "logit_bias"),
    "stream string": (CHAT, chat(stream="yes"), 400, "stream", "stream"),
    "stream_options alone": (CHAT, chat(stream_options={"include_usage": True}), 400,
                             "stream_options", "stream_options"),
    "stream_options type": (CHAT, chat(stream=True, stream_options=5), 400, "stream_options",
                            "stream_options"),
    "ignore_eos string": (CHAT, chat(ignore_eos="x"), 400, "ignore_eos", "ignore_eos"),
    "priority string": (CHAT, chat(priority="x"), 400, "priority", "priority"),
    "tools": (CHAT, chat(tools=[{"type": "function", "function": {"name": "f"}}]), 400, "tools",
              "tools"),
    "response_format": (CHAT, chat(response_format={"type": "json_object"}), 400,
                        "response_format", "response_format"),
    "structured_outputs": (CHAT, chat(structured_outputs={"regex": "a"}), 400,
                           "structured_outputs", "structured_outputs"),
    "guided_json": (CHAT, chat(guided_json={}), 400, "guided_json", "guided_json"),
    "bad_words": (CHAT, chat(bad_words=[""]), 400, "bad_words", "bad_words"),
    "allowed_token_ids": (CHAT, chat(allowed_token_ids=[]), 400, "allowed_token_ids",
                          "allowed_token_ids"),
    "logprobs": (CHAT, chat(logprobs=5), 400, "logprobs", "logprobs"),
    "prompt_logprobs": (CHAT, chat(prompt_logprobs=-1), 400, "prompt_logprobs", "prompt_logprobs"),
    "chat_template": (CHAT, chat(chat_template="x"), 400, "chat_template", "chat_template"),
    "no prompt": (TEXT, {"model": "sim"}, 400, "prompt", "prompt"),
    "prompt empty list": (TEXT, text(prompt=[]), 400, "prompt", "prompt"),
    "prompt mixed": (TEXT, text(prompt=["a", 5]), 400, "prompt", "prompt"),
    "prompt object": (TEXT, text(prompt={}), 400, "prompt", "prompt"),
    "prompt ids out of range": (TEXT, text(prompt=[10**7]), 400, "prompt", "prompt"),
    "prompt ids negative": (TEXT, text(prompt=[-1]), 400, "prompt", "prompt"),
    "prompt many": (TEXT, text(prompt=["a"] * 2000), 400, "prompt", "prompt"),
    "suffix": (TEXT, text(suffix="x"), 400, "suffix", "suffix"),
    "use_beam_search": (TEXT, text(use_beam_search=True), 400, "use_beam_search",
                        "use_beam_search"),
    "prompt too long": (TEXT, text(prompt="word " * 20000), 400, None, "maximum context length"),
}


def check_error(status, body, want, param, words):
    assert status == want, body
    e = body["error"]
    assert set(e) == {"message", "type", "param", "code"} and e["code"] in (want, "context_length_exceeded")
    assert words.lower() in e["message"].lower(), e
    if param:
        assert e["param"] == param, e


@pytest.mark.parametrize("name", CASES)
def test_malformed(sim, name):
    path, body, status, param, words = CASES[name]
    got, _, data = sim.request("POST", path, body, {"Content-Type": "application/json"})
    check_error(got, json.loads(data), status, param, words)


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_null_equals_omitted(sim, path):
    fields = ["temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids",
              "logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty",
              "stream_options", "user", "logprobs", "tools" if path == CHAT else "suffix"]
    body = (chat if path == CHAT else text)(**{f: None for f in fields})
    assert sim.request("POST", path, body)[0] == 200


def test_unknown_fields_are_ignored(sim):
    assert sim.post(CHAT, chat(store=True, metadata={"a": 1}, service_tier="auto"))[0] == 200


def test_aliases(sim):
    assert sim.post(CHAT, chat(model="alias"))[1]["model"] in ("sim", "alias")
    assert sim.post(CHAT, {k: v for k, v in chat().items() if k != "model"})[0] == 200


@pytest.mark.parametrize("method, path, status, allow", [
    ("GET", "/nothing", 404, None), ("GET", CHAT, 405, "POST"), ("DELETE", "/health", 405, "GET"),
    ("POST", "/v1/models", 405, "GET"), ("GET", "/v1/models/none", 404, None),
    ("PUT", TEXT, 405, "POST")])
def test_routes(sim, method, path, status, allow):
    got, headers, data = sim.request(method, path)
    assert got == status and json.loads(data)["error"]["code"] == status
    if allow:
        assert allow in headers["Allow"]


def test_wrong_content_type(sim):
    got, _, data = sim.request("POST", CHAT, json.dumps(chat()), {"Content-Type": "text/plain"})
    check_error(got, json.loads(data), 400, None, "Content-Type")


def test_body_over_the_limit(sim):
    body = json.dumps(chat(messages=[{"role": "user", "content": "x" * (5 << 20)}]))
    got, _, data = sim.request("POST", CHAT, body)
    check_error(got, json.loads(data), 413, None, "bytes")
