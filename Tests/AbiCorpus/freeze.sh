#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Freezes the headers as those of a released minor: copies them, writes their layout and their ABI in libabigail's XML, and
# keeps the C project that `milepost plugin new` makes as the release's test plugin. Run once, when the minor is released;
# docs/plugin-abi.md says when. A released folder is never changed again.
#
# usage: Tests/AbiCorpus/freeze.sh VERSION        for example 1.1; needs `make build` and abigail-tools
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=$here/$1
[ ! -e "$folder" ] || { echo "$folder is there already; a released ABI does not change" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$folder/include/milepost" "$folder/plugin"
cp "$root"/include/milepost/{types,plugin,layout}.h "$folder/include/milepost/"
"$root/Tests/Contract/abi_layout.py" "$folder/include" > "$folder/layout.json"
"$here/surface.sh" "$folder/include" "$work/libmilepost-surface.so"
abidw --no-show-locs --no-comp-dir-path --no-corpus-path --no-write-default-sizes --out-file "$folder/surface.abi" \
    "$work/libmilepost-surface.so"

"$root/.build/dist/milepost" plugin new corpus --language c --folder "$work/project" >/dev/null
for file in plugin.c json.h; do
    { echo "/* SPDX-License-Identifier: Apache-2.0 */"; cat "$work/project/src/$file"; } > "$folder/plugin/$file"
done
cp "$work/project"/{export.map,corpus.json,corpus.vendor.json} "$folder/plugin/"
echo "frozen: $folder"
