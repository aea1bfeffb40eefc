#!/bin/sh
# run.sh - all lints, or those named; the last line says how many passed.
set -u
cd "$(dirname "$0")" || exit 2
passed=0
failed=0
for lint in ${*:-layers format sizes headers banned options shell tidy}; do
    if ./"$lint.sh"; then
        echo "ok      lint $lint"
        passed=$((passed + 1))
    else
        echo "FAILED  lint $lint"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
