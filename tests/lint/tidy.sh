#!/bin/sh
# tidy.sh - clang-tidy over all C sources, two at a time; findings are errors (.clang-tidy).
set -u
cd "$(dirname "$0")/../.." || exit 2
tool=$(command -v clang-tidy-14 || command -v clang-tidy) || { echo "clang-tidy is missing" >&2; exit 2; }
git ls-files -co --exclude-standard 'core/*.c' 'cmd/*.c' |
    xargs -P 2 -n 1 tests/lint/tidy_one.sh "$tool" "$(cat VERSION)"
