#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lays what 'make build' made, and what belongs to it, as a system has it: packaging/install.sh DIST DESTDIR.
# Runs the installed programs for their manual pages and completions, so DIST must be of this machine's kind.
set -eu
[ $# -eq 2 ] || { echo "usage: $0 DIST DESTDIR" >&2; exit 64; }
root=$(cd "$(dirname "$0")/.." && pwd)
dist=$(cd "$1" && pwd)
mkdir -p "$2"
to=$(cd "$2" && pwd)

put() { # put MODE DESTINATION SOURCE…
    mode=$1 place=$2
    shift 2
    install -d -m 0755 "$to/$place"
    install -m "$mode" "$@" "$to/$place/"
}

put 0755 usr/sbin "$dist/milepostd"
put 0755 usr/bin "$dist/milepost" "$dist/milepost-sandbox"
put 0755 usr/lib/milepost "$dist/milepost-plugin-worker" "$dist/milepost-plugin-check"
for manifest in "$dist"/plugins/*.json; do
    name=$(basename "$manifest" .json)
    [ -f "$root/packaging/conf.d/$name.yaml" ] || continue
    # Objects are not executed: 0644, as dpkg's policy has it for libraries.
    object=$dist/plugins/$name.so
    # With its symbols where they were kept at the same build, for whoever splits them off (dh_strip does).
    whole=$dist/unstripped/$name.so
    if [ -n "${MILEPOST_UNSTRIPPED:-}" ] && [ -f "$whole" ] && [ ! "$whole" -ot "$object" ]; then object=$whole; fi
    put 0644 usr/lib/milepost/plugins "$object" "$manifest"
    put 0644 etc/milepost/conf.d "$root/packaging/conf.d/$name.yaml"
done
put 0644 etc/milepost "$root/packaging/milepost.yaml"
put 0644 usr/share/milepost/monitoring "$root"/packaging/monitoring/*

# For those who build plugins.
put 0644 usr/include/milepost "$root"/include/milepost/*.h
put 0644 usr/share/milepost/schemas "$root"/include/milepost/schemas/*.json
put 0644 usr/share/milepost/templates "$root"/Sources/MilepostTemplates/Templates/*
minor=$("$root/packaging/abi_minor.sh")
for file in "$root"/packaging/dev/milepost.pc "$root"/packaging/dev/milepost-config.cmake "$root"/packaging/dev/milepost-config-version.cmake; do
    place=usr/share/pkgconfig
    case $file in *.cmake) place=usr/share/cmake/milepost ;; esac
    install -d -m 0755 "$to/$place"
    sed "s/@ABI_MINOR@/$minor/" "$file" >"$to/$place/$(basename "$file")"
done
kit=usr/share/milepost/MilepostKit
mkdir -p "$to/$kit"
(cd "$root/Sources/MilepostKit" && find . -path ./.build -prune -o -type f -print) | while read -r file; do
    put 0644 "$kit/$(dirname "$file")" "$root/Sources/MilepostKit/$file"
done
# In the sources the one header lies beside the SDK; in a system it lies here.
sed -i 's|header ".*plugin.h"|header "/usr/include/milepost/plugin.h"|' "$to/$kit/Sources/CMilepostPlugin/module.modulemap"
put 0755 usr/bin "$root/packaging/dev/dh_milepost"
put 0644 usr/share/perl5/Debian/Debhelper/Sequence "$root/packaging/dev/milepost.pm"
mkdir -p "$to/usr/share/doc/milepost-dev/examples"
for language in c c++ rust swift; do
    rm -rf "$to/usr/share/doc/milepost-dev/examples/$language"
    "$dist/milepost" plugin new example-crm --language "$language" --folder "$to/usr/share/doc/milepost-dev/examples/$language" >/dev/null
    rm -f "$to/usr/share/doc/milepost-dev/examples/$language/.gitignore"
    # A new project's changelog has the moment it was made; in a package that is the package's own.
    [ -z "${SOURCE_DATE_EPOCH:-}" ] || sed -i "s/^\( -- .*>\)  .*/\1  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")/" \
        "$to/usr/share/doc/milepost-dev/examples/$language/debian/changelog"
done

# What the programs say of themselves.
python3 "$root/packaging/manual_pages.py" "$dist" "$to/usr/share/man"
install -d "$to/usr/share/bash-completion/completions" "$to/usr/share/zsh/vendor-completions" "$to/usr/share/fish/vendor_completions.d"
# Where the script has nothing to offer, as for a file's name, the shell's own completion does.
"$dist/milepost" --generate-completion-script bash | sed -e '1{/^#!/d}' -e 's/^complete -o filenames /&-o default /' >"$to/usr/share/bash-completion/completions/milepost"
"$dist/milepost" --generate-completion-script zsh >"$to/usr/share/zsh/vendor-completions/_milepost"
"$dist/milepost" --generate-completion-script fish >"$to/usr/share/fish/vendor_completions.d/milepost.fish"
pod2man --section 1 --center "User Commands" --release Milepost --date "" "$root/packaging/dev/dh_milepost" |
    gzip -n9 >"$to/usr/share/man/man1/dh_milepost.1.gz"
