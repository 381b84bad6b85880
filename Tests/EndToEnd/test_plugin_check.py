# SPDX-License-Identifier: Apache-2.0
"""`milepost plugin check`: our own plugins are green, and for every check there is a plugin that it is the first to catch
(EXT-04)."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as tree
from pathlib import Path
from typing import Any

import pytest

from harness import DIST, FULL, ROOT
from plugin_zoo import ANIMALS, WELL, Animal

MILEPOST = DIST / "milepost"
OWN = sorted((DIST / "plugins").glob("*.so"))
HARDENED = "-Wl,-z,relro,-z,now,-z,noexecstack"


TRIES = 3
"""Checks have time limits, which a busy machine may miss once; a fault of the plugin shows every time."""


def check(library: Path, *options: str, expect: int | None = 0) -> dict[str, Any]:
    for _ in range(TRIES):
        run = subprocess.run(
            [MILEPOST, "plugin", "check", library, "--json", *options], capture_output=True, text=True, timeout=400)
        if expect is None or run.returncode == expect:
            break
    assert expect is None or run.returncode == expect, run.stdout + run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "acme"
    subprocess.run(
        [MILEPOST, "plugin", "new", "acme", "--language", "c", "--folder", folder], check=True, capture_output=True, timeout=60)
    # The zoo breaks a connector at the ABI itself, below what <milepost/connector.h> would keep right.
    for source in ("plugin.c", "json.h"):
        shutil.copy(ROOT / "Tests/Plugins/bare" / source, folder / "src" / source)
    return folder


def build(animal: Animal, project: Path, folder: Path) -> Path:
    """Compiles the project with what the animal breaks, into a folder of its own."""
    source = (project / "src/plugin.c").read_text()
    for old, new in animal.edits:
        assert source.count(old) == 1, f"{animal.name}: {source.count(old)} times in the template: {old}"
        source = source.replace(old, new)
    manifest = json.loads((project / "acme.json").read_text())
    if animal.manifest:
        animal.manifest(manifest)
    described = json.dumps(manifest).encode()
    if animal.sidecar:
        animal.sidecar(manifest)
    (folder / "plugin.c").write_text(source)
    (folder / "manifest.h").write_text(f"static const unsigned char manifest[] = {{{','.join(map(str, described))}}};\n")
    (folder / "export.map").write_text(f"{{ global: {animal.exports} local: *; }};\n")
    (folder / "acme.json").write_text(json.dumps(manifest))
    (folder / "acme.vendor.json").write_text((project / "acme.vendor.json").read_text())
    link = [flag for flag in (HARDENED, "-Wl,-z,defs") if flag not in animal.without]
    library = folder / "acme.so"
    subprocess.run(
        ["cc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-stack-protector", "-w", f"-I{ROOT / 'include'}", f"-I{folder}",
         f"-I{project / 'src'}", "-o", library, folder / "plugin.c", *link, f"-Wl,--version-script={folder / 'export.map'}",
         *animal.flags],
        check=True, timeout=60)
    library.chmod(animal.mode)
    (folder / "acme.json").chmod(0o644)
    return library


@pytest.mark.parametrize("library", OWN, ids=lambda path: path.stem)
def test_our_own_plugins_are_green(library: Path) -> None:
    """EXT-04: what we ask of others holds for us."""
    script = ROOT / "Plugins" / library.stem / f"{library.stem}.vendor.json"
    report = check(library, *(["--vendor", str(script)] if script.exists() else []))
    assert report["failed"] == 0 and report["passed"] >= 20, report


def test_a_right_plugin_passes_every_check(project: Path, tmp_path: Path) -> None:
    report = check(build(WELL, project, tmp_path), "--strict", "--seed", "7")
    assert report["skipped"] == 0 and report["seed"] == "7"


# A check takes seconds, and each runs in processes of its own: every fifth in `make test`, all in `make test-full`.
@pytest.mark.parametrize("animal", ANIMALS if FULL else ANIMALS[::5], ids=lambda animal: animal.name)
def test_a_broken_plugin_is_caught_by_the_check_meant_for_it(animal: Animal, project: Path, tmp_path: Path) -> None:
    library = build(animal, project, tmp_path)
    for _ in range(TRIES):
        report = check(library, "--fail-fast", "--seed", "7", expect=1)
        failed = [found for found in report["checks"] if found["outcome"] == "failed"]
        if [found["number"] for found in failed] == [animal.check]:
            break
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
