#!/bin/sh
# sizes.sh - files under 600 lines, functions under 80, no absurdly long line (clang-format keeps C to 100).
# A function runs from its opening brace in column 1 to the closing one. Generated tables are exempt.
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck disable=SC2016  # an awk program
git ls-files -co --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' '*.cc' '*.hh' '*.py' '*.sh' |
    xargs grep -L 'clang-format off: generated' | xargs awk '
FNR == 1 { if (NR > 1) close_file(); file = FILENAME; start = 0 }
{ lines = FNR }
length($0) > 140 { print file ":" FNR ": line of " length($0) " columns"; bad = 1 }
/^\{$/ { start = FNR }
/^\}/ { if (start && FNR - start > 80) { print file ":" start ": function of " FNR - start " lines"; bad = 1 } start = 0 }
function close_file() { if (lines > 600) { print file ": " lines " lines"; bad = 1 } }
END { close_file(); exit bad }'
