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


def places(include: Path, expressions: list[str], compiler: str) -> list[int]:
    """What the expressions are on this machine: compiled and run."""
    lines = ["#include <milepost/plugin.h>", "#include <stddef.h>", "#include <stdio.h>", "int main(void) {"]
    lines += [f'printf("%zu\\n", {expression});' for expression in expressions]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "layout"
        subprocess.run(
            [compiler, "-x", "c", "-std=c11", f"-I{include}", "-o", program, "-"], input="\n".join([*lines, "return 0; }"]),
            text=True, check=True, capture_output=True, timeout=60)
        printed = subprocess.run([program], text=True, check=True, capture_output=True, timeout=60).stdout
    return [int(line) for line in printed.split()]


def places_elsewhere(include: Path, expressions: list[str], compiler: str, target: str) -> list[int]:
    """What the expressions are on another machine, which none of its programs are run for: constants in clang's own
    intermediate text. The headers need nothing but stdint.h and stddef.h, which the compiler brings."""
    source = "\n".join([
        "#include <milepost/plugin.h>", "#include <stddef.h>",
        f"const uint64_t places[{len(expressions)}] = {{ {', '.join(expressions)} }};"])
    text = subprocess.run(
        [compiler, f"--target={target}", "-ffreestanding", "-nostdlibinc", "-x", "c", "-std=c11", f"-I{include}", "-S", "-emit-llvm",
         "-o", "-", "-"], input=source, text=True, check=True, capture_output=True, timeout=60).stdout
    constants = re.search(r"^@places = .*\[(\d+) x i64\] \[(.*?)\]", text, re.M)
    return [int(number) for number in re.findall(r"i64 (\d+)", constants.group(2))]


def layout(include: Path, compiler: str = "cc", target: str | None = None) -> dict[str, Any]:
    """
    - Parameter target: another machine than this one, in clang's words; then the compiler must be clang.
    - Raises: CalledProcessError when the headers do not compile.
    """
    shape = structs(include)
    expressions = []
    for name, fields in shape.items():
        expressions += [f"sizeof({name})", f"_Alignof({name})"]
        for field, _ in fields:
            expressions += [f"offsetof({name}, {field})", f"sizeof((({name} *)0)->{field})"]
    found = places_elsewhere(include, expressions, compiler, target) if target else places(include, expressions, compiler)
    assert len(found) == len(expressions)
    numbers = iter(found)
    result: dict[str, Any] = {}
    for name, fields in shape.items():
        size, alignment = next(numbers), next(numbers)
        members = [
            {"name": field, "offset": next(numbers), "size": next(numbers), "declaration": declaration}
            for field, declaration in fields]
        result[name] = {"fields": members, "size": size, "alignment": alignment}
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
