# SPDX-License-Identifier: Apache-2.0
"""A bad plugin beside a good one in the real daemon: it harms its own deliveries only, and those are kept (invariant 7)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness import DIST, ROOT, VENDOR_TOKEN, Daemon, Workspace, wait_for
from test_secrets import MARKER, finds, memory

SOURCE = ROOT / "Tests" / "Plugins" / "destinations" / "destination.c"
MANIFEST: dict[str, Any] = {
    "manifest": 1,
    "id": "dev.milepost.test.bad",
    "name": "bad",
    "title": "A bad destination",
    "version": "0.1.0",
    "license": "Apache-2.0",
    "abi": {"major": 1, "min_host_minor": 0},
    "kinds": ["destination"],
    "endpoints": {"api": {"default": "https://api.example.com", "title": "API"}},
    "egress": [{"hosts": ["api.example.com"], "ports": [443], "methods": ["POST"]}],
    "auth": [
        {
            "scheme": "api_key",
            "credential": "api_token",
            "fields": [{"name": "api_token", "title": "Token", "secret": True}],
            "placements": [{"name": "header", "in": "header", "header": "x-api-token", "template": "{secret}"}],
        }
    ],
    "actions": [
        {
            "name": "deal",
            "title": "Do something",
            "trigger": "threshold",
            "batch": {"max_records": 10},
            "idempotency": "search",
            "read_lag_ms": 0,
            "reconcile": True,
        }
    ],
    "config_schema": {"type": "object", "properties": {}},
    "limits": {"memory_mb": 64, "threads": 8},
}
FINISHED = {"delivered", "dead"}
IN_TIME = 20.0
"""Seconds within which the good plugin delivers, whatever the bad one does; its operations may take 2 s, its grace 2 s."""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real plugin and the bad one."""
    folder = tmp_path_factory.mktemp("plugins")
    for name in ("pipedrive.so", "pipedrive.json"):
        shutil.copy(DIST / "plugins" / name, folder / name)
    manifest = json.dumps(MANIFEST)
    quoted = manifest.replace("\\", "\\\\").replace('"', '\\"')
    (folder / "bad.json").write_text(manifest)
    subprocess.run(
        [
            "cc",
            "-std=gnu11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-I",
            str(ROOT / "include"),
            f'-DMANIFEST="{quoted}"',
            "-o",
            str(folder / "bad.so"),
            str(SOURCE),
        ],
        check=True,
        timeout=60,
    )
    for path in folder.iterdir():
        path.chmod(0o755 if path.suffix == ".so" else 0o644)
    return folder


@pytest.fixture
def both(own, plugins: Path) -> Iterator[tuple[Daemon, Workspace, Workspace]]:
    """A daemon with both plugins, each connected in a workspace of its own at one click a delivery."""
    daemon = own(plugin_dirs=[str(plugins)], delivery={"operation_timeout": "2s", "request_timeout": "1s"})
    daemon.settings["plugins"]["bad"] = {
        "enabled": True,
        "isolation": "worker",
        "endpoints": {"api": daemon.sandbox.url},
    }
    daemon.write_config()
    daemon.start()
    good, bad = daemon.workspace("good"), daemon.workspace("bad")
    good.connect(thresholds=[1])
    daemon.rest.post(
        f"{bad.base}/integrations/bad",
        {"credentials": {"api_token": VENDOR_TOKEN}, "thresholds": [1]},
        expect=(200, 201),
    )
    yield daemon, good, bad


def plugin(daemon: Daemon, name: str) -> dict[str, Any]:
    return next(entry for entry in daemon.rest.get("/v1/admin/plugins")["plugins"] if entry["name"] == name)


def settle(daemon: Daemon, workspace: Workspace, timeout: float = 60) -> dict[str, dict[str, Any]]:
    """Ticks until every delivery of the workspace has ended, and gives them by link."""

    def ended() -> bool:
        daemon.tick(workspace.name)
        return all(delivery["state"] in FINISHED for delivery in workspace.deliveries())

    wait_for(f"the deliveries of {workspace.name} end", ended, timeout, pause=0.3)
    return {delivery["link"]: delivery for delivery in workspace.deliveries()}


def resident(pid: int) -> int:
    """Bytes of a process's memory that are really there."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found.group(1)) * 1024


@pytest.mark.parametrize("way", ["abort", "spin", "hog", "never"])
def test_a_record_that_kills_or_hangs_its_plugin_is_a_dead_letter_and_its_neighbours_arrive(both, way: str) -> None:
    """EXT-02, ING-07, invariant 7, decisions 20: out of a batch of five, one is poison. The plugin is no CRM's: queue, retries,
    dead letters and log are the core's and the same for every destination."""
    daemon, good, bad = both
    before = resident(daemon.process.pid)
    for link in ("one", "two", f"x-{way}", "three", "four"):
        bad.clicks(link, 1)
    for number in range(5):
        good.clicks(f"g{number}", 1)
    started = time.monotonic()
    daemon.tick()
    assert time.monotonic() - started < IN_TIME
    assert {delivery["state"] for delivery in good.deliveries()} == {"delivered"}
    ended = settle(daemon, bad)
    assert {link: delivery["state"] for link, delivery in ended.items() if not link.startswith("x-")} == {
        "one": "delivered",
        "two": "delivered",
        "three": "delivered",
        "four": "delivered",
    }
    assert ended[f"x-{way}"]["state"] == "dead"
    detail = bad.delivery(ended[f"x-{way}"]["id"])
    assert "poison" in json.dumps(detail), detail
    assert plugin(daemon, "bad")["state"] == "loaded"
    assert plugin(daemon, "pipedrive")["restarts"] == 0
    # Five deals of the good plugin, each once, and none of the bad one.
    assert sorted(deal["title"] for deal in daemon.sandbox.deals()) == sorted(
        set(deal["title"] for deal in daemon.sandbox.deals())
    )
    assert len(daemon.sandbox.deals()) == 5
    # The worker's memory is its own: the daemon has not grown by what the plugin took.
    assert resident(daemon.process.pid) - before < 64 << 20


@pytest.mark.parametrize("way", ["twice", "stdout"])
def test_a_plugin_that_answers_twice_or_prints_delivers_all_the_same(both, way: str) -> None:
    """EXT-02: the first answer counts, and what is printed is a line of the log."""
    daemon, good, bad = both
    bad.clicks(f"x-{way}", 1)
    good.clicks("g", 1)
    daemon.tick()
    assert settle(daemon, bad)[f"x-{way}"]["state"] == "delivered"
    assert [delivery["state"] for delivery in good.deliveries()] == ["delivered"]
    assert plugin(daemon, "bad")["restarts"] == 0
    if way == "twice":
        assert "a second time" in daemon.process.output()
    else:
        assert "this is no frame" in daemon.process.output()


def test_rubbish_is_never_taken_for_success_and_is_kept_over_a_restart(both) -> None:
    """Invariants 4, 7 and 8: it waits with its reason, before and after the daemon is killed."""
    daemon, good, bad = both
    bad.clicks("x-rubbish", 1)
    daemon.tick()
    daemon.kill()
    daemon.start()
    good.clicks("g", 1)
    daemon.tick()
    [waiting] = bad.deliveries()
    assert waiting["state"] in ("retrying", "uncertain", "dead") and waiting["reason"], waiting
    assert [delivery["state"] for delivery in good.deliveries()] == ["delivered"]


def test_a_crash_after_the_vendors_answer_sends_nothing_twice(both) -> None:
    """Invariant 4, decisions 2: the request left and was answered; the worker died before it could say so."""
    daemon, good, bad = both
    bad.clicks("x-submit", 1)
    good.clicks("g", 1)
    daemon.tick()
    assert [delivery["state"] for delivery in good.deliveries()] == ["delivered"]
    ended = settle(daemon, bad)
    assert ended["x-submit"]["state"] == "delivered", bad.delivery(ended["x-submit"]["id"])
    assert len(daemon.sandbox.deals("from the bad plugin")) == 1
    sent = [entry for entry in daemon.sandbox.requests("POST", "/api/v2/deals") if "bad plugin" in json.dumps(entry)]
    assert len(sent) <= 1


def test_different_records_that_crash_it_quarantine_a_plugin_and_its_queue_is_kept(both) -> None:
    """EXT-02, decisions 20: the queue waits through a restart with the reason in the plugin's status."""
    daemon, good, bad = both
    for number in range(12):
        bad.clicks(f"x-abort-{number}", 1)

    def is_quarantined() -> bool:
        daemon.tick("bad")
        return plugin(daemon, "bad")["state"] == "quarantined"

    wait_for("the plugin is quarantined", is_quarantined, 60, pause=0.2)
    assert plugin(daemon, "bad")["reason"]
    kept = {delivery["id"] for delivery in bad.deliveries()}
    assert len(kept) == 12
    good.clicks("g", 1)
    daemon.tick()
    assert [delivery["state"] for delivery in good.deliveries()] == ["delivered"]
    daemon.kill()
    daemon.start()
    assert {delivery["id"] for delivery in bad.deliveries()} == kept
    assert all(delivery["state"] == "delivered" or delivery["reason"] for delivery in bad.deliveries())


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory needs root")
def test_the_bad_plugins_memory_never_holds_the_secret(own, plugins: Path) -> None:
    """Invariant 6, EXT-03: not after connecting, and not after the vendor answered a request that carried it."""
    daemon = own(sandbox_options={"token": MARKER}, plugin_dirs=[str(plugins)])
    daemon.settings["plugins"]["bad"] = {
        "enabled": True,
        "isolation": "worker",
        "endpoints": {"api": daemon.sandbox.url},
    }
    daemon.write_config()
    daemon.start()
    bad = daemon.workspace("bad")
    daemon.rest.post(
        f"{bad.base}/integrations/bad", {"credentials": {"api_token": MARKER}, "thresholds": [1]}, expect=(200, 201)
    )
    bad.clicks("fine", 1)
    bad.clicks("x-submit", 1)
    settle(daemon, bad)
    pid = wait_for("the worker runs again", lambda: plugin(daemon, "bad")["pid"])
    assert any(entry["status"] < 300 for entry in daemon.sandbox.requests("POST", "/api/v2/deals")), "no request carried it"
    image = memory(pid)
    assert b"milepost" in image, "this is not the worker's memory"
    assert not finds(image)
