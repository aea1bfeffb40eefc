#!/usr/bin/env bash
# run.sh [--repeatable] SECONDS [TARGET...] - runs the built fuzz targets, two at a time, over a copy
# of their committed corpus (new finds stay in build/fuzz/found). Crashing input lands in build/fuzz.
# --repeatable: the same inputs each time, of which SECONDS are only the most that it may take: what
# `make test` runs must not fail by chance. New inputs are looked for by `make fuzz` and `make soak`.
set -u
cd "$(dirname "$0")/../.." || exit 2
options="-seed=$RANDOM"
found=build/fuzz/found
if [ "${1:-}" = --repeatable ]; then
    shift
    options="-seed=1 -runs=50000"
    found=$(mktemp -d)
    trap 'rm -rf "$found"' EXIT
fi
seconds=${1:-10}
shift
targets=("$@")
[ ${#targets[@]} -eq 0 ] && for f in tests/fuzz/fuzz_*.c; do targets+=("$(basename "$f" .c)"); done

one() { # target seconds found options...
    local target=$1 seconds=$2 finds=$3/$1 log=build/fuzz/$1.log
    shift 3
    mkdir -p "$finds"
    if build/fuzz/"$target" -max_total_time="$seconds" "$@" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="build/fuzz/$target-" "$finds" \
        "tests/fuzz/corpus/${target#fuzz_}" >"$log" 2>&1; then
        echo "ok      $target $(grep -o 'number_of_executed_units: *[0-9]*' "$log")"
    else
        echo "FAILED  $target ($log)"
        tail -n 30 "$log"
        return 1
    fi
}
export -f one
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c "one {} $seconds $found $options"
