# SPDX-License-Identifier: Apache-2.0
"""What keeps the daemon from starting, and what it says then: configuration and database."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import pytest

from harness import DIST, Daemon, Rest

EX_CONFIG = 78


def refused(daemon: Daemon, code: int | None = None) -> str:
    """Starts a daemon that must not start; returns what it says."""
    done = subprocess.run(
        [str(DIST / "milepostd"), "--config", str(daemon.config_file)],
        capture_output=True,
        text=True,
        timeout=20,
        env=daemon.environment(),
    )
    assert done.returncode != 0 and (code is None or done.returncode == code), (
        done.returncode,
        done.stdout,
        done.stderr,
    )
    return done.stdout + done.stderr


class TestConfiguration:
    @pytest.mark.parametrize(
        ("text", "line", "told"),
        [
            ("listen: 127.0.0.1:0\nlissten: x\n", 2, ["unknown key 'lissten'", "did you mean 'listen'"]),
            ("schedule:\n  treshold_interval: 5m\n", 2, ["treshold_interval", "did you mean 'threshold_interval'"]),
            ("plugins:\n  pipedrive:\n    enabeld: true\n", 3, ["enabeld", "did you mean 'enabled'"]),
            ("delivery: { request_timeout: soon }\n", 1, ["delivery.request_timeout", "duration", "soon"]),
            ("listen: [1, 2\n", None, []),
            ("log: { level: loud }\n", 1, ["log.level", "error, warning, info, debug or trace", "loud"]),
            ("data_dir: relative/path\n", 1, ["data_dir", "absolute path"]),
            ("delivery: { request_timeout: 10s, operation_timeout: 5s }\n", 1, ["delivery.operation_timeout", "10s"]),
            ("kms: { path: DATA/kek }\n", 1, ["kms.path", "data_dir"]),
            ("listen: a\nlisten: b\n", 2, ["listen"]),
        ],
    )
    def test_an_error_names_file_line_and_what_would_be_right(
        self, tmp_path: Path, text: str, line: int | None, told: list[str]
    ) -> None:
        daemon = Daemon(tmp_path)
        daemon.config_file.write_text(
            text.replace("DATA", str(daemon.data)) + ("" if "data_dir" in text else f"data_dir: {daemon.data}\n")
        )
        said = refused(daemon, EX_CONFIG)
        assert f"{daemon.config_file}:{line}:" in said if line else str(daemon.config_file) in said, said
        for part in told:
            assert part in said, said
        assert not daemon.data.exists(), "a wrong configuration touched the disk"

    def test_all_errors_are_told_at_once(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        daemon.config_file.write_text("lissten: x\nlog: { level: loud }\n")
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "10-more.yaml").write_text("\nretention: { click_days: 3 }\n")
        said = refused(daemon, EX_CONFIG)
        assert "lissten" in said and "log.level" in said and "10-more.yaml:2:" in said and "clicks_days" in said, said

    def test_fragments_and_the_environment_override(self, own) -> None:
        daemon = own()
        (daemon.directory / "conf.d").mkdir()
        (daemon.directory / "conf.d" / "10-a.yaml").write_text("metrics: { public: true }\n")
        daemon.env["MILEPOST_PLUGINS__PIPEDRIVE__ENABLED"] = "false"
        daemon.start()
        assert Rest(daemon.url).request("GET", "/metrics").status == 200
        states = {plugin["name"]: plugin["state"] for plugin in daemon.rest.get("/v1/admin/plugins")["plugins"]}
        assert states["pipedrive"] == "disabled", states

    def test_a_wrong_variable_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        daemon.env["MILEPOST_DELIVERY__REQUEST_TIMEOUT"] = "soon"
        said = refused(daemon, EX_CONFIG)
        assert "MILEPOST_DELIVERY__REQUEST_TIMEOUT" in said or "delivery.request_timeout" in said, said

    def test_a_missing_file_says_how_to_make_one(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        daemon.config_file.unlink()
        said = refused(daemon, EX_CONFIG)
        assert "milepost init" in said, said

    def test_a_key_ring_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        """SEC-09, decisions 33"""
        daemon = Daemon(tmp_path)
        daemon.init()
        kek = Path(daemon.settings["kms"]["path"])
        assert kek.stat().st_mode & 0o077 == 0
        kek.chmod(0o644)
        said = refused(daemon)
        assert str(kek) in said and ("mode" in said or "readable" in said), said

    def test_an_address_in_use_is_told(self, own, tmp_path: Path) -> None:
        daemon = own().start()
        second = Daemon(tmp_path / "second", listen=daemon.url.removeprefix("http://"))
        second.init()
        said = refused(second)
        address = second.settings["listen"]
        assert f"milepostd: address_in_use: another process listens at {address}" in said, said
        assert "'listen'" in said and "ss -ltnp" in said and "errno" not in said, said


class TestDatabase:
    def database(self, daemon: Daemon) -> Path:
        found = [
            path for path in daemon.data.iterdir() if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3"
        ]
        assert len(found) == 1, list(daemon.data.iterdir())
        return found[0]

    def test_a_foreign_database_is_refused_with_the_way_out(self, tmp_path: Path) -> None:
        """decisions 28"""
        daemon = Daemon(tmp_path)
        daemon.init()
        path = self.database(daemon)
        for extra in daemon.data.glob(path.name + "-*"):
            extra.unlink()
        path.unlink()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE photos (id INTEGER)")
        connection.commit()
        connection.close()
        before = path.read_bytes()
        said = refused(daemon)
        assert path.name in said and "milepost" in said.lower() and ("another" in said or "not " in said), said
        assert path.read_bytes() == before, "a foreign database was changed"

    @pytest.mark.parametrize("damage", ["header", "text", "truncated"])
    def test_a_damaged_database_is_refused_with_the_way_out(self, tmp_path: Path, damage: str) -> None:
        daemon = Daemon(tmp_path)
        daemon.init()
        path = self.database(daemon)
        for extra in daemon.data.glob(path.name + "-*"):
            extra.unlink()
        if damage == "header":
            with path.open("r+b") as file:
                file.write(b"garbage garbage garbage")
        elif damage == "text":
            path.write_bytes(b"this is no database at all\n" * 400)
        else:
            with path.open("r+b") as file:
                file.truncate(6000)
        said = refused(daemon)
        assert "restore" in said.lower() or "backup" in said.lower(), said

    def test_a_damaged_database_ends_the_daemon_before_it_listens(self, tmp_path: Path) -> None:
        """Nobody may have been promised anything (invariant 1)."""
        daemon = Daemon(tmp_path)
        daemon.init()
        path = self.database(daemon)
        for extra in daemon.data.glob(path.name + "-*"):
            extra.unlink()
        path.write_bytes(b"this is no database at all\n" * 400)
        assert "listening" not in refused(daemon)

    def test_a_database_of_a_newer_version_is_refused(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        daemon.init()
        path = self.database(daemon)
        connection = sqlite3.connect(path)
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        migrations = [name for name in tables if "migration" in name]
        if migrations:
            connection.execute(f"INSERT INTO {migrations[0]} VALUES ('9999 from the future')")
        else:
            connection.execute("PRAGMA user_version = 9999")
        connection.commit()
        connection.close()
        said = refused(daemon)
        assert "newer" in said.lower(), said
