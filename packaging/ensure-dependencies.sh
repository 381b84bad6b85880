#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the system libraries that building and testing need, if any is missing. Safe to repeat; quiet when nothing is.
# With the argument 'packages' what building and testing Debian packages needs as well.
set -euo pipefail

packages=(libcurl4-openssl-dev libsqlite3-dev libssl-dev libyaml-dev zlib1g-dev pkg-config python3-venv binutils abigail-tools)
if [ "${1:-}" = packages ]; then
    packages+=(debhelper lintian fakeroot mmdebstrap systemd-container)
fi
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
command -v swift >/dev/null || { echo "Swift 6.3 is not installed: see https://www.swift.org/install/linux" >&2; exit 1; }
[ ${#missing[@]} -eq 0 ] && exit 0

echo "== installing ${missing[*]}"
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null || { echo "run as root once: apt-get install ${missing[*]}" >&2; exit 1; }
fi
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
