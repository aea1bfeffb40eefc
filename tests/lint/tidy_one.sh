#!/bin/sh
# tidy_one.sh TOOL VERSION FILE - clang-tidy on one source with the flags that it is built with.
tool=$1
version=$2
file=$3
avx2="-mavx2 -mfma -mf16c"
avx512="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni $avx2"
isa=
case "$file" in
*_avx2.c) isa=$avx2 ;;
*_avx512.c) isa=$avx512 ;;
*_amx.c) isa="-mamx-tile -mamx-int8 $avx512" ;;
esac
# shellcheck disable=SC2086  # isa is a list of flags
out=$("$tool" --quiet "$file" -- -std=c11 -D_GNU_SOURCE "-DLLMD_VERSION=\"$version\"" \
    -I. -Ibuild/gen $isa 2>/dev/null) || {
    printf '%s\n' "$out"
    exit 1
}
