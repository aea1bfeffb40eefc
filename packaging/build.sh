#!/usr/bin/env bash
# build.sh - the packages: build/packages/llmd_VERSION_ARCH.deb, llmd-VERSION-1.ARCH.rpm.
#
#   packaging/build.sh deb [CUDA]      CUDA: 1 or 0; without it 1 where there is nvcc
#   packaging/build.sh rpm [CUDA]
#
# The same commit gives the same bytes: times are the commit's (or SOURCE_DATE_EPOCH), names of the builder
# are left out, files are put in in order.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:?deb or rpm}
cuda=${2:-$(command -v nvcc >/dev/null && echo 1 || echo 0)}

export LC_ALL=C TZ=UTC
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y VERSION)}
export SOURCE_DATE_EPOCH
build=build/package-cuda$cuda
out=build/packages
root=$build/root
version=$(cat VERSION)
arch=$(dpkg --print-architecture)

make -s -j2 BUILD="$build" PACKAGE=1 CUDA="$cuda" all
llmd=$build/llmd

put() { # mode, source, destination in the package
    install -D -m "$1" "$2" "$root/$3"
}

make_text() { # destination, command...: what it prints, compressed when the name ends in .gz
    local to=$root/$1
    shift
    mkdir -p "$(dirname "$to")"
    if [[ $to == *.gz ]]; then "$@" | gzip -9n >"$to"; else "$@" >"$to"; fi
    chmod 644 "$to"
}

# What both packages hold.
fill_root() {
    rm -rf "$root"
    put 755 "$llmd" usr/bin/llmd
    strip --strip-unneeded --remove-section=.comment "$root/usr/bin/llmd"
    put 640 packaging/llmd.conf etc/llmd.conf
    put 644 conf/llmd.conf usr/share/doc/llmd/examples/llmd.conf
    put 644 systemd/llmd.service usr/lib/systemd/system/llmd.service
    put 644 systemd/llmd.socket usr/lib/systemd/system/llmd.socket
    put 755 systemd/llmd-sockets usr/lib/systemd/system-generators/llmd-sockets
    put 644 systemd/llmd.sysusers usr/lib/sysusers.d/llmd.conf
    put 644 systemd/llmd.tmpfiles usr/lib/tmpfiles.d/llmd.conf
    put 644 systemd/tls-credentials.conf usr/share/doc/llmd/examples/tls-credentials.conf
    make_text usr/share/man/man8/llmd.8.gz "$llmd" man llmd
    make_text usr/share/man/man5/llmd.conf.5.gz "$llmd" man llmd.conf
    make_text usr/share/bash-completion/completions/llmd "$llmd" completion bash
    make_text usr/share/zsh/vendor-completions/_llmd "$llmd" completion zsh
    make_text usr/share/fish/vendor_completions.d/llmd.fish "$llmd" completion fish
    make_text usr/share/doc/llmd/README.md.gz cat README.md
    make_text usr/share/doc/llmd/llmd.spdx.json packaging/sbom.py "$version" "$cuda"
    put 644 packaging/copyright usr/share/doc/llmd/copyright
    local folder library
    for library in libconfuse libjansson libutf8proc libxxhash libsqlite3; do # linked statically
        put 644 "/usr/share/doc/$library-dev/copyright" "usr/share/doc/llmd/third-party/$library"
    done
    for folder in conf/*/; do # dashboards, rules, examples
        [ -d "$folder" ] && cp -R "$folder" "$root/usr/share/doc/llmd/examples/"
    done
    chmod -R u+rwX,go+rX,go-w "$root/usr"
}

# Files and folders as of the commit.
settle() {
    find "$root" -print0 | xargs -0r touch -h -d "@$SOURCE_DATE_EPOCH"
}

# The newest version of the C library that the program asks for: what it can be installed beside.
check_glibc() {
    local newest
    newest=$(objdump -T "$root/usr/bin/llmd" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
    echo "build.sh: needs $newest"
    printf '%s\nGLIBC_2.34\n' "$newest" | sort -CV || {
        echo "build.sh: that is newer than GLIBC_2.34, of RHEL 9 and Amazon Linux 2023" >&2
        [ "$kind" = deb ] # a deb is for the distribution that it was built on, and newer ones
    }
}

fill_root
check_glibc
mkdir -p "$out"
# shellcheck source=packaging/deb/build.sh
# shellcheck source=packaging/rpm/build.sh
. "packaging/$kind/build.sh"
