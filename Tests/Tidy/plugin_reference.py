# SPDX-License-Identifier: Apache-2.0
"""Makes docs/plugin-reference.md from the public headers and the schemas.

    python3 Tests/Tidy/plugin_reference.py            writes the page
    python3 Tests/Tidy/plugin_reference.py --print    prints it
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Iterator

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "include" / "milepost"
SCHEMAS = INCLUDE / "schemas"
PAGE = ROOT / "docs" / "plugin-reference.md"

HEAD = """# Reference of the plugin interface

Every verb, service, value and JSON body of version 1, for look-up; the [guide](plugin-guide.md) is the way in, and the
[policy](plugin-abi.md) says what may change. H>P: the host calls the plugin; P>H: the plugin calls the host.

This page is made by `Tests/Tidy/plugin_reference.py` from `include/milepost/*.h` and `include/milepost/schemas`; a test compares
it with them.

- [Rules](#rules) · [Verbs](#verbs) · [Services](#services) · [Values](#values) · [Constants](#constants) ·
  [Payloads](#payloads) · [Shared bodies](#shared-bodies) · [Connectors in C](#connectors-in-c)
"""

VERBS_WITH_BODIES = (
    "configure", "connect", "provision", "deprovision", "query", "options", "catalog", "deliver", "reconcile", "intercept",
    "webhook", "pull", "ping", "shutdown",
)
SHARED = ("error", "instance", "http.event")
COMMENT = re.compile(r"/\*\*(.*?)\*/", re.S)


def said(comment: str) -> str:
    """The sentences of a comment, on one line."""
    lines = (re.sub(r"^\s*\*? ?", "", line).rstrip() for line in comment.strip().splitlines())
    return re.sub(r"\s+", " ", " ".join(lines)).strip()


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


# ---------------------------------------------------------------------------------------------------------------- headers


def struct(source: str, name: str) -> str:
    """What stands between the braces of `typedef struct NAME { … } NAME;`."""
    found = re.search(rf"typedef struct {name} \{{(.*?)\n\}} {name};", source, re.S)
    assert found, f"no struct {name}"
    return found.group(1)


def about(source: str, name: str) -> str:
    """The comment above a struct."""
    before = source[:source.index(f"typedef struct {name} {{")]
    comments = list(COMMENT.finditer(before))
    last = comments[-1]
    assert not before[last.end():].strip(), f"no comment above {name}"
    return said(last.group(1))


def functions(body: str) -> Iterator[tuple[list[str], str]]:
    """The function pointers of a table in groups: declarations that stand under one comment, and that comment."""
    comment, group = "", []
    for piece in re.finditer(r"/\*\*(?P<comment>.*?)\*/|(?P<code>[^/;]*\(\*\w+\)\s*\([^;]*\);)", body, re.S):
        if piece["comment"] is not None:
            if group:
                yield group, comment
            # A comment behind a field on its line belongs to that field and to no function.
            comment, group = said(piece["comment"]), []
        else:
            group.append(re.sub(r"\s+", " ", re.sub(r"^\s*uint32_t \w+;", "", piece["code"])).strip())
    if group:
        yield group, comment


def named(declaration: str) -> str:
    return re.search(r"\(\*(\w+)\)", declaration).group(1)


def signature(declaration: str) -> str:
    return re.sub(r"\(\*(\w+)\)\s*", r"\1", declaration).replace("( ", "(")


def fields(body: str) -> Iterator[tuple[str, str, str]]:
    """Name, type and comment of each field of a value."""
    for kind, star, name, comment in re.findall(
            r"^\s*((?:const )?\w+) (\*?)(\w+);[ \t]*(?:/\*\*<(.*?)\*/)?", body, re.S | re.M):
        yield name, f"{kind} {star}".strip(), said(comment)


def sections(source: str) -> Iterator[tuple[str, str]]:
    parts = re.split(r"/\* -{4} (.*?) -+ \*/", source)
    yield from zip(parts[1::2], parts[2::2])


def constants(source: str) -> Iterator[tuple[str, str, str]]:
    """Name, value and comment, which stands behind the value or above the line."""
    for above, name, value, behind in re.findall(
            r"(?:/\*\*(?!<)((?:(?!\*/).)*)\*/\n)?#define (MP_\w+) ([\w.]+)[ \t]*(?:/\*\*<(.*?)\*/)?", source, re.S):
        yield name, value, said(behind or above)


# ---------------------------------------------------------------------------------------------------------------- schemas


def kind(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join("null" if value is None else f"`{value}`" for value in schema["enum"])
    if "oneOf" in schema or "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(one) for one in schema.get("oneOf") or schema["anyOf"]))
    types = schema.get("type", "any")
    text = " or ".join(types) if isinstance(types, list) else types
    if "minimum" in schema and "maximum" in schema:
        text += f" {schema['minimum']} to {schema['maximum']}"
    elif "minimum" in schema:
        text += f" ≥ {schema['minimum']}"
    if "format" in schema:
        text += f" ({schema['format']})"
    if "maxLength" in schema:
        text += f", at most {schema['maxLength']}"
    return text


def members(schema: dict[str, Any], root: dict[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, str, bool, str]]:
    """Path, type, whether it must be there, and description of every member, `[]` for items."""
    schema = resolved(schema, root)
    if depth > 8:
        return
    for one in schema.get("allOf", []):
        yield from members(one, root, path, depth + 1)
    for name, inner in schema.get("properties", {}).items():
        inner = resolved(inner, root)
        here = f"{path}{name}"
        yield here, kind(inner), name in schema.get("required", []), inner.get("description", "")
        yield from members(inner, root, here + ".", depth + 1)
        if isinstance(items := inner.get("items"), dict):
            items = resolved(items, root)
            if not items.get("properties") and not items.get("allOf") and items.get("type"):
                yield f"{here}[]", kind(items), False, items.get("description", "")
            yield from members(items, root, f"{here}[].", depth + 1)
    if isinstance(more := schema.get("additionalProperties"), dict) and path:
        more = resolved(more, root)
        yield f"{path}*", kind(more), False, more.get("description", "")
        yield from members(more, root, f"{path}*.", depth + 1)


def resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        reference = schema["$ref"]
        if reference.startswith("#/"):
            schema = root
            for part in reference[2:].split("/"):
                schema = schema[part]
        else:
            schema = json.loads((SCHEMAS / reference.rsplit("/", 1)[-1]).read_text())
    return schema


def body(name: str, heading: str) -> list[str]:
    """A table of a schema's members, and its first example."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    rows = [
        f"| `{path}` | {cell(type_)} | {'yes' if must else ''} | {cell(description)} |"
        for path, type_, must, description in members(schema, schema)
    ]
    source = f"[`{name}.json`](../include/milepost/schemas/{name}.json)"
    lines = [f"{heading} {source}: {schema['title'][0].lower() + schema['title'][1:]}.", ""]
    if rows:
        lines += ["| member | type | must | |", "| --- | --- | --- | --- |", *rows, ""]
    lines += ["```json", json.dumps(schema["examples"][0], ensure_ascii=False), "```", ""]
    return lines


# ------------------------------------------------------------------------------------------------------------------- page


def verbs(plugin: str) -> list[str]:
    table = struct(plugin, "mp_plugin")
    lines = ["## Verbs\n", about(plugin, "mp_plugin") + "\n"]
    for group, comment in functions(table):
        for declaration in group:
            name = named(declaration)
            lines += [f"### {name}\n", "```c", signature(declaration), "```", "", comment + "\n"]
            if name in VERBS_WITH_BODIES:
                lines += body(f"{name}.request", "Body:") + body(f"{name}.result", "Result:")
    entry = re.search(r"/\*\*((?:(?!\*/).)*)\*/\nMP_EXPORT (const mp_plugin \*milepost_plugin_v1[^;]*;)", plugin, re.S)
    lines += ["### milepost_plugin_v1\n", "```c", entry.group(2), "```", "", said(entry.group(1)) + "\n"]
    return lines


def services(plugin: str) -> list[str]:
    lines = ["## Services\n", about(plugin, "mp_host") + "\n"]
    for group, comment in functions(struct(plugin, "mp_host")):
        lines += ["### " + ", ".join(named(declaration) for declaration in group) + "\n", "```c"]
        lines += [signature(declaration) for declaration in group] + ["```", "", comment + "\n"]
    return lines


def values(plugin: str, types: str) -> list[str]:
    lines = ["## Values\n"]
    for source, name in [(types, "mp_view"), (types, "mp_pair"), (types, "mp_time"), (plugin, "mp_host_info"), (types, "mp_op"),
                         (types, "mp_http_request"), (types, "mp_event")]:
        lines += [f"### {name}\n", about(source, name) + "\n", "| field | type | |", "| --- | --- | --- |"]
        lines += [f"| `{field}` | `{type_}` | {cell(comment)} |" for field, type_, comment in fields(struct(source, name))]
        lines.append("")
    return lines


def constant_tables(types: str) -> list[str]:
    lines = ["## Constants\n"]
    for heading, part in sections(types):
        rows = list(constants(part))
        if rows:
            lines += [f"### {heading}\n", "| constant | value | |", "| --- | --- | --- |"]
            lines += [f"| `{name}` | {value} | {cell(comment)} |" for name, value, comment in rows] + [""]
    return lines


def payloads() -> list[str]:
    lines = ["## Payloads\n", "What stands in `records[].payload` of a `deliver`, by the action's trigger.\n"]
    for path in sorted(SCHEMAS.glob("payload.*.json")):
        name = path.stem
        lines += [f"### {name.removeprefix('payload.')}\n", *body(name, "Payload:")]
    return lines


def questions() -> list[str]:
    """What the hook plugin asks a service, which whoever writes the service needs."""
    lines = ["## Questions\n", "What `custom-hook` asks a service that decides ([admin](admin.md#let-a-service-decide)).\n"]
    return lines + body("hook.question", "Question:") + body("hook.answer", "Answer:")


def kit() -> list[str]:
    header = (INCLUDE / "connector.h").read_text()
    opening = said(re.search(r"^/\*(.*?)\*/", header, re.S).group(1))
    opening = opening.removeprefix("SPDX-License-Identifier: Apache-2.0 milepost/connector.h: ")
    opening = opening.split(" How a request goes on:")[0]
    lines = ["## Connectors in C\n", f"`<milepost/connector.h>` {opening}\n", "### struct mpk_connector\n"]
    lines += ["| field | |", "| --- | --- |"]
    inside = re.search(r"struct mpk_connector \{(.*?)\n\};", header, re.S).group(1)
    for comment, callback, field, behind in re.findall(
            r"(?:/\*\*(?!<)((?:(?!\*/).)*)\*/\s*)?(?:void \(\*(\w+)\)[^;]*;|[\w ]+[ *](\w+);[ \t]*(?:/\*\*<(.*?)\*/)?)", inside, re.S):
        lines.append(f"| `{callback or field}` | {cell(said(comment or behind))} |")
    lines += ["", "### Functions\n"]
    for path in ("connector.h", "json.h"):
        source = (INCLUDE / path).read_text()
        for comment, declaration in re.findall(
                r"/\*\*(?!<)((?:(?!\*/).)*)\*/\s*((?:__attribute__\(\(.*?\)\)\)? )?static inline [^{;]*?)\s*\{", source, re.S):
            plain = re.sub(r"\s+", " ", re.sub(r"__attribute__\(\(.*?\)\)\)? ", "", declaration)).removeprefix("static inline ")
            if "mpk__" not in plain:
                lines += ["```c", plain + ";", "```", "", said(comment) + "\n"]
    host = (INCLUDE / "connector_host.h").read_text()
    comment, macro = re.search(r"/\*\*((?:(?!\*/).)*)\*/\n#define (MPK_EXPORT\(\w+\))", host, re.S).groups()
    return lines + ["```c", macro, "```", "", said(comment) + "\n"]


def page() -> str:
    plugin, types = (INCLUDE / "plugin.h").read_text(), (INCLUDE / "types.h").read_text()
    rules = re.search(r"Rules that hold everywhere:\n(.*?)\n \*\n", plugin, re.S).group(1)
    joined = re.sub(r"\n \*\s{5,}", " ", rules)
    lines = [HEAD, "## Rules\n", *[re.sub(r"^ \*\s+", "", line) for line in joined.splitlines()], ""]
    lines += verbs(plugin) + services(plugin) + values(plugin, types) + constant_tables(types) + payloads() + questions()
    lines += ["## Shared bodies\n"]
    for name in SHARED:
        lines += [f"### {name}\n", *body(name, "JSON:")]
    lines += kit()
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(page(), end="")
    else:
        PAGE.write_text(page())
