#!/usr/bin/env bash
# run.sh [SIM_LOSSES [CPU_LOSSES [EVERY [SIM_RELOADS [CPU_RELOADS]]]]] - what goes wrong on purpose:
#
#   workers      taken away at random moments under 32 streams, 500 times on simulated workers and 20
#                times on CPU workers: every text is that of an undisturbed run (drill_workers.c)
#   reload       the configuration changes under 32 streams, 40 times on simulated workers and 6 times on CPU
#                workers, some of which do not start: no stream is lost, every text likewise (drill_reload.py)
#   clients      a worker stalls, all die, a device is poisoned, threads hang, a request can never fit: what
#                clients get, and the exit code (drill_clients.py)
#   allocations  each one fails once, or each EVERY-th, under AddressSanitizer (allocations.py)
#
# The last line adds up texts, reloads, tests and allocations: "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck disable=SC2046 # arguments of make
packaging/deps.sh build test >&2 && packaging/fetch-model.sh >&2 && make -s -j2 venv drill-build all >&2 &&
    make -s -j2 FAULTS=1 all >&2 && make -s -j2 $(make -s print-asan) FAULTS=1 all >&2 || exit 2
. tests/drills/count.sh

drill "workers sim" build/drills/drill_workers sim "${1:-500}"
drill "workers cpu" build/drills/drill_workers cpu "${2:-20}"
PYTHONPATH=tests/api drill "reload" build/venv/bin/python tests/drills/drill_reload.py "${4:-40}" "${5:-6}"
PYTHONPATH=tests/api drill "clients" build/venv/bin/python -m pytest -q -p no:cacheprovider tests/drills/drill_clients.py
drill "allocations" python3 tests/drills/allocations.py --every "${3:-1}"
drill "allocations, rest" python3 tests/drills/allocations.py --every "$((${3:-1} * 10))" --times 1000000
drills_end
