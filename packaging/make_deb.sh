#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the Debian packages: packaging/make_deb.sh [--prebuilt DIST] [--version VERSION] OUTDIR
#
# Without --prebuilt everything is compiled from the exported tree, at a path that is the same each time (.build/deb/source),
# because that is what makes two builds the same bytes. --prebuilt packages what 'make build' made: for work on the
# packages themselves. --version gives the packages another version, for rehearsing upgrades.
set -eu
usage() { echo "usage: $0 [--prebuilt DIST] [--version VERSION] OUTDIR" >&2; exit 64; }
root=$(cd "$(dirname "$0")/.." && pwd)
dist="" version=""
while [ $# -gt 1 ]; do
    case $1 in
    --prebuilt) dist=$(cd "$2" && pwd) && shift 2 ;;
    --version) version=$2 && shift 2 ;;
    *) usage ;;
    esac
done
[ $# -eq 1 ] || usage
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$root"
# The Makefile has one in its environment, too: from the sources means none of it.
if [ -n "$dist" ]; then export MILEPOST_DIST="$dist"; else unset MILEPOST_DIST; fi

for tool in dpkg-buildpackage dh python3 perl; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install debhelper dpkg-dev python3" >&2; exit 1; }
done

# What git knows, with its modes, and nothing that lies about. Also before a commit.
work=${MILEPOST_DEB_WORK:-$root/.build/deb}
source=$work/source/milepost
rm -rf "$work/source"
mkdir -p "$source"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create --file=- | tar -x -C "$source"
cp -r packaging/debian "$source/debian"
packaging/third_party.py Package.resolved .build/checkouts >"$source/debian/copyright"
if [ -n "$version" ]; then
    sed -i "1s/(.*)/($version)/" "$source/debian/changelog"
fi
if [ -z "$dist" ]; then
    mkdir -p "$source/.build"
    for name in checkouts repositories workspace-state.json; do
        [ ! -e ".build/$name" ] || cp -al ".build/$name" "$source/.build/" 2>/dev/null || cp -a ".build/$name" "$source/.build/"
    done
    # Where the pins were resolved to; the file is not in git, because the pins are.
    [ ! -f Package.resolved ] || cp Package.resolved "$source/"
fi
# Nothing depends on when the tree was laid out or how this user's files are made.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l "$source/debian/changelog" -S Timestamp)
export SOURCE_DATE_EPOCH
umask 022
cd "$source"
# -d: the compiler and the libraries are what built the rest; packaging/ensure-dependencies.sh has seen to them.
dpkg-buildpackage -us -uc -b -d -rfakeroot >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; exit 1; }
cd ..
for file in *.deb *.changes *.buildinfo; do mv -f "$file" "$out/"; done
ls -l "$out"
