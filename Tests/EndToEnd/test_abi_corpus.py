# SPDX-License-Identifier: Apache-2.0
"""The corpus of old plugins: of each released minor a C plugin, compiled from source against that minor's frozen headers, and run on
today's host (plugin-abi.md 31, docs/plugin-abi.md)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import DIST, ROOT, Daemon, wait_for
from record_vendor import Vendor

CORPUS = ROOT / "Tests/AbiCorpus"
RELEASES = sorted(path.parent.name for path in CORPUS.glob("*/layout.json"))
LEVEL = "5"
"""What an old plugin must reach: every check. One that is added later and asks more than the header of an old minor said is the
host's mistake, not the old plugin's."""
KEY = "corpus-key-0123456789"

pytestmark = pytest.mark.timeout(300)


def built(version: str, folder: Path, include: Path | None = None) -> Path:
    subprocess.run(
        [CORPUS / "build.sh", version, folder, *([include] if include else [])], check=True, timeout=100, capture_output=True)
    return folder / "corpus.so"


def check(library: Path, *options: str) -> dict[str, Any]:
    run = subprocess.run(
        [DIST / "milepost", "plugin", "check", library, "--json", "--seed", "7", *options], capture_output=True, text=True, timeout=280)
    assert run.stdout, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    made = Vendor()
    yield made
    made.close()


@pytest.mark.parametrize("version", RELEASES)
class TestOldPlugins:
    def test_it_passes_every_check_of_the_validator_of_today(self, version: str, tmp_path: Path) -> None:
        """EXT-01"""
        report = check(built(version, tmp_path), "--level", LEVEL)
        assert report["failed"] == 0 and report["passed"] >= 38, [
            found for found in report["checks"] if found["outcome"] == "failed"]

    @pytest.mark.parametrize("isolation", ["inline", "worker"])
    def test_it_delivers_in_the_daemon_of_today(self, version: str, isolation: str, tmp_path: Path, vendor: Vendor) -> None:
        """EXT-01, EXT-03: connecting, pickers, deliveries with their journal, in both isolation modes"""
        plugins = tmp_path / "plugins"
        built(version, plugins)
        (plugins / "corpus.vendor.json").unlink()
        daemon = Daemon(
            tmp_path,
            plugin_dirs=[str(plugins)],
            plugins={"corpus": {"enabled": True, "isolation": isolation, "endpoints": {"api": vendor.url}}})
        daemon.start()
        try:
            [plugin] = [entry for entry in daemon.rest.get("/v1/admin/plugins")["plugins"] if entry["name"] == "corpus"]
            assert (plugin["state"], plugin["isolation"]) == ("loaded", isolation), plugin
            workspace = daemon.workspace("acme")
            workspace.rest.post(
                f"{workspace.base}/integrations/corpus",
                {"credentials": {"api_key": KEY}, "list": 1, "thresholds": [2]}, expect=(200, 201))
            assert vendor.keys == {f"Bearer {KEY}"}
            picked = workspace.rest.get(f"{workspace.base}/integrations/corpus/options/lists")
            assert [item["label"] for item in picked["items"]] == ["Leads"]
            links = [f"link{number}" for number in range(25)]
            for link in links:
                workspace.clicks(link, 2)
            workspace.tick()
            wait_for(
                "all are delivered", lambda: {entry["state"] for entry in workspace.deliveries()} == {"delivered"}, 60, pause=0.3)
            assert len(workspace.deliveries()) == len(links) == len({record["key"] for record in vendor.records}) == len(vendor.records)
            [plugin] = [entry for entry in daemon.rest.get("/v1/admin/plugins")["plugins"] if entry["name"] == "corpus"]
            assert plugin["restarts"] == 0, plugin
        finally:
            daemon.kill()

    @pytest.mark.parametrize(
        "file,old,new",
        [
            ("plugin.h", "    void (*destroy)(void *self);\n", "    void (*suspend)(void *self);\n    void (*destroy)(void *self);\n"),
            ("plugin.h", "    int32_t (*op_partial)(", "    int32_t (*op_note)(uint64_t instance);\n    int32_t (*op_partial)("),
            ("types.h", "    uint64_t id;          /**<", "    uint64_t trace;\n    uint64_t id;          /**<"),
        ],
        ids=["mp_plugin", "mp_host", "mp_op"])
    def test_a_field_in_the_middle_of_a_struct_is_noticed(
        self, version: str, file: str, old: str, new: str, tmp_path: Path) -> None:
        """The corpus can fail: the same source, compiled against headers that differ from the host's by one field."""
        shutil.copytree(CORPUS / version / "include", tmp_path / "include")
        header = tmp_path / "include/milepost" / file
        text = header.read_text()
        assert text.count(old) == 1
        header.write_text(text.replace(old, new))
        report = check(built(version, tmp_path / "out", tmp_path / "include"), "--level", LEVEL, "--fail-fast")
        assert report["failed"] == 1, report
