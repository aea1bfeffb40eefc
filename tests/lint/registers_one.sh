#!/bin/sh
# registers_one.sh - compiles one file of kernels for ptxas's report, unless its LOG is there.
#   registers_one.sh build/lint/registers/NAME.STATE "ARCH..."
set -u
log=$1
[ -f "$log" ] && exit 0
name=$(basename "${log%.*}")
rm -f "${log%.*}".*
generate=
for a in $2; do
    generate="$generate -gencode arch=compute_$a,code=sm_$a"
done
# shellcheck disable=SC2086  # a list of options
nvcc -std=c++17 -O3 -I. $generate -Xptxas -v -c -o "$log.o" "gpu/$name.cu" >"$log.said" 2>&1 || {
    tail -5 "$log.said"
    exit 1
}
awk -v q="'" '
    /Compiling entry function/ { split($0, part, q); kernel = part[2]; arch = part[4]; next }
    /bytes stack frame/ { left = $1 + $5 + $9; next }
    /Used [0-9]+ registers/ {
        used = shared = 0
        if (match($0, /Used [0-9]+/)) used = substr($0, RSTART + 5, RLENGTH - 5)
        if (match($0, /[0-9]+ bytes smem/)) shared = substr($0, RSTART, RLENGTH - 11)
        sub(/^sm_/, "", arch)
        print kernel, arch, used, left, shared
    }' "$log.said" | c++filt -p | sed -e 's/, /,/g' -e 's/^void //' >"$log.new"
rm -f "$log.o" "$log.said"
mv "$log.new" "$log"
