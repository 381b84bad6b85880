#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The plugin ABI's minor version, from the header: the one place that knows it.
set -eu
header=$(dirname "$0")/../include/milepost/types.h
minor=$(sed -n 's/^#define MP_ABI_MINOR \([0-9]*\)u$/\1/p' "$header" "$(dirname "$header")/plugin.h" | head -n 1)
[ -n "$minor" ] || { echo "$header defines no MP_ABI_MINOR" >&2; exit 1; }
echo "$minor"
