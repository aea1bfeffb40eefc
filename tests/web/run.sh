#!/usr/bin/env bash
# run.sh [pytest arguments] - the status page in Chromium, against build/llmd (or $LLMD) with simulated
# workers. Sets itself up; the last line says "N passed, N failed". Pictures: tests/web/shots/.
set -eu
cd "$(dirname "$0")/../.."

venv=build/webvenv
if ! command -v chromium >/dev/null || ! fc-list : family | grep -q '^Inter'; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core fonts-inter
fi >/dev/null
if ! "$venv/bin/python" -c 'import playwright, axe_playwright_python, pytest, PIL' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q playwright axe-playwright-python pytest pillow
fi
[ -x "${LLMD:-build/llmd}" ] || make -s

exec "$venv/bin/python" -m pytest -q -p no:cacheprovider tests/web "$@"
