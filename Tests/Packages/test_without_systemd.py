# SPDX-License-Identifier: Apache-2.0
"""The packages' own tests (DEP-8) as the null runner runs them, in a system without a running systemd."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import ROOT, WORK, Machine

TESTS = ROOT / "packaging/debian/tests"


@pytest.fixture(scope="module")
def quiet(packages: dict[str, Path]) -> Iterator[Machine]:
    machine = Machine(WORK / "quiet")
    place = machine.inside("/srv")
    names = ("milepost", "milepost-plugin-pipedrive", "milepost-sandbox")
    for file in [packages[name] for name in names] + [path for path in TESTS.iterdir() if path.name != "control"]:
        shutil.copy(file, place)
    done = machine.once("dpkg -i /srv/*.deb")
    assert done.returncode == 0, done.stdout + done.stderr
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


def test_the_superficial_test_passes(quiet: Machine) -> None:
    """EXT-14"""
    command = next(stanza["Test-Command"] for stanza in stanzas() if "Test-Command" in stanza)
    done = quiet.once(command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_clicks_become_a_deal_without_systemd(quiet: Machine) -> None:
    """EXT-14: installed where nothing was started, the daemon run as the unit would run it"""
    done = quiet.once("/srv/first-deal")
    assert done.returncode == 0 and "a deal was made" in done.stdout, done.stdout[-4000:] + done.stderr[-4000:]
