# SPDX-License-Identifier: Apache-2.0
"""What root's commands make of an installed unit: whose a new data directory is, and what they say comes next."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import DIST, Daemon, Run

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away"),
]

UNITS = Path("/etc/systemd/system")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may pass through."""
    path = Path(tempfile.mkdtemp(prefix="milepost-unit-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def run(daemon: Daemon, *command: str, user: str = "nobody", config: Path | None = None) -> Run:
    """A command on a machine whose unit runs this daemon's configuration, or another."""
    if not UNITS.is_dir():
        pytest.skip("no folder of units on this machine")
    folder = daemon.directory / "units"
    folder.mkdir(exist_ok=True)
    (folder / "milepost.service").write_text(
        f"[Service]\nExecStart=/usr/sbin/milepostd --config {config or daemon.config_file}\nUser={user}\n"
        f"LoadCredential=kek:{daemon.settings['kms']['path']}\n")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'mount --bind {folder} {UNITS} && exec "$@"', "sh",
         *command, "--config", str(daemon.config_file)],
        env={**daemon.environment(), "MILEPOST_URL": daemon.url or "http://127.0.0.1:1"},
        capture_output=True, text=True, timeout=60)
    if done.returncode != 0 and not done.stdout and "unshare" in done.stderr:
        pytest.skip("a mount namespace needs CAP_SYS_ADMIN")
    return Run(done.returncode, done.stdout, done.stderr)


def milepost(daemon: Daemon, *arguments: str, **options: object) -> Run:
    return run(daemon, str(DIST / "milepost"), *arguments, **options)


class TestFolder:
    def test_what_init_makes_is_the_units_user_s(self, place: Path) -> None:
        """EXT-14: the daemon must be able to write what root made"""
        daemon = Daemon(place, data_dir=str(place / "srv" / "deep" / "data"))
        made = milepost(daemon, "init", "--json")
        assert made.code == 0, made
        nobody = pwd.getpwnam("nobody").pw_uid
        data = Path(daemon.settings["data_dir"])
        assert data.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_uid for path in [data, *data.iterdir()]} == {nobody}
        assert data.parent.stat().st_uid == 0 and data.parent.stat().st_mode & 0o777 == 0o755
        found = json.loads(milepost(daemon, "doctor", "--offline", "--json").out)["findings"]
        assert [entry for entry in found if entry["severity"] == "problem"] == [], found

    @pytest.mark.parametrize("other", ["another configuration", "nobody called so"])
    def test_where_the_unit_does_not_say_whose_it_is_it_stays_root_s(self, place: Path, other: str) -> None:
        daemon = Daemon(place)
        options = {"config": place / "other.yaml"} if other == "another configuration" else {"user": "no-such-user"}
        made = milepost(daemon, "init", "--json", **options)
        assert made.code == 0 and daemon.data.stat().st_uid == 0, made


def test_doctor_without_an_answer_names_the_unit(place: Path) -> None:
    """And not itself, which is running already"""
    daemon = Daemon(place)
    milepost(daemon, "init", "--json")
    found = json.loads(milepost(daemon, "doctor", "--offline", "--json").out)["findings"]
    [told] = [entry for entry in found if entry["code"] == "unreachable"]
    assert "systemctl status milepost" in told["cure"] and "doctor" not in told["cure"], told


def test_init_and_restore_say_how_the_unit_is_started(place: Path) -> None:
    """EXT-18"""
    daemon = Daemon(place)
    assert "next           systemctl start milepost, then" in milepost(daemon, "init", "--no-save").out
    backup = place / "copy.db"
    shutil.copy(daemon.data / "milepost.db", backup)
    restored = milepost(daemon, "restore", str(backup))
    assert "next           systemctl start milepost, then: milepost status" in restored.out, restored
    elsewhere = milepost(daemon, "init", "--no-save", config=place / "other.yaml")
    assert f"next           milepostd --config {daemon.config_file}, then" in elsewhere.out, elsewhere
