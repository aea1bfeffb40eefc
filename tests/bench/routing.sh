#!/usr/bin/env bash
# routing.sh [sim] [cpu] - time to first token of every routing policy, over eight simulated workers (7
# workloads of 6 s, about three minutes) and over two CPU workers with SmolLM2 (8 workloads of 6 s,
# twice, about 7 minutes); tests/bench/routing.c. Names of rigs measure those alone. The figures, tables
# and a chart are in tests/bench/results/routing.{jsonl,md,svg}. The last line says on how many workloads
# the policy `prefix` is the best by mean, or within 5 % of the best.
set -eu
cd "$(dirname "$0")/../.."
results=tests/bench/results
mkdir -p "$results"
packaging/deps.sh build test >&2
packaging/fetch-model.sh >&2
make -s -j2 build/bench/routing >&2
[ $# -gt 0 ] || set -- sim cpu
for rig in "$@"; do
    arguments="6"
    [ "$rig" = cpu ] && arguments="6 2"
    # shellcheck disable=SC2086
    build/bench/routing "$rig" $arguments >build/bench/routing.new
    grep -v "\"rig\": \"$rig\"" "$results/routing.jsonl" >build/bench/routing.old || true
    cat build/bench/routing.old build/bench/routing.new >"$results/routing.jsonl"
done
python3 tests/bench/routing_table.py "$results/routing.jsonl" "$results/routing.md" "$results/routing.svg"
