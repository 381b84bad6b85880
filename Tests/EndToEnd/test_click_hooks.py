# SPDX-License-Identifier: Apache-2.0
"""Every click as a signed hook, many in one request (EXT-04, EXT-06)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from harness import Daemon, Workspace, rfc3339, wait_for
from test_hooks import Receiver, connect, hooked, new_key, receiver  # noqa: F401

pytestmark = pytest.mark.timeout(120)


def post(workspace: Workspace, events: list[dict[str, Any]]) -> None:
    answer = workspace.rest.post(f"{workspace.base}/events", events)
    assert answer["accepted"] == len(events), answer


def click(number: int, link: str = "spring", **more: Any) -> dict[str, Any]:
    return {"id": f"c{number}", "ts": rfc3339(), "link": link, "contact_id": str(number), **more}


def items(receiver: Receiver) -> list[dict[str, Any]]:
    return [item for _, body in list(receiver.requests) for item in json.loads(body)]


def test_clicks_leave_together_each_once_and_signed(hooked: Daemon, receiver: Receiver) -> None:  # noqa: F811
    """EXT-04: the reference library accepts each batch; a kill between loses and doubles nothing that ids do not tell"""
    workspace, key = hooked.workspace("acme"), new_key()
    connect(workspace, receiver, key, clicks=True, batch=True, batch_size=40)
    post(workspace, [click(number) for number in range(100)])
    wait_for("all arrive", lambda: len(items(receiver)) >= 100)
    assert len(receiver.requests) < 50, "they leave together"
    assert max(len(json.loads(body)) for _, body in receiver.requests) <= 40
    for headers, body in receiver.requests:
        Webhook(key).verify(body, headers)
    found = items(receiver)
    assert len({item["id"] for item in found}) == 100 == len(found)
    assert {item["data"]["contact"]["id"] for item in found} == {str(number) for number in range(100)}
    assert {item["type"] for item in found} == {"milepost.link.clicked"}
    assert workspace.deliveries() == [], "what is delivered leaves no row (decisions 25)"
    hooked.kill()
    hooked.start()
    post(workspace, [click(number) for number in range(100, 110)])
    wait_for("the new ones arrive", lambda: len({item["id"] for item in items(receiver)}) == 110)


def test_one_click_that_the_receiver_refuses_fails_alone(hooked: Daemon, receiver: Receiver) -> None:  # noqa: F811
    """One bad item never fails its batch (EXT-06): it is a dead letter with the reason, the others have arrived"""
    workspace = hooked.workspace("acme")
    connect(workspace, receiver, new_key(), clicks=True, batch=True)
    receiver.answer = lambda number: 422 if b'"poison"' in receiver.requests[number - 1][1] else 200
    post(workspace, [click(number, "poison" if number == 23 else "spring") for number in range(50)])

    def arrived() -> set[str]:
        return {
            item["data"]["contact"]["id"] for _, body in list(receiver.requests) if b'"poison"' not in body
            for item in json.loads(body)
        }

    wait_for("the others arrive", lambda: len(arrived()) == 49)
    wait_for("the bad one is given up", lambda: workspace.deliveries(state="dead"))
    [dead] = workspace.deliveries(state="dead")
    assert dead["link"] == "poison" and dead["reason_code"] == "refused_by_receiver"


def test_clicks_of_nobody_known_go_where_a_setting_says_so(hooked: Daemon, receiver: Receiver) -> None:  # noqa: F811
    """The stream holds them everywhere else (RES-03)"""
    workspace = hooked.workspace("acme")
    connect(workspace, receiver, new_key(), clicks=True, batch=True, anonymous_clicks="send", url=f"{receiver.url}/all")
    connect(workspace, receiver, new_key(), "custom-hook@known", clicks=True, batch=True, url=f"{receiver.url}/known")
    post(workspace, [click(1), {"id": "anon", "ts": rfc3339(), "link": "spring"}])
    wait_for("three arrive", lambda: len(items(receiver)) == 3)
    assert sorted(item["data"]["contact"]["via"] for item in items(receiver)) == ["click", "click", "none"]
    held = workspace.rest.get(f"{workspace.base}/held")["held"]
    assert [(click["integration"], click["event"]) for click in held] == [("custom-hook@known", "anon")]


def test_a_receiver_that_is_down_gets_every_click_when_it_is_back(hooked: Daemon, receiver: Receiver) -> None:  # noqa: F811
    """EXT-06: the log is the queue"""
    workspace = hooked.workspace("acme")
    connect(workspace, receiver, new_key(), clicks=True, batch=True)
    receiver.answer = lambda number: 503 if number <= 3 else 200
    post(workspace, [click(number) for number in range(30)])
    wait_for(
        "all are taken",
        lambda: len({i["id"] for _, body in list(receiver.requests)[3:] for i in json.loads(body)}) == 30, 60,
    )
