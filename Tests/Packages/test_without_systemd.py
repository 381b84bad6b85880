# SPDX-License-Identifier: Apache-2.0
"""The packages' own tests (DEP-8), run by Debian's autopkgtest with its null runner, in a system without a running systemd."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import ROOT, TESTBED, WORK, Machine

DEBIAN = ROOT / "packaging/debian"
TESTS = DEBIAN / "tests"


@pytest.fixture(scope="module")
def testbed(packages: dict[str, Path]) -> Iterator[Machine]:
    machine = Machine(WORK / "testbed", "testbed", TESTBED)
    place = machine.inside("/srv/packages")
    place.mkdir()
    for name, file in packages.items():
        if not name.endswith("-dbgsym"):
            shutil.copy(file, place)
    shutil.copytree(DEBIAN, machine.inside("/srv/source/debian"))
    yield machine
    machine.stop()


def stanzas() -> list[dict[str, str]]:
    return [
        dict(line.split(": ", 1) for line in block.splitlines()) for block in (TESTS / "control").read_text().strip().split("\n\n")]


def test_every_dep8_test_is_there_and_runs_as_root() -> None:
    """EXT-14"""
    for stanza in stanzas():
        assert "needs-root" in stanza["Restrictions"], stanza
        for name in stanza.get("Tests", "").split():
            assert (TESTS / name).stat().st_mode & 0o111, name


def test_autopkgtest_passes_every_dep8_test_with_the_null_runner(testbed: Machine) -> None:
    """EXT-14: installed where nothing was started, the daemon run as the unit would run it; a plugin from its sources."""
    done = testbed.once(
        "autopkgtest --no-built-binaries --summary-file=/srv/summary "
        "/srv/packages/*.deb /srv/source/ -- null", timeout=600)
    summary = testbed.inside("/srv/summary")
    said = done.stdout[-5000:] + done.stderr[-5000:]
    assert summary.exists(), said
    results = dict(re.findall(r"^(\S+)\s+(\S+)", summary.read_text(), re.M))
    names = [name for stanza in stanzas() for name in stanza.get("Tests", "").split()]
    assert results == {name: "PASS" for name in [*names, "command1"]}, f"{results}\n{said}"
    assert done.returncode == 0, said
