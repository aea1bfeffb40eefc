#!/usr/bin/env bash
# run.sh - the packages: built twice to the same bytes, checked by the distributions' own tools, installed, used,
# upgraded and purged on a real systemd. Ends with "N passed, N failed". Needs root.
#
#   CUDA=0 packaging/test/run.sh     without the CUDA backend (quick)
set -u
cd "$(dirname "$0")/../.." || exit 2
cuda=${CUDA:-0}
packaging/deps.sh build package package-test || exit 2
packaging/fetch-model.sh || exit 2
logs=build/package-test
rm -rf "$logs" && mkdir -p "$logs/given"
passed=0 failed=0
check() { # what, command...
    local what=$1
    shift
    if "$@" >"$logs/out" 2>&1; then
        echo "ok      $what"
        passed=$((passed + 1))
    else
        echo "FAILED  $what"
        sed 's/^/        | /' "$logs/out" | tail -n 25
        failed=$((failed + 1))
    fi
}
quiet_of() { # tool, package: it says nothing but that overrides were used
    "$@" >"$logs/said" 2>&1
    ! grep -E '^[EWI]: |[1-9][0-9]* (errors|warnings)' "$logs/said" || { cat "$logs/said"; false; }
}

check "make deb" packaging/build.sh deb "$cuda"
check "make rpm" packaging/build.sh rpm "$cuda"
deb=$(ls build/packages/llmd_*.deb) rpm=$(ls build/packages/llmd-*.rpm)
cp "$deb" "$rpm" "$logs/"

# Again, in another folder, from nothing.
again=$logs/again
git worktree add -q --detach "$again" 2>/dev/null || cp -a . "$again"
check "built again elsewhere" sh -c "cd $again && packaging/build.sh deb $cuda && packaging/build.sh rpm $cuda"
check "the deb is the same, bit by bit" cmp "$deb" "$again/$deb"
check "the rpm is the same, bit by bit" cmp "$rpm" "$again/$rpm"
git worktree remove --force "$again"

check "lintian finds nothing" quiet_of lintian --allow-root "$deb"
check "rpmlint finds nothing" quiet_of rpmlint -c packaging/rpm/rpmlint.toml "$rpm"

unpacked=$logs/unpacked
dpkg-deb -x "$deb" "$unpacked"
check "the program starts without a GPU or CUDA" "$unpacked/usr/bin/llmd" version
check "small libraries are in it" sh -c "! objdump -p $unpacked/usr/bin/llmd |
    grep -E 'NEEDED.*(confuse|sqlite|jansson|utf8proc|xxhash|cuda)'"
newest_glibc() { objdump -T "$1" | grep -oE 'GLIBC_[0-9.]+' | sort -V | tail -n 1; }
check "no symbol newer than GLIBC_2.34" sh -c "printf '%s\n' $(newest_glibc "$unpacked/usr/bin/llmd") GLIBC_2.34 | sort -CV"
for page in man8/llmd.8 man5/llmd.conf.5; do
    check "groff reads $page" sh -c "test -z \"\$(zcat $unpacked/usr/share/man/$page.gz | groff -man -Tutf8 -ww -z 2>&1)\""
done
check "the list of parts is SPDX" python3 packaging/test/spdx.py "$unpacked/usr/share/doc/llmd/llmd.spdx.json"
check "exposure is at most 2.0" systemd-analyze security --offline=true --threshold=20 "$unpacked/usr/lib/systemd/system/llmd.service"
check "systemd-analyze verify" packaging/test/verify.sh "$unpacked"
check "rpm --root" packaging/test/rpm_root.sh "$rpm"

cp "$deb" "$logs/given/first.deb"
check "a version later" packaging/test/later.sh "$deb" "$logs/given/second.deb"
cp packaging/test/load.py "$logs/given/"
cp models/SmolLM2-135M-Instruct.Q4_1.gguf "$logs/given/model.gguf"
python3 packaging/test/transcript.py README.md >"$logs/given/transcript.sh"
{
    packaging/test/nspawn.sh "$logs/given" packaging/test/on_systemd.sh &&
        packaging/test/nspawn.sh "$logs/given" packaging/test/as_a_newcomer.sh
} | tee "$logs/systemd"
rc=${PIPESTATUS[0]}
passed=$((passed + $(grep -c '^ok ' "$logs/systemd")))
n=$(grep -c '^FAILED ' "$logs/systemd")
[ "$rc" -ne 0 ] && [ "$n" -eq 0 ] && n=1
failed=$((failed + n))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
