#!/usr/bin/env python3
"""Writes the goldens of chat templates: what Python's jinja2 makes of them, set up as transformers does.

Use: python3 tests/golden/gen_templates.py                  write tests/golden/data/template_*
     python3 tests/golden/gen_templates.py --show T N       print template T (a file name) rendered
                                                            with conversation N, or snippet N ("-" N)

Needs only jinja2. Conversations come from template_chats.py, snippets of the language from
template_snippets.jsonl. Of each rendered conversation only a hash is kept, of snippets the text.
"""

import argparse
import datetime
import hashlib
import json
import os
import sys
import warnings
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from template_chats import contexts  # noqa: E402

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
NOW = datetime.datetime(2024, 7, 26, 12, 34, 56)  # UTC; test_chat_template_golden.c has it too


class Generation(jinja2.ext.Extension):
    """{% generation %}, which transformers uses to mark what the assistant said."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_text")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _text(self, context, caller):
        return caller()


class Dict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            Namespace._check(name)
        jinja2.utils.Namespace.__init__(self, attrs)

    def __setitem__(self, name, value):
        Namespace._check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"attribute {name!r}")


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    env.globals["dict"] = Dict()
    env.globals["namespace"] = Namespace
    return env


def render(env, source, context):
    """The text, or None when jinja2 refuses or the text has no UTF-8 form."""
    try:
        text = env.from_string(source).render(**context)
        text.encode()
        return text
    except Exception:  # whatever jinja2 or Python raise
        return None


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text is not None else ""


def snippets():
    """(template, context) of each."""
    with open(HERE / "template_snippets.jsonl") as f:
        rows = [json.loads(line) for line in f]
    return [(row[0], row[1] if len(row) > 1 else {}) for row in rows]


def templates():
    return {p.name: p.read_text() for p in sorted((HERE / "templates").glob("*.jinja"))}


def write(path, rows):
    with open(DATA / path, "w") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{path}: {os.path.getsize(DATA / path)} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--show", nargs=2, metavar=("T", "N"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of unknown escapes in strings
    env, chats = environment(), contexts()
    if args.show:
        name, n = args.show[0], int(args.show[1])
        source, context = snippets()[n] if name == "-" else (templates()[name], chats[n])
        print(source, json.dumps(context, ensure_ascii=False), sep="\n")
        print(repr(render(env, source, context)))
        return
    write("template_chats.jsonl", chats)
    rows = []
    for name, source in templates().items():
        results = [render(env, source, c) for c in chats]
        refused = sum(r is None for r in results)
        print(f"{name}: {len(results) - refused} rendered, {refused} refused")
        rows.append({"template": name, "hashes": [digest(r) for r in results]})
    write("template_hashes.jsonl", rows)
    write("template_results.jsonl", [render(env, s, c) for s, c in snippets()])


if __name__ == "__main__":
    main()
