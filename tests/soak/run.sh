#!/usr/bin/env bash
# run.sh [SECONDS] - the long tests: 64 streams on the CPU worker, 1,000 on a simulated one (default
# 300 s each), twice the load that four simulated ones can take (overload.sh; six times as long), then
# all drills, then every fuzz target for 120 s. Results go to tests/bench/results/soak-*.json and overload.json.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-300}
results=tests/bench/results
mkdir -p "$results"
python3 tests/soak/soak.py --config tests/soak/cpu.conf --port 18081 \
    --model smollm2-135m-instruct --streams 64 --seconds "$seconds" --json "$results/soak-cpu.json"
python3 tests/soak/soak.py --config tests/soak/sim.conf --port 18082 --model sim --streams 1000 \
    --tokens 100 --seconds "$seconds" --json "$results/soak-sim.json"
tests/soak/overload.sh $((seconds * 6))
tests/drills/run.sh
make -s fuzz T=$((seconds < 120 ? seconds : 120))
