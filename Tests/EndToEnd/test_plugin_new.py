# SPDX-License-Identifier: Apache-2.0
"""`milepost plugin new`: what it makes builds with the installed header or SDK alone, and is green as it is (EXT-01)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from guide_page import free_port
from harness import DIST, FULL, ROOT, wait_for

MILEPOST = DIST / "milepost"
KIT = ROOT / "Sources/MilepostKit"
COMPILERS = {"c": "cc", "c++": "c++", "swift": "swift", "rust": "cargo"}


@pytest.mark.parametrize("language", COMPILERS)
def test_a_generated_project_builds_and_is_green(language: str, tmp_path: Path) -> None:
    if not shutil.which(COMPILERS[language]):
        pytest.skip(f"no {COMPILERS[language]} on this machine")
    if language == "swift" and not FULL:
        pytest.skip("the kit takes a minute to build, and test_guide.py builds a Swift project with it; all in make test-full")
    folder = tmp_path / "acme-crm"
    made = subprocess.run(
        [MILEPOST, "plugin", "new", "acme-crm", "--language", language], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0 and "next  cd ./acme-crm && make" in made.stdout, made.stderr
    # Nothing of this repository is in reach but a copy of the headers, as the package installs them.
    include = tmp_path / "include"
    shutil.copytree(ROOT / "include/milepost", include / "milepost")
    environment = {**os.environ, "MILEPOST_INCLUDE": str(include), "MILEPOST_KIT": str(KIT), "PATH": f"{DIST}:{os.environ['PATH']}"}
    built = subprocess.run(["make", "all"], cwd=folder, env=environment, capture_output=True, text=True, timeout=590)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "warning:" not in built.stdout + built.stderr, built.stdout + built.stderr
    assert (folder / "debian/rules").stat().st_mode & 0o111
    run = subprocess.run(
        [MILEPOST, "plugin", "check", "build/acme-crm.so", "--vendor", "acme-crm.vendor.json", "--strict", "--json"],
        cwd=folder, capture_output=True, text=True, timeout=300)
    report = json.loads(run.stdout)
    assert run.returncode == 0 and report["failed"] == 0, report
    # What it does not have: extensions, hooks, webhooks and streams.
    assert {found["number"] for found in report["checks"] if found["outcome"] == "not_applicable"} == {16, 39, 40, 41}


@pytest.mark.parametrize("language", ["c", "c++", "rust"])
def test_a_generated_project_tests_itself(language: str, tmp_path: Path) -> None:
    """`make test` runs the project's own tests and the checks. Swift's are left to its author: its test build takes minutes."""
    if not shutil.which(COMPILERS[language]):
        pytest.skip(f"no {COMPILERS[language]} on this machine")
    subprocess.run([MILEPOST, "plugin", "new", "acme", "--language", language], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    environment = {**os.environ, "MILEPOST_INCLUDE": str(ROOT / "include"), "PATH": f"{DIST}:{os.environ['PATH']}"}
    run = subprocess.run(["make", "test"], cwd=tmp_path / "acme", env=environment, capture_output=True, text=True, timeout=400)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 failed" in run.stdout and ("all passed" in run.stdout or "test result: ok" in run.stdout)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plugin of each language whose compiler is here and quick: crm-c, crm-cxx, crm-rust. The guide's test has one in
    Swift."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "plugins").mkdir()
    environment = {**os.environ, "MILEPOST_INCLUDE": str(ROOT / "include")}
    for language in ("c", "c++", "rust"):
        if shutil.which(COMPILERS[language]):
            name = f"crm-{language.replace('+', 'x')}"
            subprocess.run(
                [MILEPOST, "plugin", "new", name, "--language", language], cwd=folder, check=True, capture_output=True, timeout=60)
            built = subprocess.run(["make", "all"], cwd=folder / name, env=environment, capture_output=True, text=True, timeout=400)
            assert built.returncode == 0, built.stdout + built.stderr
            for suffix in ("so", "json"):
                shutil.copy(folder / name / "build" / f"{name}.{suffix}", folder / "plugins")
    return folder / "plugins"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("isolation", ["worker", "inline"] if FULL else ["worker"])
def test_generated_projects_deliver_as_they_are(isolation: str, own: Any, generated: Path) -> None:
    """EXT-01, EXT-06: loaded beside one another, connected, and exact while the vendor loses answers, fails and asks for patience."""
    names = sorted(path.stem for path in generated.glob("*.so"))
    assert names and names[0] == "crm-c"
    daemon = own(plugin_dirs=[str(generated)], delivery={"operation_timeout": "5s", "request_timeout": "1s"})
    sandbox = daemon.sandbox
    daemon.settings["plugins"] = {
        name: {"enabled": True, "isolation": isolation, "endpoints": {"api": f"{sandbox.url}/generic"}} for name in names}
    daemon.write_config()
    daemon.start()
    loaded = {found["name"]: (found["state"], found["isolation"]) for found in daemon.rest.get("/v1/admin/plugins")["plugins"]}
    assert loaded == {name: ("loaded", isolation) for name in names}
    workspace = daemon.workspace("acme")
    for name in names:
        daemon.rest.post(
            f"{workspace.base}/integrations/{name}",
            {"credentials": {"api_key": "sandbox-generic-token"}, "list": 1, "thresholds": [1]}, expect=(200, 201))
    for kind, more in [
        ("drop_after_commit", {}), ("status", {"status": 500, "commit": True}), ("status", {"status": 503}),
        ("status", {"status": 429, "headers": {"Retry-After": "1"}}), ("drop_before_commit", {}),
    ]:
        sandbox.fault(kind, path="/generic/v1/records", **more)
    links = ["spring", "summer"]
    for link in links:
        workspace.clicks(link, 1)

    def deliveries() -> list[dict[str, Any]]:
        return daemon.rest.get(f"{workspace.base}/deliveries?limit=100")["deliveries"]

    def is_done() -> bool:
        daemon.tick(workspace.name)
        return [found["state"] for found in deliveries()] == ["delivered"] * len(links) * len(names)

    wait_for("a delivery of each link by each plugin", is_done, 200, pause=0.5)
    assert sandbox.struck() == 5, sandbox.faults()
    records = sandbox.ledger("generic")["generic"]["collections"]["records"]
    assert sorted(record["key"] for record in records) == sorted(found["id"] for found in deliveries())
    assert sandbox.ledger("violations")["violations"] == []


def test_the_readme_of_a_project_is_true_when_it_is_pasted(tmp_path: Path) -> None:
    """EXT-01: the block under "Try it with no account", as one paste, leaves a record at the emulated vendor and the project clean."""
    subprocess.run([MILEPOST, "plugin", "new", "acme"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    folder = tmp_path / "acme"
    before = {path.name for path in folder.iterdir()}
    environment = {**os.environ, "MILEPOST_INCLUDE": str(ROOT / "include"), "PATH": f"{DIST}:{os.environ['PATH']}"}
    subprocess.run(["make", "-s"], cwd=folder, env=environment, check=True, capture_output=True, timeout=100)
    chapter = (folder / "README.md").read_text().partition("## Try it with no account")[2]
    block = chapter.partition("```sh\n")[2].partition("```")[0]
    assert "milepost connect acme" in block
    listen = {port: free_port() for port in ("8787", "8899")}
    for port, own_port in listen.items():
        block = block.replace(port, own_port)
    environment |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "MILEPOST_URL": f"http://127.0.0.1:{listen['8787']}"}
    run = subprocess.run(
        ["bash", "--norc", "-c", f"{block}\nkill $(jobs -p); wait"], cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert "spring reached 1 clicks" in run.stdout, run.stdout + run.stderr
    assert {path.name for path in folder.iterdir()} == before | {"build"}


@pytest.mark.parametrize("name", ["../escape", "Acme", "acme crm", "test", "a"])
def test_a_name_that_is_none_makes_nothing(name: str, tmp_path: Path) -> None:
    run = subprocess.run([MILEPOST, "plugin", "new", name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 64 and "cannot be a plugin's name" in run.stderr or "is taken" in run.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    run = subprocess.run([MILEPOST, "plugin", "new", "acme"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "is there already" in run.stderr
    assert not list((tmp_path / "acme").iterdir())


@pytest.mark.parametrize("language", ["c", "c++", "rust"])
def test_a_generated_project_becomes_a_package_with_its_two_files(language: str, tmp_path: Path) -> None:
    if not shutil.which("dh") or not shutil.which(COMPILERS[language]):
        pytest.skip("no debhelper or no compiler on this machine")
    subprocess.run([MILEPOST, "plugin", "new", "acme-crm", "--language", language], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    environment = {
        **os.environ, "MILEPOST_INCLUDE": str(ROOT / "include"), "PATH": f"{DIST}:{os.environ['PATH']}", "DEB_BUILD_OPTIONS": "nocheck"}
    run = subprocess.run(["make", "package"], cwd=tmp_path / "acme-crm", env=environment, capture_output=True, text=True, timeout=400)
    assert run.returncode == 0, run.stdout + run.stderr
    (package,) = [path for path in tmp_path.glob("*.deb") if "dbgsym" not in path.name]
    listed = subprocess.run(["dpkg-deb", "--contents", package], check=True, capture_output=True, text=True, timeout=60).stdout
    files = {line.split()[5]: line.split()[:2] for line in listed.splitlines() if not line.startswith("d")}
    plugins = "./usr/lib/milepost/plugins/acme-crm"
    documents = "./usr/share/doc/milepost-plugin-acme-crm/"
    assert set(files) - {name for name in files if name.startswith(documents)} == {f"{plugins}.so", f"{plugins}.json"}, listed
    assert all(facts == ["-rw-r--r--", "root/root"] for facts in files.values()), listed
    control = subprocess.run(["dpkg-deb", "--field", package, "Depends"], check=True, capture_output=True, text=True, timeout=60).stdout
    assert "milepost-plugin-abi-1" in control and "libc6" in control, control
    # What apt installs is what was checked.
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path / "root"], check=True, timeout=60)
    report = subprocess.run(
        [MILEPOST, "plugin", "check", tmp_path / "root" / plugins[2:].replace("acme-crm", "acme-crm.so"), "--level", "2", "--json"],
        capture_output=True, text=True, timeout=120)
    assert report.returncode == 0, report.stdout + report.stderr
