# SPDX-License-Identifier: Apache-2.0
"""The connector of docs/examples/rolodex, in C and under 150 lines: green under `milepost plugin check`, and exact in the real
daemon while the vendor fails in every way that the sandbox knows (EXT-01, EXT-06)."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness import DIST, ROOT, wait_for

EXAMPLE = ROOT / "docs/examples/rolodex"
MILEPOST = DIST / "milepost"
TOKEN = "sandbox-generic-token"
LINKS = ["spring", "summer", "autumn", "winter", "leap"]
CARDS, NOTES = "/generic/v1/cards", "/generic/v1/notes"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example, built by the Makefile that `milepost plugin new` writes."""
    folder = tmp_path_factory.mktemp("example") / "rolodex"
    subprocess.run(
        [MILEPOST, "plugin", "new", "rolodex", "--language", "c", "--folder", folder], check=True, capture_output=True, timeout=60)
    shutil.copy(EXAMPLE / "rolodex.c", folder / "src/plugin.c")
    for name in ("rolodex.json", "rolodex.vendor.json"):
        shutil.copy(EXAMPLE / name, folder / name)
    built = subprocess.run(
        ["make", "all", f"MILEPOST_INCLUDE={ROOT / 'include'}"], cwd=folder, capture_output=True, text=True, timeout=100)
    assert built.returncode == 0 and "warning" not in built.stderr, built.stderr
    return folder / "build"


def test_it_is_short() -> None:
    assert len((EXAMPLE / "rolodex.c").read_text().splitlines()) < 150


def test_it_is_green(plugins: Path) -> None:
    """EXT-04"""
    run = subprocess.run(
        [MILEPOST, "plugin", "check", plugins / "rolodex.so", "--strict", "--json",
         "--vendor", EXAMPLE / "rolodex.vendor.json"], capture_output=True, text=True, timeout=300)
    report = json.loads(run.stdout)
    assert run.returncode == 0 and report["failed"] == 0 and report["passed"] >= 40, run.stdout


def records(sandbox: Any, collection: str) -> list[dict[str, Any]]:
    return sandbox.ledger("generic")["generic"]["collections"].get(collection, [])


@pytest.mark.parametrize("keys_are_honoured", [True, False], ids=["with idempotency keys", "without"])
def test_five_crossings_arrive_once_each_whatever_the_vendor_does(own, plugins: Path, keys_are_honoured: bool) -> None:
    """EXT-06, DEL: after every answer that may hide a record, the connector looks before anything is sent again."""
    daemon = own(plugin_dirs=[str(plugins)], delivery={"operation_timeout": "5s", "request_timeout": "1s"})
    sandbox = daemon.sandbox
    daemon.settings["plugins"] = {
        "rolodex": {"enabled": True, "isolation": "worker", "endpoints": {"api": f"{sandbox.url}/generic"}}}
    daemon.write_config()
    daemon.start()
    sandbox.rest.post("/_sandbox/generic", {"idempotency_keys": keys_are_honoured})
    workspace = daemon.workspace("acme")
    daemon.rest.post(
        f"{workspace.base}/integrations/rolodex",
        {"credentials": {"api_key": TOKEN}, "list": 1, "thresholds": [1]}, expect=(200, 201))
    # Each strikes once, in this order of the requests that match; the last lets some pass first.
    for kind, path, more in [
        ("status", CARDS, {"status": 500, "commit": True}), ("status", CARDS, {"status": 500}), ("drop_after_commit", CARDS, {}),
        ("delay", CARDS, {"delay_ms": 2500}), ("status", CARDS, {"status": 429, "headers": {"Retry-After": "1"}}),
        ("cut_body", NOTES, {}), ("status", NOTES, {"status": 500, "commit": True}), ("drop_before_commit", NOTES, {}),
        ("status", NOTES, {"status": 503}), ("late_commit", NOTES, {"delay_ms": 700}),
    ]:
        sandbox.fault(kind, path=path, **more)
    for link in LINKS:
        workspace.clicks(link, 1)

    def deliveries() -> list[dict[str, Any]]:
        return daemon.rest.get(f"{workspace.base}/deliveries?limit=100")["deliveries"]

    def is_done() -> bool:
        daemon.tick(workspace.name)
        return [found["state"] for found in deliveries()] == ["delivered"] * len(LINKS)

    wait_for("five deliveries", is_done, 120, pause=0.5)
    assert sandbox.struck() == 10, sandbox.faults()
    cards, notes = records(sandbox, "cards"), records(sandbox, "notes")
    assert Counter(card["title"] for card in cards) == Counter(f"{link} reached 1" for link in LINKS)
    ids = {found["id"] for found in deliveries()}
    assert {card["key"] for card in cards} == ids and len(cards) == len(ids)
    assert {note["key"] for note in notes} == ids and len(notes) == len(ids)
    assert sandbox.ledger("violations")["violations"] == []
    assert all(card["idempotency_key"] == f"{card['key']}-card" for card in cards)
    # Nothing more comes later.
    end = time.monotonic() + 1
    wait_for("a second passes", lambda: time.monotonic() > end)
    daemon.tick(workspace.name)
    assert len(records(sandbox, "cards")) == len(LINKS)
