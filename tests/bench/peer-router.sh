#!/usr/bin/env bash
# peer-router.sh [--seconds N] [--json FILE] - llmd with two workers beside vllm-router 0.1.17 (from PyPI)
# in front of two llmd with one worker each: same simulated workers, same load, in one run. The last line:
# ttft=R, how many times as fast the first token is, and the answers that broke when a worker was lost.
#
# The peer goes into a virtual environment outside the repository (LLMD_VROUTER_VENV, default
# ~/.cache/llmd/peer-vllm-router).
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=${LLMD_VROUTER_VENV:-$HOME/.cache/llmd/peer-vllm-router}
packaging/deps.sh build >&2
packaging/fetch-model.sh >&2
if [ ! -e "$venv/.ready" ]; then
    echo "peer-router.sh: installing vllm-router 0.1.17 in $venv (once)" >&2
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check vllm-router==0.1.17 ||
        { echo "peer-router.sh: the peer could not be installed" >&2; exit 1; }
    touch "$venv/.ready"
fi
make -s -j2 all >&2
make -s -j2 FAULTS=1 all >&2
exec python3 tests/bench/peer_router.py --router "$venv/bin/vllm-router" "$@"
