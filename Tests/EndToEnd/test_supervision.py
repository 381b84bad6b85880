# SPDX-License-Identifier: Apache-2.0
"""What a service manager hears (a stub of systemd's socket, decisions 42), and a backup put back."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

from harness import DIST, Daemon, Rest
from processes import wait_for


class Manager:
    """systemd's end of sd_notify."""

    def __init__(self, path: str):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def hears(self, what: str, count: int = 1, timeout: float = 20) -> None:
        def look() -> bool:
            while True:
                try:
                    self.heard.append(self.socket.recv(4096).decode())
                except BlockingIOError:
                    break
            return sum(what in message.split("\n") for message in self.heard) >= count

        wait_for(f"{count} × {what} in {self.heard}", look, timeout)


def test_readiness_reload_watchdog_and_the_end_are_told(own, tmp_path: Path) -> None:
    """EXT-14: ready only once it takes work, and the reload's end is told as its beginning is"""
    manager = Manager(str(tmp_path / "notify"))
    daemon: Daemon = own()
    daemon.env |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    daemon.start()
    manager.hears("READY=1")
    assert Rest(daemon.url).request("GET", "/readyz").status == 200, "ready, and takes no work"
    manager.hears("WATCHDOG=1", count=3)
    daemon.process.signal(signal.SIGHUP)
    manager.hears("RELOADING=1")
    manager.hears("READY=1", count=2)
    begun = next(message for message in manager.heard if message.startswith("RELOADING=1"))
    assert re.search(r"^MONOTONIC_USEC=\d+$", begun, re.M), begun
    order = [message.split("\n")[0] for message in manager.heard if not message.startswith("WATCHDOG")]
    assert order == ["READY=1", "RELOADING=1", "READY=1"], order
    daemon.stop()
    manager.hears("STOPPING=1")


def test_a_refused_reload_is_told_and_ends_the_reload(own, tmp_path: Path) -> None:
    """EXT-14, EXT-15"""
    manager = Manager(str(tmp_path / "notify"))
    daemon: Daemon = own()
    daemon.env["NOTIFY_SOCKET"] = str(tmp_path / "notify")
    daemon.start()
    manager.hears("READY=1")
    (daemon.directory / "conf.d").mkdir(exist_ok=True)
    (daemon.directory / "conf.d" / "99-wrong.yaml").write_text("lissten: x\n")
    daemon.process.signal(signal.SIGHUP)
    manager.hears("READY=1", count=2)
    assert "refused" in manager.heard[-1], manager.heard


def test_a_standby_is_ready_for_what_it_is_there_for(own, tmp_path: Path) -> None:
    """EXT-14: whoever starts the second daemon need not wait for the first one's end"""
    first: Daemon = own().start()
    manager = Manager(str(tmp_path / "notify"))
    done = subprocess.Popen(
        [str(DIST / "milepostd"), "--config", str(first.config_file)],
        env=first.environment() | {"NOTIFY_SOCKET": str(tmp_path / "notify")}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        manager.hears("READY=1")
        assert "standby" in manager.heard[0], manager.heard
    finally:
        os.kill(done.pid, signal.SIGKILL)
        done.wait(10)


def test_a_key_is_made_once_and_an_existing_one_is_left_alone(tmp_path: Path) -> None:
    """EXT-14, decisions 33"""
    daemon = Daemon(tmp_path)
    command = [str(DIST / "milepostd"), "--make-key", "--config", str(daemon.config_file)]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=daemon.environment()).stdout)
    key = Path(made["kek"])
    first = key.read_bytes()
    assert made["kek_created"] is True and key.stat().st_mode & 0o777 == 0o600 and not daemon.data.exists()
    again = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=daemon.environment()).stdout)
    assert again["kek_created"] is False and key.read_bytes() == first


class TestRestore:
    def restore(self, daemon: Daemon, backup: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(DIST / "milepost"), "restore", str(backup), "--config", str(daemon.config_file), "--json"],
            capture_output=True, text=True, env=daemon.environment())

    def test_a_backup_comes_back_and_what_was_there_is_kept(self, own) -> None:
        """EXT-18"""
        daemon: Daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.clicks("a", 1)
        backup = daemon.directory / "copy.db"
        daemon.cli("backup", str(backup))
        workspace.clicks("a", 1)
        refused = self.restore(daemon, backup)
        assert refused.returncode != 0 and "stop it first" in refused.stderr, refused
        assert json.loads(refused.stdout)["code"] == "restore_failed", refused
        daemon.stop()
        answer = json.loads(self.restore(daemon, backup).stdout)
        assert answer["refresh_tokens"] == 0
        assert Path(answer["kept"]).exists() and not list(daemon.data.glob("restoring"))
        daemon.start()
        assert workspace.link("a")["totals"]["all"] == 1

    def test_a_damaged_or_foreign_backup_changes_nothing(self, own) -> None:
        """EXT-18"""
        daemon: Daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.clicks("a", 1)
        backup = daemon.directory / "copy.db"
        daemon.cli("backup", str(backup))
        daemon.stop()
        before = (daemon.data / "milepost.db").read_bytes()
        broken = bytearray(backup.read_bytes())
        broken[8192:] = bytes(len(broken) - 8192)
        for name, content in {"cut": bytes(broken), "text": b"no database at all, and long enough to be one" * 99}.items():
            wrong = daemon.directory / name
            wrong.write_bytes(content)
            refused = self.restore(daemon, wrong)
            assert refused.returncode != 0, refused.stdout
            assert (daemon.data / "milepost.db").read_bytes() == before
            assert not list(daemon.data.glob("*before-restore*")) and not list(daemon.data.glob("restoring"))
