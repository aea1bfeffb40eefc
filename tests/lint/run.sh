#!/bin/sh
# run.sh - all lints, or those named; the last line says how many passed.
set -u
cd "$(dirname "$0")" || exit 2
passed=0
failed=0
[ $# -gt 0 ] || set -- layers format sizes headers banned asm registers options openapi web shell tidy
for lint in "$@"; do
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
