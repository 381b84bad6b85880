#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The surface library of a set of headers, with debug information.
#
# usage: Tests/AbiCorpus/surface.sh INCLUDE_FOLDER OUT.so
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
"${CC:-cc}" "-ffile-prefix-map=$here=." -std=c11 -g -O0 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden "-I$1" -Wl,-soname,libmilepost-surface.so \
    -o "$2" "$here/surface.c"
