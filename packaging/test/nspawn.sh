#!/usr/bin/env bash
# nspawn.sh FOLDER SCRIPT - boots Debian bookworm with systemd as process 1, with FOLDER's files in /root/given,
# runs SCRIPT there as root, prints what it printed, and exits with its code. Needs root; packaging/deps.sh
# package-test. The system is made once (build/roots) and copied for each run.
set -euo pipefail
cd "$(dirname "$0")/../.."
given=$1 script=$2
base=$PWD/build/roots/bookworm
packages=systemd,systemd-sysv,dbus,ca-certificates,curl,python3-minimal,python3,openssl,procps
packages+=,libmicrohttpd12,libcurl4,libssl3,init-system-helpers

if [ ! -e "$base/.made" ]; then
    echo "nspawn.sh: making a system (once)"
    mirror=$(awk '$1 == "deb" { for (i = 2; i < NF; i++) if ($i ~ "^http") { print $i; exit } } /^URIs:/ { print $2; exit }' \
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true)
    rm -rf "$base"
    debootstrap --variant=minbase --include=$packages bookworm "$base" "${mirror:-http://deb.debian.org/debian}" >/dev/null
    touch "$base/.made"
fi

root=$(mktemp -d "$PWD/build/roots/run.XXXXXX")
trap 'rm -rf "$root"' EXIT
cp -a "$base/." "$root/"
mkdir -p "$root/root/given"
cp -RL "$given/." "$root/root/given/"
cp "$script" "$root/root/script"
cat >"$root/etc/systemd/system/the-test.service" <<'U'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'bash /root/script >/root/log 2>&1; echo $? >/root/rc'
ExecStopPost=/usr/bin/systemctl exit 0
U
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../the-test.service "$root/etc/systemd/system/multi-user.target.wants/the-test.service"
timeout "${T_BOOT:-400}" systemd-nspawn --register=no --keep-unit -q --private-network --capability=CAP_IPC_LOCK \
    -D "$root" -b >"$root/console" 2>&1 || true
cat "$root/root/log" 2>/dev/null || cat "$root/console"
exit "$(cat "$root/root/rc" 2>/dev/null || echo 99)"
