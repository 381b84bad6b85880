# SPDX-License-Identifier: Apache-2.0
"""`milepost plugin check`: our own plugins are green, and for every check there is a plugin that it is the first to catch
(EXT-04)."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as tree
from pathlib import Path
from typing import Any

import pytest

from harness import DIST, FULL, ROOT
from plugin_zoo import ANIMALS, WELL, Animal, build, new_project

MILEPOST = DIST / "milepost"
OWN = sorted((DIST / "plugins").glob("*.so"))

# Ends what hangs, no more: on a machine that is busy with other work a check takes ten times as long and is as right.
pytestmark = pytest.mark.timeout(900)


def check(library: Path, *options: str, expect: int | None = 0) -> dict[str, Any]:
    run = subprocess.run(
        [MILEPOST, "plugin", "check", library, "--json", *options], capture_output=True, text=True, timeout=800)
    assert expect is None or run.returncode == expect, run.stdout + run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_project(tmp_path_factory.mktemp("zoo") / "acme")


@pytest.mark.parametrize("library", OWN, ids=lambda path: path.stem)
def test_our_own_plugins_are_green(library: Path) -> None:
    """EXT-04: what we ask of others holds for us, with nothing left unknown."""
    script = ROOT / "Plugins" / library.stem / f"{library.stem}.vendor.json"
    report = check(library, "--strict", *(["--vendor", str(script)] if script.exists() else []))
    assert report["failed"] == 0 and report["passed"] >= 20, report


def test_a_right_plugin_passes_every_check(project: Path, tmp_path: Path) -> None:
    report = check(build(WELL, project, tmp_path), "--strict", "--seed", "7")
    assert report["skipped"] == 0 and report["seed"] == "7"


def test_a_plain_destination_passes_strictly_and_is_told_what_does_not_apply(project: Path, tmp_path: Path) -> None:
    """EXT-04: extensions, judging, webhooks and streams are no part of a plain destination, so nothing of it is left unknown."""
    report = check(build(Animal("plain", 0), project, tmp_path), "--strict")
    aside = {found["number"]: found["message"] for found in report["checks"] if found["outcome"] == "not_applicable"}
    assert set(aside) == {16, 39, 40, 41} and report["not_applicable"] == 4 and report["skipped"] == 0
    assert all(aside.values()), "each says why"


def test_a_check_that_could_not_be_made_is_skipped_and_fails_a_strict_run(project: Path, tmp_path: Path) -> None:
    """EXT-04: with a vendor that has nothing to list, the picker and the streams cannot be tried; that is no pass."""
    library = build(WELL, project, tmp_path)
    script = json.loads((tmp_path / "acme.vendor.json").read_text())
    for route in script["routes"]:
        if route["match"].endswith("/lists"):
            route["body"] = {"items": []}
    (tmp_path / "acme.vendor.json").write_text(json.dumps(script))
    report = check(library, "--only", "41")
    assert [found["outcome"] for found in report["checks"]] == ["skipped"], report
    check(library, "--only", "41", "--strict", expect=1)


def test_an_author_is_told_of_verbs_that_nobody_calls_yet(project: Path, tmp_path: Path) -> None:
    """decisions 0017: pull, webhook and catalog are reserved. The plugin may have them, and is not left waiting."""
    report = check(build(WELL, project, tmp_path), "--only", "8,40,41")
    told = {found["number"]: found["message"] for found in report["checks"]}
    assert all("reserved" in message for message in told.values()), told
    assert "webhook, pull" in told[8]
    plain = tmp_path / "plain"
    report = check(build(Animal("plain", 0), project, plain), "--only", "8")
    assert report["checks"][0]["message"] == ""


def test_a_project_that_builds_into_a_folder_needs_to_name_no_script(project: Path, tmp_path: Path) -> None:
    """EXT-04: the vendor's script and the list of disabled checks lie in the project, and the plugin in its build folder."""
    library = build(Animal("plain", 0), project, tmp_path / "build")
    script = tmp_path / "build/acme.vendor.json"
    script.rename(tmp_path / script.name)
    (tmp_path / "acme.checks").write_text("9 ours\n")
    report = check(library, "--only", "9,29,31", "--strict")
    assert report["passed"] == 2 and report["disabled"] == {"9": "ours"}, report
    (tmp_path / script.name).write_text('{"routes": [{"match": "GET"}]}')
    run = subprocess.run([MILEPOST, "plugin", "check", library], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0 and "route 1 of the vendor's script" in run.stderr, "it was read from there"
    run = subprocess.run([MILEPOST, "plugin", "check", tmp_path / "build/none.so"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 64 and "build the plugin first" in run.stderr


# A check takes seconds, and each runs in processes of its own: every fifth in `make test`, all in `make test-full`.
@pytest.mark.parametrize("animal", ANIMALS if FULL else ANIMALS[::5], ids=lambda animal: animal.name)
def test_a_broken_plugin_is_caught_by_the_check_meant_for_it(animal: Animal, project: Path, tmp_path: Path) -> None:
    library = build(animal, project, tmp_path)
    report = check(library, "--fail-fast", "--seed", "7", expect=1)
    failed = [found for found in report["checks"] if found["outcome"] == "failed"]
    assert [found["number"] for found in failed] == [animal.check], failed
    assert failed[0]["message"] and failed[0]["cure"]


def test_every_check_has_a_plugin_that_it_catches_first() -> None:
    listed = json.loads(
        subprocess.run([MILEPOST, "plugin", "check", "--list", "--json"], capture_output=True, check=True, timeout=60).stdout)
    assert {found["number"] for found in listed["checks"]} == {animal.check for animal in ANIMALS}


def test_a_hanging_check_is_ended_and_what_was_printed_is_shown(project: Path, tmp_path: Path) -> None:
    animal = next(animal for animal in ANIMALS if animal.name == "aborts")
    library = build(animal, project, tmp_path)
    run = subprocess.run([MILEPOST, "plugin", "check", library, "--only", "27"], capture_output=True, text=True, timeout=100)
    assert run.returncode == 1 and "signal 6 (SIGABRT)" in run.stdout and "cure:" in run.stdout


def test_reports_selection_and_disabled_checks(project: Path, tmp_path: Path) -> None:
    library = build(next(animal for animal in ANIMALS if animal.check == 9), project, tmp_path)
    report = tmp_path / "report.xml"
    check(library, "--only", "7,9", "--junit", str(report), expect=1)
    suite = tree.parse(report).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    (tmp_path / "acme.checks").write_text("# ours\n9  the licence is asked for\n")
    disabled = check(library, "--only", "7,9")
    assert disabled["disabled"] == {"9": "the licence is asked for"}
    (tmp_path / "acme.checks").write_text("9\n")
    run = subprocess.run([MILEPOST, "plugin", "check", library], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0 and "followed by a reason" in run.stderr
    none = tmp_path / "none.checks"
    none.write_text("")
    traced = check(library, "--only", "27", "--trace", "--disable", str(none))
    assert any(line.startswith("http POST") for line in traced["checks"][0]["trace"])
    levels = check(library, "--level", "1", "--disable", str(none))
    assert {found["level"] for found in levels["checks"]} == {1}
