# SPDX-License-Identifier: Apache-2.0
"""A service, or a plugin, decides over each deal before it is made: the real daemon, its workers, and kill -9 (section I)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from harness import DIST, ROOT, Daemon, Workspace, problem, wait_for
from test_hooks import Receiver, receiver  # noqa: F401 - the fixture

pytestmark = pytest.mark.timeout(180)

MANIFEST: dict[str, Any] = {
    "manifest": 1,
    "id": "dev.milepost.test.judge",
    "name": "judge",
    "title": "A judge",
    "version": "0.1.0",
    "license": "Apache-2.0",
    "abi": {"major": 1, "min_host_minor": 0},
    "kinds": ["hook"],
    "hooks": [{"point": "deal.before", "budget_ms": 1000, "on_failure": "proceed"}],
    "config_schema": {"type": "object", "properties": {}},
    "limits": {"memory_mb": 64, "threads": 8},
}


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real plugins and the judge."""
    folder = tmp_path_factory.mktemp("plugins")
    for name in ("pipedrive", "custom-hook"):
        for suffix in ("so", "json"):
            shutil.copy(DIST / "plugins" / f"{name}.{suffix}", folder / f"{name}.{suffix}")
    manifest = json.dumps(MANIFEST)
    quoted = manifest.replace("\\", "\\\\").replace('"', '\\"')
    (folder / "judge.json").write_text(manifest)
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", str(ROOT / "include")]
    source = ROOT / "Tests" / "Plugins" / "judges" / "judge.c"
    subprocess.run(
        ["cc", *flags, f'-DMANIFEST="{quoted}"', "-o", str(folder / "judge.so"), str(source)], check=True, timeout=60
    )
    for path in folder.iterdir():
        path.chmod(0o755 if path.suffix == ".so" else 0o644)
    return folder


class Court:
    """A daemon with Pipedrive, the service that judges (played by the sandbox), and the judge in C."""

    def __init__(self, daemon: Daemon):
        self.daemon, self.sandbox = daemon, daemon.sandbox
        self.key = "whsec_" + base64.b64encode(os.urandom(32)).decode()
        self.workspace: Workspace = daemon.workspace("acme")

    def connect(self, integration: str = "custom-hook", **settings: Any) -> dict[str, Any]:
        body = {
            "credentials": {"signing_key": self.key},
            "url": f"{self.sandbox.url}/hooks/events",
            "intercept_url": f"{self.sandbox.url}/hooks/judge",
            "crossings": False,
            "intercept": True,
            **settings,
        }
        return self.workspace.rest.post(f"{self.workspace.base}/integrations/{integration}", body)

    def set(self, integration: str = "custom-hook", **settings: Any) -> dict[str, Any]:
        return self.workspace.rest.patch(f"{self.workspace.base}/integrations/{integration}", settings)

    def answers(self, *answers: dict[str, Any]) -> None:
        self.sandbox.rest.post("/_sandbox/hooks", [{"path": "/hooks/judge", **answer} for answer in answers])

    def questions(self) -> list[dict[str, Any]]:
        return self.sandbox.requests("POST", "/hooks/judge")

    def cross(self, link: str = "spring", folder: str = "Paid", source: str = "meta") -> None:
        self.workspace.put_link(link, slug=link, folder=folder)
        self.workspace.clicks(link, 2, utm={"source": source, "campaign": "spring"})
        self.workspace.tick()

    def delivery(self, link: str) -> dict[str, Any]:
        [found] = [each for each in self.workspace.deliveries() if each["link"] == link]
        return self.workspace.delivery(found["id"])


@pytest.fixture
def court(own, plugins: Path) -> Iterator[Court]:
    daemon = own(plugin_dirs=[str(plugins)], delivery={"operation_timeout": "4s", "request_timeout": "3s"})
    daemon.settings["plugins"]["custom-hook"] = {"enabled": True, "endpoints": {"receiver": daemon.sandbox.url}}
    daemon.settings["plugins"]["judge"] = {"enabled": True}
    daemon.write_config()
    daemon.start()
    made = Court(daemon)
    made.workspace.connect(thresholds=[2])
    yield made


def decide(**decision: Any) -> dict[str, Any]:
    return {"body": decision}


class TestTheService:
    def test_it_is_asked_by_one_signed_request_before_the_deal_and_lets_it_through(self, court: Court) -> None:
        """HOOK-01, EXT-04: the reference library verifies the question"""
        court.connect()
        court.answers(decide(decision="continue", reason="a good one"))
        court.cross()
        [question] = court.questions()
        [deal] = court.sandbox.requests("POST", "/api/v2/deals")
        assert question["n"] < deal["n"]
        body = question["body"]
        assert question["headers"]["webhook-id"] == body["data"]["delivery"]
        assert body["type"] == "milepost.deal.before" and body["data"]["integration"] == "pipedrive"
        assert body["data"]["event"]["link"]["slug"] == "spring" and body["data"]["event"]["threshold"] == 2
        delivery = court.delivery("spring")
        assert delivery["state"] == "delivered" and delivery["attempts"] == 1
        [decision] = delivery["decisions"]
        assert (decision["hook"], decision["verdict"], decision["reason"]) == ("custom-hook", "continue", "a good one")
        assert court.sandbox.requests("POST", "/hooks/events") == [], "crossings are off: it judges and hears nothing"
        assert len(court.workspace.deliveries()) == 1

    def test_the_reference_library_verifies_the_question_and_an_empty_answer_decides_nothing(
        self, court: Court, receiver: Receiver
    ) -> None:
        """EXT-04, HOOK-06"""
        court.daemon.settings["plugins"]["custom-hook"]["endpoints"]["own"] = receiver.url
        court.daemon.write_config()
        court.daemon.restart()
        court.connect(intercept_url=f"{receiver.url}/ask")
        court.cross()
        [(headers, body)] = receiver.requests
        assert Webhook(court.key).verify(body, headers)["type"] == "milepost.deal.before"
        delivery = court.delivery("spring")
        assert delivery["state"] == "delivered" and "without a body" in delivery["decisions"][0]["reason"]

    def test_a_veto_by_source_and_by_folder_drops_with_the_reason(self, court: Court) -> None:
        """HOOK-02, HOOK-03: paid social passes, organic and another folder are vetoed"""
        court.connect()
        court.answers(
            {"contains": '"source":"organic"', **decide(decision="drop", reason="organic blog")},
            {"contains": '"folder":"Internal"', **decide(decision="drop", reason="internal folder")},
            decide(decision="continue"),
        )
        court.cross("paid")
        court.cross("blog", source="organic")
        court.cross("intern", folder="Internal")
        assert [deal["title"] for deal in court.sandbox.deals()] == ["Link paid hit 2 clicks"]
        dropped = court.delivery("blog")
        assert dropped["state"] == "dropped" and dropped["reason_code"] == "vetoed_by_hook"
        assert dropped["reason"] == "Vetoed by hook custom-hook: organic blog."
        assert "internal folder" in court.delivery("intern")["reason"]
        explained = court.workspace.explained("blog", 2)
        assert explained["outcome"] == "dropped" and explained["decisions"][0]["verdict"] == "drop"
        court.workspace.clicks("blog", 5)
        court.workspace.tick()
        assert len(court.sandbox.deals()) == 1 and court.workspace.link("blog")["totals"]["all"] == 7
        night = court.daemon.cli("explain", "blog", "--workspace", "acme").out
        assert "custom-hook vetoed it after" in night and "organic blog" in night, night
        shown = court.daemon.cli("deliveries", "show", dropped["id"], "--workspace", "acme").out
        assert "custom-hook vetoed it after" in shown, shown
        assert "milepost replay ID" in shown, shown
        assert "vetoed by hook" in court.daemon.log.read_text()
        counted = {key: value for key, value in court.daemon.metrics().items() if "milepost_intercepts_total" in key}
        assert sum(value for key, value in counted.items() if 'verdict="drop"' in key) == 2, counted

    def test_it_changes_title_stage_and_fields_by_label_and_by_key(self, court: Court) -> None:
        """HOOK-04, FLD-01, FLD-02: an unknown label is a warning"""
        for name in ("Origin", "Lead Channel"):
            court.sandbox.rest.post("/_sandbox/fields", {"name": name, "field_type": "varchar"}, expect=(200, 201))
        channel = court.sandbox.field_key("Lead Channel")
        pipeline = court.sandbox.state()["pipelines"][0]
        stage = [each for each in court.sandbox.state()["stages"] if each["pipeline_id"] == pipeline["id"]][-1]
        court.connect()
        fields = {"Origin": "Paid social", channel: "Ads", "No such field": 1}
        deal = {"title": "Spring, judged", "pipeline": pipeline["name"], "stage": stage["name"], "fields": fields}
        court.answers(decide(decision="change", deal=deal, reason="enriched"))
        court.cross()
        [sent] = court.sandbox.deals()
        assert sent["title"] == "Spring, judged" and sent["stage_id"] == stage["id"], sent
        custom = json.dumps(sent)
        assert "Paid social" in custom and "Ads" in custom, sent
        delivery = court.delivery("spring")
        assert delivery["state"] == "delivered" and "No such field" in delivery["reason"]
        assert delivery["decisions"][0]["changes"]["stage"] == stage["id"]

    def test_a_hold_waits_for_its_time_and_asks_again_with_the_same_id(self, court: Court) -> None:
        """HOOK-06"""
        court.connect()
        court.answers(
            {"times": 1, **decide(decision="hold", until="2020-01-01T00:00:00Z", reason="night")},
            decide(decision="continue"),
        )
        court.cross()
        held = court.delivery("spring")
        assert held["state"] == "held" and "night" in held["reason"] and court.sandbox.deals() == []
        court.daemon.kill()
        court.daemon.start()

        def is_delivered() -> bool:
            court.workspace.tick()
            return court.delivery("spring")["state"] == "delivered"

        wait_for("the held one is asked again", is_delivered, 20, pause=0.3)
        assert [question["body"]["data"]["ask"] for question in court.questions()] == [1, 2]
        assert len({question["body"]["data"]["delivery"] for question in court.questions()}) == 1
        assert len(court.sandbox.deals()) == 1

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            ({"text": "<html>"}, "hook_answer_invalid"),
            (decide(decision="perhaps"), "hook_answer_invalid"),
            (decide(decision="change", deal={"stage": "Nowhere"}), "hook_answer_invalid"),
            ({"status": 500, "body": {"decision": "drop"}}, "receiver_failed"),
            ({"delay_ms": 6000, **decide(decision="drop")}, "hook_timeout"),
        ],
        ids=["html", "word", "stage", "status", "hang"],
    )
    def test_what_is_no_decision_proceeds_or_holds_as_configured(
        self, court: Court, answer: dict[str, Any], code: str
    ) -> None:
        """HOOK-06: throws, hangs, returns rubbish: never lost, never doubled"""
        court.connect(intercept_on_failure="proceed", intercept_budget_ms=600)
        court.answers(answer)
        court.cross("open")
        assert court.delivery("open")["state"] == "delivered"
        [decision] = court.delivery("open")["decisions"]
        assert decision["verdict"] == "failed" and decision["effect"] == "passed"
        assert decision["code"] == code, decision
        court.set(intercept_on_failure="hold")
        court.cross("closed")
        held = court.delivery("closed")
        assert held["state"] == "held" and held["reason_code"] == "hook_failed", held
        assert len(court.sandbox.deals()) == 1
        # Nobody has to wait for a judge that is switched off.
        court.set(intercept=False)
        court.workspace.tick()
        assert court.delivery("closed")["state"] == "delivered" and len(court.sandbox.deals()) == 2

    def test_a_slow_judge_costs_only_what_it_judges(self, court: Court) -> None:
        """HOOK-05: it judges one integration, and another one of the workspace does not wait"""
        court.connect(intercept_for=["pipedrive"], intercept_budget_ms=3000)
        body = {"credentials": {"signing_key": court.key}, "url": f"{court.sandbox.url}/hooks/other", "thresholds": [2]}
        court.workspace.rest.post(f"{court.workspace.base}/integrations/custom-hook@other", body)
        court.answers({"delay_ms": 2000, **decide(decision="continue")})
        court.cross()
        [other] = court.sandbox.requests("POST", "/hooks/other")
        [deal] = court.sandbox.requests("POST", "/api/v2/deals")
        assert other["n"] < deal["n"]
        [question] = court.questions()
        assert question["body"]["data"]["integration"] == "pipedrive"

    def test_settings_are_checked_and_shown(self, court: Court) -> None:
        shown = court.connect(intercept_for=["pipedrive"], intercept_order=3)
        assert shown["settings"]["intercept"] is True and shown["settings"]["intercept_for"] == ["pipedrive"]
        path = f"{court.workspace.base}/integrations/custom-hook"
        for wrong in (
            {"intercept": "yes"},
            {"intercept_on_failure": "drop"},
            {"intercept_budget_ms": 99},
            {"intercept_for": []},
            {"intercept_order": 1001},
            {"intercept_url": "ftp://x"},
        ):
            answer = court.workspace.rest.request("PATCH", path, wrong)
            assert problem(answer, 422, "validation_failed")["errors"][0]["pointer"] == f"/{next(iter(wrong))}"
        answer = court.workspace.rest.request(
            "PATCH", f"{court.workspace.base}/integrations/pipedrive", {"intercept": True}
        )
        assert "judges nothing" in problem(answer, 422, "validation_failed")["detail"]


class TestCrashes:
    @pytest.mark.parametrize("point", ["before_judgement", "after_judgement", "after_intent", "before_journal"])
    def test_kill_9_between_verdict_and_deal_neither_loses_nor_doubles(self, court: Court, point: str) -> None:
        """HOOK-06, invariant 4: and no later verdict undoes one that was stored"""
        court.connect()
        court.answers(
            {"times": 1, **decide(decision="change", deal={"title": "First verdict"})},
            decide(decision="change", deal={"title": "Second verdict"}),
        )
        court.daemon.kill()
        court.daemon.arm(point)
        court.workspace.put_link("spring", slug="spring")
        court.workspace.clicks("spring", 2)
        with pytest.raises(Exception):  # noqa: B017 - whatever a client makes of a daemon that is killed
            court.workspace.tick()
        wait_for("the daemon is dead", lambda: not court.daemon.process.alive, 20)
        court.daemon.start()
        court.workspace.drain()
        titles = [deal["title"] for deal in court.sandbox.deals()]
        assert titles == (["Second verdict"] if point == "before_judgement" else ["First verdict"])
        assert len({question["body"]["data"]["delivery"] for question in court.questions()}) == 1
        assert len(court.delivery("spring")["decisions"]) == 1


class TestThePlugin:
    """HOOK-01: a plugin in C on the public ABI alone, in a worker of its own"""

    def connect(self, court: Court, **settings: Any) -> None:
        path = f"{court.workspace.base}/integrations/judge"
        court.workspace.rest.post(path, {"credentials": {}, "intercept": True, **settings})

    def test_it_drops_changes_holds_and_lets_through(self, court: Court) -> None:
        self.connect(court)
        for link in ("x-drop", "x-title", "x-hold", "plain"):
            court.cross(link)
        assert court.delivery("x-drop")["state"] == "dropped"
        assert court.delivery("x-hold")["state"] == "held"
        assert sorted(deal["title"] for deal in court.sandbox.deals()) == ["Judged well", "Link plain hit 2 clicks"]

        def is_delivered() -> bool:
            court.workspace.tick()
            return court.delivery("x-hold")["state"] == "delivered"

        wait_for("the held one is asked again", is_delivered, 20, pause=0.3)

    @pytest.mark.parametrize("link", ["x-abort", "x-never", "x-rubbish"])
    def test_a_plugin_that_crashes_hangs_or_answers_rubbish_has_the_configured_outcome(
        self, court: Court, link: str
    ) -> None:
        """HOOK-06, invariant 7"""
        self.connect(court, intercept_on_failure="hold")
        court.cross(link)
        held = court.delivery(link)
        assert held["state"] == "held" and held["reason_code"] == "hook_failed"
        court.set("judge", intercept_on_failure="proceed")
        court.cross(link + "-2")
        assert court.delivery(link + "-2")["state"] == "delivered"
        links = (f"plain-{number}" for number in range(100))

        def is_back() -> bool:
            fresh = next(links)
            court.cross(fresh)
            assert court.delivery(fresh)["state"] == "delivered"
            return court.delivery(fresh)["decisions"][0]["verdict"] == "continue"

        wait_for("its worker judges again", is_back, 30, pause=0.3)
