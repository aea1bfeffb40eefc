#!/usr/bin/env bash
# deps.sh - installs the Debian packages that building and testing llmd needs.
#
#   packaging/deps.sh build        compiler and libraries
#   packaging/deps.sh test         what `make test` needs besides
#   packaging/deps.sh lint         what `make lint` needs besides
#   packaging/deps.sh drill        what `make drills` needs besides: writes that fail on demand
#   packaging/deps.sh peer         what the edge is held against and put behind: nginx, HAProxy, wrk; strace
#                                  (where systemd runs, nginx and HAProxy are started by their packages)
#   packaging/deps.sh package      what makes packages
#   packaging/deps.sh package-test what checks them, and boots systemd to try them
#
# Says what is missing before it installs it; does nothing when all is there. Needs root or sudo.
set -euo pipefail

build=(gcc make libc6-dev libmicrohttpd-dev libconfuse-dev libjansson-dev libutf8proc-dev
    libxxhash-dev libsqlite3-dev libssl-dev libcurl4-openssl-dev ca-certificates
    python3 python3-pip python3-venv)
test=(g++ libcmocka-dev clang libclang-rt-14-dev procps)
drill=(fiu-utils)
peer=(nginx-light haproxy wrk strace openssl)
package=(dpkg-dev rpm patchelf)
package_test=(lintian rpmlint debootstrap systemd-container groff man-db curl)
lint=(clang-format clang-tidy clang git shellcheck)

wanted=()
for set_name in "${@:-build}"; do
    case "$set_name" in
    build) wanted+=("${build[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    lint) wanted+=("${lint[@]}") ;;
    drill) wanted+=("${drill[@]}") ;;
    peer) wanted+=("${peer[@]}") ;;
    package) wanted+=("${package[@]}") ;;
    package-test) wanted+=("${package_test[@]}") ;;
    *)
        echo "deps.sh: unknown set '$set_name' (build, test, lint, drill, peer, package, package-test)" >&2
        exit 2
        ;;
    esac
done

missing=()
for package in "${wanted[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    # A python3 or compiler that did not come from a package serves as well.
    case "$package" in
    python3-pip) python3 -m pip --version >/dev/null 2>&1 && state=installed ;;
    python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null && state=installed ;;
    esac
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "deps.sh: installing ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps.sh: not root and no sudo; run as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || {
    echo "deps.sh: apt-get failed; install by hand: ${missing[*]}" >&2
    exit 1
}
