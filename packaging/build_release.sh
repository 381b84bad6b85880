#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Release binaries and plugins of this tree, with no path of the machine in them: packaging/build_release.sh DIST
# Called in the exported tree by debian/rules; needs the dependencies' checkouts in .build and no network.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 DIST" >&2; exit 64; }
cd "$(dirname "$0")/.."
root=$(pwd)
swift --version 2>/dev/null | grep -q 'Swift version 6\.' || { echo "Swift 6.3 is needed: https://www.swift.org/install/linux" >&2; exit 1; }
export CLANG_MODULE_CACHE_PATH="$root/.build/module-cache"
# Hashes of the path would stay: in the name of the folder of compiled C modules, which debug information points to, and in a
# section for skipping unchanged objects.
mapped="-Xswiftc -file-prefix-map -Xswiftc $root=/usr/src/milepost -Xcc -ffile-prefix-map=$root=/usr/src/milepost"
for flag in -no-clang-module-breadcrumbs -disable-incremental-llvm-codegen; do
    mapped="$mapped -Xswiftc -Xfrontend -Xswiftc $flag"
done
# shellcheck disable=SC2086 # words, on purpose
swift build -c release --disable-automatic-resolution --disable-local-rpath $mapped
# shellcheck disable=SC2086
bin=$(swift build -c release --disable-automatic-resolution $mapped --show-bin-path)
mkdir -p "$1/plugins"
for name in milepostd milepost milepost-sandbox milepost-plugin-worker milepost-plugin-check; do
    install -m 0755 "$bin/$name" "$1/$name"
done
for name in pipedrive hubspot custom-hook; do
    PLUGIN_FLAGS=$mapped PLUGIN_UNSTRIPPED=$1/unstripped Plugins/build.sh "$name" "$1/plugins"
done
