# SPDX-License-Identifier: Apache-2.0
"""Rolling rules and outages with the real hubspot.so: what arrives at the sandbox, and what does not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hubspot_steps import DEVELOPER_KEY, STAGES, Installation, hubspot  # noqa: F401  the fixture

from harness import FULL, rfc3339, wait_for

SEED = """\
rules:
  - id: collateral-to-qualified        # id optional: derived from the name
    name: Collateral engagement moves the deal on
    trigger: { link_tag: sales-collateral, contact_window: 30d rolling, click_threshold: 50 }
    action: { type: hubspot.deal_stage, pipeline: default, from_stage: appointmentscheduled, to_stage: qualifiedtobuy }
    guard: { require_associated_contact: true, deal_amount_min: 5000 }
"""
RULE = "collateral-to-qualified"


def installed(hubspot: Any, *options: str, **settings: Any) -> Installation:
    """Connected by consent with what rules need, and a link that carries the tag."""
    it: Installation = hubspot(**settings)
    it.set_app()
    it.make_template()
    it.install("hubspot", "--feature", "rules", *options)
    it.provision()
    it.workspace.put_link("pricing", tags=["sales-collateral"])
    return it


def add_rule(it: Installation, text: str = SEED, check: bool = True) -> Any:
    file: Path = it.daemon.directory / "rules.yaml"
    file.write_text(text)
    return it.cli("rules", "add", str(file), check=check)


def test_the_seeds_rule_moves_a_deal_on_at_the_fiftieth_click_and_no_other(hubspot) -> None:
    """RULE-01, RULE-02, RULE-05, RULE-06, RULE-07, RULE-08"""
    it = installed(hubspot)
    add_rule(it)
    it.contacts("11", "12", "13", "14")
    due, just, further, small = it.deal("11", "8000"), it.deal("14", "5000"), it.deal("12", "9000", "contractsent"), it.deal("13", "400")
    it.clicks("11", 49)
    it.clicks(None, 60, tag="forwarded")
    wait_for("the 49 are on the timeline", lambda: it.events()["11"] == 49, timeout=30)
    told = it.cli("explain", "--contact", "11").out
    assert "49" in told, told
    assert it.moves() == [] and it.firings(RULE) == []

    it.clicks("11", 1, tag="fiftieth")
    it.settled_rules(RULE, 1)
    assert it.stage(due) == "qualifiedtobuy"
    [move] = it.moves()
    assert move["path"].endswith(f"/deals/{due}"), move
    it.clicks("11", 20, tag="more")
    for contact in ("12", "13", "14"):
        it.clicks(contact, 50)
    firings = {row["contact"]: row for row in it.settled_rules(RULE, 4)}
    assert it.stage(further) == "contractsent" and it.stage(small) == "appointmentscheduled"
    assert it.stage(just) == "qualifiedtobuy", "the smallest amount that counts is the one named"
    assert sorted(entry["path"].rsplit("/", 1)[1] for entry in it.moves()) == sorted([due, just])
    assert set(firings) == {"11", "12", "13", "14"}, "nobody else: a forwarded link has no contact"
    assert "explain" and RULE in it.cli("explain", "--rule", RULE).out
    # OBS-07: what each rule made of the clicks, and of those who reached its threshold.
    series = {name: value for name, value in it.daemon.metrics().items() if f'rule="{RULE}"' in name}
    shown = {
        (name.partition("{")[0], name.partition('outcome="')[2].partition('"')[0]): value for name, value in series.items()}
    assert shown[("milepost_rule_clicks", "counted")] == 70 + 150, series
    assert shown[("milepost_rule_clicks", "anonymous")] == 60, series
    assert shown[("milepost_rule_crossings_total", "acted")] == 2, series
    assert shown[("milepost_rule_crossings_total", "refused")] == 2, series
    it.nothing_undescribed()


def test_an_unknown_stage_is_refused_when_the_rule_is_saved(hubspot) -> None:
    """RULE-21"""
    it = installed(hubspot)
    for field, name in [("to_stage", "qualifiedtobuy"), ("from_stage", "appointmentscheduled"), ("pipeline", "default")]:
        refused = add_rule(it, SEED.replace(f"{field}: {name}", f"{field}: nosuchthing"), check=False)
        assert refused.code == 1 and field in refused.err and "nosuchthing" in refused.err, (field, refused)
    assert it.rest.get(f"{it.workspace.base}/rules")["rules"] == []
    add_rule(it)
    assert [rule["id"] for rule in it.rest.get(f"{it.workspace.base}/rules")["rules"]] == [RULE]
    it.nothing_undescribed()


# Setting a stage is idempotent, so it has no intent of its own: `before_settle` is the moment between the vendor's answer
# and our knowing of it.
POINTS = ["before_rule_commit", "after_rule_commit", "before_rule_settle", "after_rule_settle", "after_claim", "before_settle",
          "after_settle"]


@pytest.mark.parametrize("point", POINTS if FULL else ["after_rule_settle", "before_settle"])
def test_a_kill_around_the_move_moves_the_deal_once(hubspot, point: str) -> None:
    """RULE-05, invariants 3 and 4: one move in the deal's history, whenever the daemon dies."""
    it = installed(hubspot, "--set", "timeline_events=false", "--set", "contact_properties=false")
    add_rule(it)
    it.contacts("21")
    deal = it.deal("21", "8000")
    it.clicks("21", 49)
    # Else an armed daemon dies over these, before there is a fiftieth.
    wait_for("the 49 are counted", lambda: "49" in it.cli("explain", "--contact", "21").out, timeout=30)
    it.daemon.stop()
    it.daemon.arm(point)
    try:
        it.clicks("21", 1, tag="fiftieth")
    except (OSError, AssertionError):
        pass  # it may die before the answer is out; the click is on disk all the same
    wait_for("the daemon dies", lambda: not it.daemon.process.alive, timeout=30)
    it.daemon.process.kill()
    it.daemon.start()

    def is_done() -> bool:
        it.workspace.tick()
        return it.stage(deal) == "qualifiedtobuy" and it.workspace.deliveries(state="delivered") != []

    wait_for("it is moved and known to be", is_done, timeout=60, pause=0.25)
    [row] = [row for row in it.ledger()["deals"] if row["id"] == deal]
    assert len(row["moves"]) == 1, row["moves"]
    it.settled_rules(RULE, 1)
    it.nothing_undescribed()


@pytest.mark.parametrize("point", ["before_rule_commit", "after_rule_commit"])
def test_a_form_lets_an_earlier_click_count_once_whenever_the_daemon_dies(hubspot, point: str) -> None:
    """RES-04, RULE-04, invariant 3: the fiftieth click came first, and nobody knew whose it was"""
    it = installed(hubspot)
    add_rule(it)
    it.contacts("31")
    deal = it.deal("31", "8000")
    it.clicks(None, 1, tag="ad", gclid="G-31")
    it.clicks("31", 49)
    wait_for("the 49 are on the timeline", lambda: it.events()["31"] == 49, timeout=30)
    told = it.cli("explain", "--event", "ad-None-0").out
    assert "identity_unknown" in told or "Nobody knows yet who clicked" in told, told
    assert it.moves() == [] and it.firings(RULE) == []
    it.daemon.stop()
    it.daemon.arm(point)
    form = {"id": "form-31", "ts": rfc3339(), "contact_id": "31", "gclid": "G-31"}
    try:
        it.rest.post(f"{it.workspace.base}/forms", [form])
    except (OSError, AssertionError):
        pass  # it may die before the answer is out; the form is on disk all the same
    wait_for("the daemon dies", lambda: not it.daemon.process.alive, timeout=30)
    it.daemon.process.kill()
    it.daemon.start()
    [firing] = it.settled_rules(RULE, 1)
    assert firing["click"] == "ad-None-0" and firing["contact"] == "31", firing
    assert it.stage(deal) == "qualifiedtobuy"
    [row] = [row for row in it.ledger()["deals"] if row["id"] == deal]
    assert len(row["moves"]) == 1, row["moves"]
    wait_for("the fiftieth is on the timeline", lambda: it.events()["31"] == 50, timeout=30)
    assert "fired" in it.cli("explain", "--event", "ad-None-0").out
    it.nothing_undescribed()


def test_ten_thousand_clicks_of_an_outage_leave_at_the_vendors_allowance(hubspot) -> None:
    """TL-09, TL-11, RATE-12: no 429, each click once, and one that the vendor refuses ends alone."""
    # A vendor that is slow because this machine is busy is no reason to send a batch twice.
    patient = {"request_timeout": "10s"}
    it = installed(hubspot, "--set", "contact_properties=false", "--set", "unknown_contact=dead", delivery=patient)
    it.control("rate-limit", {"oauth": 110})
    known = [str(number) for number in range(3000, 3100)]
    it.contacts(*known)
    it.sandbox.fault("status", path="/integrators/timeline/*", status=503, times=0)
    for contact in known:
        it.clicks(contact, 100, tag="outage")
    it.clicks("999999", 1, tag="nobody")
    wait_for("the outage is met", lambda: it.sandbox.struck() >= 1, timeout=30)
    assert it.events() == {} and it.workspace.deliveries() == [], "the log is the queue"
    mark = it.sandbox.mark()
    it.sandbox.clear_faults()
    started = time.monotonic()
    wait_for("the flush", lambda: sum(it.events().values()) >= 10_000, timeout=90, pause=0.5)
    spent = time.monotonic() - started
    made = it.sandbox.requests(since=mark)
    print(f"10,000 clicks flushed in {spent:.1f} s with {len(made)} requests")
    assert it.events() == dict.fromkeys(known, 100), "each once"
    events = it.ledger()["events"]
    assert all(not event.get("repeats") for event in events)
    assert [entry for entry in made if entry.get("status") == 429] == [], "the allowance was kept"
    dead = wait_for("the one dead letter", lambda: it.workspace.deliveries(state="dead"), timeout=30)
    assert len(dead) == 1 and dead[0]["reason_code"] == "contact_unknown", dead
    assert spent < 60
    assert DEVELOPER_KEY not in it.daemon.log.read_text()
    it.nothing_undescribed()
