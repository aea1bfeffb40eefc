# build.sh - the rpm, from the tree that packaging/build.sh has filled. Sourced by it.
#
# Of the targets (RHEL 9 and its kin, Amazon Linux 2023) it takes glibc, OpenSSL 3 and zlib. What else the program is
# linked with comes along, in a folder of its own: /usr/lib/llmd.
# shellcheck shell=bash disable=SC2154

theirs='^(linux-vdso|ld-linux-x86-64|libgcc_s|libc|libm|libdl|librt|libpthread|libresolv|libssl|libcrypto|libz)\.so'

bundle_libraries() {
    local name path package
    ldd "$root/usr/bin/llmd" | awk '$2 == "=>" && $3 ~ "^/" { print $1, $3 }' | sort |
        while read -r name path; do
            [[ $name =~ $theirs ]] && continue
            put 755 "$(realpath "$path")" "usr/lib/llmd/$name"
            patchelf --set-rpath /usr/lib/llmd "$root/usr/lib/llmd/$name"
            package=$(dpkg -S "*/$(basename "$(realpath "$path")")" | head -n 1 | cut -d : -f 1)
            put 644 "/usr/share/doc/$package/copyright" "usr/share/doc/llmd/third-party/$package"
        done
    patchelf --set-rpath /usr/lib/llmd "$root/usr/bin/llmd"
}

# What they ask of the C library is more than the program itself does, where they were built later.
say_glibc() {
    local file newest
    for file in "$root"/usr/lib/llmd/*; do
        newest=$(objdump -T "$file" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
        printf '%s\nGLIBC_2.34\n' "$newest" | sort -CV || echo "build.sh: $(basename "$file") needs $newest"
    done
}

rm -f "$root/usr/share/lintian/overrides/llmd" # of the other package
bundle_libraries
say_glibc
settle
work=$build/rpm
rm -rf "$work" && mkdir -p "$work"
sed -e "s/@VERSION@/$version/" packaging/rpm/llmd.spec.in >"$work/llmd.spec"
rpmbuild -bb --quiet --target x86_64 --buildroot "$PWD/$work/buildroot" \
    --define "_topdir $PWD/$work" --define "_rpmdir $PWD/$work/out" --define "given $PWD/$root" \
    --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
    --define 'clamp_mtime_to_source_date_epoch 1' --define '_build_id_links none' \
    --define '_binary_payload w9.xzdio' "$work/llmd.spec"
cp "$work/out/x86_64/llmd-$version-1.x86_64.rpm" "$out/"
echo "$out/llmd-$version-1.x86_64.rpm"
