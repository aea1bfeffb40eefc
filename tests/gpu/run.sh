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

# What device_run is made of: the backend, the layer loop, and of the rest what they name.
build_for_device() {
    local arch=${GPU_ARCH:-$(device_arch)} dir=build/gpu-device f o objects=() jobs=()
    local c_flags=(-std=c11 -D_GNU_SOURCE -O2 -g -ffp-contract=off -Wall -Wextra -I.)
    local nv_flags=(-std=c++17 -O3 -lineinfo -I. -gencode "arch=compute_$arch,code=sm_$arch"
        -Werror all-warnings)
    mkdir -p "$dir"
    [ -e /usr/include/jansson.h ] || c_flags+=(-Itests/gpu/device/stub)
    for f in gpu/*.cu tests/gpu/device/*.cu gpu/*.c tests/gpu/device/*.c core/util/err.c \
        core/util/base.c core/util/tensor.c core/util/clock.c \
        core/backend/cpu_quant.c core/backend/attn_shape.c core/engine/forward.c \
        core/model/model_rope.c; do
        [ -e "$f" ] || continue
        o=$dir/$(echo "$f" | tr / _).o
        objects+=("$o")
        case $f in
        *.cu) jobs+=("nvcc ${nv_flags[*]@Q} -c -o $o $f") ;;
        *) jobs+=("${CC:-cc} ${c_flags[*]@Q} -c -o $o $f") ;;
        esac
    done
    printf '%s\0' "${jobs[@]}" | xargs -0 -P "$(nproc)" -I{} sh -c '{}'
    nvcc -o "$dir/device_run" "${objects[@]}" -ldl -lpthread -lm
    program=$dir/device_run
}

if [ -n "$stand_in" ]; then
    program=${BUILD:-build}/gpu-test/device_run
    make -s -j2 "$program"
    OUT=${OUT:-$(mktemp -d)}
    size=(--tiny)
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
    python3 - "$1" "$OUT" "$work" "${stand_in:-0}" <<'PY'
import datetime, json, pathlib, re, subprocess, sys
suite, out, work, stand_in = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4]
device = json.loads((work / "describe.json").read_text())
def words(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
smi = "nvidia-smi --query-gpu=driver_version,power.limit,clocks.max.sm --format=csv,noheader -i 0"
nvcc = words("nvcc", "--version") or ""
result = {"suite": suite, "date": datetime.date.today().isoformat(), "device": device,
          "commit": words("git", "rev-parse", "--short", "HEAD"),
          "driver": None if stand_in == "1" else words(*smi.split()),
          "nvcc": nvcc.splitlines()[-2].strip() if stand_in == "0" and nvcc.count("\n") else None}
ok = True
for part in sorted(work.glob(suite + ".*.json")):
    name = part.name.split(".")[1]
    text = part.read_text()
    seconds, rc = (part.with_suffix(".rc")).read_text().split()
    try:
        body = json.loads(text)
    except ValueError:
        body = {"ok": False, "output": text[-2000:]}
    body["seconds"] = int(seconds)
    body["ok"] = bool(body.get("ok")) and rc == "0"
    ok &= body["ok"]
    if name == "main":
        result.update(body)
    else:
        result[name] = body
result["ok"] = ok
gpu = "stand-in" if stand_in == "1" else re.sub(r"^nvidia-(geforce-)?|-(sxm|pcie|nvl).*$", "",
                                                re.sub(r"[^a-z0-9]+", "-", device["gpu"].lower()))
path = out / f"{result['date']}-{gpu}-{suite}.json"
path.write_text(json.dumps(result, indent=1) + "\n")
print(("ok      " if ok else "FAILED  ") + str(path))
sys.exit(0 if ok else 1)
PY
}

# suite, part, command or function...: one run, its output as JSON, its seconds and exit status.
part() {
    local out=$work/$1.$2.json rc=0 began=$SECONDS
    shift 2
    "$@" >"$out" 2>"$out.err" || rc=$?
    [ "$rc" -eq 0 ] || cat "$out.err" >&2
    echo "$((SECONDS - began)) $rc" >"${out%.json}.rc"
}

# shellcheck disable=SC2317  # part() calls it
sanitizer() { # tool: its verdict as JSON
    local tool=$1 log=$work/sanitizer.log rc=0
    timeout 85 compute-sanitizer --tool "$tool" --error-exitcode 9 "$program" numerics --tiny \
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
    part sanitize fault timeout 30 "$program" fault
    part sanitize endless timeout 30 "$program" endless
}

failed=0
for suite in "${suites[@]}"; do
    case "$suite" in
    numerics | perf) part "$suite" main timeout 350 "$program" "$suite" "${size[@]}" ;;
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
