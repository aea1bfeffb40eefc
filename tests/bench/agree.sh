#!/usr/bin/env bash
# agree.sh [--rounds N] [--json FILE] - `llmd bench` beside guidellm 0.8.1 (from PyPI) on one server: a
# simulated worker with steps of 20 ms, about 16 streams, taking turns. The last line: how far apart the two
# medians of TTFT p50, ITL p50 and tokens per second are, in %. Exit 1 when one is beyond 3 %.
#
# The other tool goes into a virtual environment outside the repository (LLMD_GUIDELLM_VENV, default
# ~/.cache/llmd/guidellm), with torch: about 5 GB. It wants a tokenizer in Hugging Face form: the demo
# model is converted beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=${LLMD_GUIDELLM_VENV:-$HOME/.cache/llmd/guidellm}
packaging/deps.sh build >&2
packaging/fetch-model.sh >&2
if ! "$venv/bin/python" -c 'import guidellm' 2>/dev/null; then
    echo "agree.sh: installing guidellm 0.8.1 in $venv (once)" >&2
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check guidellm==0.8.1 ||
        { echo "agree.sh: guidellm could not be installed" >&2; exit 1; }
fi
if [ ! -e "$venv/smollm2/tokenizer.json" ]; then
    python3 tests/golden/gguf_to_hf.py models/SmolLM2-135M-Instruct.Q4_1.gguf "$venv/smollm2" --layers 1 >&2
fi
make -s -j2 all >&2
exec python3 tests/bench/agree.py --guidellm "$venv/bin/guidellm" --tokenizer "$venv/smollm2" "$@"
