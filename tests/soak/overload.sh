#!/usr/bin/env bash
# overload.sh [SECONDS] - twice the load that the server can take, against four simulated workers, for
# 30 minutes or SECONDS. The result goes to tests/bench/results/overload.json.
set -eu
cd "$(dirname "$0")/../.."
python3 tests/soak/overload.py --seconds "${1:-1800}" --json tests/bench/results/overload.json
