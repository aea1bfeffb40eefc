#!/usr/bin/env bash
# run.sh - regenerates every golden file from the real libraries (about 1 GB of Python packages, in
# build/golden-venv; minutes). `git diff --stat tests/golden` afterwards shows whether anything moved.
set -eu
cd "$(dirname "$0")/../.."
venv=build/golden-venv
if [ ! -e "$venv/.stamp" ] || [ tests/golden/requirements.txt -nt "$venv/.stamp" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r tests/golden/requirements.txt
    touch "$venv/.stamp"
fi
for generator in tests/golden/gen_*.py; do
    echo "== $generator"
    "$venv/bin/python" "$generator"
done
