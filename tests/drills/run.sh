#!/usr/bin/env bash
# run.sh [SIM_LOSSES [CPU_LOSSES]] - workers are taken away at random moments under 32 streams: 500
# times on simulated workers, 20 times on CPU workers. Every text must be that of an undisturbed run.
# The last line adds up the texts: "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 2
packaging/deps.sh build test >&2 && packaging/fetch-model.sh >&2 && make -s -j2 drill-build >&2 || exit 2
passed=0
failed=0
for drill in "sim ${1:-500}" "cpu ${2:-20}"; do
    # shellcheck disable=SC2086
    out=$(build/drills/drill_workers $drill 2>build/drills/drill.log)
    echo "$out" | grep -v '^\[' | sed '$d'
    last=$(echo "$out" | tail -n 1)
    p=$(echo "$last" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
    f=$(echo "$last" | sed -n 's/.*, \([0-9]*\) failed$/\1/p')
    [ -n "$p" ] || grep -v 'supervise:' build/drills/drill.log | tail -n 20
    passed=$((passed + ${p:-0}))
    failed=$((failed + ${f:-1}))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
