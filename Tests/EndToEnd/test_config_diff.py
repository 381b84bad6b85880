# SPDX-License-Identifier: Apache-2.0
"""`milepost config diff`: what is in force beside what the files say (EXT-15, decisions 32)."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import VENDOR_TOKEN, Daemon

FILE = """\
workspaces:
  acme:
    connections:
      pipedrive:
        credentials: { api_token: { env: CRM_TOKEN } }
        thresholds: [2, 50]
        settings: { pipeline_id: 1, stage_id: 11 }
"""


@pytest.fixture
def daemon(own) -> Daemon:
    return own().start()


def diff(daemon: Daemon, *arguments: str, code: int):
    done = daemon.cli("config", "diff", *arguments, "--json", check=False, CRM_TOKEN=VENDOR_TOKEN)
    assert done.code == code, done.out + done.err
    return done.json


def changes(report) -> dict[str, tuple[str | None, str | None, str]]:
    return {entry["key"]: (entry["running"], entry["file"], entry["needs"]) for entry in report["daemon"]["changes"]}


def test_settings_that_wait_for_a_reload_or_a_restart_are_told_apart_and_the_exit_status_says_it(daemon: Daemon) -> None:
    """EXT-15: 0 the same, 2 different; a reload takes some away, the rest stays until the restart"""
    same = diff(daemon, code=0)
    assert (same["differs"], same["daemon"]["changes"], same["apply"]) == (False, [], None)
    assert same["daemon"]["files"] == [str(daemon.config_file)]
    before = daemon.rest.get("/v1/admin/audit")["entries"]
    daemon.settings["log"]["level"] = "info"
    daemon.settings["retention"] = {"clicks_days": 30}
    daemon.settings["schedule"]["threshold_interval"] = "12h"
    daemon.settings["plugins"]["custom-hook"] = {"enabled": False}
    daemon.write_config()
    found = changes(diff(daemon, code=2))
    assert found["log.level"] == ("debug", "info", "reload")
    assert found["retention.clicks_days"] == ("90", "30", "reload")
    assert found["schedule.threshold_interval"] == ("1d", "12h", "restart") or found["schedule.threshold_interval"][1:] == (
        "12h", "restart")
    assert found["plugins.custom-hook"][0] is None and "enabled: false" in found["plugins.custom-hook"][1]
    assert len(found) == 4, found
    assert daemon.rest.get("/v1/admin/audit")["entries"] == before, "looking left a trace"
    text = daemon.cli("config", "diff", check=False).out
    assert text.index("after 'milepost reload':") < text.index("log.level: debug → info"), text
    assert text.index("after 'systemctl restart milepost':") < text.index("~ schedule.threshold_interval"), text
    daemon.rest.post("/v1/admin/reload")
    assert list(changes(diff(daemon, code=2))) == ["schedule.threshold_interval"]
    daemon.restart()
    assert diff(daemon, code=0)["differs"] is False
    assert "no difference" in daemon.cli("config", "diff").out


def test_the_environment_of_the_daemon_counts_and_not_that_of_the_command(daemon: Daemon) -> None:
    """EXT-15: what is compared is what the daemon would read"""
    done = daemon.cli("config", "diff", check=False, MILEPOST_LOG__LEVEL="error")
    assert done.code == 0, done.out


def test_wrong_files_are_an_error_and_no_difference(daemon: Daemon) -> None:
    """EXT-15: exit status 1, with file and key"""
    (daemon.directory / "conf.d").mkdir()
    wrong = daemon.directory / "conf.d" / "x.yaml"
    wrong.write_text("lissten: x\n")
    report = diff(daemon, code=1)
    assert str(wrong) in report["daemon"]["errors"][0] and "listen" in report["daemon"]["errors"][0], report
    done = daemon.cli("config", "diff", check=False, MILEPOST_URL="http://127.0.0.1:1")
    assert done.code == 3, done
    plain = daemon.directory / "apply.yaml"
    plain.write_text("workspaces: [x]\n")
    wrong.unlink()
    assert daemon.cli("config", "diff", str(plain), check=False).code == 1


def test_files_of_apply_are_compared_too_and_nothing_is_made(daemon: Daemon, tmp_path: Path) -> None:
    """EXT-15"""
    file = tmp_path / "acme.yaml"
    file.write_text(FILE)
    report = diff(daemon, str(file), code=2)
    assert [(entry["action"], entry["name"]) for entry in report["apply"]["changes"]] == [("create", "pipedrive")]
    assert daemon.rest.get("/v1/workspaces")["workspaces"] == []
    daemon.cli("apply", str(file), CRM_TOKEN=VENDOR_TOKEN)
    assert diff(daemon, str(file), code=0)["apply"]["changes"] == []
    file.write_text(FILE.replace("[2, 50]", "[2, 60]"))
    report = diff(daemon, str(file), code=2)
    assert report["daemon"]["changes"] == [] and report["apply"]["changes"][0]["changes"][0]["field"] == "thresholds"
    # What a file no longer names differs only for who would take it away.
    file.write_text("workspaces: {}\n")
    assert diff(daemon, str(file), code=0)["apply"]["left"]
    assert diff(daemon, str(file), "--prune", code=2)["apply"]["changes"][0]["action"] == "remove"


def test_a_viewer_may_not_look(daemon: Daemon) -> None:
    """EXT-15, PRV-05: paths and addresses of the machine are the administrator's"""
    token = daemon.cli("tokens", "create", "v", "--scope", "viewer", "--json").json["token"]
    done = daemon.cli("config", "diff", check=False, MILEPOST_TOKEN=token)
    assert done.code == 1 and "admin" in done.err, done
