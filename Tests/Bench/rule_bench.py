# SPDX-License-Identifier: Apache-2.0
"""What rolling rules cost: windows in memory beside a bare dictionary, and through the daemon and its store."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import test_rules

if TYPE_CHECKING:
    from bench import Bench

HERE = Path(__file__).resolve().parent
RULES = 1000
LINES = 8192  # events a request
PAGE = 8192  # RollingRooms.clicksPerPage


def run(command: list[str]) -> str:
    """Its output; a failure shows its own words."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout




def measure(bench: Bench) -> None:
    """A thousand rules on a thousand tags; every contact clicks on every tag, then pairs click at random."""
    contacts = 100 if bench.quick else 1000
    pairs = RULES * contacts
    in_memory(bench, contacts, 3 * pairs)
    ours, bare = [], []
    for _ in range(bench.rounds):
        bare.append(bare_windows(bench, contacts))
        ours.append(through_the_store(bench, contacts))
    bench.add("rules, a click through the store", "µs/click", ours, aim="< 20", bare=bare, meets=lambda figure, _: figure < 20,
              note=f"{RULES:,} rules, {pairs:,} pairs, one rule a click, {PAGE:,} a transaction; bare: SQLite, same log and windows")


def in_memory(bench: Bench, contacts: int, clicks: int) -> None:
    driver = build_driver(bench.scratch / "rules")
    ours, bare = [], []
    for _ in range(bench.rounds):
        for mode, found in (("bare", bare), ("windows", ours)):
            found.append(json.loads(run([driver, mode, str(RULES), str(contacts), str(clicks)])))
    note = f"{RULES:,} rules, {RULES * contacts:,} pairs, {clicks:,} clicks; bare: a dictionary of arrays that recounts each window"
    bench.add("rules, a click in memory", "µs/click", [one["us"] for one in ours], aim="< 20", bare=[one["us"] for one in bare],
              meets=lambda figure, _: figure < 20, note=note)
    bench.add("rules, memory of a contact's window", "bytes", [one["bytes"] for one in ours],
              bare=[one["bytes"] for one in bare], note="three clicks each")


def build_driver(folder: Path) -> str:
    folder.mkdir()
    shutil.copy(HERE / "rules" / "Package.swift", folder)
    (folder / "Driver").symlink_to(HERE / "rules" / "Driver")
    (folder / "Sources").symlink_to(HERE.parents[1] / "Sources")
    run(["swift", "build", "-c", "release", "--package-path", str(folder)])
    return str(folder / ".build" / "release" / "rule-cost")


def bare_windows(bench: Bench, contacts: int) -> float:
    database = bench.scratch / f"windows{next(bench.numbers)}.db"
    try:
        return float(run([bench.tool("bare_windows"), str(database), str(RULES), str(contacts), str(PAGE)]))
    finally:
        for file in bench.scratch.glob(f"{database.name}*"):
            file.unlink()


def through_the_store(bench: Bench, contacts: int) -> float:
    """The clicks are there first; the rules then fill their windows from them, which is all that is timed."""
    plugins = bench.scratch / f"mover{next(bench.numbers)}"
    plugins.mkdir()
    test_rules.build(plugins)
    settings: dict[str, Any] = {
        "plugin_dirs": [str(plugins)], "plugins": {"hubspot": {"enabled": True, "isolation": "worker"}}}
    with bench.daemon(None, **settings) as daemon:
        workspace = test_rules.connected(daemon, "bench")
        for start in range(0, RULES, 500):
            links = [{"id": f"l{n}", "tags": [f"t{n}"]} for n in range(start, start + 500)]
            daemon.rest.post(f"{workspace.base}/links", {"links": links})
        now = int(time.time())
        lines = (f'{{"id":"{c}-{n}","ts":{now},"link":"l{n}","contact_id":"contact-{c}"}}' for c in range(contacts) for n in range(RULES))
        batch: list[str] = []
        for line in lines:
            batch.append(line)
            if len(batch) == LINES:
                post(daemon, workspace, batch)
                batch = []
        post(daemon, workspace, batch)
        rules = [test_rules.rule(f"r{n}", 50, tag=f"t{n}") for n in range(RULES)]
        begin = time.monotonic()
        daemon.rest.post(f"{workspace.base}/rules", {"rules": rules}, timeout=120)
        harness.wait_for(
            "windows are filled", lambda: daemon.rest.get(f"{workspace.base}/rules/r0")["state"] == "active", 600, 0.05)
        return (time.monotonic() - begin) * 1e6 / (contacts * RULES)


def post(daemon: harness.Daemon, workspace: harness.Workspace, batch: list[str]) -> None:
    if batch:
        daemon.rest.post(
            f"{workspace.base}/events", "\n".join(batch).encode(), headers={"Content-Type": "application/x-ndjson"})
