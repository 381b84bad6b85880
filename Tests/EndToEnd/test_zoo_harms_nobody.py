# SPDX-License-Identifier: Apache-2.0
"""Every broken plugin of the zoo in one real daemon, all at once, beside one connection that is right: what crashes, hangs, leaks,
prints, forks or lies harms its own deliveries, and every one of those is kept with a reason (EXT-02, invariant 7)."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness import DIST, FULL, Daemon, Workspace, wait_for
from plugin_zoo import ANIMALS, build, new_project
from record_vendor import Vendor

IN_TIME = 60.0
"""Seconds until the right connection's deliveries of a round have arrived. One worker is killed after 2 s of an operation and 2 s of
grace; a machine with two cores starts eighty workers meanwhile, and starts those again that died."""
ROUNDS = 3 if FULL else 2
PER_ROUND = 10

pytestmark = pytest.mark.timeout(600)


def resident(pid: int) -> int:
    """Bytes of a process's memory that are really there."""
    return int(re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M).group(1)) * 1024


def entries(pid: int, folder: str) -> int:
    return len(list(Path(f"/proc/{pid}/{folder}").iterdir()))


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """All of the zoo under names of their own, beside the real plugin."""
    folder = tmp_path_factory.mktemp("plugins")
    project = new_project(tmp_path_factory.mktemp("zoo") / "acme")
    for name in ("pipedrive.so", "pipedrive.json"):
        shutil.copy(DIST / "plugins" / name, folder / name)
    names = []
    for animal in ANIMALS:
        library = build(animal, project, tmp_path_factory.mktemp(animal.name), animal.name)
        shutil.copy2(library, folder / library.name)
        shutil.copy2(library.with_suffix(".json"), folder / f"{animal.name}.json")
        names.append(animal.name)
    folder.chmod(0o755)
    return folder, names


def connect(daemon: Daemon, name: str) -> Workspace | None:
    """A workspace with the animal connected in it; none where the daemon refuses, which is what many of them are for."""
    workspace = daemon.workspace(f"of-{name}")
    answer = daemon.rest.request(
        "POST", f"{workspace.base}/integrations/{name}", {"credentials": {"api_key": "k-0123456789"}, "list": 1, "thresholds": [1]})
    assert answer.status in (200, 201) or 400 <= answer.status < 600, answer
    return workspace if answer.status in (200, 201) else None


def test_all_of_the_zoo_beside_one_right_connection_harms_none_of_its_deliveries(own, animals: tuple[Path, list[str]]) -> None:
    """EXT-02, EXT-01, invariant 7, invariant 8"""
    folder, names = animals
    vendor = Vendor()
    daemon = own(plugin_dirs=[str(folder)], delivery={"operation_timeout": "2s", "request_timeout": "1s"})
    for name in names:
        daemon.settings["plugins"][name] = {"enabled": True, "isolation": "worker", "endpoints": {"api": vendor.url}}
    daemon.write_config()
    daemon.start(timeout=60)
    pid = daemon.process.pid
    good = daemon.workspace("good")
    good.connect(thresholds=[1])
    bad = {name: workspace for name in names if (workspace := connect(daemon, name))}
    # Those whose fault is in deliver must have got so far, or nothing is tried.
    assert {"aborts", "exits", "hangs", "never-completes", "answers-twice", "answers-rubbish", "forks", "prints", "leaks"} <= set(bad)
    memory, descriptors, threads = resident(pid), entries(pid, "fd"), entries(pid, "task")
    for turn in range(ROUNDS):
        for workspace in bad.values():
            for link in range(3):
                workspace.clicks(f"r{turn}l{link}", 1)
        for link in range(PER_ROUND):
            good.clicks(f"r{turn}l{link}", 1)
        started = time.monotonic()
        daemon.rest.request("POST", "/v1/admin/tick")
        wait_for(
            "the right connection's deliveries arrive",
            lambda: [entry["state"] for entry in good.deliveries()] == ["delivered"] * PER_ROUND * (turn + 1), IN_TIME, pause=0.3)
        assert time.monotonic() - started < IN_TIME
    assert len(daemon.sandbox.deals()) == len({deal["title"] for deal in daemon.sandbox.deals()}) == PER_ROUND * ROUNDS
    kept: Counter[str] = Counter()
    for name, workspace in bad.items():
        deliveries = workspace.deliveries()
        assert len(deliveries) == 3 * ROUNDS, (name, deliveries)
        kept.update(entry["state"] for entry in deliveries)
        assert not [entry for entry in deliveries if entry["state"] in ("dead", "held", "uncertain", "dropped") and not entry["reason"]], name
    plugins: dict[str, Any] = {entry["name"]: entry for entry in daemon.rest.get("/v1/admin/plugins")["plugins"]}
    assert (plugins["pipedrive"]["state"], plugins["pipedrive"]["restarts"]) == ("loaded", 0)
    assert plugins["aborts"]["restarts"] > 0 and plugins["hangs"]["restarts"] > 0
    assert not [name for name in names if plugins[name]["state"] != "loaded" and not plugins[name]["reason"]]
    # What they leak is their own process's: the daemon is the one that began, and has grown by nothing of theirs.
    assert daemon.process.alive and daemon.process.pid == pid
    assert resident(pid) - memory < 96 << 20
    assert entries(pid, "fd") - descriptors < 4 * len(names) and entries(pid, "task") - threads < 32
    assert kept["delivered"] > 0 and kept["dead"] + kept["retrying"] + kept["uncertain"] + kept["held"] + kept["pending"] > 0, kept
    vendor.close()
