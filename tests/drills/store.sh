#!/usr/bin/env bash
# store.sh [ROUNDS] - the request log is killed 200 times, loses its disk, its directory, its file. Files
# must stay intact, acknowledged rows stay, and each row be written or counted as lost.
# The last line: "N passed, N failed". Needs root for the tmpfs; what cannot be tried counts as failed.
set -u
cd "$(dirname "$0")/../.." || exit 2
packaging/deps.sh build test drill >&2 && make -s -j2 build/drills/drill_store >&2 || exit 2
drill=build/drills/drill_store
work=$(mktemp -d /tmp/llmd-store-drill-XXXXXX)
disk=$work/disk
passed=0
failed=0
cleanup() {
    mountpoint -q "$disk" && umount "$disk"
    rm -rf "$work"
}
trap cleanup EXIT

verdict() { # what, exit code, details
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok      $1: $3"
    else
        failed=$((failed + 1))
        echo "FAILED  $1: $3"
    fi
}

field() { # name, line of drill_store feed
    echo "$2" | sed -n "s/.* $1 \([0-9]*\).*/\1/p"
}

# Feeds rows into a directory; what it says of them must hold.
feed() { # name, directory, rows, least rows lost, pattern of why, command in front...
    local name=$1 dir=$2 rows=$3 lost=$4 why=$5 said held
    shift 5
    said=$("$@" "$drill" feed "$dir" "$rows" 2>"$work/stderr")
    verdict "$name: each row is written or counted" $? "$said"
    [ "$(field dropped "$said")" -ge "$lost" ] && echo "$said" | grep -Eq "$why"
    verdict "$name: what was lost, and why" $? "at least $lost lost"
    [ "$(field slowest_us "$said")" -lt 50000 ]
    verdict "$name: nobody waited for it" $? "$(field slowest_us "$said") us at most"
    mountpoint -q "$disk" && mount -o remount,rw "$disk"
    if [ -d "$dir" ]; then
        held=$("$drill" check "$dir")
        [ "$held" -ge "$(field written "$said")" ]
        verdict "$name: intact, acknowledged rows are there" $? "$held rows"
    fi
}

small_disk() { # size
    mkdir -p "$disk" && mount -t tmpfs -o "size=$1" tmpfs "$disk"
}

out=$("$drill" kill "$work/kill" "${1:-200}")
verdict "killed" $? "$(echo "$out" | tail -n 1)"

if small_disk 1m; then
    feed "full disk" "$disk/log" 20000 1 'full|No space' env
    umount "$disk"
    small_disk 8m
    mount -o remount,ro "$disk"
    feed "read-only directory" "$disk/log" 300 300 'Read-only' env
    umount "$disk"
    small_disk 2m
    head -c 2m /dev/zero >"$disk/ballast" 2>/dev/null
    (sleep 2 && rm "$disk/ballast") &
    feed "room again after two seconds" "$disk/log" 1000 0 'degraded ""' env
    umount "$disk"
else
    verdict "full disk, read-only directory" 1 "no tmpfs can be mounted here"
fi
feed "file size limit" "$work/limit" 20000 1 'full|disk I/O' prlimit --fsize=400000

"$drill" feed "$work/damaged" 500 >"$work/stderr" 2>&1
for f in "$work"/damaged/requests-*.db; do
    dd if=/dev/urandom of="$f" bs=512 count=4 conv=notrunc status=none
done
feed "damaged file" "$work/damaged" 500 0 'degraded ""' env
[ -n "$(find "$work/damaged" -name '*.corrupt-1')" ]
verdict "damaged file: set aside" $? "$(find "$work/damaged" -name '*.corrupt-1' -printf '%f')"

if command -v fiu-run >/dev/null; then
    feed "failing writes (EIO)" "$work/eio" 2000 0 'written' fiu-run -x \
        -c 'enable_random name=posix/io/rw/pwrite,probability=0.02,failinfo=5' \
        -c 'enable_random name=posix/io/sync/fdatasync,probability=0.02,failinfo=5'
else
    verdict "failing writes (EIO)" 1 "fiu-run is missing: apt-get install fiu-utils"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
