# SPDX-License-Identifier: Apache-2.0
"""Thousands of instances of a built plugin, made and ended through its C table, leave nothing behind (EXT-01)."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIST = Path(os.environ.get("MILEPOST_DIST", ROOT / ".build/dist/plugins"))
PLUGINS = sorted(DIST.glob("*.so")) or sorted(DIST.glob("plugins/*.so"))
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
ROUNDS = 5000  # the first thousand warm up: pools of the runtime grow to their size and stay

pytestmark = [
    pytest.mark.skipif(not PLUGINS, reason=f"no plugins in {DIST}: run make build first"),
    pytest.mark.skipif(not COMPILER, reason="no C compiler"),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    program = tmp_path_factory.mktemp("life") / "plugin_life"
    subprocess.run(
        [COMPILER, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{ROOT / 'include'}",
         str(ROOT / "Tests/Contract/plugin_life.c"), "-o", str(program), "-ldl", "-lpthread"],
        check=True, timeout=60)
    return program


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_thousands_of_instances_leave_nothing_behind(host, path):
    # One arena and no caches of threads, so that the heap's figure is what is in use.
    settings = {"MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
    run = subprocess.run(
        [host, path, str(ROUNDS)], capture_output=True, text=True, timeout=120, env={**os.environ, **settings})
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    warm, end = report["warm"], report["end"]
    rounds = ROUNDS - ROUNDS // 5
    assert report["completed"] >= 2 * ROUNDS, report
    # A pool of threads may still grow by a few after the first fifth; one thread for each instance would be thousands.
    assert end["threads"] - warm["threads"] <= 8, report
    assert end["descriptors"] - warm["descriptors"] <= 2, report
    # 64 bytes an instance: less than the smallest object anybody could forget, with what it points at.
    assert (end["heap"] - warm["heap"]) / rounds < 64, report
    assert end["resident_kb"] - warm["resident_kb"] < 4096, report
