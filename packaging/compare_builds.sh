#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the packages twice, at two paths, in two time zones and with two umasks, and compares every byte:
# packaging/compare_builds.sh [--prebuilt DIST] [--keep]
# Shows what differs where diffoscope is installed. Without --prebuilt it compiles everything twice: a quarter of an hour on two cores.
# --keep leaves the packages of the first build in .build/deb/compare/one.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$root/.build/deb/compare
keep=""
[ "${1:-}" != --keep ] || { keep=yes && shift; }
rm -rf "$work"
for run in one two-at-a-longer-path; do
    began=$(date +%s)
    case $run in
    one) zone=UTC mask=022 ;;
    *) zone=Pacific/Kiritimati mask=027 ;;
    esac
    (umask $mask && TZ=$zone MILEPOST_DEB_WORK=$work/$run-tree "$root/packaging/make_deb.sh" "$@" "$work/$run" >/dev/null)
    # Compiled means in that very tree.
    [ "${1:-}" = --prebuilt ] || [ -x "$work/$run-tree/source/milepost/.build/dist/milepostd" ] ||
        { echo "nothing was compiled for $run" >&2 && exit 1; }
    echo "built      $run in $(($(date +%s) - began)) s"
    rm -rf "$work/$run-tree"
done
status=0
for first in "$work"/one/*.deb; do
    second=$work/two-at-a-longer-path/$(basename "$first")
    if cmp -s "$first" "$second"; then
        echo "same       $(sha256sum "$first" | cut -c1-16)  $(basename "$first")"
    else
        echo "DIFFERENT  $(basename "$first")"
        status=1
        command -v diffoscope >/dev/null && diffoscope --max-report-size 20000 "$first" "$second" | head -n 60 || true
    fi
done
[ -n "$keep" ] || [ $status -ne 0 ] || rm -rf "$work"
exit $status
