#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Release binaries and plugins of this tree, the same bytes wherever it lies: packaging/build_release.sh DIST
# Called in the exported tree by debian/rules; needs the dependencies' checkouts in .build and no network.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 DIST" >&2; exit 64; }
mkdir -p "$1"
dist=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
tree=$(pwd)
swift --version 2>/dev/null | grep -q 'Swift version 6\.' || { echo "Swift 6.3 is needed: https://www.swift.org/install/linux" >&2; exit 1; }

# Paths can be mapped away, their lengths cannot: a check of escaping closures (swift_isEscapingClosureAtFileLocation) carries
# the length of the path that the compiler was given. So everything is compiled in a copy whose path is this long everywhere.
length=200
pad=$((length - ${#tree} - 8))
[ "$pad" -gt 0 ] || { echo "$tree: too long a path for a build that is the same everywhere; at most $((length - 9)) characters" >&2; exit 1; }
root=$tree/.build/$(printf '%*s' "$pad" '' | tr ' ' _)
rm -rf "$root"
mkdir -p "$root/.build"
tar -c --exclude=./.build --exclude=./.git --exclude=./debian . | tar -x -C "$root"
for name in checkouts repositories workspace-state.json; do
    [ ! -e ".build/$name" ] || cp -al ".build/$name" "$root/.build/" 2>/dev/null || cp -a ".build/$name" "$root/.build/"
done
cd "$root"

# Some of the compiler's choices hang on where its memory lies; a container may forbid this, and then they are left to chance.
steady=""
! setarch -R true 2>/dev/null || steady="setarch -R"

export CLANG_MODULE_CACHE_PATH="$root/.build/module-cache"
# Hashes of the path would stay: in the name of the folder of compiled C modules, which debug information points to, and in a
# section for skipping unchanged objects.
mapped="-Xswiftc -file-prefix-map -Xswiftc $root=/usr/src/milepost -Xcc -ffile-prefix-map=$root=/usr/src/milepost"
for flag in -no-clang-module-breadcrumbs -disable-incremental-llvm-codegen; do
    mapped="$mapped -Xswiftc -Xfrontend -Xswiftc $flag"
done
# shellcheck disable=SC2086 # words, on purpose
$steady swift build -c release --disable-automatic-resolution --disable-local-rpath $mapped
# shellcheck disable=SC2086
bin=$(swift build -c release --disable-automatic-resolution $mapped --show-bin-path)
mkdir -p "$dist/plugins"
for name in milepostd milepost milepost-sandbox milepost-plugin-worker milepost-plugin-check; do
    install -m 0755 "$bin/$name" "$dist/$name"
done
for name in pipedrive hubspot custom-hook; do
    PLUGIN_FLAGS=$mapped PLUGIN_UNSTRIPPED=$dist/unstripped $steady Plugins/build.sh "$name" "$dist/plugins"
done
rm -rf "$root"
