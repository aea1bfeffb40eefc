#!/usr/bin/env python3
"""Writes the seeds of fuzz_chat_template: templates of models with a conversation each, and every
40th snippet of the goldens.

Use: python3 tests/fuzz/make_corpus_chat_template.py
"""

import json
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
OUT = TESTS / "fuzz/corpus/chat_template"


def seed(name, template, context):
    source = template.encode()
    body = json.dumps(context, ensure_ascii=False, separators=(",", ":")).encode()
    (OUT / name).write_bytes(len(source).to_bytes(2, "little") + source + body)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    chats = [
        json.loads(line)
        for line in (TESTS / "golden/data/template_chats.jsonl").read_text().split("\n")[:-1]
    ]
    for i, path in enumerate(sorted((TESTS / "golden/templates").glob("*.jinja"))):
        seed(f"model{i:02}", path.read_text(), chats[90 + 7 * i])
    lines = (TESTS / "golden/template_snippets.jsonl").read_text().split("\n")
    for i, line in enumerate(lines[:-1]):
        if i % 40 == 0:
            row = json.loads(line)
            seed(f"snippet{i:04}", row[0], row[1] if len(row) > 1 else {})


if __name__ == "__main__":
    main()
