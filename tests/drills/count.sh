# shellcheck shell=bash
# count.sh - for the scripts of this folder to source: runs drills one after the other and adds up what they say.
logs=build/drills
mkdir -p "$logs"
passed=0
failed=0

drill() { # name, command...: its last line says "N passed" and perhaps "N failed"
    local name=$1 log last p f began=$SECONDS
    log=$logs/${name// /-}.log
    shift
    "$@" >"$log" 2>&1
    local rc=$?
    last=$(tail -n 1 "$log")
    p=$(echo "$last" | grep -oE '[0-9]+ passed' | cut -d' ' -f1)
    f=$(echo "$last" | grep -oE '[0-9]+ failed' | cut -d' ' -f1)
    [ "$rc" -ne 0 ] && [ "${f:-0}" -eq 0 ] && f=1
    printf '%-24s %6s passed %4s failed %5d s\n' "$name" "${p:-0}" "${f:-0}" $((SECONDS - began))
    [ "$rc" -ne 0 ] && grep -v 'supervise:' "$log" | tail -n 40
    passed=$((passed + ${p:-0}))
    failed=$((failed + ${f:-0}))
}

drills_end() { # the last line
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}
