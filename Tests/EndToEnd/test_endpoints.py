# SPDX-License-Identifier: Apache-2.0
"""A receiver that fails for too long: disabled with notice, its queue kept, enabled with one command (EXT-08)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import Daemon, Workspace, problem, wait_for
from test_hooks import Receiver, connect, cross, hooked, new_key, receiver  # noqa: F401

pytestmark = pytest.mark.timeout(180)


def state(workspace: Workspace) -> dict[str, Any]:
    return workspace.rest.get(f"{workspace.base}/integrations/custom-hook")


def slugs(receiver: Receiver, since: int = 0) -> list[str]:
    return [json.loads(body)["data"]["link"]["slug"] for _, body in receiver.requests[since:]]


def test_a_failing_receiver_is_disabled_and_one_command_lets_its_queue_go(
    hooked: Daemon, receiver: Receiver  # noqa: F811
) -> None:
    """EXT-08: fails for the set time: disabled, alert; enable: the queue resumes, oldest first, without a burst"""
    workspace = hooked.workspace("acme")
    connect(workspace, receiver, new_key(), disable_after="1s", disable_after_failures=3)
    receiver.answer = lambda number: 500
    names = [f"link{number:02}" for number in range(12)]
    for name in names:
        workspace.rest.put(f"{workspace.base}/links/{name}", {"slug": name})
    workspace.tick()
    for name in names:
        workspace.clicks(name, 2)
    # First seen in this order, so queued in this order.
    workspace.tick()
    shown = state(workspace)
    if shown["state"] == "active":
        assert shown["failing"]["failures"] >= 3 and "500" in shown["failing"]["last"]["message"], shown
        assert shown["failing"]["disables_at"] > shown["failing"]["since"]
        assert "endpoint_fails" in json.dumps(workspace.rest.get("/v1/admin/status")["problems"])

    def is_disabled() -> bool:
        workspace.tick()
        return state(workspace)["state"] == "disabled"

    wait_for("it is disabled", is_disabled, 30)
    disabled = state(workspace)
    assert disabled["reason"]["code"] == "endpoint_failing" and "500" in disabled["reason"]["message"]
    assert disabled["queue"]["held"] == 12 and {d["state"] for d in workspace.deliveries()} == {"held"}
    assert hooked.metrics()['milepost_endpoint_disabled{integration="custom-hook",workspace="acme"}'] == 1
    assert "milepost integrations enable custom-hook" in hooked.cli("status").out
    asked = len(receiver.requests)
    hooked.restart()
    workspace.tick()
    assert len(receiver.requests) == asked and state(workspace)["state"] == "disabled"

    queued = [delivery["link"] for delivery in reversed(workspace.deliveries())]
    receiver.answer = lambda number: 200
    shown = hooked.cli("integrations", "enable", "custom-hook", "-w", "acme", "--json").json
    assert shown["state"] == "active" and shown["failing"] is None
    wait_for("the first leaves", lambda: len(receiver.requests) > asked)
    first = len(receiver.requests) - asked
    assert first == 1, "no burst: one is tried before the others follow"
    hooked.drain("acme")
    assert slugs(receiver, asked)[0] == queued[0]
    assert sorted(slugs(receiver, asked)) == sorted(names), "each once"
    assert {d["state"] for d in workspace.deliveries()} == {"delivered"}
    audit = workspace.rest.get("/v1/admin/audit")["entries"]
    assert any(entry["action"] == "integrations.enable" for entry in audit), audit
    assert hooked.metrics()['milepost_endpoint_disabled{integration="custom-hook",workspace="acme"}'] == 0


def test_enabling_says_what_it_cannot_end(hooked: Daemon, receiver: Receiver) -> None:  # noqa: F811
    """EXT-08: another state has another cure; what works stays as it is"""
    workspace = hooked.workspace("acme")
    connect(workspace, receiver, new_key())
    path = f"{workspace.base}/integrations/custom-hook/enable"
    assert workspace.rest.post(path)["state"] == "active"
    receiver.answer = lambda number: 401
    cross(workspace)
    refused = problem(workspace.rest.request("POST", path, {}), 409, "conflict")
    assert "needs_reauth" in refused["detail"]
    problem(workspace.rest.request("POST", f"{workspace.base}/integrations/other/enable", {}), 404, "not_found")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("disable_after", "12"), ("disable_after", "1y"), ("disable_after", 5), ("disable_after", "99999999999d"),
     ("disable_after", "366d"), ("disable_after_failures", 0), ("disable_after_failures", "5")],
)
def test_settings_that_make_no_sense_are_refused(
    hooked: Daemon, receiver: Receiver, setting: str, value: Any  # noqa: F811
) -> None:
    """EXT-08"""
    workspace = hooked.workspace("acme")
    connect(workspace, receiver, new_key())
    answer = workspace.rest.request("PATCH", f"{workspace.base}/integrations/custom-hook", {setting: value})
    assert problem(answer, 422, "validation_failed")["errors"][0]["pointer"] == f"/{setting}"
    taken = workspace.rest.patch(f"{workspace.base}/integrations/custom-hook", {"disable_after": "90m"})
    assert (taken["settings"]["disable_after"], taken["settings"]["disable_after_failures"]) == ("90m", 5)
    for given, said in ((0, "0"), ("45s", "45s"), ("120m", "2h"), ("48h", "2d")):
        taken = workspace.rest.patch(f"{workspace.base}/integrations/custom-hook", {"disable_after": given})
        assert taken["settings"]["disable_after"] == said
