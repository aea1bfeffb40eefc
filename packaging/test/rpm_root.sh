#!/usr/bin/env bash
# rpm_root.sh RPM - installs it into a root of its own, looks at files and scripts, runs the program there, removes
# it. Scripts run in that root too: it gets what they call.
set -eux
rpm=$(realpath "$1")
root=$(mktemp -d "$PWD/build/roots/rpm.XXXXXX")
trap 'rm -rf "$root"' EXIT
cp -a build/roots/bookworm/. "$root/"
rm -rf "$root/var/lib/rpm"
mkdir -p "$root/var/lib/rpm"
rpm --root "$root" --initdb
cp "$rpm" "$root/root/llmd.rpm"
rpm --root "$root" --nodeps -i "$rpm"
rpm --root "$root" -q llmd
test "$(chroot "$root" stat -c '%a %U %G' /etc/llmd.conf)" = '640 root llmd'
chroot "$root" getent passwd llmd
rm -f "$root"/usr/lib/x86_64-linux-gnu/libmicrohttpd.so* "$root"/usr/lib/x86_64-linux-gnu/libcurl.so* # not its own
chroot "$root" /usr/bin/llmd version
chroot "$root" /usr/bin/llmd check --config /etc/llmd.conf
rpm --root "$root" -q --scripts llmd | grep -q 'systemctl try-restart'
rpm --root "$root" -V --nodeps --nomtime llmd
echo '# mine' >>"$root/etc/llmd.conf"
rpm --root "$root" --nodeps -U --replacepkgs "$rpm"
grep -q '# mine' "$root/etc/llmd.conf"
rpm --root "$root" --nodeps -e llmd
test ! -e "$root/usr/bin/llmd"
test ! -e "$root/usr/lib/llmd"
test -e "$root/etc/llmd.conf.rpmsave"
