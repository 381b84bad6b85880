# SPDX-License-Identifier: Apache-2.0
"""Rolling rules in files for `milepost apply` (EXT-15, RULE-01, decisions 32)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import VENDOR_TOKEN, Daemon, problem
from test_rules import build, made

FILE = """\
workspaces:
  acme:
    connections:
      hubspot:
        credentials: { api_token: { env: CRM_TOKEN } }
    rules:
      - id: collateral
        name: Collateral engagement moves the deal on
        trigger: { link_tag: sales, contact_window: 30d rolling, click_threshold: 2 }
        action: { type: hubspot.deal_stage, from_stage: appointmentscheduled, to_stage: qualifiedtobuy }
        guard: { require_associated_contact: true, deal_amount_min: 4999.50 }
      - name: Second rule
        trigger: { link: spring, contact_window: 7d, click_threshold: 3 }
        action: { type: hubspot.deal_stage, from_stage: appointmentscheduled, to_stage: qualifiedtobuy }
"""


class Applying:
    def __init__(self, daemon: Daemon):
        self.daemon = daemon
        folder = daemon.directory / "apply"
        folder.mkdir()
        self.file = folder / "acme.yaml"
        self.file.write_text(FILE)
        self.rules = f"{daemon.workspace('acme').base}/rules"

    def run(self, *arguments: Any, code: int = 0) -> Any:
        done = self.daemon.cli(
            "apply", str(self.file.parent), *arguments, "--json", check=False, CRM_TOKEN=VENDOR_TOKEN
        )
        assert done.code == code, done.out + done.err
        return done.json

    def ids(self) -> list[str]:
        return [rule["id"] for rule in self.daemon.rest.get(self.rules)["rules"]]


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Applying]:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    build(plugins)
    daemon = made(tmp_path / "daemon", plugins)
    try:
        yield Applying(daemon.start())
    finally:
        daemon.kill()


def steps(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(entry["action"], entry["kind"], entry["name"]) for entry in report["changes"]]


def test_rules_come_from_the_file_and_the_second_run_is_empty(it: Applying) -> None:
    """EXT-15, RULE-01"""
    new = [("create", "connection", "hubspot"), ("create", "rule", "collateral"), ("create", "rule", "second-rule")]
    assert steps(it.run("--plan")) == new and it.daemon.rest.get("/v1/admin/managed")["managed"] == []
    report = it.run()
    assert steps(report) == new and {entry["result"] for entry in report["changes"]} == {"done"}, report
    assert it.run()["changes"] == []
    [first, second] = it.daemon.rest.get(it.rules)["rules"]
    assert first["managed"] is True and first["managed_by"] == str(it.file), first
    assert first["guard"]["deal_amount_min"] == "4999.50" and second["id"] == "second-rule"

    it.file.write_text(FILE.replace("click_threshold: 2", "click_threshold: 4"))
    [change] = it.run("--plan")["changes"]
    assert [entry["field"] for entry in change["changes"]] == ["trigger"] and change["line"] == 7, change
    it.run()
    assert it.daemon.rest.get(f"{it.rules}/collateral")["trigger"]["click_threshold"] == 4
    [row] = it.daemon.rest.get("/v1/admin/audit?limit=1")["entries"]
    assert row["action"] == "rules.put" and row["detail"]["managed_by"] == str(it.file), row
    assert it.run()["changes"] == []


def test_such_a_rule_is_changed_by_its_file_only(it: Applying) -> None:
    """EXT-15: 409 elsewhere, naming the file; a rule made by hand is adopted; `rules apply` has its own"""
    it.run()
    rest = it.daemon.rest
    by_hand = {
        "id": "by-hand",
        "trigger": {"link_tag": "x", "contact_window": "7d", "click_threshold": 2},
        "action": {"type": "hubspot.deal_stage", "from_stage": "appointmentscheduled", "to_stage": "qualifiedtobuy"},
    }
    for method, path, body in [
        ("PUT", f"{it.rules}/collateral", {**by_hand, "id": "collateral"}),
        ("DELETE", f"{it.rules}/collateral", None),
        ("PUT", it.rules, {"rules": [{**by_hand, "id": "collateral"}]}),
    ]:
        told = problem(rest.request(method, path, body), 409, "managed")["detail"]
        assert str(it.file) in told and "milepost apply" in told, (method, path, told)
    rest.put(it.rules, {"rules": [by_hand]})
    assert it.ids() == ["by-hand", "collateral", "second-rule"], "rules apply removed what it did not make"
    assert "rules apply" in problem(rest.request("DELETE", f"{it.rules}/by-hand"), 409, "managed")["detail"]
    rest.put(it.rules, {"rules": []})
    assert it.ids() == ["collateral", "second-rule"]

    rest.post(it.rules, {**by_hand, "id": "third"})
    it.file.write_text(FILE + """\
      - id: third
        trigger: { link_tag: x, contact_window: 7d, click_threshold: 2 }
        action: { type: hubspot.deal_stage, from_stage: appointmentscheduled, to_stage: qualifiedtobuy }
""")
    assert steps(it.run()) == [("adopt", "rule", "third")]
    assert it.run()["changes"] == [] and rest.get(f"{it.rules}/third")["managed_by"] == str(it.file)


def test_a_rule_that_left_the_file_stays_until_prune(it: Applying) -> None:
    """EXT-15"""
    it.run()
    it.file.write_text(FILE[: FILE.index("      - name: Second rule")])
    left = it.run()
    assert left["changes"] == [] and [entry["name"] for entry in left["left"]] == ["second-rule"], left
    assert it.ids() == ["collateral", "second-rule"]
    assert steps(it.run("--prune")) == [("remove", "rule", "second-rule")]
    assert it.ids() == ["collateral"]
    assert it.run("--prune")["changes"] == []


def test_errors_name_file_line_and_key(it: Applying) -> None:
    """EXT-15, RULE-18: what can be read wrong is told before anything is asked, what the vendor lacks by its line"""
    it.file.write_text(FILE.replace("30d rolling", "0d").replace("link: spring", "lnk: spring"))
    issues = it.run(code=1)["issues"]
    told = {issue["line"]: issue["message"] for issue in issues}
    assert "workspaces.acme.rules[0].trigger.contact_window" in told[9] and "'0d' is no window" in told[9], told
    assert "workspaces.acme.rules[1].trigger" in told[13], told
    assert {issue["file"] for issue in issues} == {str(it.file)}
    assert it.daemon.rest.get("/v1/admin/managed")["managed"] == []

    it.file.write_text(FILE.replace("to_stage: qualifiedtobuy }\n        guard", "to_stage: qualified }\n        guard"))
    report = it.run(code=1)
    [failed] = [entry for entry in report["changes"] if entry["result"] == "failed"]
    [error] = failed["errors"]
    assert failed["name"] == "collateral" and error["line"] == 10, failed
    assert "workspaces.acme.rules[0].action.to_stage" in error["message"] and "qualifiedtobuy" in error["message"]
    assert it.ids() == ["second-rule"], "one failure stopped the others"
