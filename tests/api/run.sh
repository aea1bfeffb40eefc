#!/usr/bin/env bash
# run.sh [pytest arguments] - the API tests, against build/llmd (or $LLMD).
set -eu
cd "$(dirname "$0")/../.."
exec build/venv/bin/python -m pytest -q -p no:cacheprovider -n 2 --dist loadfile tests/api "$@"
