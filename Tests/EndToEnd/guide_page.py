# SPDX-License-Identifier: Apache-2.0
"""Runs the shell blocks of docs/plugin-guide.md, one after the other, and compares what they print with what the page says.

    python3 Tests/EndToEnd/guide_page.py            runs them and writes what was printed into the page
    pytest Tests/EndToEnd/test_guide.py             runs them and compares

A block marked `console` holds commands behind `$ ` (continued behind `> `) and below each what it prints. A line that is only
`…` stands for any number of lines. What differs from run to run (times, ids, keys, seeds, sizes) is masked on both sides.
A command that ends with `&` goes on in the background; the page itself waits for it, as a reader who pastes must.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "plugin-guide.md"
DIST = Path(os.environ.get("MILEPOST_DIST") or ROOT / ".build" / "dist").resolve()
PORTS = ("8787", "8899")
PACKAGING = ("dh", "dpkg-scanpackages", "apt-ftparchive", "gpg")
"""Programs without which the page's second chapter cannot run."""

MASKS = [
    (r"\bmp_[A-Za-z0-9_-]{16,}|\bmpt?_[A-Za-z0-9]{20,}", "TOKEN"),
    (r"\b(dlv|con|rcd|opr|tok|key|evt|crs)_[A-Za-z0-9]{6,}", r"\1_ID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z| UTC)?|\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"seed:? \d+", "seed N"),
    (r"\b[0-9a-f]{12,64}\b", "HEX"),
    (r"\b(now|\d+ s ago)\b", "AGE"),
    (r"\b\d+(\.\d+)? ?(ms|s|KiB|MiB|kB|bytes|calls|operations|requests|moments|lines|restarts|kinds)\b", r"N \2"),
    (r"\b\d{1,3}(,\d{3})+\b", "N"),
    (r"(worker +alpha +\d+ +)\d+", r"\1PID"),
    (r"duration ms +\d+", "duration ms N"),
    (r"\(>= [\d.]+\)", "(VERSION)"),
    (r"_(amd64|arm64)\.", "_MACHINE."),
]


@dataclass
class Step:
    command: str
    expected: list[str]
    line: int
    """Where its command begins on the page, from 1."""
    end: int
    """The last line of what it prints."""
    printed: list[str] = field(default_factory=list)


def steps(page: str) -> list[Step]:
    found: list[Step] = []
    inside = False
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            found.append(Step(line[2:], [], number, number))
        elif inside and line.startswith("> ") and not found[-1].expected:
            found[-1].command += "\n" + line[2:]
            found[-1].end = number
        elif inside:
            found[-1].expected.append(line)
            found[-1].end = number
    return found


def masked(line: str) -> str:
    for pattern, name in MASKS:
        line = re.sub(pattern, name, line)
    return re.sub(r" {2,}", "  ", line).rstrip()


def agree(expected: list[str], printed: list[str]) -> bool:
    """Whether the lines are the same once masked, `…` standing for any number of them."""
    if not expected:
        return not printed
    if expected[0] == "…":
        return any(agree(expected[1:], printed[at:]) for at in range(len(printed) + 1))
    return bool(printed) and masked(expected[0]) == masked(printed[0]) and agree(expected[1:], printed[1:])


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Shell:
    """One bash that runs the page's commands, in a folder of its own and with nothing of this repository but the binaries, and
    copies of the headers and the Swift kit as packages install them."""

    MARK = "=== done:"

    def __init__(self, folder: Path):
        self.folder = folder
        self.ports = {port: free_port() for port in PORTS}
        include = folder / "include"
        subprocess.run(["cp", "-r", ROOT / "include" / ".", include], check=True)
        kit = folder / "MilepostKit"
        shutil.copytree(ROOT / "Sources/MilepostKit", kit, ignore=shutil.ignore_patterns(".build"))
        module = kit / "Sources/CMilepostPlugin/module.modulemap"
        module.write_text(re.sub(r'header ".*plugin\.h"', f'header "{include}/milepost/plugin.h"', module.read_text()))
        # The agent of gpg listens on a socket in here, whose path may not be long.
        self.keys = tempfile.mkdtemp(prefix="milepost-keys-")
        work = folder / "work"
        work.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
        environment = {
            **kept, "PATH": f"{DIST}:{os.environ['PATH']}", "MILEPOST_INCLUDE": str(include),
            "MILEPOST_KIT": str(kit), "GNUPGHOME": self.keys, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"),
            "LC_ALL": "C.UTF-8", "TERM": "dumb", "MAKEFLAGS": "", "MILEPOST_URL": f"http://127.0.0.1:{self.ports['8787']}",
        }
        self.child = subprocess.Popen(
            ["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=work, env=environment,
            text=True, start_new_session=True)

    def run(self, command: str) -> list[str]:
        for port, own in self.ports.items():
            command = command.replace(port, own)
        self.child.stdin.write(f"{command}\n{{ echo '{self.MARK}'; }} 2>/dev/null\n")
        self.child.stdin.flush()
        lines: list[str] = []
        for line in self.child.stdout:
            if line.rstrip("\n").endswith(self.MARK):
                if before := line.rstrip("\n").removesuffix(self.MARK):
                    lines.append(self.shown(before))
                break
            lines.append(self.shown(line.rstrip("\n")))
        else:
            raise AssertionError(f"the shell ended at: {command}")
        return lines

    def shown(self, line: str) -> str:
        """As the page has it."""
        for port, own in self.ports.items():
            line = line.replace(own, port)
        return line.replace(str(self.folder / "work"), "~").replace(str(self.folder), "~").replace("\t", "    ").rstrip()

    def close(self) -> None:
        """Ends what still runs in the background, each by its own number, and then the shell."""
        if shutil.which("gpgconf"):
            subprocess.run(["gpgconf", "--homedir", self.keys, "--kill", "gpg-agent"], capture_output=True, timeout=60)
        shutil.rmtree(self.keys, ignore_errors=True)
        if self.child.poll() is None:
            self.child.stdin.write("kill $(jobs -p) 2>/dev/null; wait; exit\n")
            self.child.stdin.close()
            self.child.wait(30)


def run(page: str, folder: Path) -> list[Step]:
    found = steps(page)
    shell = Shell(folder)
    try:
        for step in found:
            step.printed = shell.run(step.command)
    finally:
        shell.close()
    return found


def main() -> None:
    page = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        done = run(page, Path(folder))
    lines = page.splitlines()
    for step in reversed(done):
        if not agree(step.expected, step.printed):
            print(f"line {step.line}: {step.command.splitlines()[0]}")
            lines[step.end - len(step.expected):step.end] = step.printed
    if "--print" in sys.argv:
        print("\n".join(lines))
    else:
        PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
