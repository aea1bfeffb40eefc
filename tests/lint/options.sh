#!/bin/sh
# options.sh - conf/OPTIONS.md and conf/llmd.conf are what conf/options.def says: each option is
# documented. LLMD names the program (default: build/llmd, built when it is missing).
set -u
cd "$(dirname "$0")/../.." || exit 2
llmd=${LLMD:-build/llmd}
[ -x "$llmd" ] || make -s -j2 all || exit 2
bad=0
compare() { # file, option of `llmd check` that prints it
    if ! "$llmd" check "$2" | diff -u "$1" - >&2; then
        echo "$1: not what conf/options.def says; run: $llmd check $2 > $1"
        bad=1
    fi
}
compare conf/OPTIONS.md --print-options
compare conf/llmd.conf --print-defaults
exit $bad
