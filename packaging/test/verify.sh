#!/usr/bin/env bash
# verify.sh ROOT - systemd-analyze verify of the units in an unpacked package, with its program and pages in place.
set -eu
root=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$root"/usr/lib/systemd/system/llmd.* "$work/"
sed -i "s|/usr/bin/llmd|$root/usr/bin/llmd|" "$work/llmd.service"
MANPATH="$root/usr/share/man" systemd-analyze verify "$work/llmd.service" "$work/llmd.socket" 2>&1 | tee "$work/said"
! grep -q . "$work/said"
