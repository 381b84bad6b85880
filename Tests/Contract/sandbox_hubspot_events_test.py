# SPDX-License-Identifier: Apache-2.0
"""Events, limits, faults and breaches of the sandbox's HubSpot, over a real socket."""

import http.client
import json
import signal

import pytest
import requests

import hubspot_spec as spec
from hubspot_bench import Sandbox, event, installed, sandbox, shared, template  # noqa: F401 (fixtures)


@pytest.mark.parametrize("base", ["/integrators/timeline/v3", "/crm/v3/timeline"])
def test_TL_02_a_timeline_event(installed, base):
    made = template(installed)
    answer = installed.call("POST", f"{base}/events", event(made["id"]))
    assert answer.status_code == 201 and answer.json()["objectId"] == "37765128953"
    path = f"{base}/events/{made['id']}/evt_1"
    assert installed.data("GET", path)["timestamp"] == "2025-10-24T10:00:00.123Z"
    assert installed.data("GET", f"{path}/detail") == {"details": "**spring** "}
    assert installed.data("GET", f"{path}/render") == "Clicked: spring"
    (kept,) = installed.ledger()["contacts"][0]["events"]
    assert kept["id"] == "evt_1" and kept["sent"]["extraData"] == {"utm": {"source": "webinar"}}
    assert kept["received_at_ms"] > 0 and kept["latency_ms"] == kept["received_at_ms"] - 1761300000123


def test_events_that_are_refused(installed):
    made = template(installed)
    path = "/integrators/timeline/v3/events"
    installed.refused(404, "POST", path, event("1"))
    installed.refused(400, "POST", path, event(made["id"], tokens={"nope": "x"}))
    installed.refused(400, "POST", path, event(made["id"], tokens={"clicks": "many"}))
    installed.refused(400, "POST", path, event(made["id"], tokens={"device": "toaster"}))
    installed.refused(404, "POST", path, {k: v for k, v in event(made["id"], objectId="1").items() if k != "email"})
    installed.refused(400, "POST", path, {k: v for k, v in event(made["id"]).items() if k != "email"})
    installed.refused(400, "POST", path, event(made["id"], tokens={"clicks": 5}), valid=False)
    installed.refused(400, "POST", path, event(made["id"], colour="red"), valid=False)
    assert installed.refused(403, "POST", path, event(made["id"]), token="sandbox-private-app-token")["category"] == "MISSING_SCOPES"
    assert installed.ledger()["events"] == []
    assert [v["detail"] for v in installed.ledger()["violations"]] == [
        "body.tokens.clicks must be a string", "body.colour is not in the vendor's document"]


def test_an_address_makes_a_contact_and_beside_an_id_changes_it(installed):
    made = template(installed)
    path = "/integrators/timeline/v3/events"
    fresh = installed.data("POST", path, event(made["id"], id="e1", email="fresh@x.test"))
    assert fresh["objectId"] != "37765128953"
    installed.data("POST", path, event(made["id"], id="e2", objectId="37765128953", email="changed@x.test"))
    emails = [c["properties"]["email"] for c in installed.ledger()["contacts"]]
    assert emails == ["changed@x.test", "fresh@x.test"]


@pytest.mark.parametrize("manner, status", [("ignore", 201), ("overwrite", 201), ("refuse", 400), ("conflict", 409)])
def test_DUP_06_an_id_that_comes_again(installed, manner, status):
    installed.control("POST", "hubspot/manners", {"repeated_event": manner})
    made = template(installed)
    path = "/integrators/timeline/v3/events"
    installed.data("POST", path, event(made["id"]))
    again = installed.call("POST", path, event(made["id"], tokens={"slug": "second"}))
    assert again.status_code == status
    if status > 201:
        assert again.json()["message"] == "Event ID already in use, please choose a new unique ID"
    (kept,) = installed.ledger()["events"]
    assert kept["repeats"] == 1
    assert kept["sent"]["tokens"]["slug"] == ("second" if manner == "overwrite" else "spring")
    other = installed.refused(400, "POST", path, event(made["id"], email="other@x.test"))
    assert other["message"] == "Event ID already in use, please choose a new unique ID"


def test_TL_11_a_batch_with_one_bad_event(installed):
    made = template(installed)
    path = "/integrators/timeline/v3/events/batch/create"
    inputs = [event(made["id"], id=f"b{n}") for n in range(3)]
    assert installed.call("POST", path, {"inputs": inputs}).status_code == 201
    inputs[1]["tokens"] = {"nope": "x"}
    inputs = [row | {"id": row["id"] + "x"} for row in inputs]
    partly = installed.call("POST", path, {"inputs": inputs})
    assert partly.status_code == 207 and partly.json()["numErrors"] == 1
    assert [row["id"] for row in partly.json()["results"]] == ["b0x", "b2x"]
    installed.refused(400, "POST", path, {"inputs": [event(made["id"], id=f"c{n}") for n in range(101)]})


def test_templates_belong_to_the_app(installed):
    path, key = "/integrators/timeline/v3/54321/event-templates", {"hapikey": "sandbox-developer-key"}
    made = template(installed)
    by = lambda method, tail="", body=None, **more: installed.call(method, path + tail, body, query=key, headers={}, **more)
    assert [t["id"] for t in by("GET").json()["results"]] == [made["id"]]
    assert by("GET", f"/{made['id']}").json() == made
    assert by("GET", "/1").status_code == 404
    changed = {"id": made["id"], "name": "N", "tokens": made["tokens"], "headerTemplate": "H"}
    assert by("PUT", f"/{made['id']}", changed).json()["headerTemplate"] == "H"
    assert by("POST", f"/{made['id']}/tokens", {"name": "t", "label": "T", "type": "date"}).status_code == 200
    assert by("PUT", f"/{made['id']}/tokens/t", {"label": "U"}).json()["label"] == "U"
    assert by("DELETE", f"/{made['id']}/tokens/t").status_code == 204
    body = {"name": "x", "objectType": "contacts", "tokens": [{"name": "a b", "label": "x", "type": "string"}]}
    assert by("POST", "", body).status_code == 400
    assert installed.call("GET", path, headers={"authorization": "Bearer sandbox-developer-key"}).status_code == 200
    installed.refused(401, "GET", path, headers={})
    installed.refused(403, "GET", path)
    installed.refused(404, "GET", path.replace("54321", "1"), query=key, headers={})
    assert by("DELETE", f"/{made['id']}").status_code == 204


def test_a_token_is_copied_into_a_property(installed):
    tokens = [{"name": "slug", "label": "Slug", "type": "string", "objectPropertyName": "jobtitle"}]
    made = template(installed, tokens=tokens)
    installed.data("POST", "/integrators/timeline/v3/events", event(made["id"]))
    assert installed.ledger()["contacts"][0]["properties"]["jobtitle"] == "spring"


def test_HCON_05_a_template_needs_its_time(installed):
    installed.control("POST", "hubspot/manners", {"template_delay_ms": 3_600_000})
    made = template(installed)
    installed.refused(404, "POST", "/integrators/timeline/v3/events", event(made["id"]))
    installed.control("POST", "hubspot/manners", {"template_delay_ms": 0})
    installed.data("POST", "/integrators/timeline/v3/events", event(made["id"]))


def test_app_events(installed):
    base = "/integrators/timeline/2026-03"
    kind = installed.data("POST", f"{base}/types/projects", {"projectName": "milepost", "developerSymbol": "link_click"})
    installed.refused(404, "POST", f"{base}/types/projects", {"projectName": "milepost", "developerSymbol": "nope"})
    body = {"eventTypeName": kind["fullyQualifiedName"], "id": "1", "email": "a@x.test", "properties": {"slug": "spring"},
            "timestamp": "2025-10-24T10:00:00Z", "extraData": {"n": 1}}
    assert installed.call("POST", f"{base}/events", body).status_code == 201
    assert installed.refused(409, "POST", f"{base}/events", body)["category"] == "CONFLICT"
    installed.refused(400, "POST", f"{base}/events", body | {"eventTypeName": "nope", "id": "2"})
    installed.refused(400, "POST", f"{base}/events", {k: v for k, v in body.items() if k != "id"}, valid=False)
    batch = installed.call("POST", f"{base}/events/batch", {"inputs": [body, body | {"id": "3"}]})
    assert batch.status_code == 200 and batch.json()["numErrors"] == 1 and len(batch.json()["results"]) == 1
    assert [e["kind"] for e in installed.ledger()["events"]] == ["app_event", "app_event"]
    installed.control("POST", "hubspot/manners", {"closed": ["app_events", "timeline", "custom_events"]})
    installed.refused(403, "POST", f"{base}/events", body)
    installed.refused(403, "POST", "/integrators/timeline/v3/events", event("1"))
    installed.refused(403, "POST", "/events/v3/send", {"eventName": "pe62515_link_click", "email": "a@x.test"})


@pytest.mark.parametrize("base", ["/events/v3", "/events/custom/2026-09"])
def test_custom_events(installed, base):
    body = {"eventName": "pe62515_link_click", "email": "a@x.test", "occurredAt": "2025-10-24T10:00:00Z", "uuid": "u1",
            "properties": {"slug": "spring"}}
    answer = installed.call("POST", f"{base}/send", body)
    assert answer.status_code == 204 and answer.content == b""
    assert installed.call("POST", f"{base}/send/batch", {"inputs": [body, body]}).status_code == 204
    assert len(installed.ledger()["events"]) == 3, "a uuid does not promise that a repeat is one"
    installed.refused(400, "POST", f"{base}/send", body | {"eventName": "pe62515_other"})
    installed.refused(400, "POST", f"{base}/send", body | {"properties": {"slug": "x" * 257}})
    installed.refused(400, "POST", f"{base}/send/batch", {"inputs": [body, body | {"eventName": "x"}]})
    assert len(installed.ledger()["events"]) == 3
    installed.control("POST", "hubspot/event-types", {"custom": "pe62515_other"})
    assert installed.call("POST", f"{base}/send", body | {"eventName": "pe62515_other"}).status_code == 204


def test_the_limits_are_the_published_ones():
    limits = json.loads((spec.SHARED / "specs" / "hubspot" / "limits.json").read_text())
    sandbox = Sandbox("--search-lag", "0")
    try:
        private = sandbox.call("GET", "/crm/v3/owners").headers
        assert int(private["x-hubspot-ratelimit-max"]) == limits["private_app"]["free_starter"]["requests"]
        assert int(private["x-hubspot-ratelimit-daily"]) == limits["private_app"]["free_starter"]["daily"]
        assert private["x-hubspot-ratelimit-interval-milliseconds"] == limits["headers"]["X-HubSpot-RateLimit-Interval-Milliseconds"]
        sandbox.install()
        answers = [sandbox.call("GET", "/crm/v3/owners") for _ in range(limits["oauth_app"]["requests"] + 2)]
        # A window of ten seconds may have rolled on a machine that is this slow; then nothing was limited.
        statuses = [a.status_code for a in answers]
        assert int(answers[0].headers["x-hubspot-ratelimit-max"]) == limits["oauth_app"]["requests"]
        assert "x-hubspot-ratelimit-daily" not in answers[0].headers
        assert statuses[:limits["oauth_app"]["requests"]] == [200] * limits["oauth_app"]["requests"]
        sandbox.control("POST", "hubspot/rate-limit", {"oauth": 3})
        limited = [sandbox.call("GET", "/crm/v3/owners") for _ in range(4)][-1]
        assert limited.status_code == 429 and limited.json()["policyName"] == "TEN_SECONDLY_ROLLING"
        assert limited.json()["errorType"] == "RATE_LIMIT" and limited.headers["x-hubspot-ratelimit-remaining"] == "0"
        sandbox.control("POST", "hubspot/rate-limit", {"search": 0})
        search = sandbox.call("POST", "/crm/v3/objects/contacts/search", {})
        assert search.status_code == 429 and search.json()["policyName"] == "SECONDLY"
        assert not any(name.startswith("x-hubspot-ratelimit") for name in search.headers)
        sandbox.control("POST", "hubspot/rate-limit", {"daily": 1})
        daily = [sandbox.call("GET", "/crm/v3/owners", token="sandbox-private-app-token") for _ in range(2)][-1]
        assert daily.status_code == 429 and daily.json()["policyName"] == "DAILY"
    finally:
        sandbox.stop()


@pytest.mark.parametrize("fault, status", [
    ({"kind": "status", "status": 503}, 503), ({"kind": "status", "status": 423}, 423),
    ({"kind": "status", "status": 429, "headers": {"Retry-After": "3"}}, 429), ({"kind": "status", "status": 401}, 401),
])
def test_faults_speak_the_vendors_language(sandbox, fault, status):
    sandbox.control("POST", "faults", {"match": {"path": "/crm/v3/*"}} | fault)
    answer = sandbox.call("PATCH", "/crm/v3/objects/contacts/37765128953", {"properties": {"firstname": "B"}})
    assert answer.status_code == status
    assert sandbox.ledger()["contacts"][0]["properties"]["firstname"] == "Ada"


def test_a_refusal_may_repeat_the_credential(sandbox):
    sandbox.control("POST", "faults", {"match": {"path": "/crm/*"}, "kind": "echo_token_401"})
    assert sandbox.token in sandbox.refused(401, "GET", "/crm/v3/owners")["message"]
    sandbox.control("POST", "faults", {"match": {"path": "/oauth/*"}, "kind": "echo_token_401"})
    assert "dead-token" in sandbox.refresh("dead-token").text


@pytest.mark.parametrize("kind, name", [("drop_before_commit", "Ada"), ("drop_after_commit", "B"), ("cut_body", "B")])
def test_connections_that_break(sandbox, kind, name):
    sandbox.control("POST", "faults", {"match": {"method": "PATCH"}, "kind": kind})
    address = sandbox.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=20)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError, http.client.IncompleteRead)) as raised:
        connection.request("PATCH", "/crm/v3/objects/contacts/37765128953", json.dumps({"properties": {"firstname": "B"}}),
                           {"content-type": "application/json", "authorization": f"Bearer {sandbox.token}"})
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    connection.close()
    assert (raised.type is http.client.IncompleteRead) == (kind == "cut_body")
    assert sandbox.ledger()["contacts"][0]["properties"]["firstname"] == name


def test_requests_that_do_not_fit_are_refused_and_noted(sandbox):
    bad = [
        ("POST", "/crm/v3/objects/contacts", {"properties": {"firstname": 5}}, None),
        ("POST", "/crm/v3/objects/contacts", {"email": "x@x.test"}, None),
        ("GET", "/crm/v3/objects/contacts/37765128953", None, {"fields": "email"}),
        ("GET", "/crm/v3/objects/tickets/1", None, None),
        ("POST", "/crm/v3/objects/contacts/search", {"filterGroups": [{"filters": [{"propertyName": "x", "operator": "IS"}]}]}, None),
    ]
    for method, path, body, query in bad:
        assert sandbox.call(method, path, body, query=query, valid=False).status_code in (400, 404)
    ledger = sandbox.ledger()
    assert [v["request"] for v in ledger["violations"]] == [entry["n"] for entry in ledger["requests"]][-len(bad):]
    assert len({error.split(",")[0] for error in spec.validate_ledger(ledger["requests"])}) == len(bad)


def test_requests_that_fit_leave_no_mark(installed):
    made = template(installed)
    installed.data("POST", "/integrators/timeline/v3/events", event(made["id"]))
    installed.refresh(installed.exchange(installed.code()).json()["refresh_token"])
    ledger = installed.ledger()
    assert ledger["violations"] == [] and spec.validate_ledger(ledger["requests"]) == []
    text = json.dumps(ledger)
    assert "sandbox-secret" not in text and "sandbox-developer-key" not in text and installed.token not in text


def test_the_ledger_can_be_read_by_people(installed):
    made = template(installed)
    installed.data("POST", "/integrators/timeline/v3/events", event(made["id"]))
    installed.data("PATCH", "/crm/v3/objects/deals/9001", {"properties": {"dealstage": "qualifiedtobuy"}})
    text = requests.get(f"{installed.url}/_sandbox/ledger.txt", timeout=20).text
    for word in ("Sandbox Hub (hub 62515)", "evt_1", "appointmentscheduled > qualifiedtobuy", "granted"):
        assert word in text
    assert "/_sandbox/hubspot" in requests.get(f"{installed.url}/_sandbox", timeout=20).text


def test_HubSpot_survives_a_kill_of_the_sandbox(tmp_path):
    path = tmp_path / "ledger.jsonl"
    first = Sandbox("--ledger", path, "--search-lag", "0")
    first.control("POST", "hubspot/oauth", {"rotate": True})
    pair = first.install()
    made = first.data("POST", "/crm/v3/objects/contacts", {"properties": {"email": "kept@x.test"}})
    first.data("POST", "/integrators/timeline/v3/events", event(template(first)["id"], email="kept@x.test"))
    first.stop(signal.SIGKILL)
    second = Sandbox("--ledger", path, "--search-lag", "0")
    try:
        second.token = pair["access_token"]
        found = second.data("GET", "/crm/v3/objects/contacts/kept@x.test", query={"idProperty": "email"})
        assert found["id"] == made["id"] and found["createdAt"] == made["createdAt"]
        assert [e["id"] for e in second.ledger()["events"]] == ["evt_1"]
        assert second.refresh(pair["refresh_token"]).json()["refresh_token"] != pair["refresh_token"]
        assert second.ledger()["violations"] == []
    finally:
        second.stop()


def test_ids_of_associations_may_be_numbers(sandbox):
    """As live answers have them; the vendor's document says text, so this answer is not held against it."""
    sandbox.control("POST", "hubspot/manners", {"numeric_ids": True})
    answer = sandbox.session.post(
        f"{sandbox.url}/crm/v4/associations/contacts/deals/batch/read", json={"inputs": [{"id": "37765128953"}]},
        headers={"authorization": f"Bearer {sandbox.token}"}, timeout=20)
    assert answer.json()["results"][0]["to"][0]["toObjectId"] == 9001


def test_the_control_api_names_what_it_does_not_know(sandbox):
    for path, body in [("oauth", {"expires": 5}), ("manners", {"repeat": "x"}), ("manners", {"closed": ["notes"]}),
                       ("rate-limit", {"oauth": "many"}), ("contacts", {"properties": {"nope": "x"}}), ("oauth", {"end": "all"})]:
        answer = sandbox.session.post(f"{sandbox.url}/_sandbox/hubspot/{path}", json=body, timeout=20)
        assert answer.status_code == 400 and answer.json()["error"], (path, body)


def test_webhooks_are_received(sandbox):
    sandbox.control("POST", "faults", {"match": {"path": "/hooks/*"}, "kind": "status", "status": 503, "headers": {"Retry-After": "2"}})
    post = lambda: sandbox.session.post(f"{sandbox.url}/hooks/clicks", json={"type": "link.clicked"}, timeout=20,
                                        headers={"webhook-id": "m1", "authorization": "secret-word"})
    assert [post().status_code, post().status_code] == [503, 200]
    first, second = sandbox.control("GET", "ledger?only=requests&path=/hooks/*")["requests"]
    assert (first["status"], second["status"], second["body"]) == (503, 200, {"type": "link.clicked"})
    assert second["headers"]["webhook-id"] == "m1" and second["headers"]["authorization"] == "***"


def test_the_tables_leave_out_what_nobody_used(sandbox):
    text = requests.get(f"{sandbox.url}/_sandbox/ledger.txt", timeout=20).text
    assert "Sandbox Inc" in text and "Sandbox Hub" not in text and "Tokens" not in text and "Breaches" not in text
