#!/usr/bin/env bash
# edge.sh [--short] - the edge among bad clients; about ten minutes (--short: half a minute, for `make test`):
#
#   requests   10,000 mutated HTTP requests and every way to smuggle, under AddressSanitizer: directly, behind
#              HAProxy and behind nginx (--short: 500, directly; edge_requests.py)
#   clients    2,000 slow heads, 1,000 killed clients, half-closed sockets, readers of a byte per second, beside
#              64 streams whose gaps must stay what they were (not with --short; edge_clients.py)
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
logs=build/drills
mkdir -p "$logs"
passed=0
failed=0

drill() { # name, command...: its last line says "N passed, N failed"
    local name=$1 log last p f began=$SECONDS
    log=$logs/edge-$name.log
    shift
    "$@" >"$log" 2>&1
    local rc=$?
    last=$(tail -n 1 "$log")
    p=$(echo "$last" | grep -oE '[0-9]+ passed' | cut -d' ' -f1)
    f=$(echo "$last" | grep -oE '[0-9]+ failed' | cut -d' ' -f1)
    [ "$rc" -ne 0 ] && [ "${f:-0}" -eq 0 ] && f=1
    printf '%-24s %6s passed %4s failed %5d s\n' "edge $name" "${p:-0}" "${f:-0}" $((SECONDS - began))
    [ "$rc" -ne 0 ] && tail -n 40 "$log"
    passed=$((passed + ${p:-0}))
    failed=$((failed + ${f:-0}))
}

python=build/venv/bin/python
# shellcheck disable=SC2046
asan=$(make -s $(make -s print-asan) print-build)
if [ "$short" ]; then
    LLMD=$asan/faults/llmd drill requests $python tests/drills/edge_requests.py 500 directly
    drill reloads $python tests/drills/edge_reloads.py 10
else
    LLMD=$asan/faults/llmd drill requests $python tests/drills/edge_requests.py
    drill clients $python tests/drills/edge_clients.py
    drill reloads $python tests/drills/edge_reloads.py
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
