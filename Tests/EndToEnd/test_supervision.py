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


def as_journal(log: Path) -> dict[str, str]:
    """What systemd sets when a file takes the place of the journal's stream."""
    log.touch()
    return {"JOURNAL_STREAM": f"{log.stat().st_dev}:{log.stat().st_ino}"}


def test_the_journal_hears_the_priority_of_each_line_and_keeps_its_own_time(own) -> None:
    """EXT-14, sd-daemon(3): `journalctl -p err` shows the errors and nothing else"""
    daemon: Daemon = own(plugins={"absent": {"enabled": True}})
    daemon.env |= as_journal(daemon.log)
    daemon.start()
    lines = daemon.process.output().splitlines()
    numbers = {"ERROR": 3, "WARNING": 4, "NOTICE": 5, "INFO": 6, "DEBUG": 7}
    for line in lines:
        found = re.match(r"<(\d)>([A-Z]+) [a-z]+: ", line)
        assert found and numbers[found[2]] == int(found[1]), line
    assert any(line.startswith("<3>ERROR plugin: plugin absent refused") for line in lines), lines
    assert any(line.startswith("<6>INFO milepostd: ready") for line in lines), lines


def test_what_goes_elsewhere_has_times_and_no_priorities_and_json_stays_json(own) -> None:
    """EXT-14: JOURNAL_STREAM is inherited by processes whose output is redirected"""
    daemon: Daemon = own()
    daemon.env |= as_journal(daemon.directory / "another")
    daemon.start()
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in daemon.process.output().splitlines())
    daemon.stop()
    daemon.settings["log"]["format"] = "json"
    daemon.write_config()
    daemon.env |= as_journal(daemon.log)
    daemon.process = None
    child = subprocess.Popen(
        [str(DIST / "milepostd"), "--config", str(daemon.config_file)], env=daemon.environment(), stderr=(log := daemon.log.open("wb")))
    try:
        wait_for("a line", lambda: b"listening" in daemon.log.read_bytes())
        assert all("ts" in json.loads(line) for line in daemon.log.read_text().splitlines())
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        log.close()


def test_why_it_does_not_start_is_an_error_of_the_journal_line_by_line(tmp_path: Path) -> None:
    """EXT-14"""
    daemon = Daemon(tmp_path)
    daemon.config_file.write_text("lissten: x\nlog: { level: loud }\n")
    log = tmp_path / "stderr"
    environment = daemon.environment() | as_journal(log)
    with log.open("wb") as stream:
        done = subprocess.run(
            [str(DIST / "milepostd"), "--config", str(daemon.config_file)], stderr=stream, env=environment, timeout=20)
    lines = log.read_text().splitlines()
    assert done.returncode == 78 and len(lines) >= 2 and all(line.startswith("<3>") for line in lines), lines


def test_a_backup_that_cannot_be_written_says_where_and_why(own) -> None:
    """EXT-18: and does not make the store look broken"""
    daemon: Daemon = own().start()
    place = daemon.directory / "absent" / "copy.db"
    run = daemon.cli("backup", str(place), check=False)
    assert run.code != 0 and "backup_unwritable" in run.err + run.out, (run.out, run.err)
    for part in (str(place), "No such file or directory", "/var/backups/milepost"):
        assert part in run.err + run.out, run.err
    assert daemon.rest.get("/v1/admin/status")["store"]["writable"] is True
    assert daemon.rest.get("/v1/admin/status")["problems"] == []


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
