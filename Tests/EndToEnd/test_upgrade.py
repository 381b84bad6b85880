# SPDX-License-Identifier: Apache-2.0
"""The store's way to another schema and back, as an administrator walks it (EXT-18): nothing is lost, nothing is sent twice."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from harness import DIST, Daemon, Process, slug, titles
from test_supervision import Manager

# One step back is what each release promises; these tests go there and come again with the same daemon.
NEWEST = 10


def milepostd(daemon: Daemon, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(DIST / "milepostd"), "--config", str(daemon.config_file), *arguments],
        capture_output=True, text=True, env=daemon.environment(), timeout=60)
    assert done.returncode == code, f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done


def schema(database: Path) -> int:
    """From the header: opening the file would change it."""
    return int.from_bytes(database.read_bytes()[60:64], "big")


def facts(workspace) -> dict[str, tuple[str, int]]:
    return {
        f"{delivery['link']} {delivery['threshold']}": (delivery["state"], delivery["attempts"])
        for delivery in workspace.deliveries()
    }


def test_down_and_up_again_keeps_every_delivery_and_makes_no_deal_twice(own, tmp_path: Path) -> None:
    """EXT-18, THR-09: with deliveries that are done, waiting, and of unknown outcome when the daemon goes"""
    daemon: Daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2, 4], link_field="Link")
    done, open_ = slug(workspace, "done"), slug(workspace, "open")
    workspace.clicks(done, 4)
    workspace.tick()
    workspace.drain()
    # The deal is there and its answer was lost: a store from before would not know that it was ever sent.
    daemon.sandbox.fault("drop_after_commit")
    daemon.sandbox.set_search_lag(60_000)
    workspace.clicks(open_, 2)
    workspace.tick()
    before = facts(workspace)
    assert [state for state, _ in before.values()].count("delivered") == 2 and len(before) == 3, before
    total = workspace.link(done)["totals"]["all"]
    daemon.stop()

    report = json.loads(milepostd(daemon, "--downgrade-store").stdout)
    assert (report["schema_from"], report["schema_to"]) == (NEWEST, NEWEST - 1)
    assert report["figures"]["deliveries"] == 3 and report["figures"]["deliveries.delivered"] == 2
    database = daemon.data / "milepost.db"
    assert schema(database) == NEWEST - 1 and Path(report["kept"]).exists()

    manager = Manager(str(tmp_path / "notify"))
    daemon.env["NOTIFY_SOCKET"] = str(tmp_path / "notify")
    daemon.start()
    manager.hears("EXTEND_TIMEOUT_USEC=300000000")
    manager.hears("READY=1")
    assert manager.heard[0].startswith("EXTEND_TIMEOUT_USEC"), "ready before the database was"
    log = daemon.process.output()
    kept = daemon.data / f"milepost.db.before-schema-{NEWEST}"
    assert f"schema {NEWEST} now, every total is what it was" in log and str(kept) in log, log[-3000:]
    assert schema(kept) == NEWEST - 1 and list(daemon.data.glob("*.before-schema-*")) == [kept], "only the newest stays"
    assert facts(workspace).keys() == before.keys()
    assert all(facts(workspace)[name] == state for name, state in before.items() if state[0] == "delivered")
    daemon.sandbox.set_search_lag(0)
    workspace.drain()
    assert [state for state, _ in facts(workspace).values()] == ["delivered"] * 3
    assert (len(titles(daemon.sandbox, done)), len(titles(daemon.sandbox, open_))) == (2, 1)
    assert workspace.link(done)["totals"]["all"] == total
    assert daemon.rest.get("/v1/admin/audit-totals")["mismatches"] == []


def test_a_rehearsal_tells_the_totals_and_changes_nothing_with_the_old_daemon_at_work(own) -> None:
    """EXT-18"""
    daemon: Daemon = own().start()
    daemon.workspace("acme").clicks("a", 3)
    busy = milepostd(daemon, "--rehearse", code=1)
    assert "stop it first" in busy.stderr, busy.stderr
    daemon.stop()
    assert json.loads(milepostd(daemon, "--rehearse").stdout)["figures"] is None, "nothing to do for the newest schema"
    milepostd(daemon, "--downgrade-store")
    database = daemon.data / "milepost.db"
    before = database.read_bytes()
    report = json.loads(milepostd(daemon, "--rehearse").stdout)
    assert (report["schema_from"], report["schema_to"], report["kept"]) == (NEWEST - 1, NEWEST, None)
    assert report["figures"]["clicks"] == 3
    assert database.read_bytes() == before and not list(daemon.data.glob("*.upgrading"))
    copy = daemon.directory / "copy.db"
    shutil.copy(database, copy)
    daemon.start()
    again = json.loads(milepostd(daemon, "--rehearse", "--backup", str(copy)).stdout)
    assert again["figures"] == report["figures"] and copy.read_bytes() == before
    assert sorted(path.name for path in daemon.directory.glob("copy.db*")) == ["copy.db"]


def test_what_the_older_version_has_no_place_for_is_named_and_nothing_is_changed(own) -> None:
    """EXT-18"""
    daemon: Daemon = own().start()
    refused = milepostd(daemon, "--downgrade-store", code=1)
    assert "stop it first" in refused.stderr, refused.stderr
    daemon.stop()
    database = daemon.data / "milepost.db"
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO rule_waiting VALUES (1, 1, 1, 1, 'g', NULL)")
    connection.close()
    refused = milepostd(daemon, "--downgrade-store", code=1)
    assert "downgrade_loses_data" in refused.stderr and "1 clicks that count under rolling rules" in refused.stderr
    assert schema(database) == NEWEST and not list(daemon.data.glob("*.before-schema-*"))
    report = json.loads(milepostd(daemon, "--downgrade-store", "--accept-loss").stdout)
    assert len(report["given_up"]) == 1 and schema(database) == NEWEST - 1


def test_a_database_of_the_future_names_the_way_back(own) -> None:
    """EXT-18: the older daemon, which cannot do it, says who can"""
    daemon: Daemon = own().start()
    daemon.stop()
    connection = sqlite3.connect(daemon.data / "milepost.db")
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    refused = milepostd(daemon, code=1)
    assert "schema_too_new" in refused.stderr and "--downgrade-store" in refused.stderr, refused.stderr


@pytest.mark.parametrize("sight", [".upgrading", ".upgrading/milepost.db", f".before-schema-{NEWEST}"])
def test_a_kill_in_the_middle_leaves_one_whole_database_and_the_next_start_finishes(own, sight: str) -> None:
    """EXT-18: killed as soon as that file is seen; whichever schema it is then, everything is in it"""
    daemon: Daemon = own().start()
    daemon.workspace("acme").clicks("a", 500)
    daemon.stop()
    database = daemon.data / "milepost.db"
    found = []
    for _ in range(4):
        if schema(database) == NEWEST:
            milepostd(daemon, "--downgrade-store")
        (daemon.data / f"milepost.db.before-schema-{NEWEST}").unlink(missing_ok=True)
        process = Process(
            "milepostd", [str(DIST / "milepostd"), "--config", str(daemon.config_file)], daemon.log, daemon.environment())
        deadline = time.monotonic() + 20
        while not Path(str(database) + sight).exists() and "ready" not in process.output() and time.monotonic() < deadline:
            pass  # looks as often as it can: the sight lasts some milliseconds
        process.kill()
        found.append(schema(database))
        whole = daemon.directory / "look.db"
        for end in ("", "-wal"):  # as the kill left them
            if Path(str(database) + end).exists():
                shutil.copy(str(database) + end, str(whole) + end)
        with sqlite3.connect(whole) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT sum(clicks) FROM link_totals").fetchone() == (500,)
        connection.close()
        for end in ("", "-wal", "-shm"):
            Path(str(whole) + end).unlink(missing_ok=True)
    assert set(found) <= {NEWEST - 1, NEWEST}, found
    daemon.start()
    assert daemon.workspace("acme").link("a")["totals"]["all"] == 500
    assert schema(database) == NEWEST and not list(daemon.data.glob("*.upgrading")), found
