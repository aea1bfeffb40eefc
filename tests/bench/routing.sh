#!/usr/bin/env bash
# routing.sh [SECONDS] - time to first token of every routing policy on seven workloads, over eight
# simulated workers (tests/bench/routing.c; default 6 s each, about three minutes in all). Writes the
# figures, a table and a chart to tests/bench/results/routing.{jsonl,md,svg}. The last line says on how
# many workloads the policy `prefix` is the best by mean, or within 5 % of the best.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-6}
results=tests/bench/results
mkdir -p "$results"
packaging/deps.sh build test >&2
make -s -j2 build/bench/routing >&2
build/bench/routing "$seconds" >"$results/routing.jsonl"
python3 tests/bench/routing_table.py "$results/routing.jsonl" "$results/routing.md" "$results/routing.svg"
