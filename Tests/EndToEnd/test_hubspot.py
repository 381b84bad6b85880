# SPDX-License-Identifier: Apache-2.0
"""Clicks become timeline events and contact properties in HubSpot: the plugin in the daemon, against the sandbox."""

from __future__ import annotations

import http.client
import json
import os
import pty
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest

from harness import DIST, FULL, ISOLATION, ROOT, Daemon, Workspace, listed, problem, rfc3339, wait_for

sys.path.insert(0, str(ROOT / "Tests" / "Contract"))
import hubspot_spec  # noqa: E402

PRIVATE = "sandbox-private-app-token"
APP = {
    "client_id": "sandbox-client", "client_secret": "sandbox-secret", "developer_key": "sandbox-developer-key",
    "app_id": "54321",
}
SCOPES = ["crm.objects.contacts.read", "crm.objects.contacts.write", "crm.objects.deals.read", "crm.objects.deals.write",
          "crm.schemas.contacts.read", "crm.schemas.contacts.write", "crm.schemas.deals.read", "crm.schemas.deals.write"]
UTM = {"source": "webinar", "medium": "email", "campaign": "q2-pricing"}
PROPERTIES = ["milepost_last_utm_source", "milepost_last_utm_campaign", "milepost_last_utm_medium"]


class Portal:
    """A daemon with the plugin, and the portal that it works in."""

    def __init__(self, own: Callable[..., Daemon], **options: Any):
        self.daemon = own(options)
        self.sandbox = self.daemon.sandbox
        place = {"api": self.sandbox.url, "app": self.sandbox.url}
        self.daemon.settings["plugins"]["hubspot"] = {"enabled": True, "isolation": ISOLATION, "endpoints": place}
        # Provisioning waits for the vendor; everything else is as in the other tests.
        self.daemon.write_config()
        self.daemon.start()
        self.workspace: Workspace = self.daemon.workspace("acme")
        self.url = f"{self.workspace.base}/integrations/hubspot"

    @property
    def rest(self):
        return self.daemon.rest

    def control(self, path: str, body: Any) -> Any:
        return self.sandbox.rest.post(f"/_sandbox/hubspot/{path}", body)

    def token(self, *more: str, without: tuple[str, ...] = ()) -> str:
        scopes = [scope for scope in [*SCOPES, *more] if scope not in without]
        text = f"private-{len(scopes)}-{len(more)}"
        self.control("tokens", {"token": text, "kind": "private", "scopes": scopes})
        return text

    def contact(self, identifier: str, email: str) -> None:
        self.control("contacts", {"id": identifier, "properties": {"email": email}})

    def connect(self, token: str = PRIVATE, expect=(200, 201), **settings: Any) -> Any:
        return self.rest.post(self.url, {"credentials": {"private_app_token": token}, **settings}, expect=expect)

    def make_template(self) -> list[dict[str, Any]]:
        self.rest.put("/v1/admin/apps/hubspot", APP)
        return self.rest.post("/v1/admin/apps/hubspot/provision", {}, timeout=150)["objects"]

    def provision(self) -> list[dict[str, Any]]:
        return self.rest.post(f"{self.url}/provision", {}, timeout=150)["objects"]

    def click(self, identifier: str, contact: str, ts: str, **facts: Any) -> None:
        event = {"id": identifier, "link": "pricing", "ts": ts, "contact_id": contact, **facts}
        assert self.rest.post(f"{self.workspace.base}/events", event)["accepted"] == 1

    def ledger(self) -> dict[str, Any]:
        return self.sandbox.rest.get("/_sandbox/ledger?only=hubspot")["hubspot"]["portals"][0]

    def events(self, count: int) -> list[dict[str, Any]]:
        return wait_for(
            f"{count} events", lambda: (found := self.ledger()["events"]) and len(found) >= count and found, timeout=30)

    def properties(self, contact: str) -> dict[str, Any]:
        record = next(row for row in self.ledger()["contacts"] if row["id"] == contact)
        return record["properties"]


def codes(connection: dict[str, Any]) -> dict[str, str]:
    return {warning["code"]: warning["message"] for warning in connection["warnings"]}


@pytest.fixture
def portal(own) -> Portal:
    return Portal(own)


def test_two_clicks_over_two_days_give_two_events_and_the_last_campaign(portal: Portal) -> None:
    """ACC-03, ACC-04, PROP-03, TL-01, TL-03, TL-04, TL-05, TL-08, HCON-04, HCON-06: the seed's worked example."""
    template = portal.make_template()
    assert [entry["state"] for entry in template] == ["created"]
    portal.contact("70001", "ada@example.test")
    connection = portal.connect(portal.token("timeline"))
    assert connection["account"]["id"] == "62515" and connection["state"] == "active"
    assert "timeline_v3" in codes(connection)["timeline_backend"]
    assert sorted(entry["key"] for entry in portal.provision()) == sorted(f"contact_property:{n}" for n in PROPERTIES)
    portal.workspace.put_link(
        "pricing", slug="q2", title="Pricing", short_url="https://l.test/q2", destination="https://shop.test/pricing")
    times = [rfc3339(days=1, hours=2), rfc3339(seconds=5)]
    portal.click("one", "70001", times[0], utm={"source": "fair", "medium": "print", "campaign": "spring"}, country="DE")
    portal.click("two", "70001", times[1], utm=UTM, country="DE", device="mobile", referrer="https://mail.test/")
    events = portal.events(2)
    assert len(events) == 2 and {event["object_id"] for event in events} == {"70001"}
    assert sorted(event["timestamp"] for event in events) == sorted(times), "the click's time, not the sending's"
    second = next(event for event in events if event["timestamp"] == times[1])["sent"]
    assert second["eventTemplateId"] == template[0]["remote_id"]
    assert second["tokens"] == {
        "slug": "q2", "destination": "https://shop.test/pricing", "campaign": "q2-pricing", "country": "DE",
        "device": "mobile"}
    assert second["extraData"]["title"] == "Clicked: Pricing (https://l.test/q2)"
    assert second["extraData"]["utm"] == UTM and second["extraData"]["timestamp"] == times[1]
    values = wait_for("the last campaign", lambda: (
        found := portal.properties("70001")).get("milepost_last_utm_campaign") == "q2-pricing" and found)
    assert [values[name] for name in PROPERTIES] == ["webinar", "q2-pricing", "email"]
    rendered = portal.sandbox.rest.request(
        "GET", f"/integrators/timeline/v3/events/{second['eventTemplateId']}/{second['id']}/render",
        headers={"Authorization": f"Bearer {portal.token('timeline')}"}).json
    assert rendered == "Clicked: Pricing (https://l.test/q2)"


def test_an_older_click_that_comes_late_leaves_the_newer_values(portal: Portal) -> None:
    """PROP-08, PROP-13: last is by the click's time; a click without a campaign wipes nothing."""
    portal.contact("70002", "bob@example.test")
    portal.connect(timeline_events=False)
    portal.provision()
    portal.click("new", "70002", rfc3339(seconds=5), utm=UTM)
    wait_for("the values", lambda: portal.properties("70002").get("milepost_last_utm_source") == "webinar")
    portal.click("old", "70002", rfc3339(hours=3), utm={"source": "fair", "campaign": "old"})
    portal.click("bare", "70002", rfc3339(seconds=3))
    portal.click("last", "70002", rfc3339(seconds=2), utm={"medium": "sms"})
    wait_for("the last click", lambda: portal.properties("70002").get("milepost_last_utm_medium") == "sms")
    values = portal.properties("70002")
    assert values["milepost_last_utm_source"] == "webinar" and values["milepost_last_utm_campaign"] == "q2-pricing"
    assert portal.ledger()["events"] == []


def test_a_token_without_the_timeline_falls_back_to_notes_and_says_so(portal: Portal) -> None:
    """Z-06, PAT-05: connect names the way in use, and each click gets one note."""
    portal.contact("70003", "eve@example.test")
    connection = portal.connect(contact_properties=False)
    assert "by note:" in codes(connection)["timeline_backend"] and "private_app" in codes(connection)
    portal.click("a", "70003", rfc3339(seconds=5), utm=UTM)
    portal.click("b", "70003", rfc3339(seconds=4), utm=UTM)
    notes = wait_for("two notes", lambda: len(found := portal.ledger()["notes"]) >= 2 and found)
    assert len(notes) == 2 and all(note["associations"]["contacts"] == ["70003"] for note in notes)


def test_first_touch_properties_are_refused_with_field_and_reason(portal: Portal) -> None:
    """PROP-04, PROP-05, PROP-07, TRB-09: nothing that Milepost writes can look frozen for want of a right to write it"""
    answer = portal.rest.request(
        "POST", portal.url,
        {"credentials": {"private_app_token": PRIVATE}, "property_mapping": {"campaign": "hs_analytics_source_data_2"}})
    document = problem(answer, 422, "validation_failed")
    assert document["errors"][0]["pointer"] == "/property_mapping/campaign"
    assert "first-touch" in document["detail"] and "without an error" in document["detail"]
    portal.connect()
    refused = portal.rest.request("PATCH", portal.url, {"property_prefix": "hs_analytics"})
    problem(refused, 422, "validation_failed")
    changed = portal.rest.patch(portal.url, {"property_mapping": {"campaign": "lead_campaign"}})
    assert changed["settings"]["property_mapping"] == {"campaign": "lead_campaign"}
    reset = portal.rest.patch(portal.url, {"property_mapping": None})
    assert reset["settings"].get("property_mapping") is None


def test_doctor_finds_a_property_that_stopped_taking_values(portal: Portal) -> None:
    """TRB-09: what fitted when it was mapped is asked about again, so the last campaign does not look frozen for no reason"""
    def doctor() -> list[dict[str, Any]]:
        told = portal.daemon.cli("doctor", "--config", str(portal.daemon.config_file), "--json", check=False).json
        return [entry for entry in told["findings"] if entry["code"].startswith("setting")]

    name = "milepost_last_utm_campaign"
    portal.connect(portal.token("timeline"))
    portal.provision()
    assert portal.daemon.cli("integrations", "check", "hubspot", "-w", "acme").code == 0
    assert doctor() == []
    definition = {"object_type": "contacts", "name": name, "type": "string", "field_type": "text"}
    portal.control("properties", {**definition, "read_only": True})
    [found] = doctor()
    assert found["code"] == "setting_property_read_only" and found["severity"] == "problem", found
    assert name in found["what"] and "acme/hubspot" in found["what"], found
    told = portal.daemon.cli("integrations", "check", "hubspot", "-w", "acme", check=False)
    assert told.code == 1 and name in told.out, told
    assert "setting_property_read_only" in codes(portal.rest.get(portal.url))
    portal.control("properties", {**definition, "read_only": False})
    assert doctor() == []
    assert "setting_property_read_only" not in codes(portal.rest.get(portal.url))


def test_the_way_to_begin_is_shown_with_how_far_it_is(portal: Portal) -> None:
    """HCON-10: properties, two weeks, one asset, a week of watching, tuning"""
    portal.connect()
    steps = portal.rest.get(f"{portal.url}/rollout")["steps"]
    assert [(step["id"], step["state"]) for step in steps] == [
        ("properties", "by_hand"),
        ("watch_clicks", "waiting"),
        ("one_asset", "open"),
        ("watch_rule", "open"),
        ("tune", "by_hand"),
    ]
    assert steps[1]["due_at"] and all(step["text"] for step in steps)
    shown = portal.daemon.cli("integrations", "rollout", "hubspot", "-w", portal.workspace.name)
    assert "Wait two weeks" in shown.out, shown.out


def test_one_unknown_contact_ends_alone(portal: Portal) -> None:
    """TL-11, RES-07, RES-08: the others of its batch are delivered, a merged contact's clicks reach the survivor."""
    portal.make_template()
    for number in range(3):
        portal.contact(f"7010{number}", f"c{number}@example.test")
    portal.control("merge", {"primary": "70100", "merged": "70101", "new_id": False})
    portal.connect(portal.token("timeline"), contact_properties=False)
    lines = [
        json.dumps({"id": f"e{index}", "link": "pricing", "ts": rfc3339(seconds=5), "contact_id": contact, "utm": UTM})
        for index, contact in enumerate(["70100", "79999", "70101", "70102"] * 10)
    ]
    portal.rest.post(
        f"{portal.workspace.base}/events", "\n".join(lines).encode(), headers={"Content-Type": "application/x-ndjson"})
    events = portal.events(30)
    assert len(events) == 30 and len({event["id"] for event in events}) == 30
    assert {event["object_id"] for event in events} == {"70100", "70102"}


def test_provisioning_is_idempotent_and_events_wait_for_a_template_that_shows_late(portal: Portal) -> None:
    """HCON-04, HCON-05, HCON-06: no failed event, no second template, existing properties are kept."""
    portal.contact("70004", "late@example.test")
    portal.control("manners", {"template_delay_ms": 3_000})
    assert [entry["state"] for entry in portal.make_template()] == ["created"]
    assert [entry["state"] for entry in portal.make_template()] == ["existing"]
    portal.connect(portal.token("timeline"))
    portal.click("early", "70004", rfc3339(seconds=5), utm=UTM)
    assert {entry["state"] for entry in portal.provision()} == {"created"}
    assert {entry["state"] for entry in portal.provision()} == {"existing"}
    portal.events(1)
    assert portal.workspace.deliveries(state="dead") == []
    shown = portal.daemon.cli("provision", "hubspot", "-w", "acme", "--json").json
    assert {entry["state"] for entry in shown["objects"]} == {"existing"}
    app = portal.daemon.cli("provision", "hubspot", "--app", "--json").json
    assert [entry["state"] for entry in app["objects"]] == ["existing"]
    removed = portal.daemon.cli(
        "provision", "hubspot", "-w", "acme", "--remove", "--object", "contact_property:milepost_last_utm_medium", "--json"
    ).json
    assert removed["objects"] == [
        {"key": "contact_property:milepost_last_utm_medium", "state": "absent", "remote_id": None}]
    rows = {entry["action"] for entry in listed(portal.rest, "/v1/admin/audit", "entries")}
    assert {"apps.provision", "integrations.provision", "integrations.deprovision"} <= rows


@pytest.mark.skipif(not FULL, reason="waits a minute; the Swift test has a virtual clock")
def test_a_template_whose_answer_is_lost_is_made_once(portal: Portal) -> None:
    """HCON-04: an open intent is waited for and looked up before anything is made again."""
    portal.rest.put("/v1/admin/apps/hubspot", APP)
    path = "/integrators/timeline/v3/54321/event-templates"
    portal.sandbox.fault("drop_after_commit", path=path)
    lost = portal.rest.request("POST", "/v1/admin/apps/hubspot/provision", {})
    assert lost.status in (502, 503), lost.body
    portal.sandbox.clear_faults()
    again = portal.rest.post("/v1/admin/apps/hubspot/provision", {}, timeout=150)["objects"]
    assert [entry["state"] for entry in again] == ["existing"]
    assert len(portal.sandbox.rest.get("/_sandbox/ledger?only=hubspot")["hubspot"]["templates"]) == 1


def test_an_installed_app_writes_events_and_properties(portal: Portal) -> None:
    """HCON-01, HCON-02, HCON-03, HCON-04, OAU: the app is installed by consent, and its template is used."""
    portal.make_template()
    portal.contact("70005", "oauth@example.test")
    link = portal.rest.post(f"{portal.url}/authorize", {})
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(link["url"]).query)["scope"][0].split()
    assert {"crm.objects.contacts.write", "crm.objects.deals.read", "timeline"} <= set(asked)
    place = urllib.parse.urlsplit(link["url"])
    browser = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    browser.request("GET", f"{place.path}?{place.query}")
    back = browser.getresponse().headers["Location"]
    browser.close()
    mark = portal.sandbox.mark()
    portal.rest.post(f"{portal.url}/authorize/complete", {"redirect_url": back})
    probes = [entry for entry in portal.sandbox.requests(since=mark) if "/objects/" in entry["path"]]
    assert probes == [], "what was consented to is known: nothing has to be found out with empty batches"
    connection = portal.rest.get(portal.url)
    assert connection["account"]["id"] == "62515" and connection["state"] == "active"
    portal.click("one", "70005", rfc3339(seconds=5), utm=UTM)
    assert portal.events(1)[0]["object_id"] == "70005"


def test_connecting_on_a_terminal_asks_for_no_pipeline(portal: Portal) -> None:
    """PAT-02, HCON-09: the hidden token is named on the command line, and nothing that HubSpot lacks is asked for."""
    master, slave = pty.openpty()
    try:
        os.write(master, b"1\n1\n\x04")
        done = subprocess.run(
            [str(DIST / "milepost"), "connect", "hubspot", "-w", "acme", "--credential", f"private_app_token={PRIVATE}"],
            stdin=slave, capture_output=True, text=True, timeout=30, check=False,
            env={**portal.daemon.environment(), "MILEPOST_URL": portal.daemon.url,
                 "MILEPOST_TOKEN": portal.daemon.token})
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 0, done.stderr
    assert "pipelines" not in done.stdout + done.stderr
    connection = portal.rest.get(portal.url)
    assert connection["state"] == "active" and "pipeline_id" not in connection["settings"]


def test_every_request_agrees_with_hubspots_documents(portal: Portal) -> None:
    """Bodies, queries and paths of a whole tour, as the sandbox received them."""
    portal.make_template()
    portal.contact("70006", "tour@example.test")
    portal.connect(portal.token("timeline"), deal_counter=True)
    portal.provision()
    for picker, query in [("pipelines", ""), ("stages", "?pipeline=default"), ("properties", "")]:
        assert portal.rest.get(f"{portal.url}/options/{picker}{query}")["items"], picker
    for index in range(5):
        portal.click(f"t{index}", "70006", rfc3339(seconds=5), utm=UTM)
    portal.events(5)
    wait_for("the properties", lambda: portal.properties("70006").get("milepost_last_utm_source") == "webinar")
    made = portal.sandbox.requests()
    assert any(entry["path"].endswith("/batch/create") for entry in made)
    assert hubspot_spec.validate_ledger(made) == []
    # No secret of the connection or of the app is in a log.
    log = portal.daemon.log.read_text()
    assert not [s for s in (PRIVATE, APP["developer_key"], APP["client_secret"]) if s in log]
