#!/usr/bin/env bash
# run.sh - the whole test suite: builds, runs every step, ends with "N passed, N failed".
#
#   tests/run.sh            all steps
#   tests/run.sh unit api   these steps
#
# Steps: unit (C tests), asan (the same under ASan and UBSan), tsan (threaded ones under TSan),
# gpu (the CUDA kernels and backend on the host stand-in; the kernels under ASan, too),
# fuzz (50,000 fixed inputs per target, at most $T seconds), api (openai SDK and raw HTTP against a real server), drills (workers
# taken away under load, bad clients; the whole of it is `make drills`).
# Logs lie in build/test-logs. Exit 1 when anything failed.
#
# One step of a run may fail and pass when it is run again, alone: it then counts as passed and is named
# FLAKY, with the log of what went wrong (NAME.first.log), for somebody to mend. Never forgiven: a second
# such step, a sanitizer's find, a crash, a hang, a build.
set -u
cd "$(dirname "$0")/.." || exit 2

T=${T:-10}
T_STEP=300 # seconds that a test program may take
logs=build/test-logs
mkdir -p "$logs"
passed=0
failed=0
failed_steps=()
flaky_step=

# The C tests whose subject is threads: the TSan selection.
threaded=(stream stream_stress metrics metrics_open log worker worker_fault router router_lost router_wait
          router_drain router_models record supervise edge_answer edge_http edge_stream edge_life
          edge_admin edge_catalog edge_front edge_keys edge_limits edge_listen edge_prep edge_time
          edge_tls edge_tls_life edge_page edge_spans edge_watch events store traces)

count() { # name, exit code: adds what a step's log says to the totals
    local log=$logs/$1.log ok bad py
    ok=$(grep -c '^\[       OK \]' "$log")
    bad=$(grep -E '^\[  FAILED  \] [A-Za-z_]' "$log" | sort -u | wc -l)
    py=$(grep -oE '[0-9]+ passed' "$log" | tail -1 | cut -d' ' -f1)
    [ "$ok" -eq 0 ] && ok=${py:-0}
    [ "$ok" -eq 0 ] && [ "$2" -eq 0 ] && ok=1
    [ "$bad" -eq 0 ] && [ "$2" -ne 0 ] && bad=1
    passed=$((passed + ok))
    [ "$2" -ne 0 ] && failed=$((failed + bad))
}

timed() { # name, command...: runs it; its log, exit code and seconds lie in $logs
    local name=$1 start=$SECONDS rc=0
    shift
    "$@" >"$logs/$name.log" 2>&1 || rc=$?
    echo "$rc $((SECONDS - start))" >"$logs/$name.rc"
}
export -f timed
export logs

# What failed and where, before whatever the failure left behind (a failed assertion leaks its fixture).
causes='^\[  ERROR   \]|^\[   LINE   \]|^\[  FAILED  \] |^FAILED |^FAIL|^E   |ERROR: |SUMMARY: '
causes+='|WARNING: ThreadSanitizer|runtime error: |:[0-9]+: (fatal )?error: |undefined reference|^[A-Za-z]*Error: '

show_causes() { # log, number of lines
    grep -nE "$causes" "$1" | head -n "$2" | cut -c 1-300 | sed 's/^/        > /'
}

forgivable() { # name, exit code
    [ -z "$flaky_step" ] && [ "$2" -lt 124 ] && [[ $1 != *build* ]] &&
        ! grep -qE 'Sanitizer|runtime error: |stack smashing|corrupted|exception: |\bBUG\b' "$logs/$1.log"
}

report() { # name, command...: what timed() left of it
    local name=$1 rc seconds
    read -r rc seconds <"$logs/$name.rc"
    if [ "$rc" -ne 0 ] && forgivable "$name" "$rc"; then
        flaky_step=$name
        mv "$logs/$name.log" "$logs/$name.first.log"
        printf 'FLAKY?  %-28s %3d s   (%s), once more\n' "$name" "$seconds" "$logs/$name.first.log"
        show_causes "$logs/$name.first.log" 20
        timed "$@"
        read -r rc seconds <"$logs/$name.rc"
    fi
    count "$name" "$rc"
    if [ "$rc" -eq 0 ]; then
        printf 'ok      %-28s %3d s\n' "$name" "$seconds"
    else
        printf 'FAILED  %-28s %3d s   (%s)\n' "$name" "$seconds" "$logs/$name.log"
        failed_steps+=("$name")
        [ "$rc" -eq 124 ] && echo "        > it hung: its time was over"
        show_causes "$logs/$name.log" 20
        tail -n 25 "$logs/$name.log" | cut -c 1-300 | sed 's/^/        | /'
    fi
    return "$rc"
}

step() { # name, command...
    timed "$@"
    report "$@"
}

# Most test programs wait more than they compute: two run at a time. Reported in their order.
steps_of() { # label, binary...
    local label=$1 binary
    shift
    printf '%s\n' "$@" |
        xargs -P 2 -I{} bash -c "timed $label-\$(basename {}) timeout $T_STEP {}"
    for binary in "$@"; do
        report "$label-$(basename "$binary")" timeout "$T_STEP" "$binary"
    done
}

run_unit() { # label, make arguments...: builds, then every test binary is a step
    local label=$1 dir
    shift
    dir=$(make -s "$@" print-build)
    step "$label-build" make -s -j2 "$@" unit-build || return 1
    # shellcheck disable=SC2046 # names without blanks
    steps_of "$label" $(make -s "$@" print-unit | xargs -n 1 basename | sed "s|^|$dir/unit/|")
}

run_gpu() { # label, make arguments...
    local label=$1
    shift
    step "$label-build" make -s -j2 "$@" gpu-test-build || return 1
    # shellcheck disable=SC2046
    steps_of "$label" $(make -s "$@" print-gpu-test)
}

run_tsan() {
    local name sources=""
    for name in "${threaded[@]}"; do
        [ -f "tests/unit/test_$name.c" ] && sources="$sources tests/unit/test_$name.c"
    done
    export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp halt_on_error=1"
    run_unit tsan SANITIZE=thread UNIT_SRC="$sources"
}

run_fuzz() {
    step fuzz-build make -s -j2 fuzz-build || return 1
    step fuzz tests/fuzz/run.sh --repeatable "$T"
}

steps=("$@")
[ ${#steps[@]} -eq 0 ] && steps=(unit api drills asan gpu tsan fuzz)
for s in "${steps[@]}"; do
    case "$s" in
    unit) run_unit unit ;;
    asan)
        # shellcheck disable=SC2046 # arguments of make
        run_unit asan $(make -s print-asan)
        ;;
    gpu)
        run_gpu gpu
        step gpu-device tests/gpu/run.sh --stand-in numerics
        # shellcheck disable=SC2046
        run_gpu gpu-asan $(make -s print-asan) \
            GPU_TEST_SRC="$(echo tests/gpu/test_stand_in*.cc tests/gpu/test_gpu_*.c tests/gpu/test_nvml.c)"
        step gpu-serve-build make -s -j2 gpu-serve-build &&
            LLMD=build/stand-in/llmd LD_LIBRARY_PATH=build/gpu-test PYTHONPATH=tests/api:tests/gpu \
                step gpu-serve build/venv/bin/python -m pytest -q -p no:cacheprovider \
                tests/gpu/serve_gpu.py tests/gpu/test_report.py -k 'not on_the_stand_in'
        ;;
    tsan) run_tsan ;;
    fuzz) run_fuzz ;;
    drills)
        step drills timeout 600 tests/drills/run.sh 60 2 25 10 1
        step drills-edge timeout 600 tests/drills/edge.sh --short
        ;;
    api) step api-build make -s -j2 all && step api-build-faults make -s -j2 FAULTS=1 all && step api tests/api/run.sh ;;
    *)
        echo "run.sh: unknown step '$s'" >&2
        exit 2
        ;;
    esac
done

[ -n "$flaky_step" ] && [[ " ${failed_steps[*]} " != *" $flaky_step "* ]] &&
    echo "FLAKY: $flaky_step failed, and passed when it was run again: see $logs/$flaky_step.first.log"
for name in "${failed_steps[@]}"; do # again: who sees only the end learns it, too
    echo "failed: $name"
    show_causes "$logs/$name.log" 4
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
