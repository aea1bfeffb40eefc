#!/usr/bin/env bash
# run.sh - the CUDA backend on a GPU: arithmetic, speed, sanitizers, endurance. Weights are generated on
# the device, so that it needs nvcc, a C compiler and Python, and nothing else.
#
#   tests/gpu/run.sh numerics|perf|sanitize|soak ...   each less than 6 minutes on an H200
#   tests/gpu/run.sh --stand-in numerics|perf|soak ...  tiny models on the host, to try the script
#   tests/gpu/run.sh --build                            builds for the device, runs nothing
#
#   GPU_ARCH=90a    the device's architecture (default: that of the first GPU)
#   OUT=FOLDER      where reports go (default tests/bench/results; --stand-in: a temporary folder)
#   SOAK_S=240      seconds of the soak
#
# Each suite writes OUT/DATE-GPU-SUITE.json; its member "ok" tells whether its gates hold, and so does
# the exit status. Faults (sanitize) are caused in processes of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."

stand_in=
build_only=
suites=()
for a in "$@"; do
    case "$a" in
    --stand-in) stand_in=1 ;;
    --build) build_only=1 ;;
    numerics | perf | sanitize | soak) suites+=("$a") ;;
    *)
        echo "run.sh: '$a' is none of numerics, perf, sanitize, soak, --stand-in, --build" >&2
        exit 2
        ;;
    esac
done
[ ${#suites[@]} -gt 0 ] || [ -n "$build_only" ] || suites=(numerics perf sanitize soak)

device_arch() {
    nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 |
        sed -e 's/\.//' -e 's/^90$/90a/' -e 's/^10[03]$/100f/' -e 's/^12[01]$/120f/'
}

# What device_run is made of: the backend, the engine's load and layer loop; what of the rest they do not
# call is left out by the linker, and with it what would need other libraries.
build_for_device() {
    local arch=${GPU_ARCH:-$(device_arch)} dir=build/gpu-device f o objects=() jobs=()
    local c_flags=(-std=c11 -D_GNU_SOURCE -O2 -g -ffp-contract=off -ffunction-sections -Wall -Wextra
        -Itests/gpu/device/stub -I.)
    local nv_flags=(-std=c++17 -O3 -lineinfo -I. -gencode "arch=compute_$arch,code=sm_$arch"
        -Werror all-warnings)
    mkdir -p "$dir"
    for f in gpu/*.cu tests/gpu/device/*.cu gpu/*.c tests/gpu/device/*.c core/util/err.c \
        core/util/base.c core/util/buf.c core/util/tensor.c core/util/clock.c core/util/cpuinfo.c \
        core/util/fsio.c core/util/lock.c core/backend/cpu_quant.c core/backend/attn_shape.c core/engine/engine_weights.c \
        core/engine/forward.c core/engine/profile.c core/engine/worker_load.c core/model/gguf.c \
        core/model/gguf_meta.c core/model/model_keys.c core/model/model_weights.c \
        core/model/hparams.c core/model/model.c core/model/model_file.c core/model/model_rope.c \
        core/model/safetensors.c; do
        o=$dir/$(echo "$f" | tr / _).o
        objects+=("$o")
        case $f in
        *.cu) jobs+=("nvcc ${nv_flags[*]@Q} -c -o $o $f") ;;
        *) jobs+=("${CC:-cc} ${c_flags[*]@Q} -c -o $o $f") ;;
        esac
    done
    printf '%s\0' "${jobs[@]}" | xargs -0 -P "$(nproc)" -I{} sh -c '{}'
    nvcc -o "$dir/device_run" "${objects[@]}" -Xlinker --gc-sections -ldl -lpthread -lm
    program=$dir/device_run
}

if [ -n "$stand_in" ]; then
    program=${BUILD:-build}/gpu-test/device_run
    make -s -j2 "$program"
    OUT=${OUT:-$(mktemp -d)}
    size=(--tiny --cublaslt "${BUILD:-build}/gpu-test/libfake_cublaslt.so")
    SOAK_S=${SOAK_S:-1}
else
    build_for_device
    OUT=${OUT:-tests/bench/results}
    size=()
    SOAK_S=${SOAK_S:-240}
fi
[ -z "$build_only" ] || exit 0
mkdir -p "$OUT"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" describe >"$work/describe.json"

# suite: joins what its runs printed with where and when, and prints the report's path.
report() {
    python3 tests/gpu/report.py "$1" "$OUT" "$work" "${stand_in:-0}"
}

# suite, part, command or function...: one run, its output as JSON, its seconds and exit status.
part() {
    local out=$work/$1.$2.json rc=0 began=$SECONDS
    shift 2
    "$@" >"$out" 2>"$out.err" || rc=$?
    [ "$rc" -eq 0 ] || cat "$out.err" >&2
    echo "$((SECONDS - began)) $rc" >"${out%.json}.rc"
}

# A real model's text, on a device; the stand-in's is test_cuda_gguf's.
model_file=models/SmolLM2-135M-Instruct.Q4_1.gguf
# shellcheck disable=SC2317  # part() calls it
text_of() { # model file
    if [ -e "$1" ]; then
        timeout 50 "$program" text "$1" tests/gpu/device/smollm2.txt
    else
        echo "{\"missing\": \"$1\", \"ok\": false}"
    fi
}

# shellcheck disable=SC2317  # part() calls it
sanitizer() { # tool: its verdict as JSON
    local tool=$1 log=$work/sanitizer.log rc=0
    timeout 75 compute-sanitizer --tool "$tool" --error-exitcode 9 "$program" numerics --tiny \
        >"$log" 2>&1 || rc=$?
    python3 - "$log" "$rc" <<'PY'
import json, re, sys
text = open(sys.argv[1]).read()
found = re.search(r"ERROR SUMMARY: (\d+) error", text) or re.search(r"RACECHECK SUMMARY: (\d+) ", text)
print(json.dumps({"errors": int(found.group(1)) if found else None, "rc": int(sys.argv[2]),
                  "last": text[-500:] if sys.argv[2] != "0" else "",
                  "ok": bool(found) and found.group(1) == "0" and sys.argv[2] == "0"}))
PY
}

run_sanitize() {
    local tool
    for tool in memcheck racecheck initcheck synccheck; do
        if command -v compute-sanitizer >/dev/null; then
            part sanitize "$tool" sanitizer "$tool"
        else
            part sanitize "$tool" echo '{"missing": "compute-sanitizer", "ok": false}'
        fi
    done
    part sanitize fault timeout 20 "$program" fault
    part sanitize endless timeout 20 "$program" endless
}

failed=0
for suite in "${suites[@]}"; do
    case "$suite" in
    numerics)
        part numerics main timeout 300 "$program" numerics "${size[@]}"
        [ -n "$stand_in" ] || part numerics text text_of "$model_file"
        ;;
    perf)
        part perf main timeout 190 "$program" perf "${size[@]}"
        part perf load timeout 60 "$program" load "${size[@]}"
        [ -n "$stand_in" ] && peers=(--tiny --device cpu) || peers=(--seconds 90)
        part perf peers timeout 105 python3 tests/gpu/peers.py "${peers[@]}"
        ;;
    soak) part soak main timeout 350 "$program" soak "$SOAK_S" "${size[@]}" ;;
    sanitize)
        if [ -n "$stand_in" ]; then
            echo "run.sh: the stand-in is built with sanitizers (tests/run.sh gpu)" >&2
            exit 2
        fi
        run_sanitize
        ;;
    esac
    report "$suite" || failed=1
done
exit $failed
