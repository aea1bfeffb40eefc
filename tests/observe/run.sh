#!/usr/bin/env bash
# run.sh [--minutes N] [--write] [pytest arguments] - what others make of llmd's metrics and traces: prometheus_client, promtool,
# a real Prometheus under load, the dashboards and rules of conf/, collectors of traces. Against build/llmd (or $LLMD).
# Installs what it needs; each test_*.py beside it is run. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit
venv=build/venv-observe
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() {
    echo "run.sh: $1" >&2
    echo "0 passed, 1 failed"
    exit 1
}

need() { # command, package
    command -v "$1" >/dev/null && return
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2"; } \
        >"$log" 2>&1 || { cat "$log"; fail "cannot install $2"; }
    # The package starts a service, which no test needs.
    [ "$2" != prometheus ] || systemctl disable --now prometheus >/dev/null 2>&1
}

need promtool prometheus
[ -n "${LLMD:-}" ] || make -s -j2 >&2 || fail "make failed"
make -s -j2 gpu-serve-build >&2 || fail "make gpu-serve-build failed" # a GPU and NVML that are made up
make -s -j2 FAULTS=1 build/faults/llmd >&2 || fail "make FAULTS=1 failed"
if ! cmp -s tests/observe/requirements.txt "$venv/requirements.txt"; then
    { python3 -m venv "$venv" && "$venv/bin/pip" install -q -r tests/observe/requirements.txt &&
        cp tests/observe/requirements.txt "$venv/"; } >&2 || fail "cannot make $venv"
fi

"$venv/bin/python" -m pytest -q -p no:cacheprovider -rs tests/observe "$@" | tee "$log"
counted() { # word of pytest's last line
    tail -n 1 "$log" | grep -oE "[0-9]+ $1" | grep -oE '[0-9]+' || echo 0
}
passed=$(counted passed)
failed=$(($(counted failed) + $(counted 'errors?')))
[ "$passed" -gt 0 ] || failed=$((failed + 1))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
