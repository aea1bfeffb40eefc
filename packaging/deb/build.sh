# build.sh - the deb, from the tree that packaging/build.sh has filled. Sourced by it.
# shellcheck shell=bash disable=SC2154

# The packages of the libraries that the program is linked with.
depends() {
    local work=$build/shlibdeps
    mkdir -p "$work/debian"
    printf 'Source: llmd\n\nPackage: llmd\nArchitecture: any\n' >"$work/debian/control"
    (cd "$work" && dpkg-shlibdeps -O -e "../root/usr/bin/llmd" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
}

changelog() {
    printf 'llmd (%s) unstable; urgency=medium\n\n  * See the history of the project.\n\n -- %s  %s\n' \
        "$version" "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

maintainer='The llmd developers <llmd@llmd.invalid>'
make_text usr/share/doc/llmd/changelog.gz changelog
put 644 packaging/deb/lintian-overrides usr/share/lintian/overrides/llmd
mkdir -p "$root/DEBIAN"
install -m 755 packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm "$root/DEBIAN/"
echo /etc/llmd.conf >"$root/DEBIAN/conffiles"
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@MAINTAINER@/$maintainer/" \
    -e "s/@DEPENDS@/$(depends)/" \
    -e "s/@SIZE@/$(du -k -s --apparent-size --exclude=DEBIAN "$root" | cut -f 1)/" \
    packaging/deb/control.in >"$root/DEBIAN/control"
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN/control" "$root/DEBIAN/conffiles" "$root/DEBIAN/md5sums"
settle
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/llmd_${version}_$arch.deb" >/dev/null
echo "$out/llmd_${version}_$arch.deb"
