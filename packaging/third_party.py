#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""debian/copyright from what is linked in: packaging/third_party.py Package.resolved CHECKOUTS > debian/copyright

Fails on a dependency whose licence it does not know, so that a new one is looked at by a person.
"""
from __future__ import annotations

import json
import pathlib
import re
import sys

APACHE = "Apache-2.0"
HEAD = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: milepost

Files: *
Copyright: 2026 the Milepost authors
License: Apache-2.0
Comment: The programs are linked statically with the Swift runtime and Foundation, copyright Apple Inc. and the Swift project
 authors, Apache-2.0 with Runtime Library Exception, whose internationalisation data come from ICU (Unicode-3.0), and with the
 packages below.
"""
TAIL = """
License: Apache-2.0
 On Debian systems the text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.
"""


def licence(folder: pathlib.Path) -> tuple[str, str, str]:
    """Name, holder, and the text of a licence that Debian does not carry."""
    texts = [path for path in sorted(folder.iterdir()) if path.name.upper().split(".")[0] in ("LICENSE", "LICENCE", "COPYING")]
    if not texts:
        sys.exit(f"{folder.name} has no licence file: look at it, and do not ship it before")
    text = texts[0].read_text(encoding="utf-8")
    holder = re.search(r"^\s*Copyright \(c\) (.+)$", text, re.MULTILINE | re.IGNORECASE)
    if "Apache License" in text and "Version 2.0" in text:
        return APACHE, f"the {folder.name} project authors", ""
    if "Permission is hereby granted, free of charge" in text and "AS IS" in text and holder:
        return "Expat", holder.group(1).strip(), text[text.index("Permission is hereby"):]
    sys.exit(f"{folder.name}: {texts[0].name} is no licence that this script knows: look at it and teach the script")


def main(resolved: pathlib.Path, checkouts: pathlib.Path) -> None:
    if not resolved.exists():
        sys.exit(f"{resolved} is missing: resolve the dependencies first (swift package resolve)")
    # Not the folders that lie there: one that nothing depends on any more may be among them.
    pins = json.loads(resolved.read_text(encoding="utf-8"))["pins"]
    names = [pin["location"].rstrip("/").rsplit("/", 1)[-1].removesuffix(".git") for pin in pins]
    folders = sorted((checkouts / name for name in names), key=lambda path: path.name.lower())
    out, expat = HEAD, ""
    for folder in folders:
        name, holder, text = licence(folder)
        out += f"\nFiles: {folder.name}/*\nCopyright: {holder}\nLicense: {name}\n"
        expat = expat or text
    if expat:
        lines = [(" " + line.strip()) if line.strip() else " ." for line in expat.strip().splitlines()]
        out += "\nLicense: Expat\n" + "\n".join(lines) + "\n"
    print(out + TAIL, end="")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: packaging/third_party.py Package.resolved CHECKOUTS")
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
