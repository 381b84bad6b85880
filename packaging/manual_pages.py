#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Manual pages from what the programs say of themselves: packaging/manual_pages.py DIST MANDIR

One page a command (`milepost-config-check(1)`), the daemon's, the sandbox's, milepost.yaml(5) from the configuration's own
reference, and milepost-plugin(7) by hand. Gzipped with no time in them, so that two runs give the same bytes.
"""
from __future__ import annotations

import gzip
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

SECTIONS = {"milepostd": 8, "milepost": 1, "milepost-sandbox": 1}
NAMES = {1: "User Commands", 5: "File Formats", 7: "Miscellaneous", 8: "System Administration"}
TITLES = {"milepost.yaml": "configuration of milepostd", "milepost-plugin": "plugins of Milepost"}
ALSO = ["milepost(1)", "milepostd(8)", "milepost-sandbox(1)", "milepost.yaml(5)", "milepost-plugin(7)"]

# What the programs' own help has no place for.
BESIDES = {
    "milepostd": {
        "SIGNALS": [
            ("SIGHUP", "Reads the configuration again; one with an error changes nothing."),
            ("SIGTERM, SIGINT", "Ends after what is under way."),
        ],
        "ENVIRONMENT": [
            ("MILEPOST_SECTION__SETTING", "A setting, as milepost.yaml(5) describes; wins over the files."),
            ("CREDENTIALS_DIRECTORY", "Where systemd puts the key ring, as kek: read in place of kms.path."),
            ("NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS", "Readiness, signs of life and sockets, as systemd has them."),
        ],
        "FILES": [
            ("/etc/milepost/milepost.yaml, /etc/milepost/conf.d/*.yaml", "The configuration."),
            ("/etc/milepost/credentials/kek", "The key ring, root's own. Without it no stored credential can be opened: keep a copy."),
            ("/var/lib/milepost/milepost.db", "The database. Nothing but the daemon may open it, not even to read."),
            ("/var/lib/milepost/milepost.db.before-schema-N, .before-restore-TIME",
             "What was there before an upgrade or a restore: to be removed once all is well."),
            ("/var/backups/milepost", "Backups; the only other folder that the unit lets the daemon write."),
            ("/usr/lib/milepost/plugins", "Plugins, NAME.so and NAME.json."),
            ("milepost.service, milepost.socket", "The units; the socket is off until it is enabled."),
        ],
    },
    "milepost": {
        "ENVIRONMENT": [
            ("MILEPOST_URL", "Where the daemon is. Default: http://127.0.0.1:8787."),
            ("MILEPOST_TOKEN", "The token; else that of the file below."),
            ("MILEPOST_WORKSPACE", "The workspace. Default: default."),
        ],
        "FILES": [
            ("~/.config/milepost/token, /etc/milepost/token", "The token that 'milepost init' saved for whoever ran it; the first one found counts."),
        ],
    },
}


def escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\n".join("\\&" + line if line.startswith(".") else line for line in text.split("\n"))


def paragraphs(text: str) -> list[str]:
    """Prose flows, what is indented stands as it is."""
    out: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if all(line.startswith("  ") for line in block.split("\n")):
            out += [".PP", ".nf", ".RS 2", escaped("\n".join(line[2:] for line in block.split("\n"))), ".RE", ".fi"]
        else:
            out += [".PP", escaped(block)]
    return out


def header(name: str, section: int, version: str, abstract: str) -> list[str]:
    return [
        f'.TH "{name.upper()}" {section} "" "Milepost {version}" "{NAMES[section]}"', ".SH NAME",
        f"{escaped(name)} \\- {escaped(abstract.rstrip('.').splitlines()[0] if abstract else name)}",
    ]


def name_of(argument: dict[str, Any]) -> str:
    names = argument.get("names", [])
    value = f" \\fI{escaped(argument['valueName'])}\\fR" if argument["kind"] == "option" else ""
    if argument["kind"] == "positional":
        return f"\\fI{escaped(argument['valueName'])}\\fR"
    dashed = [("-" if item["kind"] == "short" else "--") + item["name"] for item in names]
    return ", ".join(f"\\fB{escaped(item)}\\fR" for item in sorted(dashed, key=len)) + value


def shown(command: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in command.get("arguments", []) if item.get("shouldDisplay", True)]


def synopsis(full: str, command: dict[str, Any]) -> str:
    parts = [f"\\fB{escaped(full)}\\fR"]
    if any(item["kind"] != "positional" for item in shown(command)):
        parts.append("[\\fIoptions\\fR]")
    for item in shown(command):
        if item["kind"] == "positional":
            text = name_of(item) + (" ..." if item["isRepeating"] else "")
            parts.append(f"[{text}]" if item["isOptional"] else text)
    if children(command):
        parts.append("\\fIcommand\\fR")
    return " ".join(parts)


def children(command: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in command.get("subcommands", []) if item.get("shouldDisplay", True) and item["commandName"] != "help"]


def page(full: str, command: dict[str, Any], section: int, version: str) -> str:
    name = full.replace(" ", "-")
    abstract = command.get("abstract", "")
    lines = header(name, section, version, abstract)
    lines += [".SH SYNOPSIS", synopsis(full, command), ".SH DESCRIPTION"]
    lines += paragraphs(abstract) + paragraphs(command.get("discussion", ""))
    options = [item for item in shown(command) if item["kind"] != "positional"]
    for title, items in [("ARGUMENTS", [i for i in shown(command) if i["kind"] == "positional"]), ("OPTIONS", options)]:
        if items:
            lines.append(f".SH {title}")
        for item in items:
            default = f" Default: {item['defaultValue']}." if item.get("defaultValue") else ""
            lines += [".TP", name_of(item), escaped((item.get("abstract", "") + default).strip()) or "\\&"]
    if children(command):
        lines.append(".SH COMMANDS")
        for child in children(command):
            lines += [".TP", f"\\fB{escaped(full + ' ' + child['commandName'])}\\fR",
                      escaped(child.get("abstract", "")) + f" See \\fB{escaped(name + '-' + child['commandName'])}\\fR({section})."]
    for title, items in BESIDES.get(name, {}).items():
        lines.append(f".SH {title}")
        for term, text in items:
            lines += [".TP", f"\\fB{escaped(term)}\\fR", escaped(text)]
    return finished(lines, f"{name}({section})")


def finished(lines: list[str], own: str) -> str:
    others = ", ".join(f"\\fB{escaped(item.split('(')[0])}\\fR({item.split('(')[1]}" for item in ALSO if item != own)
    return "\n".join(lines + [".SH SEE ALSO", others]) + "\n"


def walk(full: str, command: dict[str, Any]):
    yield full, command
    for child in children(command):
        yield from walk(f"{full} {child['commandName']}", child)


def configuration(reference: str, version: str) -> str:
    lines = header("milepost.yaml", 5, version, TITLES["milepost.yaml"])
    lines += [".SH SYNOPSIS", ".I /etc/milepost/milepost.yaml", ".br", ".I /etc/milepost/conf.d/*.yaml", ".SH DESCRIPTION",
              "A file needs only what differs from the defaults below.", ".nf"]
    lines += [escaped(line) if line else "\\&" for line in reference.rstrip().split("\n")]
    return finished(lines + [".fi"], "milepost.yaml(5)")


def plugin(version: str) -> str:
    text = """A plugin is a shared object, NAME.so, with a manifest beside it, NAME.json. It speaks a C interface of one exported function, \
milepost_plugin_v1, and may be written in any language.

The daemon looks in /usr/lib/milepost/plugins (plugin_dirs in the configuration). A file that lies there does nothing until the \
configuration switches it on:

  plugins:
    NAME: { enabled: true }

Files must belong to root or to the daemon's user, and nobody else may write them or their folder. By default each plugin runs in a \
worker process of its own, without network, files or secrets.

A package of a plugin needs no maintainer scripts: the package milepost has a trigger on the folder and reloads the daemon. It \
depends on milepost-plugin-abi-1 (>= 1.N), which dh_milepost(1) writes.

The header is /usr/include/milepost/plugin.h, the schemas of its bodies are in /usr/share/milepost/schemas, both from the \
package milepost-dev. 'milepost plugin new' makes a project, 'milepost plugin check' examines a plugin."""
    lines = header("milepost-plugin", 7, version, TITLES["milepost-plugin"]) + [".SH DESCRIPTION"] + paragraphs(text)
    return finished(lines, "milepost-plugin(7)")


def main(dist: pathlib.Path, folder: pathlib.Path) -> None:
    def said(*command: str) -> str:
        return subprocess.run([str(dist / command[0]), *command[1:]], check=True, capture_output=True, text=True).stdout

    version = said("milepostd", "--version").strip()
    pages = {("milepost.yaml", 5): configuration(said("milepost", "config", "reference"), version),
             ("milepost-plugin", 7): plugin(version)}
    for program, section in SECTIONS.items():
        for full, command in walk(program, json.loads(said(program, "--experimental-dump-help"))["command"]):
            pages[full.replace(" ", "-"), section] = page(full, command, section, version)
    for (name, section), text in sorted(pages.items()):
        place = folder / f"man{section}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.{section}.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: packaging/manual_pages.py DIST MANDIR")
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
