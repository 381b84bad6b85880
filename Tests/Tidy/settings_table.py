# SPDX-License-Identifier: Apache-2.0
"""Puts the table of settings into docs/admin.md, from what `milepost config reference` prints.

    python3 Tests/Tidy/settings_table.py        needs a built milepost (MILEPOST_DIST, default .build/dist)
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "admin.md"
DIST = Path(os.environ.get("MILEPOST_DIST") or ROOT / ".build" / "dist")
START, END = "<!-- settings: made by Tests/Tidy/settings_table.py -->", "<!-- end of settings -->"
NAMED = {"trial": "plans.NAME", "pipedrive": "plugins.NAME"}


def rows(reference: str) -> list[str]:
    """One row a key: the comment above a key is its meaning; keys of plans and plugins stand commented out."""
    found, section, meaning, named = [], "", "", ""
    for line in reference.splitlines():
        if example := re.match(r"#   (\w+):$", line):
            named, meaning = NAMED[example.group(1)], ""
            continue
        bare = line.removeprefix("#     ") if named and line.startswith("#     ") else line
        if comment := re.match(r"\s*# (.+)$", bare):
            meaning = comment.group(1)
        elif header := re.match(r"([a-z_]+):$", bare):
            section = header.group(1)
        elif key := re.match(r"(\s*)([a-z_0-9]+): (.+)$", bare):
            indent, name, default = key.groups()
            if name in ("plans", "plugins"):
                named, meaning = "", ""
                continue
            path = f"{named}.{name}" if named else f"{section}.{name}" if indent else name
            found.append(row(path, default, meaning))
            meaning = ""
    return found


def row(path: str, default: str, meaning: str) -> str:
    is_hot = meaning.endswith("(reload)")
    meaning = meaning.removesuffix("(reload)").strip().replace("|", "\\|").replace("<", "&lt;")
    return f"| `{path}` | `{default}` | {meaning} | {'yes' if is_hot else ''} |"


def main() -> None:
    printed = subprocess.run([str(DIST / "milepost"), "config", "reference"], capture_output=True, text=True, check=True, timeout=30)
    table = "\n".join([START, "| key | default | meaning | reload |", "| --- | --- | --- | --- |", *rows(printed.stdout), END])
    page = PAGE.read_text()
    PAGE.write_text(re.sub(f"{START}.*{END}", lambda _: table, page, flags=re.DOTALL))


if __name__ == "__main__":
    main()
