# SPDX-License-Identifier: Apache-2.0
"""Rolling-window rules in the real daemon, with a small plugin in C that has contacts, deals and stages (section Q)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import unique_name
from harness import ISOLATION, ROOT, VENDOR_TOKEN, Daemon, Workspace, listed, problem, rfc3339, wait_for

SOURCE = ROOT / "Tests" / "Plugins" / "rules" / "mover.c"
MANIFEST: dict[str, Any] = {
    "manifest": 1,
    "id": "dev.milepost.test.mover",
    "name": "hubspot",
    "title": "Moves deals",
    "version": "0.1.0",
    "license": "Apache-2.0",
    "abi": {"major": 1, "min_host_minor": 0},
    "kinds": ["destination"],
    "endpoints": {"api": {"default": "https://api.example.com", "title": "API"}},
    "egress": [{"hosts": ["api.example.com"], "ports": [443], "methods": ["POST"]}],
    "auth": [
        {
            "scheme": "api_key",
            "credential": "api_token",
            "fields": [{"name": "api_token", "title": "Token", "secret": True}],
            "placements": [{"name": "header", "in": "header", "header": "x-api-token", "template": "{secret}"}],
        }
    ],
    "actions": [
        {"name": "move", "aliases": ["deal_stage"], "title": "Move a deal", "trigger": "rule", "idempotency": "natural"}
    ],
    "pickers": [{"id": "pipelines"}, {"id": "stages", "depends": ["pipeline"]}],
    "config_schema": {"type": "object", "properties": {}},
    "limits": {"memory_mb": 64, "threads": 8},
}

SEED = """\
rules:
  - id: collateral-to-qualified        # id optional: derived from the name
    name: Collateral engagement moves the deal on
    trigger: { link_tag: sales-collateral, contact_window: 30d rolling, click_threshold: 50 }
    action: { type: hubspot.deal_stage, pipeline: default, from_stage: appointmentscheduled, to_stage: qualifiedtobuy }
    guard: { require_associated_contact: true, deal_amount_min: 5000 }
"""


def rule(identifier: str, threshold: int = 2, *, tag: str | None = "t", link: str | None = None, **more: Any) -> dict[str, Any]:
    scope = {"link": link} if link else {"link_tag": tag}
    return {
        "id": identifier,
        "name": identifier,
        "trigger": {**scope, "contact_window": more.pop("window", "7d"), "click_threshold": threshold},
        "action": {
            "type": "hubspot.deal_stage",
            "pipeline": "default",
            "from_stage": "appointmentscheduled",
            "to_stage": "qualifiedtobuy",
        },
        **more,
    }


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    build(folder)
    return folder


def build(folder: Path) -> None:
    """Puts the plugin and its manifest into a folder."""
    manifest = json.dumps(MANIFEST)
    quoted = manifest.replace("\\", "\\\\").replace('"', '\\"')
    (folder / "hubspot.json").write_text(manifest)
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", str(ROOT / "include")]
    command += [f'-DMANIFEST="{quoted}"', "-o", str(folder / "hubspot.so"), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    for path in folder.iterdir():
        path.chmod(0o755 if path.suffix == ".so" else 0o644)


def made(directory: Path, plugins: Path) -> Daemon:
    return Daemon(
        directory, plugin_dirs=[str(plugins)], plugins={"hubspot": {"enabled": True, "isolation": ISOLATION}}
    )


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, plugins: Path) -> Iterator[Daemon]:
    daemon = made(tmp_path_factory.mktemp("rules"), plugins)
    try:
        yield daemon.start()
    finally:
        daemon.kill()


@pytest.fixture
def fresh(tmp_path: Path, plugins: Path) -> Iterator[Daemon]:
    """A daemon of this test alone, which may die."""
    daemon = made(tmp_path / "fresh", plugins)
    yield daemon
    if daemon.process and daemon.process.alive:
        daemon.kill()


def connected(daemon: Daemon, name: str) -> Workspace:
    workspace = daemon.workspace(name)
    daemon.rest.post(f"{workspace.base}/integrations/hubspot", {"credentials": {"api_token": VENDOR_TOKEN}})
    return workspace


@pytest.fixture
def workspace(daemon: Daemon, request: pytest.FixtureRequest) -> Workspace:
    return connected(daemon, unique_name(request.node.name))


def firings(workspace: Workspace, identifier: str) -> list[dict[str, Any]]:
    return listed(workspace.rest, f"{workspace.base}/rules/{identifier}/firings", "firings")


def settled(workspace: Workspace, identifier: str, count: int) -> list[dict[str, Any]]:
    """The rule's firings, newest first, once there are `count` and none waits, and their deliveries are finished."""

    def look() -> list[dict[str, Any]]:
        found = firings(workspace, identifier)
        unfinished = [delivery for delivery in workspace.deliveries() if delivery["state"] not in ("delivered", "dropped")]
        return found if len(found) >= count and not unfinished and all(f["state"] != "waiting" for f in found) else []

    found = wait_for(f"{count} settled firings of {identifier}", look)
    assert len(found) == count, found
    return found


def evaluated(workspace: Workspace, event: str) -> list[dict[str, Any]]:
    """What each rule made of a click, once all have come to it."""

    def look() -> list[dict[str, Any]]:
        lines = workspace.rest.get(f"{workspace.base}/rules/explain?event={event}")["explanations"]
        return lines if all(line["reason_code"] != "not_evaluated" for line in lines) else []

    return wait_for(f"rules come to {event}", look)


def write(directory: Path, text: str) -> str:
    path = directory / "rules.yaml"
    path.write_text(text)
    return str(path)


class TestTheSeed:
    def test_the_file_as_written_moves_the_deal_at_the_fiftieth_click(
        self, daemon: Daemon, workspace: Workspace, tmp_path: Path
    ) -> None:
        """RULE-01, RULE-02, RULE-03, RULE-05, RULE-15, RULE-20"""
        workspace.put_link("brochure", tags=["sales-collateral"])
        env = {"MILEPOST_WORKSPACE": workspace.name}
        answer = daemon.cli("rules", "add", write(tmp_path, SEED), "--json", **env).json
        assert [made["id"] for made in answer["rules"]] == ["collateral-to-qualified"]
        workspace.clicks("brochure", 49, contact_id="ada")
        lines = evaluated(workspace, f"{workspace.name}-49")
        assert [(line["outcome"], line["count"], line["missing"]) for line in lines] == [("not_reached", 49, 1)]
        assert workspace.deliveries() == []
        workspace.clicks("brochure", 51, contact_id="ada")
        [fired] = settled(workspace, "collateral-to-qualified", 1)
        assert fired["click"] == f"{workspace.name}-50" and fired["count"] == 50
        [delivery] = workspace.deliveries()
        assert (delivery["state"], delivery["remote_id"], delivery["action"]) == ("delivered", "d-ada", "move")
        assert delivery["rule"] == "collateral-to-qualified"
        payload = workspace.delivery(delivery["id"])["payload"]
        jsonschema.validate(payload, json.loads((ROOT / "include/milepost/schemas/payload.rule.json").read_text()))
        notes = workspace.explain("brochure")["notes"]
        assert [note["code"] for note in notes] == ["counts_for_rules"], notes
        assert payload["contact"] == {"id": "ada", "email": None, "via": "click"}
        assert payload["action"] == {
            "type": "move",
            "pipeline": "default",
            "from_stage": "appointmentscheduled",
            "to_stage": "qualifiedtobuy",
        }
        shown = daemon.cli("explain", "--event", f"{workspace.name}-50", **env).out
        assert "fired" in shown and "d-ada" in shown
        assert "ada" in daemon.cli("explain", "--rule", "collateral-to-qualified", **env).out
        assert "fired" in daemon.cli("explain", "--contact", "ada", **env).out
        workspace.clicks("brochure", 50, contact_id="ada")
        evaluated(workspace, f"{workspace.name}-150")
        assert len(workspace.deliveries()) == 1

    def test_mistakes_are_told_by_file_and_line(self, daemon: Daemon, workspace: Workspace, tmp_path: Path) -> None:
        """RULE-01, RULE-21: unknown keys with the nearest, unknown stages with the field, and nothing is saved."""
        env = {"MILEPOST_WORKSPACE": workspace.name}
        path = write(tmp_path, SEED.replace("click_threshold", "click_treshold"))
        told = daemon.cli("rules", "add", path, check=False, **env)
        assert told.code == 1 and f"{path}:4" in told.err and "click_threshold" in told.err, told
        path = write(tmp_path, SEED.replace("to_stage: qualifiedtobuy", "to_stage: qualifiedtobui"))
        told = daemon.cli("rules", "check", path, check=False, **env)
        assert told.code == 1 and f"{path}:5" in told.err and "did you mean qualifiedtobuy" in told.err, told
        path = write(tmp_path, "rules:\n  - name: [\n")
        assert "rules.yaml" in daemon.cli("rules", "check", path, check=False, **env).err
        assert daemon.rest.get(f"{workspace.base}/rules")["rules"] == []
        assert "nothing was saved" in daemon.cli("rules", "check", write(tmp_path, SEED), **env).out
        assert daemon.rest.get(f"{workspace.base}/rules")["rules"] == []

    def test_a_simulation_gives_the_same_bytes_each_time(
        self, daemon: Daemon, workspace: Workspace, tmp_path: Path
    ) -> None:
        """EXT-17"""
        workspace.put_link("brochure", tags=["sales-collateral"])
        workspace.clicks("brochure", 60, contact_id="ada")
        workspace.clicks("brochure", 10, contact_id="bob")
        env = {"MILEPOST_WORKSPACE": workspace.name}
        runs = [
            daemon.cli("rules", "simulate", write(tmp_path, SEED), "--clock", clock, "--json", **env).out
            for clock in ("click", "click", "received", "received")
        ]
        assert runs[0] == runs[1] and runs[2] == runs[3]
        answer = json.loads(runs[0])
        assert [(line["id"], line["firings"], line["counted"]) for line in answer["rules"]] == [
            ("collateral-to-qualified", 1, 70)
        ]
        assert [line["contact"] for line in answer["firings"]] == ["ada"]
        assert workspace.deliveries() == [] and daemon.rest.get(f"{workspace.base}/rules")["rules"] == []


class TestRules:
    def test_deals_move_or_stay_each_with_its_reason(self, workspace: Workspace) -> None:
        """RULE-06, RULE-07, RULE-08, RULE-17, EXC-06"""
        workspace.put_link("l", tags=["t"])
        workspace.rest.post(f"{workspace.base}/rules", rule("r", guard={"deal_amount_min": "5000.00"}))
        for contact in ("ada", "poor", "late", "two", "nobody", "gone", "flaky"):
            workspace.clicks("l", 2, contact_id=contact)
        workspace.clicks("l", 5)
        workspace.clicks("l", 5, contact_id="robot", user_agent="Googlebot/2.1")
        found = {firing["contact"]: firing for firing in settled(workspace, "r", 7)}
        told = {contact: [target["code"] for target in firing["targets"]] for contact, firing in found.items()}
        assert told == {
            "ada": [None],
            "poor": ["amount_too_small"],
            "late": ["not_in_from_stage"],
            "two": [None, None],
            "nobody": [],
            "gone": [None],
            "flaky": [None],
        }
        assert found["nobody"]["reason_code"] == "contact_unknown"
        assert found["flaky"]["attempts"] == 2
        states = {workspace.delivery(d["id"])["payload"]["target"]["id"]: d for d in workspace.deliveries()}
        assert {name: delivery["state"] for name, delivery in states.items()} == {
            "d-ada": "delivered",
            "d-two": "delivered",
            "e-two": "delivered",
            "gone-gone": "dropped",
            "d-flaky": "delivered",
        }
        assert states["gone-gone"]["reason_code"] == "target_moved"
        clicks = workspace.rest.get(f"{workspace.base}/rules/r")["clicks"]
        assert clicks == {"counted": 14, "bots": 5, "anonymous": 5, "excluded": 0, "late": 0}

    def test_a_crossing_that_was_put_off_is_tried_again_while_clicks_keep_coming(self, workspace: Workspace) -> None:
        """RULE-04, RULE-06"""
        workspace.put_link("l", tags=["t"])
        workspace.rest.post(f"{workspace.base}/rules", rule("r"))
        workspace.clicks("l", 2, contact_id="flaky")

        def look() -> list[dict[str, Any]]:
            workspace.clicks("l", 1)  # nobody's: it wakes the rules and fires nothing
            return [firing for firing in firings(workspace, "r") if firing["state"] == "done"]

        found = wait_for("the crossing is acted on", look)
        assert [(firing["contact"], firing["attempts"]) for firing in found] == [("flaky", 2)]

    def test_observing_changing_and_removing(self, workspace: Workspace) -> None:
        """RULE-03, RULE-19, invariant 9"""
        base = f"{workspace.base}/rules"
        workspace.put_link("l", tags=["t"])
        workspace.rest.post(base, [rule("watch", mode="observe"), rule("back", 1, mode="observe", tag="other")])
        workspace.clicks("l", 3, contact_id="ada")
        assert [f["state"] for f in settled(workspace, "watch", 1)] == ["observed"]
        workspace.rest.put(f"{base}/watch", rule("watch", 3))
        wait_for("filled", lambda: workspace.rest.get(f"{base}/watch")["state"] == "active")
        workspace.clicks("l", 1, contact_id="ada")
        evaluated(workspace, f"{workspace.name}-4")
        assert [f["state"] for f in firings(workspace, "watch")] == ["baseline", "observed"]
        assert workspace.deliveries() == []
        moves_back = rule("back", 1)
        moves_back["action"].update(from_stage="closedwon", to_stage="qualifiedtobuy")
        answer = problem(workspace.rest.request("PUT", f"{base}/back", moves_back), 422, "validation_failed")
        assert answer["errors"][0]["pointer"] == "/action/to_stage"
        workspace.rest.put(f"{base}/back", {**moves_back, "force": True})
        workspace.rest.delete(f"{base}/back")
        problem(workspace.rest.request("GET", f"{base}/back"), 404, "not_found")
        problem(workspace.rest.request("POST", base, rule("watch")), 409, "conflict")
        rows = workspace.rest.get("/v1/admin/audit?limit=50")["entries"]
        assert {"rules.create", "rules.put", "rules.remove"} <= {row["action"] for row in rows}

    def test_rules_of_a_file_are_managed(self, daemon: Daemon, workspace: Workspace, tmp_path: Path) -> None:
        """RULE-12, decisions 32: eight tag rules and fourteen link rules of a file, which REST may not change."""
        tags = [rule(f"tag-{n}", 2, tag=f"t{n}") for n in range(8)]
        links = [rule(f"link-{n}", 3, link=f"l{n}", window="72h") for n in range(14)]
        env = {"MILEPOST_WORKSPACE": workspace.name}
        daemon.cli("rules", "apply", write(tmp_path, json.dumps({"rules": tags + links})), **env)
        for number in range(14):
            workspace.put_link(f"l{number}", tags=[f"t{number % 8}"])
        for number in range(14):
            workspace.clicks(f"l{number}", 3, contact_id=f"c{number}")
        for number in range(14):
            for name in (f"tag-{number % 8}", f"link-{number}"):
                wait_for(
                    f"{name} fires for c{number}",
                    lambda: f"c{number}" in {f["contact"] for f in firings(workspace, name)},
                )
        # The second click moves each contact's deal by its tag's rule, and the third fires the link's.
        assert sum(len(firings(workspace, f"tag-{n}")) for n in range(8)) == 14
        assert sum(len(firings(workspace, f"link-{n}")) for n in range(14)) == 14
        for method, body in (("PUT", rule("tag-0")), ("DELETE", None)):
            problem(workspace.rest.request(method, f"{workspace.base}/rules/tag-0", body), 409, "managed")
        daemon.cli("rules", "apply", write(tmp_path, "rules: []\n"), **env)
        assert workspace.rest.get(f"{workspace.base}/rules")["rules"] == []

    def test_two_rules_and_one_deal(self, workspace: Workspace) -> None:
        """Z-12: for one click the deal is moved by the rule with the earlier id only."""
        workspace.put_link("l", tags=["t"])
        workspace.rest.post(f"{workspace.base}/rules", [rule("b"), rule("a", link="l")])
        workspace.clicks("l", 2, contact_id="ada")
        [first], [second] = settled(workspace, "a", 1), settled(workspace, "b", 1)
        assert [target["code"] for target in first["targets"]] == [None]
        assert [target["code"] for target in second["targets"]] == ["moved_by_other_rule"]
        assert [delivery["rule"] for delivery in workspace.deliveries()] == ["a"]


class TestKills:
    POINTS = ["before_rule_commit", "after_rule_commit", "before_rule_settle", "after_rule_settle"]

    @pytest.mark.parametrize("point", POINTS)
    def test_a_crash_at_any_step_loses_no_firing_and_repeats_none(self, fresh: Daemon, point: str) -> None:
        """RULE-05, invariants 3 and 8: killed before and after each of the rules' transactions."""
        workspace = connected(fresh.start(), "w")
        workspace.put_link("l", tags=["t"])
        workspace.rest.post(f"{workspace.base}/rules", rule("r", 3))
        wait_for("filled", lambda: workspace.rest.get(f"{workspace.base}/rules/r")["state"] == "active")
        workspace.clicks("l", 2, contact_id="ada")
        evaluated(workspace, "w-2")
        fresh.stop()
        fresh.arm(point)
        workspace.clicks("l", 1, contact_id="ada")
        wait_for(f"dies at {point}", lambda: not fresh.process.alive)
        fresh.process.wait(5)
        fresh.start()
        [fired] = settled(workspace, "r", 1)
        assert fired["click"] == "w-3"
        assert [delivery["state"] for delivery in workspace.deliveries()] == ["delivered"]
        workspace.clicks("l", 3, contact_id="ada")
        evaluated(workspace, "w-6")
        assert len(workspace.deliveries()) == 1 and len(firings(workspace, "r")) == 1

    def test_kills_at_any_moment(self, fresh: Daemon) -> None:
        """RULE-04: forty contacts click three times each while the daemon is killed again and again."""
        workspace = connected(fresh.start(), "w")
        workspace.put_link("l", tags=["t"])
        workspace.rest.post(f"{workspace.base}/rules", rule("r", 3))
        number = 0
        for _ in range(3):
            for contact in range(40):
                number += 1
                click = {"id": f"k{number}", "ts": rfc3339(seconds=5), "link": "l", "contact_id": f"c{contact}"}
                workspace.rest.post(f"{workspace.base}/events", click)
                if number % 11 == 0:
                    fresh.kill()
                    fresh.start()
        found = settled(workspace, "r", 40)
        assert {firing["contact"] for firing in found} == {f"c{n}" for n in range(40)}
        targets = sorted(delivery["remote_id"] for delivery in workspace.deliveries())
        assert targets == sorted(f"d-c{n}" for n in range(40))
        progress = workspace.rest.get(f"{workspace.base}/rules/explain?contact=c7")["explanations"]
        assert [(line["outcome"], line["count"]) for line in progress] == [("fired", 3)]
