# shellcheck shell=bash
# fetch.sh - what the fetch-*.sh scripts share; they source it. Each brings say() for its messages and
# by_hand(), which tells how to do without a network and ends the script.

sha256() {
    sha256sum -- "$1" | cut -d' ' -f1
}

# Makes the folder and sets `work` to a new one inside it, which goes with the script.
begin_work() { # folder
    if ! mkdir -p -- "$1" || ! work=$(mktemp -d "$1/.fetch.XXXXXX"); then
        say "cannot write to $1"
        exit 1
    fi
    trap 'rm -rf -- "$work"' EXIT
    # What runs that were killed have left behind.
    find "$1" -maxdepth 1 -name '.fetch.*' -mmin +60 -exec rm -rf {} + || true
    trap 'exit 130' INT TERM HUP
}

# Downloads the package into the work folder.
pip_download() { # package version size
    if ! command -v python3 >/dev/null; then
        say "python3 is missing: packaging/deps.sh installs it"
        by_hand
    fi
    if ! python3 -m pip --version >/dev/null 2>&1; then
        say "python3 has no pip: packaging/deps.sh installs it (package python3-pip)"
        by_hand
    fi
    say "fetching $1 $2 ($3) from the Python package index"
    # pip may refuse to work outside of a virtual environment; a download touches none.
    if ! PIP_REQUIRE_VIRTUALENV=false python3 -m pip download --disable-pip-version-check -q \
        --no-deps --only-binary=:all: --retries 2 --dest "$work" "$1==$2" >&2; then
        say "the download failed"
        by_hand
    fi
}

# Ends the script unless the file has that digest.
check_package() { # file sha256
    local got
    if [ ! -r "$1" ]; then
        say "$1: cannot be read"
        exit 1
    fi
    got=$(sha256 "$1")
    if [ "$got" != "$2" ]; then
        say "$1 is not the package that was expected:"
        say "SHA-256 is $got, expected $2"
        exit 1
    fi
}
