#!/usr/bin/env bash
# edge.sh [--short] - the edge among bad clients; about fifteen minutes (--short: half a minute, for `make test`):
#
#   requests   10,000 mutated HTTP requests and every way to smuggle, under AddressSanitizer: directly, behind
#              HAProxy and behind nginx (--short: 500, directly; edge_requests.py)
#   clients    2,000 slow heads, 1,000 killed clients, half-closed sockets, readers of a byte per second, beside
#              64 streams whose gaps must stay what they were (not with --short; edge_clients.py)
#   401        what a stranger costs, and whether the time of an answer tells how much of a key was right, over
#              100,000 tries (not with --short; tests/bench/auth_timing.py)
#   reloads    1,000 of keys and certificates under 200 streams (--short: 10; edge_reloads.py)
#
# The last line adds up: "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 2
short=${1:-}
sets="build test"
[ "$short" ] || sets="$sets peer"
# shellcheck disable=SC2046,SC2086 # names of sets, arguments of make
packaging/deps.sh $sets >&2 && packaging/fetch-model.sh >&2 && make -s -j2 venv all >&2 &&
    make -s -j2 $(make -s print-asan) FAULTS=1 all >&2 || exit 2
. tests/drills/count.sh

python=build/venv/bin/python
# shellcheck disable=SC2046
asan=$(make -s $(make -s print-asan) print-build)
if [ "$short" ]; then
    LLMD=$asan/faults/llmd drill "edge requests" $python tests/drills/edge_requests.py 500 directly
    drill "edge reloads" $python tests/drills/edge_reloads.py 10
else
    LLMD=$asan/faults/llmd drill "edge requests" $python tests/drills/edge_requests.py
    drill "edge clients" $python tests/drills/edge_clients.py
    drill "edge 401" $python tests/bench/auth_timing.py
    drill "edge reloads" $python tests/drills/edge_reloads.py
fi
drills_end
