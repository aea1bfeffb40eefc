#!/bin/sh
# web.sh - the status page fits into 80 KiB, asks nobody else for anything, and keeps to its
# Content-Security-Policy: no script or style stands in the markup.
set -u
cd "$(dirname "$0")/../.." || exit 2
max=81920
bad=0
total=0
for file in web/*.html web/*.css web/*.js web/*.svg; do
    [ -f "$file" ] || continue
    total=$((total + $(gzip -9 -n -c "$file" | wc -c)))
done
[ "$total" -le $max ] || {
    echo "web/: the page takes $total bytes gzipped, more than $max"
    bad=1
}
if grep -nHE '(src|href|url\(|import|fetch\(|EventSource\()[^;]*["(]?(https?:)?//[a-z]' web/*.html web/*.css web/*.js |
    grep -v 'http://www.w3.org/'; then
    echo "web/: the page must not ask anybody else for anything"
    bad=1
fi
if grep -nHE '<style|<script[^>]*>[^<]|<[^>]* (style|on[a-z]+)=' web/*.html; then
    echo "web/: scripts and styles stand in files of their own"
    bad=1
fi
exit $bad
