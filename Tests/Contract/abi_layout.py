#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The layout of the public headers as data: every struct with the place, size and declaration of its fields, every constant.

usage: abi_layout.py INCLUDE_FOLDER > layout.json

Places and sizes come from the compiler, names and declarations from the text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HEADERS = ("types.h", "plugin.h")


def code(include: Path) -> str:
    """Both headers without comments."""
    text = "\n".join((include / "milepost" / name).read_text() for name in HEADERS)
    return re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.S))


def structs(include: Path) -> dict[str, list[tuple[str, str]]]:
    """Struct name to (field, declaration) in their order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for match in re.finditer(r"typedef struct (\w+) \{(.*?)\n\} \1;", code(include), re.S):
        fields = []
        for part in match.group(2).split(";"):
            declaration = " ".join(part.split())
            if declaration:
                pointer = re.search(r"\(\*(\w+)\)", declaration)
                fields.append((pointer.group(1) if pointer else re.search(r"(\w+)$", declaration).group(1), declaration))
        found[match.group(1)] = fields
    return found


def constants(include: Path) -> dict[str, str]:
    return dict(re.findall(r'^#define (MP_\w+) +(\d+u?|"[^"]*")\s*$', code(include), re.M))


def layout(include: Path, compiler: str = "cc") -> dict[str, Any]:
    """
    - Raises: CalledProcessError when the headers do not compile.
    """
    shape = structs(include)
    lines = ["#include <milepost/plugin.h>", "#include <stddef.h>", "#include <stdio.h>", "int main(void) {"]
    for name, fields in shape.items():
        lines.append(f'printf("{name} - %zu %zu\\n", sizeof({name}), _Alignof({name}));')
        lines += [
            f'printf("{name} {field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));' for field, _ in fields]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "layout"
        subprocess.run(
            [compiler, "-x", "c", "-std=c11", f"-I{include}", "-o", program, "-"], input="\n".join([*lines, "return 0; }"]),
            text=True, check=True, capture_output=True, timeout=60)
        printed = subprocess.run([program], text=True, check=True, capture_output=True, timeout=60).stdout
    result: dict[str, Any] = {name: {"fields": []} for name in shape}
    for line in printed.splitlines():
        name, field, first, second = line.split()
        if field == "-":
            result[name] |= {"size": int(first), "alignment": int(second)}
        else:
            declaration = dict(shape[name])[field]
            result[name]["fields"].append({"name": field, "offset": int(first), "size": int(second), "declaration": declaration})
    return {"constants": constants(include), "structs": result}


# Say which release this is, and grow.
COUNTERS = {"MP_ABI_MINOR", "MP_SCHEMA_REVISION"}


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Every way in which the new layout breaks who was compiled with the old one: sentences, none when it does not. Appending
    fields and adding structs and constants is no break."""
    found = []
    for name, value in old["constants"].items():
        now = new["constants"].get(name)
        if now != value and not (name in COUNTERS and now and int(now.rstrip("u")) >= int(value.rstrip("u"))):
            found.append(f"{name} was {value} and is {now}")
    for name, before in old["structs"].items():
        after = new["structs"].get(name)
        if after is None:
            found.append(f"{name} is gone")
            continue
        if after["alignment"] != before["alignment"] or after["size"] < before["size"]:
            found.append(f"{name} has size {after['size']}, alignment {after['alignment']}")
        for place, field in enumerate(before["fields"]):
            other = after["fields"][place] if place < len(after["fields"]) else None
            if other != field:
                found.append(f"{name}.{field['name']}: was {field}, is {other}")
        if not before["fields"][0]["name"] == "struct_size" and after["size"] != before["size"]:
            found.append(f"{name} has no struct_size, so it may not grow")
    return found


if __name__ == "__main__":
    json.dump(layout(Path(sys.argv[1])), sys.stdout, indent=1)
    print()
