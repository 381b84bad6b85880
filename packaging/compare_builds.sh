#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the packages twice and compares every byte: packaging/compare_builds.sh [--prebuilt DIST]
# Shows what differs where diffoscope is installed. Without --prebuilt it compiles everything twice, about half an hour.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$root/.build/deb/compare
rm -rf "$work"
for run in one two; do
    "$root/packaging/make_deb.sh" "$@" "$work/$run" >/dev/null
    # From nothing the second time, too.
    rm -rf "$root/.build/deb/source"
done
status=0
for first in "$work"/one/*.deb; do
    second=$work/two/$(basename "$first")
    if cmp -s "$first" "$second"; then
        echo "same       $(sha256sum "$first" | cut -c1-16)  $(basename "$first")"
    else
        echo "DIFFERENT  $(basename "$first")"
        status=1
        command -v diffoscope >/dev/null && diffoscope --max-report-size 20000 "$first" "$second" | head -n 60 || true
    fi
done
exit $status
