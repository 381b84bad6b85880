# SPDX-License-Identifier: Apache-2.0
"""Events of vendors that are handed in, and the hooks they become (HOOK-08)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from harness import Daemon, Workspace, listed, problem, wait_for
from test_hooks import Receiver, connect, hooked, new_key, receiver  # noqa: F401

pytestmark = pytest.mark.timeout(120)

DEAL = {
    "dealId": "42", "dealTitle": "Früh", "previousStage": "11", "newStage": "12", "personId": "77",
    "value": "5000.10", "currency": "EUR",
}


def hand_in(workspace: Workspace, expect: tuple[int, ...] = (200, 201), **more: Any) -> dict[str, Any]:
    body = {"topic": "deal.stage_changed", "id": "e1", "data": DEAL, **more}
    return workspace.rest.post(f"{workspace.base}/integrations/custom-hook/events", body, expect=expect)


def test_an_event_is_stored_once_and_passed_on_once(hooked: Daemon, receiver: Receiver) -> None:  # noqa: F811
    """HOOK-08: durable, deduplicated, audited, listed, and one signed hook for each connection that asked"""
    workspace, keys = hooked.workspace("acme"), [new_key(), new_key()]
    connect(workspace, receiver, keys[0], url=f"{receiver.url}/a", vendor_events=True, only={"folder": ["paid"]})
    connect(workspace, receiver, keys[1], "custom-hook@two", url=f"{receiver.url}/b", vendor_events=True)
    connect(workspace, receiver, new_key(), "custom-hook@deaf", url=f"{receiver.url}/c")
    first = hand_in(workspace, (201,))
    assert first["duplicate"] is False and first["data"] == DEAL and len(first["deliveries"]) == 2
    hooked.kill()
    hooked.start()
    again = hand_in(workspace, (200,))
    assert again["duplicate"] is True and again["id"] == first["id"]
    hooked.drain("acme")
    wait_for("both hooks arrive", lambda: len(receiver.requests) >= 2)
    workspace.tick()
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 2
    for key in keys:
        told = [body for headers, body in receiver.requests if verifies(key, headers, body)]
        assert told and json.loads(told[0])["data"]["dealTitle"] == "Früh"
    shown = listed(workspace.rest, f"{workspace.base}/integrations/custom-hook/events?limit=1", "events")
    assert [event["id"] for event in shown] == [first["id"]]
    assert {delivery["state"] for delivery in shown[0]["deliveries"]} == {"delivered"}
    audit = workspace.rest.get("/v1/admin/audit")["entries"]
    assert [entry["detail"]["duplicate"] for entry in audit if entry["action"] == "integrations.events.post"] == [True, False]


def verifies(key: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        Webhook(key).verify(body, headers)
    except Exception:  # noqa: BLE001 - any refusal is one
        return False
    return True


def test_the_key_of_a_request_stands_for_an_id_and_refusals_name_the_place(
    hooked: Daemon, receiver: Receiver  # noqa: F811
) -> None:
    """HOOK-08, decisions 8"""
    workspace = hooked.workspace("acme")
    connect(workspace, receiver, new_key())
    path = f"{workspace.base}/integrations/custom-hook/events"
    body = {"topic": "deal.stage_changed", "data": DEAL}
    pointers = [error["pointer"] for error in problem(workspace.rest.request("POST", path, body), 422, "validation_failed")["errors"]]
    assert pointers == ["/id"]
    answers = [
        workspace.rest.request("POST", path, body, headers={"Idempotency-Key": key}).status for key in ("k1", "k1", "k2")
    ]
    assert answers == [201, 200, 201]
    other = {**body, "id": "k1", "data": {**DEAL, "newStage": "13"}}
    problem(workspace.rest.request("POST", path, other), 409, "conflict")
    for data, pointer in [
        ({**DEAL, "value": 5000.1}, "/data/value"), ({**DEAL, "currency": "euro"}, "/data/currency"),
        ({**DEAL, "dealID": "1"}, "/data/dealID"),
    ]:
        refused = problem(workspace.rest.request("POST", path, {**body, "id": "x", "data": data}), 422, "validation_failed")
        assert [error["pointer"] for error in refused["errors"]] == [pointer]
    problem(workspace.rest.request("POST", f"{workspace.base}/integrations/none/events", {**body, "id": "x"}), 404, "not_found")
    assert receiver.requests == [] and workspace.deliveries() == []


def test_the_command_line_hands_in_and_lists(hooked: Daemon, receiver: Receiver) -> None:  # noqa: F811
    """HOOK-08, EXT-10"""
    workspace = hooked.workspace("acme")
    connect(workspace, receiver, new_key(), vendor_events=True)
    facts = ["dealId=42", "newStage=won", "value=9.90", "currency=EUR"]
    command = ["integrations", "event", "custom-hook", "--id", "e1", *facts, "-w", "acme", "--json"]
    assert [hooked.cli(*command).json["duplicate"] for _ in range(2)] == [False, True]
    wait_for("the hook arrives", lambda: receiver.requests)
    assert json.loads(receiver.requests[0][1])["data"]["value"] == "9.90"
    shown = hooked.cli("integrations", "events", "custom-hook", "-w", "acme").out
    assert "deal.stage_changed" in shown and "won" in shown
    bad = hooked.cli("integrations", "event", "custom-hook", "dealId=1", "-w", "acme", check=False)
    assert bad.code != 0 and "newStage is missing" in bad.err + bad.out
