# SPDX-License-Identifier: Apache-2.0
"""Alert rules and dashboard against the metrics of a real daemon (OBS-02, OBS-05).

`milepost.rules.test.yml` holds the synthetic series; promtool runs it where it is installed (Debian: prometheus). What
is held here without it: that every metric and label exists, and that what the daemon says of itself when it is well and
when it is not trips the alerts that it should and no other.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml

from harness import ROOT, Daemon

FOLDER = ROOT / "packaging" / "monitoring"
RULES = pyyaml.safe_load((FOLDER / "milepost.rules.yml").read_text())["groups"][0]["rules"]
ALERTS = {rule["alert"]: rule for rule in RULES}
DASHBOARD = json.loads((FOLDER / "milepost-dashboard.json").read_text())

OAUTH = {"milepost_workspace_refresh_attempts_total"}
"""Counted once a connection refreshes tokens; a daemon whose plugins have none need not have it."""

SIMPLE = re.compile(r'(\w+)(?:\{(\w+)(=~|=)"([^"]*)"\})? (==|>|<) (\S+)')


@pytest.fixture(scope="module")
def daemon(shared: Daemon) -> Daemon:
    workspace = shared.workspace("well")
    workspace.connect(thresholds=[2])
    workspace.clicks("spring", 2)
    workspace.tick()
    return shared


def described(daemon: Daemon) -> dict[str, str]:
    """Every metric that the daemon describes, with its kind."""
    text = daemon.rest.request("GET", "/metrics").expect(200).decode()
    return dict(re.findall(r"(?m)^# TYPE (\w+) (\w+)$", text))


def metrics_in(expression: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bmilepost_\w+", expression)}


def parsed(series: str) -> tuple[str, dict[str, str]]:
    name, _, labels = series.partition("{")
    return name, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))


def tripped(daemon: Daemon) -> set[str]:
    """Alerts of one comparison whose expression holds for a series that the daemon shows now."""
    found = set()
    for name, value in daemon.metrics().items():
        metric, labels = parsed(name)
        for alert, rule in ALERTS.items():
            simple = SIMPLE.fullmatch(rule["expr"])
            if not simple or simple[1] != metric:
                continue
            _, label, kind, wanted, operator, bound = simple.groups()
            has = label is None or (
                re.fullmatch(wanted, labels.get(label, "")) if kind == "=~" else labels.get(label) == wanted
            )
            holds = {"==": value == float(bound), ">": value > float(bound), "<": value < float(bound)}[operator]
            if has and holds:
                found.add(alert)
    return found


def test_every_metric_of_a_rule_is_one_of_the_daemons(daemon: Daemon) -> None:
    """OBS-02, OBS-05"""
    known = set(described(daemon)) | OAUTH
    for alert, rule in ALERTS.items():
        used = metrics_in(rule["expr"])
        assert used or rule["expr"].startswith("up{"), alert
        assert used <= known, f"{alert} asks for {used - known}"
        assert rule["labels"]["severity"] in {"page", "ticket"} and rule["for"] and rule["annotations"]["summary"], rule


def test_every_label_of_a_rule_is_one_of_the_metrics(daemon: Daemon) -> None:
    """OBS-02"""
    labels: dict[str, set[str]] = {}
    for series in daemon.metrics():
        name, found = parsed(series)
        labels.setdefault(name, set()).update(found)
    for alert, rule in ALERTS.items():
        for metric, matchers in re.findall(r"\b(milepost_\w+)\{([^}]*)\}", rule["expr"]):
            asked = set(re.findall(r"(\w+)=", matchers))
            assert metric in OAUTH or asked <= labels[metric], (alert, metric, asked, labels[metric])


def test_a_daemon_that_is_well_trips_nothing(daemon: Daemon) -> None:
    """OBS-02: nor does a plugin that is installed and not switched on"""
    assert tripped(daemon) <= {"MilepostDiskNearlyFull"}, "the disk is this machine's"


def test_a_daemon_that_is_not_trips_what_it_should(own) -> None:
    """OBS-02: a dead token, a delivery given up, a plugin that is refused"""
    daemon = own(plugins={"absent": {"enabled": True}}).start()
    refused, dead = daemon.workspace("refused"), daemon.workspace("dead")
    daemon.sandbox.add_token("other-token")
    refused.connect(token="other-token", thresholds=[2])
    dead.connect(thresholds=[2])
    daemon.sandbox.revoke("other-token")
    daemon.sandbox.fault("status", status=400, times=0, body_contains="autumn")
    refused.clicks("spring", 2)
    dead.clicks("autumn", 2)
    daemon.tick()
    assert {"MilepostNeedsReauth", "MilepostDeadLetters", "MilepostPluginQuarantined"} <= tripped(daemon)
    assert not tripped(daemon) & {"MilepostStoreNotWritable", "MilepostScheduleOverdue", "MilepostConnectionStopped"}


def test_every_alert_has_a_series_that_trips_it_and_one_that_does_not() -> None:
    """OBS-02"""
    well, wrong = pyyaml.safe_load((FOLDER / "milepost.rules.test.yml").read_text())["tests"]
    quiet = {test["alertname"] for test in well["alert_rule_test"] if not test.get("exp_alerts")}
    loud = {test["alertname"] for test in wrong["alert_rule_test"] if test.get("exp_alerts")}
    assert quiet == loud == set(ALERTS), (quiet ^ loud, loud ^ set(ALERTS))
    promtool = shutil.which("promtool")
    if promtool:
        for command in (["check", "rules", "milepost.rules.yml"], ["test", "rules", "milepost.rules.test.yml"]):
            done = subprocess.run([promtool, *command], cwd=FOLDER, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_shows_metrics_that_exist(daemon: Daemon) -> None:
    """OBS-05, OBS-07"""
    known = described(daemon)
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"]) > 15
    shown: set[str] = set()
    for panel in panels:
        for target in panel["targets"]:
            used = metrics_in(target["expr"])
            assert used and used <= set(known) | OAUTH, (panel["title"], used - set(known))
            assert target["expr"].count("(") == target["expr"].count(")"), target
            shown |= used
            for name in used & set(known):
                is_rate = re.search(rf"\b(rate|increase)\({name}", target["expr"])
                assert known[name] != "counter" or is_rate, f"{panel['title']}: {name} only ever grows"
    assert overlaps(panels) == [], "panels lie over each other"
    hidden = set(known) - shown - {"milepost_plugin_up", "milepost_egress_limiter_waits_total"}
    assert not {name for name in hidden if name.startswith("milepost_") and name != "milepost_refresh_attempts_total"}, hidden


def overlaps(panels: list[dict[str, Any]]) -> list[tuple[str, str]]:
    def apart(one: dict[str, int], two: dict[str, int]) -> bool:
        beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        below = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        return beside or below

    return [
        (one["title"], two["title"])
        for number, one in enumerate(panels)
        for two in panels[number + 1 :]
        if not apart(one["gridPos"], two["gridPos"])
    ]


def test_the_guide_says_what_to_do_about_each_alert() -> None:
    """OBS-05"""
    page = (ROOT / "docs" / "admin.md").read_text().split("### From metrics to alerts")[1].split("\n## ")[0]
    written = dict(re.findall(r"(?m)^\| `(Milepost\w+)` \| (\w+) \| [^|]{10,}\|$", page))
    assert written == {alert: rule["labels"]["severity"] for alert, rule in ALERTS.items()}
    for path in re.findall(r"`(packaging/[\w/.-]+)`", page):
        assert (Path(ROOT) / path).exists(), path
