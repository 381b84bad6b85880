# SPDX-License-Identifier: Apache-2.0
"""`milepost apply`: files say what connections and plans there are, and the daemon becomes that (EXT-15, decisions 32)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import VENDOR_TOKEN, Daemon, problem

FILE = """\
plans:
  free: { fires: false }
  pro: { integrations: [pipedrive], trial_days: 14 }
workspaces:
  acme:
    plan: pro
    connections:
      pipedrive:
        credentials: { api_token: { env: CRM_TOKEN } }
        thresholds: [2, 50]
        settings:
          pipeline_id: 1
          stage_id: 11
"""


@pytest.fixture
def daemon(own) -> Daemon:
    return own().start()


@pytest.fixture
def file(daemon: Daemon) -> Path:
    folder = daemon.directory / "apply"
    folder.mkdir()
    path = folder / "acme.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def apply(daemon: Daemon) -> Callable[..., Any]:
    def run(*arguments: str, code: int = 0, **env: str) -> Any:
        done = daemon.cli(
            "apply", *map(str, arguments), "--json", check=False, **{"CRM_TOKEN": VENDOR_TOKEN, **env}
        )
        assert done.code == code, done.out + done.err
        return done.json

    return run


def actions(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(entry["action"], entry["kind"], entry["result"]) for entry in report["changes"]]


def rows(daemon: Daemon) -> list[str]:
    return [row["action"] for row in daemon.rest.get("/v1/admin/audit?limit=500")["entries"]]


def test_a_file_is_planned_applied_and_the_second_time_there_is_nothing_to_do(daemon, file, apply) -> None:
    """EXT-15"""
    before = rows(daemon)
    planned = apply(file, "--plan")
    assert actions(planned) == [
        ("create", "plans", "planned"),
        ("create", "workspace", "planned"),
        ("create", "connection", "planned"),
    ]
    assert rows(daemon) == before and daemon.rest.get("/v1/admin/managed")["managed"] == []
    assert actions(apply(file)) == [(action, kind, "done") for action, kind, _ in actions(planned)]
    workspace = daemon.workspace("acme")
    connection = workspace.connection()
    assert connection["state"] == "active" and connection["settings"]["stage_id"] == 11
    assert connection["managed"] is True and connection["managed_by"] == str(file)
    assert daemon.rest.get("/v1/admin/plans")["plans"]["pro"]["trial_days"] == 14
    assert [entry["plan"] for entry in daemon.rest.get("/v1/workspaces")["workspaces"]] == ["pro"]

    before, mark = rows(daemon), daemon.sandbox.mark()
    assert apply(file)["changes"] == []
    assert rows(daemon) == before, "the second time left an audit row, so it changed something"
    assert daemon.sandbox.requests(since=mark) == [], "the second time asked the vendor"
    assert "nothing to change" in daemon.cli("apply", str(file), CRM_TOKEN=VENDOR_TOKEN).out

    workspace.clicks("spring", 2)
    workspace.tick()
    assert len(daemon.sandbox.deals()) == 1, "what was applied works"


def test_what_a_file_manages_is_changed_by_the_file_only(daemon, file, apply) -> None:
    """EXT-15: REST and command line answer 409 and name the file; the file still changes it"""
    apply(file)
    workspace = daemon.workspace("acme")
    url = f"{workspace.base}/integrations/pipedrive"
    for method, path, body in [
        ("PATCH", url, {"thresholds": [7]}),
        ("POST", url, {"credentials": {"api_token": VENDOR_TOKEN}, "pipeline_id": 1, "stage_id": 12}),
        ("DELETE", url, None),
        ("PUT", "/v1/admin/plans", {"plans": {}}),
        ("PUT", "/v1/workspaces/acme", {"plan": "free"}),
    ]:
        assert str(file) in problem(daemon.rest.request(method, path, body), 409, "managed")["detail"], (method, path)
    refused = daemon.cli("disconnect", "pipedrive", "-w", "acme", check=False)
    assert refused.code == 1 and str(file) in refused.err and "apply" in refused.err, refused
    assert workspace.connection()["state"] == "active"

    file.write_text(FILE.replace("stage_id: 11", "stage_id: 12"))
    [change] = apply(file, "--plan")["changes"]
    assert change["changes"] == [{"field": "stage_id", "from": 11, "to": 12}], change
    apply(file)
    assert workspace.connection()["settings"]["stage_id"] == 12
    [row] = [row for row in daemon.rest.get("/v1/admin/audit?limit=1")["entries"]]
    assert row["action"] == "integrations.change" and row["detail"]["managed_by"] == str(file), row


def test_a_new_secret_is_proved_swapped_in_and_never_shown(daemon, file, apply) -> None:
    """EXT-15, REA-03, SEC-06"""
    apply(file)
    daemon.sandbox.add_token("fresh-marker-token")
    secret = daemon.directory / "token"
    secret.write_text("fresh-marker-token\n")
    file.write_text(FILE.replace("{ env: CRM_TOKEN }", "{ file: ../token }"))
    done = daemon.cli("apply", str(file), "--json")
    assert "fresh-marker-token" not in done.out + done.err
    [change] = done.json["changes"]
    assert [entry["field"] for entry in change["changes"]] == ["credentials.api_token"], change
    mark = daemon.sandbox.mark()
    workspace = daemon.workspace("acme")
    workspace.clicks("spring", 2)
    workspace.tick()
    assert daemon.sandbox.deals() and all(entry["token_ok"] for entry in daemon.sandbox.requests(since=mark))
    assert apply(file)["changes"] == []

    secret.write_text("not-a-good-token")
    failed = apply(file, code=1)
    assert failed["failed"] == 1 and "not-a-good-token" not in json.dumps(failed), failed
    assert workspace.connection()["state"] == "active", "a refused secret leaves the old one"


def test_what_left_the_file_stays_until_prune(daemon, file, apply) -> None:
    """EXT-15"""
    apply(file.parent)
    file.write_text("workspaces: { acme: { plan: pro } }\n")
    left = apply(file.parent)
    assert left["changes"] == [] and {entry["kind"] for entry in left["left"]} == {"connection", "plans"}, left
    workspace = daemon.workspace("acme")
    assert workspace.connection()["state"] == "active"
    assert {entry["action"] for entry in apply(file.parent, "--prune", "--plan")["changes"]} == {"remove"}
    file.unlink()  # a file that is gone leaves things behind just as well
    gone = apply(file.parent, "--prune")
    assert sorted(entry["kind"] for entry in gone["changes"]) == ["connection", "plans", "workspace"], gone
    connection = workspace.connection()
    assert connection["state"] == "disconnected" and connection["managed"] is False, connection
    assert daemon.rest.get("/v1/admin/plans") == {"plans": {}, "source": "configuration"}
    workspace.connect(stage_id=12)  # it is everybody's again
    assert workspace.connection()["settings"]["stage_id"] == 12


def test_a_connection_made_by_hand_is_taken_over_with_its_history(daemon, file, apply) -> None:
    """EXT-15, PCON-13"""
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2], link_field="Link")
    workspace.clicks("spring", 2)
    workspace.tick()
    before = workspace.connection()
    assert ("adopt", "connection", "done") in actions(apply(file))
    after = workspace.connection()
    assert after["id"] == before["id"] and after["managed_by"] == str(file)
    assert after["settings"]["link_field"] == before["settings"]["link_field"], "what the file does not name stays"
    assert apply(file)["changes"] == [], "a setting that the plugin stores in another form is no difference"
    workspace.tick()
    assert len(daemon.sandbox.deals()) == 1


def test_an_error_names_file_line_and_field_and_the_rest_is_applied(daemon, file, apply) -> None:
    """EXT-15: what the daemon refuses is told like what the file's reader refuses"""
    file.write_text(
        FILE.replace("stage_id: 11", "stage_id: eleven")
        + "  other:\n    connections:\n      nosuch: {}\n  third:\n    plan: free\n"
    )
    report = apply(file, code=1)
    assert report["failed"] == 2, report
    told = {entry["name"]: entry["errors"] for entry in report["changes"] if entry["result"] == "failed"}
    assert [error["line"] for error in told["pipedrive"]] == [13], told
    assert "workspaces.acme.connections.pipedrive.settings.stage_id" in told["pipedrive"][0]["message"]
    assert told["nosuch"][0]["line"] == 16 and told["nosuch"][0]["file"] == str(file), told
    plans = {entry["id"]: entry["plan"] for entry in daemon.rest.get("/v1/workspaces")["workspaces"]}
    assert plans["third"] == "free", "one failure stopped the others"
    text = daemon.cli("apply", str(file), check=False, CRM_TOKEN=VENDOR_TOKEN)
    assert f"{file}:13: " in text.out and "FAILED" in text.out, text.out


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("workspaces:\n  a:\n    conections: {}\n", 3, "did you mean 'connections'?"),
        ("workspaces: {a: {connections: {pipedrive: {credentials: {api_token: abc}}}}}\n", 1, "must not stand"),
        (FILE.replace("CRM_TOKEN", "NO_SUCH_VARIABLE"), 9, "NO_SUCH_VARIABLE is not set"),
        ("workspaces: {a: {plan: x}}\n---\nmore: 1\n", 1, "YAML"),
    ],
)
def test_a_wrong_file_changes_nothing_and_says_where(daemon, file, apply, text: str, line: int, told: str) -> None:
    """EXT-15"""
    file.write_text(text)
    before = rows(daemon)
    [issue] = apply(file, code=1)["issues"]
    assert issue["file"] == str(file) and told in issue["message"], issue
    assert issue["line"] == line or told == "YAML", issue
    assert rows(daemon) == before


def test_comparing_secrets_tells_names_and_nothing_else(daemon, file, apply) -> None:
    """EXT-15, SEC-12: and only an administrator may ask"""
    apply(file)
    url = "/v1/workspaces/acme/integrations/pipedrive/compare"
    same = daemon.rest.post(url, {"credentials": {"api_token": VENDOR_TOKEN}})
    other = daemon.rest.post(url, {"credentials": {"api_token": VENDOR_TOKEN[:-1], "unknown": "x"}})
    assert same == {"different": []} and other == {"different": ["api_token", "unknown"]}
    operator = daemon.rest.post("/v1/admin/tokens", {"name": "o", "scopes": ["operator"]})["token"]
    problem(daemon.rest.with_token(operator).request("POST", url, {"credentials": {}}), 403, "forbidden")
