#!/bin/sh
# embed.sh - files of the status page to one C header: each as it is, and as gzip has it.
#
#   web/embed.sh FOLDER FILE... > page_assets_list.h      FOLDER takes the compressed ones
#
# The same files give the same bytes (gzip -n). The header holds the list as PAGE_ASSETS, of
# ASSET(number, name, type, hash), and the bytes as page_plain_N, page_gzip_N up to ..._end.
set -eu
folder=$1
shift
mkdir -p "$folder"

list=""
number=0
echo "/* Made by web/embed.sh. */"
for file in "$@"; do
    name=$(basename "$file")
    case "$name" in
    *.html) type="text/html; charset=utf-8" ;;
    *.js) type="text/javascript; charset=utf-8" ;;
    *.css) type="text/css; charset=utf-8" ;;
    *.svg) type="image/svg+xml" ;;
    *)
        echo "embed.sh: $file: a page has html, js, css and svg files" >&2
        exit 1
        ;;
    esac
    gzip -9 -n -c "$file" >"$folder/$name.gz"
    for kind in plain gzip; do
        [ $kind = plain ] && path=$file || path=$folder/$name.gz
        symbol=page_${kind}_$number
        cat <<END
__asm__(".pushsection .rodata\\n"
        ".globl $symbol, ${symbol}_end\\n"
        ".hidden $symbol, ${symbol}_end\\n"
        "$symbol: .incbin \\"$path\\"\\n"
        "${symbol}_end: .byte 0\\n"
        ".popsection");
END
    done
    hash=$(sha256sum "$file" | cut -c 1-16)
    list="$list ASSET($number, \"$name\", \"$type\", \"$hash\")"
    number=$((number + 1))
done
echo "#define PAGE_ASSETS$list"
