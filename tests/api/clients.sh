#!/usr/bin/env bash
# clients.sh [--without-guidellm] [pytest arguments] - real clients against build/llmd, end to end:
# openai SDK, litellm, langchain-openai, guidellm (PyPI, pinned). The last line: N passed, N failed.
#
# Not part of `make test`: it installs them in a virtual environment of its own (build/venv-clients, about
# 500 MB), and guidellm, with torch, in that of tests/bench/agree.sh (LLMD_GUIDELLM_VENV, about 5 GB).
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=build/venv-clients
guidellm=${LLMD_GUIDELLM_VENV:-$HOME/.cache/llmd/guidellm}
if [ "${1:-}" = "--without-guidellm" ]; then
    shift
    guidellm=""
fi
packaging/fetch-model.sh >&2
make -s -j2 all >&2
if ! cmp -s tests/api/clients-requirements.txt "$venv/.requirements"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r tests/api/clients-requirements.txt
    cp tests/api/clients-requirements.txt "$venv/.requirements"
fi
if [ -n "$guidellm" ] && ! "$guidellm/bin/python" -c 'import guidellm' 2>/dev/null; then
    python3 -m venv "$guidellm"
    "$guidellm/bin/pip" install -q --disable-pip-version-check guidellm==0.8.1
fi
if [ -n "$guidellm" ] && [ ! -e "$guidellm/smollm2/tokenizer.json" ]; then
    python3 tests/golden/gguf_to_hf.py models/SmolLM2-135M-Instruct.Q4_1.gguf "$guidellm/smollm2" --layers 1 >&2
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
rc=0
GUIDELLM=$guidellm "$venv/bin/python" -m pytest -q -rs -p no:cacheprovider tests/api/clients.py "$@" | tee "$log" || rc=$?
count() { # word: the number before it in pytest's last line
    tail -n 1 "$log" | grep -oE "[0-9]+ $1" | cut -d' ' -f1 || true
}
passed=$(count passed)
failed=$(($(count failed | grep . || echo 0) + $(count error | grep . || echo 0)))
[ "$rc" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "${passed:-0} passed, $failed failed"
exit "$rc"
