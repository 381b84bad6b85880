# SPDX-License-Identifier: Apache-2.0
"""A service is asked before a rolling rule moves a deal, what it is asked and answers fits the published schemas, and a
person lets go what it holds: the real daemon, hubspot.so and custom-hook.so, and the sandbox as service and vendor."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import jsonschema
import pytest
import referencing
from hubspot_steps import STAGES, Installation, hubspot  # noqa: F401 - the fixture

from harness import ISOLATION, ROOT, Daemon, problem, wait_for

pytestmark = pytest.mark.timeout(180)

SCHEMAS = {
    path.stem: json.loads(path.read_text()) for path in (ROOT / "include" / "milepost" / "schemas").glob("*.json")}
REGISTRY = referencing.Registry().with_resources(
    (schema["$id"], referencing.Resource.from_contents(schema)) for schema in SCHEMAS.values())
RULE = "spring"
PAYLOADS = {"milepost.deal.before": "payload.deal", "milepost.rule.before": "payload.rule"}


def fits(name: str, value: Any) -> None:
    """Valid, and without a member that the schema does not know."""
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator(
        schema, registry=REGISTRY, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(value)
    assert unknown(value, schema) == [], f"{name} does not name {unknown(value, schema)}"


def unknown(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    # An event is the action's payload, which has a schema of its own.
    return [
        found for name, inner in value.items()
        for found in ([f"{path}/{name}"] if name not in schema["properties"] and path != "/data/event" else
                      unknown(inner, schema["properties"].get(name, {}), f"{path}/{name}"))]


def question_fits(question: dict[str, Any]) -> None:
    """The question as a whole, and its event with what it was made from: the action's payload."""
    body = question["body"]
    fits("hook.question", body)
    assert question["headers"]["webhook-id"] == body["data"]["delivery"]
    payload = {**body["data"]["event"], "workspace": body["data"]["workspace"]}
    jsonschema.Draft202012Validator(SCHEMAS[PAYLOADS[body["type"]]], registry=REGISTRY).validate(payload)


class Bench:
    """HubSpot with a rule, and a service that judges what it does."""

    def __init__(self, it: Installation):
        self.it = it
        it.daemon.settings["plugins"]["custom-hook"] = {
            "enabled": True, "isolation": ISOLATION, "endpoints": {"receiver": it.sandbox.url}}
        it.daemon.write_config()
        it.daemon.restart()
        it.set_app()
        it.make_template()
        it.install("hubspot", "--feature", "rules")
        it.provision()
        it.workspace.put_link("pricing", tags=["spring"])
        rule = {
            "id": RULE, "name": "Spring", "trigger": {"link_tag": "spring", "contact_window": "7d", "click_threshold": 3},
            "action": {"type": "hubspot.deal_stage", **STAGES},
        }
        it.rest.post(f"{it.workspace.base}/rules", rule)
        self.key = "whsec_" + base64.b64encode(os.urandom(32)).decode()
        it.sandbox.rest.post("/_sandbox/hooks/keys", {"keys": [self.key], "refuse": True})
        it.rest.post(
            f"{it.workspace.base}/integrations/custom-hook",
            {"credentials": {"signing_key": self.key}, "url": f"{it.sandbox.url}/hooks/judge", "crossings": False,
             "intercept": True, "intercept_on_failure": "hold", "intercept_for": ["hubspot"]})

    def answers(self, *answers: dict[str, Any]) -> None:
        """The service's plan; every answer that is a decision fits the schema of answers."""
        for answer in answers:
            fits("hook.answer", answer["body"])
        self.it.sandbox.rest.post("/_sandbox/hooks", [{"path": "/hooks/judge", **answer} for answer in answers])

    def questions(self) -> list[dict[str, Any]]:
        return self.it.sandbox.requests("POST", "/hooks/judge")

    def reach(self, contact: str) -> None:
        """The contact crosses the rule's threshold."""
        self.it.clicks(contact, 3)

    def delivery(self, deal: str) -> dict[str, Any] | None:
        """What acts on a deal, with its decisions."""
        for firing in self.it.firings(RULE):
            for target in firing["targets"]:
                if target["id"] == deal and target.get("delivery"):
                    return self.it.workspace.delivery(target["delivery"])
        return None

    def settled(self, deal: str, state: str) -> dict[str, Any]:
        return wait_for(
            f"the move of {deal} is {state}",
            lambda: (found := self.delivery(deal)) and found["state"] == state and found, timeout=30)


@pytest.fixture
def bench(hubspot: Any) -> Bench:  # noqa: F811
    return Bench(hubspot())


def test_a_rule_asks_before_it_moves_a_deal_and_explain_lists_what_was_said(bench: Bench) -> None:
    """HOOK-01, HOOK-02, RULE-20, EXT-16: rule.before; let through, vetoed, and both in `explain --rule`"""
    it = bench.it
    it.contacts("31", "32")
    good, vetoed = it.deal("31", "8000"), it.deal("32", "8000")
    bench.answers(
        {"contains": '"id":"32"', "body": {"decision": "drop", "reason": "a competitor"}},
        {"body": {"decision": "continue", "reason": "a good one"}})
    bench.reach("31")
    bench.settled(good, "delivered")
    bench.reach("32")
    dropped = bench.settled(vetoed, "dropped")
    assert it.stage(good) == "qualifiedtobuy" and it.stage(vetoed) == "appointmentscheduled"
    assert dropped["reason_code"] == "vetoed_by_hook" and "a competitor" in dropped["reason"], dropped

    [first, second] = bench.questions()
    for question, contact, deal in [(first, "31", good), (second, "32", vetoed)]:
        assert question["signature"] == "valid", question
        question_fits(question)
        event = question["body"]["data"]["event"]
        assert question["body"]["type"] == "milepost.rule.before"
        assert (event["kind"], event["rule"]["id"]) == ("rule", RULE)
        assert (event["contact"]["id"], event["target"]["id"]) == (contact, deal)
    [move] = it.moves()
    assert first["n"] < move["n"], "asked before, not after"

    told = it.rest.get(f"{it.workspace.base}/rules/{RULE}/explain")
    said = {item["target"]: item for item in told["decisions"]}
    assert set(said) == {good, vetoed}, told["decisions"]
    assert [decision["verdict"] for decision in said[good]["decisions"]] == ["continue"]
    assert said[vetoed]["delivery"] == dropped["id"] and said[vetoed]["contact"] == "32"
    page = it.cli("explain", "--rule", RULE).out
    assert f"hooks before deal {vetoed} of 32" in page and "custom-hook vetoed it after" in page, page
    assert "a competitor" in page and "custom-hook let it through after" in page, page
    it.nothing_undescribed()


def test_a_rules_action_cannot_be_changed_and_a_failure_holds_it(bench: Bench) -> None:
    """HOOK-06: an answer that does not fit the point is a failure, and held as configured"""
    it = bench.it
    it.contacts("41")
    deal = it.deal("41", "8000")
    bench.answers({"body": {"decision": "change", "deal": {"stage": "qualifiedtobuy"}}})
    bench.reach("41")
    held = bench.settled(deal, "held")
    assert held["reason_code"] == "hook_failed" and held["decisions"][0]["code"] == "hook_answer_invalid", held
    assert it.moves() == []
    question_fits(bench.questions()[0])


def test_one_held_move_is_released_by_hand_and_no_other(bench: Bench) -> None:
    """HOOK-06, EXT-09, EXT-10: `milepost deliveries release`; the hook is not asked again, and the decision says by whom"""
    it = bench.it
    it.contacts("51", "52")
    mine, other = it.deal("51", "8000"), it.deal("52", "8000")
    bench.answers({"body": {"decision": "hold", "until": "2199-01-01T00:00:00Z", "reason": "office hours"}})
    # A time beyond 30 days is none that is taken: the answer says so, and the move waits.
    bench.reach("51")
    bench.settled(mine, "held")
    bench.answers({"body": {"decision": "hold", "reason": "office hours"}})
    bench.reach("52")
    bench.settled(other, "held")
    asked = len(bench.questions())
    held = bench.delivery(mine)
    shown = it.cli("deliveries", "show", held["id"]).out
    assert "milepost deliveries release ID" in shown, shown

    viewer = it.rest.post("/v1/admin/tokens", {"name": "reader", "scopes": ["viewer"]})["token"]
    path = f"{it.workspace.base}/deliveries/{held['id']}/release"
    problem(it.rest.with_token(viewer).request("POST", path), 403, "forbidden")
    assert it.cli("deliveries", "release", held["id"], "--json").json["id"] == held["id"]
    bench.settled(mine, "delivered")
    assert it.stage(mine) == "qualifiedtobuy" and it.stage(other) == "appointmentscheduled"
    assert len(bench.questions()) == asked, "the hook was asked again"
    decision = bench.delivery(mine)["decisions"][-1]
    assert decision["code"] == "released_by_hand" and "not asked again: by " in decision["text"], decision
    assert bench.delivery(other)["state"] == "held", "another one went along"
    page = it.cli("explain", "--rule", RULE).out
    assert "released by hand" in page and "custom-hook holds it until" in page, page
    audit = [entry for entry in it.rest.get("/v1/admin/audit")["entries"] if entry["action"] == "deliveries.release"]
    assert len(audit) == 1 and audit[0]["target"] == path, audit
    again = it.rest.request("POST", path)
    assert "only held ones" in problem(again, 409, "conflict")["detail"]
    it.nothing_undescribed()


def test_what_waits_with_its_connection_is_not_released(own: Any) -> None:
    """HOOK-06, REA-05: nothing leaves over a connection that cannot deliver"""
    daemon: Daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2])
    daemon.sandbox.revoke()
    workspace.clicks("spring", 2)
    workspace.tick()
    [held] = workspace.deliveries(state="held")
    mark = daemon.sandbox.mark()
    answer = workspace.rest.request("POST", f"{workspace.base}/deliveries/{held['id']}/release")
    assert "waits with its connection pipedrive" in problem(answer, 409, "conflict")["detail"]
    assert daemon.sandbox.requests("POST", since=mark) == []
    run = daemon.cli("deliveries", "release", held["id"], "-w", "acme", check=False)
    assert run.code == 1 and "conflict" in run.err, run


def test_questions_about_deals_fit_their_schema_too(own: Any) -> None:
    """HOOK-01, HOOK-04: also with what an earlier hook changed, and with folder and campaign"""
    daemon: Daemon = own()
    daemon.settings["plugins"]["custom-hook"] = {"enabled": True, "endpoints": {"receiver": daemon.sandbox.url}}
    daemon.write_config()
    daemon.start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2])
    for name, path in [("custom-hook", "/hooks/first"), ("custom-hook@second", "/hooks/second")]:
        workspace.rest.post(
            f"{workspace.base}/integrations/{name}",
            {"credentials": {"signing_key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "crossings": False,
             "url": f"{daemon.sandbox.url}{path}", "intercept": True, "intercept_for": ["pipedrive"]})
    changed = {"decision": "change", "reason": "enriched", "deal": {"title": "Judged", "fields": {"Deal Source": "Ads"}}}
    fits("hook.answer", changed)
    daemon.sandbox.rest.post("/_sandbox/hooks", [{"path": "/hooks/first", "body": changed}, {
        "path": "/hooks/second", "body": {"decision": "continue"}}])
    workspace.put_link("spring", slug="spring", folder="Paid", tags=["q2"], title="Spring")
    workspace.clicks("spring", 2, utm={"source": "meta", "campaign": "spring"})
    workspace.tick()
    [first] = daemon.sandbox.requests("POST", "/hooks/first")
    [second] = daemon.sandbox.requests("POST", "/hooks/second")
    question_fits(first)
    question_fits(second)
    assert second["body"]["data"]["deal"]["title"] == "Judged", second["body"]
    assert [deal["title"] for deal in daemon.sandbox.deals()] == ["Judged"]


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"decision": "perhaps"}, {"decision": "change"}, {"decision": "drop", "deal": {"title": "x"}},
        {"decision": "change", "deal": {"colour": 1}}, {"decision": "hold", "until": 5},
        {"decision": "change", "deal": {"title": ""}},
    ],
    ids=json.dumps)
def test_the_schema_of_answers_refuses_what_the_daemon_refuses(answer: dict[str, Any]) -> None:
    """HOOK-06: test_interceptor.py holds the daemon's side"""
    assert not jsonschema.Draft202012Validator(SCHEMAS["hook.answer"]).is_valid(answer)
