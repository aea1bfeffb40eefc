#!/usr/bin/env bash
# run.sh [SECONDS] - the long tests: 64 streams on the CPU worker, 1,000 on a simulated one (default
# 300 s each), twice the load that four simulated ones can take (overload.sh; six times as long), then
# requests that schemathesis makes up for twice as long (tests/api/test_schema.py), all drills, the GPU's
# worker on the host stand-in in every variant (and a selection of them under ASan), then every
# fuzz target for 120 s. Results go to tests/bench/results/soak-*.json and overload.json.
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
SCHEMA_SECONDS=$((seconds * 2)) build/venv/bin/python -m pytest -q -p no:cacheprovider \
    tests/api/test_schema.py
tests/drills/run.sh
gpu_tests="tests/gpu/test_cuda_worker.c tests/gpu/test_cuda_ahead.c tests/gpu/test_cuda_overlap.c"
make -s -j2 GPU_TEST_SRC="$gpu_tests tests/gpu/test_cuda_gguf.c" gpu-test-build
build/gpu-test/test_cuda_worker all
build/gpu-test/test_cuda_ahead all
build/gpu-test/test_cuda_gguf all
PYTHONPATH=tests/gpu build/venv/bin/python -m pytest -q -p no:cacheprovider tests/gpu/test_report.py
# shellcheck disable=SC2046 # arguments of make
make -s -j2 $(make -s print-asan) GPU_TEST_SRC="$gpu_tests" gpu-test-build
build/asan/gpu-test/test_cuda_worker
build/asan/gpu-test/test_cuda_ahead
build/asan/gpu-test/test_cuda_overlap
make -s fuzz T=$((seconds < 120 ? seconds : 120))
