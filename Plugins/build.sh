#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds one plugin: Plugins/build.sh NAME OUTDIR. Leaves OUTDIR/NAME.so (stripped) and OUTDIR/NAME.json.
# PLUGIN_SCRATCH names the folder for intermediate files, PLUGIN_FLAGS holds more words for the compiler, PLUGIN_UNSTRIPPED
# names a folder for a copy with its symbols (packages make debug symbols of it).
set -eu
[ $# -eq 2 ] || { echo "usage: $0 NAME OUTDIR" >&2; exit 64; }
name=$1
here=$(cd "$(dirname "$0")" && pwd)
package=$here/$name
scratch=${PLUGIN_SCRATCH:-$here/../.build/plugins/$name}
mkdir -p "$2" "$scratch"
out=$(cd "$2" && pwd)
cd "$package"
# Without a name of its own the object would carry the path at which it was linked.
# shellcheck disable=SC2086 # words, on purpose
swift build -c release --product "$name" -Xlinker "-soname=$name.so" --disable-local-rpath --scratch-path "$scratch" ${PLUGIN_FLAGS:-}
# shellcheck disable=SC2086
library=$(swift build -c release --product "$name" --scratch-path "$scratch" ${PLUGIN_FLAGS:-} --show-bin-path)/lib$name.so
# Symbols go, the runtime's metadata sections stay: strip leaves every allocated section alone. Written beside and
# renamed, so that a daemon that has the old file mapped keeps it.
strip --strip-unneeded -o "$out/.$name.so.new" "$library"
chmod 755 "$out/.$name.so.new"
mv -f "$out/.$name.so.new" "$out/$name.so"
install -m 644 "$package/$name.json" "$out/$name.json"
if [ -n "${PLUGIN_UNSTRIPPED:-}" ]; then install -D -m 644 "$library" "$PLUGIN_UNSTRIPPED/$name.so"; fi
