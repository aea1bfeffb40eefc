#!/usr/bin/env bash
# later.sh DEB OUT - the same package as a later version, for an upgrade.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb -R "$1" "$work/root"
sed -i 's/^Version: .*/&+later1/' "$work/root/DEBIAN/control"
printf '\n# (a later version of this file)\n' >>"$work/root/etc/llmd.conf"
chmod 640 "$work/root/etc/llmd.conf"
dpkg-deb --root-owner-group --build "$work/root" "$2"
