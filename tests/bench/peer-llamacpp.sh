#!/usr/bin/env bash
# peer-llamacpp.sh [--quick] [--rounds N] [--json FILE] - llmd's engine beside llama.cpp on the demo
# model, same file, same threads, alternating in one run. The last line holds the ratios at the highest
# number of threads: "decode=R prefill=R", above 1 when llmd is faster.
#
# The peer is built once from PyPI's llama-cpp-python into a virtual environment outside the
# repository (LLMD_PEER_VENV, default ~/.cache/llmd/peer-llamacpp); it takes about five minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=${LLMD_PEER_VENV:-$HOME/.cache/llmd/peer-llamacpp}
model=models/SmolLM2-135M-Instruct.Q4_1.gguf

packaging/deps.sh build test >&2
packaging/fetch-model.sh >&2
if [ ! -e "$venv/.ready" ]; then
    echo "peer-llamacpp.sh: building llama-cpp-python 0.3.36 in $venv (once, about 5 minutes)" >&2
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check llama-cpp-python==0.3.36 ||
        { echo "peer-llamacpp.sh: the peer could not be built" >&2; exit 1; }
    touch "$venv/.ready"
fi
make -s -j2 bench-build >&2
threads=$(nproc)
exec "$venv/bin/python" tests/bench/peer_llamacpp.py --model "$model" \
    --binary build/bench/engine_speed --threads 1 "$threads" "$@"
