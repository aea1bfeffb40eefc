#!/usr/bin/env bash
# run.sh SECONDS [TARGET...] - runs the built fuzz targets, two at a time, over a copy of their
# committed corpus (new finds stay in build/fuzz/found). Crashing input lands in build/fuzz.
set -u
cd "$(dirname "$0")/../.." || exit 2
seconds=${1:-10}
shift
targets=("$@")
[ ${#targets[@]} -eq 0 ] && for f in tests/fuzz/fuzz_*.c; do targets+=("$(basename "$f" .c)"); done

one() { # target seconds
    local name=${1#fuzz_} found=build/fuzz/found/$1 log=build/fuzz/$1.log
    mkdir -p "$found"
    if build/fuzz/"$1" -max_total_time="$2" -seed=1 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/$1-" "$found" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
        echo "ok      $1 $(grep -o 'number_of_executed_units: *[0-9]*' "$log")"
    else
        echo "FAILED  $1 ($log)"
        tail -n 30 "$log"
        return 1
    fi
}
export -f one
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'one {} '"$seconds"
