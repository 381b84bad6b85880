# SPDX-License-Identifier: Apache-2.0
"""Acceptance stories with the real daemon, the real hubspot.so and the sandbox, told as the people in them would.

ACC-04 and PROP-03, the webinar example, are in test_hubspot.py ("two clicks over two days").
"""

from __future__ import annotations

import time
import urllib.parse

from hubspot_steps import HUB, SECOND, Installation, hubspot, put_back  # noqa: F401  the fixture

from harness import problem, rfc3339, wait_for


def test_an_administrator_connects_by_following_the_printed_link(hubspot) -> None:
    """HCON-01, HCON-02, HCON-03, Z-05: from the app's secrets to the first click, by the command line alone."""
    it: Installation = hubspot()
    app = it.set_app()
    assert app["client_id"] == "sandbox-client" and "sandbox-secret" not in str(app)
    told = it.cli("connect", "hubspot", "--no-wait", "--feature", "rules").out
    assert "crm.objects.deals.write: moves a deal on when a rule fires" in told, told
    link = it.link("hubspot", "--feature", "rules")
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link["url"]).query))
    assert "crm.objects.deals.write" in query["scope"].split(), query

    # The person unticks two boxes: nothing is stored, and the page names both.
    granted = [scope for scope in query["scope"].split() if scope not in ("timeline", "crm.objects.deals.read")]
    it.control("oauth", {"grant_scopes": granted})
    page = it.follow(link)
    assert page.status == 422 and b"timeline" in page.body and b"crm.objects.deals.read" in page.body, page.body
    problem(it.rest.request("GET", f"{it.workspace.base}/integrations/hubspot"), 404, "not_found")
    # Nothing lives on at the vendor that nobody knows of.
    assert b"given back" in page.body, page.body
    assert [entry["path"] for entry in it.sandbox.requests("POST", r".*/token/revoke")] == ["/oauth/2026-09/token/revoke"]
    failed = it.cli("connect", "hubspot", "--authorization", link["id"], check=False)
    assert failed.code == 1 and "timeline" in failed.err and "crm.objects.deals.read" in failed.err, failed

    it.control("oauth", {"grant_scopes": None})
    again = it.link("hubspot", "--feature", "rules")
    page = it.follow(again)
    assert page.status == 200 and b"Connected" in page.body, page.body
    shown = it.cli("connect", "hubspot", "--authorization", again["id"]).out
    assert "active" in shown and f"id={HUB}" in shown, shown
    assert it.shown()["account"]["id"] == str(HUB)
    # A state is good once.
    assert it.follow(again).status == 400
    it.nothing_undescribed()


def test_a_refused_reinstall_leaves_the_installation_alone(hubspot) -> None:
    """HCON-03, HCON-08: its tokens are forgotten and not revoked, for the standing installation may live by the same ones"""
    it: Installation = hubspot()
    it.set_app()
    it.make_template()
    it.install()
    it.provision()
    it.contacts("502")
    it.control("oauth", {"grant_scopes": ["oauth", "crm.objects.contacts.write"]})
    page = it.follow(it.link("hubspot"))
    assert page.status == 422 and b"given back" not in page.body, page.body
    assert it.sandbox.requests("POST", r".*/token/revoke") == []
    it.control("oauth", {"end": "expire_access", "account": HUB})
    it.clicks("502", 1)
    wait_for("the event", lambda: it.events()["502"] == 1, timeout=30)
    assert it.shown()["state"] == "active"


def test_the_first_click_of_oneself_shows_within_thirty_seconds(hubspot) -> None:
    """ACC-03, TL-07: one's own contact id in the address, clicked on another device."""
    it: Installation = hubspot()
    it.set_app()
    it.make_template()
    it.install()
    it.provision()
    it.contacts("501")
    clicked = time.monotonic()
    it.rest.post(
        f"{it.workspace.base}/events",
        {"id": "mine", "ts": rfc3339(), "link": "pricing", "request_url": "https://l.test/q2?eid=501",
         "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Mobile Safari/604.1"},
    )
    wait_for("the event", lambda: it.events()["501"] == 1, timeout=30)
    print(f"on the timeline after {time.monotonic() - clicked:.2f} s")
    assert "delivered" in it.cli("explain", "--event", "mine").out
    it.nothing_undescribed()


def test_a_token_revoked_at_night_costs_one_sentence_in_the_morning_and_no_click(hubspot) -> None:
    """ACC-02, OAU-11, OAU-12, OAU-13, REA-05, REA-06: the chain is broken, told, installed again, and the queue leaves."""
    it: Installation = hubspot()
    it.control("oauth", {"rotate": True})
    it.set_app()
    it.make_template()
    first = it.install("hubspot", "--feature", "rules")
    it.provision()
    it.contacts("601", "602")
    deal = it.deal("602", "8000")
    it.workspace.put_link("pricing", tags=["night"])
    rule = {
        "id": "night", "name": "Night", "trigger": {"link_tag": "night", "contact_window": "7d", "click_threshold": 3},
        "action": {"type": "hubspot.deal_stage", "pipeline": "default", "from_stage": "appointmentscheduled",
                   "to_stage": "qualifiedtobuy"},
    }
    it.rest.post(f"{it.workspace.base}/rules", rule)
    it.clicks("601", 1)
    wait_for("the first event", lambda: it.events()["601"] == 1)

    it.control("oauth", {"end": "uninstall", "account": HUB})
    it.clicks("601", 200, tag="night")
    it.clicks("602", 3, tag="night")
    wait_for("somebody is needed", lambda: it.shown()["state"] == "needs_reauth")
    mark = it.sandbox.mark()
    it.clicks("601", 100, tag="later")
    it.workspace.tick()
    assert it.sandbox.requests(since=mark) == [], "no storm against a vendor that has said no"
    assert it.events()["601"] == 1 and it.workspace.deliveries(state="dead") == []

    # The morning: one sentence that says what happened, and one that says what to do.
    told = it.rest.get("/v1/admin/status")["problems"]
    about = [entry for entry in told if entry["code"] == "needs_reauth"]
    assert len(about) == 1, told
    assert "hubspot" in str(about[0]).lower() and "Install it again" in about[0]["cure"], about
    status = it.cli("status", check=False)
    assert "milepost connect hubspot" in status.out and "needs_reauth" in status.out, status.out
    doctor = it.cli("doctor", "--config", str(it.daemon.config_file), check=False)
    assert "milepost connect hubspot" in doctor.out, doctor.out

    again = it.install("hubspot", "--feature", "rules")
    assert again["id"] == first["id"] and again["state"] == "active"
    wait_for("the queue leaves", lambda: it.events() == {"601": 301, "602": 3}, timeout=60)
    wait_for("the deal of the night moves", lambda: it.stage(deal) == "qualifiedtobuy", timeout=30)
    assert len(it.moves()) == 1
    assert it.workspace.deliveries(state="dead,held,dropped") == []
    it.nothing_undescribed()


def test_a_day_old_backup_is_recognised_and_a_reinstall_flushes_the_queue(hubspot) -> None:
    """ACC-05, OAU-07, OAU-10, OAU-11, OAU-12: restored credentials are told apart before they end the vendor's chain."""
    it: Installation = hubspot()
    it.control("oauth", {"rotate": True, "expires_in": 4})
    it.set_app()
    it.make_template()
    first = it.install()
    it.provision()
    it.contacts("701")
    backup = it.daemon.directory / "yesterday.db"
    it.cli("backup", str(backup))
    wait_for("the vendor rotated", lambda: it.shown()["oauth"]["refreshes"] >= 2, timeout=30)
    it.daemon.stop()
    put_back(it.daemon, backup)
    mark = it.sandbox.mark()
    it.daemon.start()
    shown = it.shown()
    assert shown["state"] == "needs_reauth" and shown["reason"]["code"] == "credentials_restored", shown
    it.clicks("701", 150)
    it.workspace.tick()
    assert it.sandbox.requests(since=mark) == [], "nothing is sent with what may be dead"
    told = [entry for entry in it.rest.get("/v1/admin/status")["problems"] if entry["code"] == "needs_reauth"]
    assert len(told) == 1 and "restored or copied credentials" in str(told) and "Install it again" in told[0]["cure"], told

    again = it.install()
    installed = time.monotonic()
    assert again["id"] == first["id"] and again["state"] == "active"
    wait_for("the queue leaves", lambda: it.events() == {"701": 150}, timeout=60)
    print(f"150 clicks left {time.monotonic() - installed:.1f} s after the reinstall")
    it.nothing_undescribed()


def test_each_of_two_portals_gets_the_clicks_that_are_its_own(hubspot) -> None:
    """HCON-07: by tag and by folder; the other portal is sent nothing of them, and explain says why."""
    it: Installation = hubspot()
    it.control("portals", {"hub_id": SECOND, "name": "Second Hub"})
    it.set_app()
    it.make_template()
    it.install("hubspot", "--set", 'only_tags=["north"]')
    it.control("oauth", {"account": SECOND})
    second = it.install("hubspot@second", "--set", 'only_folders=["south"]')
    assert second["account"]["id"] == str(SECOND) and second["settings"]["only_folders"] == ["south"], second
    assert it.shown()["account"]["id"] == str(HUB)
    it.provision()
    it.provision("hubspot@second")
    # The ids mean different people in the two portals.
    it.contacts("801")
    it.contacts("801", hub=SECOND)
    it.workspace.put_link("up", tags=["north", "spring"])
    it.workspace.put_link("down", folder="south")
    it.clicks("801", 7, link="up", tag="up")
    it.clicks("801", 4, link="down", tag="down")
    it.clicks("801", 2, link="elsewhere", tag="none")
    wait_for("both", lambda: it.events() == {"801": 7} and it.events(SECOND) == {"801": 4}, timeout=30)
    wait_for("all are passed", lambda: explained(it, "none-801-1") == {"hubspot": "not_mapped", "hubspot@second": "not_mapped"})
    assert it.events() == {"801": 7} and it.events(SECOND) == {"801": 4}
    assert explained(it, "up-801-0")["hubspot@second"] == "not_mapped"
    # Taking the mapping away opens the connection for what comes from then on.
    it.cli("integrations", "set", "hubspot", "only_tags=null")
    it.clicks("801", 1, link="elsewhere", tag="open")
    wait_for("it takes all", lambda: it.events() == {"801": 8})
    bad = it.rest.request("PATCH", f"{it.workspace.base}/integrations/hubspot", {"only_tags": "north"})
    assert problem(bad, 422, "validation_failed")["errors"][0]["pointer"] == "/only_tags"
    it.nothing_undescribed()


def explained(it: Installation, event: str) -> dict[str, str]:
    answer = it.rest.get(f"{it.workspace.base}/events/{event}/explain")
    return {line["integration"]: line["reason_code"] for line in answer["explanations"]}
