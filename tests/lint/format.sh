#!/bin/sh
# format.sh - every C, C++ and CUDA file is as clang-format would write it. Generated tables are exempt.
set -u
cd "$(dirname "$0")/../.." || exit 2
tool=$(command -v clang-format-14 || command -v clang-format) || { echo "clang-format is missing" >&2; exit 2; }
git ls-files -co --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' '*.cc' '*.hh' |
    xargs grep -L '^/\* clang-format off: generated' |
    xargs "$tool" --dry-run --Werror 2>&1 | grep -E 'error:' | cut -d: -f1,2 | sort -u | head -40 | {
    bad=0
    while IFS= read -r line; do
        echo "$line: not formatted (clang-format -i FILE)"
        bad=1
    done
    exit $bad
}
