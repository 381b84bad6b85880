#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds a plugin of a released minor against that release's own headers, as its author did then.
#
# usage: Tests/AbiCorpus/build.sh VERSION OUT_FOLDER [INCLUDE_FOLDER]
#
# The third argument is for tests that break the headers on purpose.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
version=$1 out=$2 include=${3:-$here/$1/include}
source=$here/$version/plugin
mkdir -p "$out"
{ echo 'static const unsigned char manifest[] = {'; od -An -v -tu1 "$source/corpus.json" | sed 's/[0-9][0-9]*/&,/g'; echo '};'; } \
    > "$out/manifest.h"
"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -fvisibility=hidden -shared "-I$include" "-I$out" "-I$source" \
    -Wl,-z,relro,-z,now,-z,defs,-z,noexecstack "-Wl,--version-script=$source/export.map" -o "$out/corpus.so" "$source/plugin.c"
install -m 0644 "$source/corpus.json" "$source/corpus.vendor.json" "$out/"
chmod 0755 "$out/corpus.so"
