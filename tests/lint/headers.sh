#!/bin/sh
# headers.sh - every header compiles alone, with gcc.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
for h in $(git ls-files -co --exclude-standard 'core/*.h' 'cmd/*.h' 'gpu/*.h' 'tests/*.h'); do
    printf '#include "%s"\n' "$h" | gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -I. -fsyntax-only -x c - || {
        echo "$h: does not compile alone"
        bad=1
    }
done
exit $bad
