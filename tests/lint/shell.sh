#!/bin/sh
# shell.sh - shellcheck over all shell scripts.
cd "$(dirname "$0")/../.." || exit 2
git ls-files -co --exclude-standard '*.sh' .ci/run | xargs shellcheck
