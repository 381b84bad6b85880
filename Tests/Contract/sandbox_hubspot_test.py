# SPDX-License-Identifier: Apache-2.0
"""The sandbox's HubSpot against the vendor's documents, over a real socket, with the built binary."""

import base64
import hashlib
import http.client
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
import requests

import hubspot_spec as spec

ROOT = Path(__file__).resolve().parents[2]
DIST = Path(os.environ.get("MILEPOST_DIST", ROOT / ".build" / "dist"))
HUB = 62515
CALLBACK = "http://127.0.0.1:8787/oauth/callback"
ALL = ("oauth timeline crm.objects.contacts.read crm.objects.contacts.write crm.objects.deals.read crm.objects.deals.write "
       "crm.objects.owners.read crm.schemas.contacts.write crm.schemas.deals.write analytics.behavioral_events.send")


class Sandbox:
    """A running sandbox and a client that checks every answer, and every request that was meant well."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [DIST / "milepost-sandbox", "--listen", "127.0.0.1:0", "--quiet", *arguments], stdout=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        assert line.startswith("listening on http://127.0.0.1:"), line
        self.url = line.split()[-1]
        self.session = requests.Session()
        self.token = "sandbox-private-app-token"

    def call(self, method, path, body=None, query=None, token=None, valid=True, form=None, headers=None):
        headers = headers if headers is not None else {"authorization": f"Bearer {token or self.token}"}
        answer = self.session.request(method, self.url + path, json=body, data=form, params=query, headers=headers,
                                      timeout=20, allow_redirects=False)
        if valid:
            kind = {"content-type": spec.FORM} if form is not None else {"content-type": "application/json"}
            errors = spec.validate_request(method, path, query, kind, urlencode(form) if form is not None else body)
            assert not errors, errors
        parsed = answer.json() if answer.content else None
        errors = spec.validate_response(method, path, answer.status_code, parsed, answer.headers.get("content-type", ""))
        assert not errors, (method, path, answer.status_code, answer.text, errors)
        return answer

    def data(self, *arguments, **options):
        answer = self.call(*arguments, **options)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def refused(self, status, *arguments, **options):
        answer = self.call(*arguments, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    def control(self, method, path, body=None):
        answer = self.session.request(method, f"{self.url}/_sandbox/{path}", json=body, timeout=20)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def ledger(self, hub=HUB):
        parts = self.control("GET", "ledger?only=hubspot,oauth,violations,requests")
        portal = next(p for p in parts["hubspot"]["portals"] if p["hub_id"] == hub)
        return portal | {name: parts[name] for name in ("oauth", "violations", "requests")}

    # OAuth

    def authorize(self, scopes=ALL, hub=None, challenge=None, **more):
        query = {"client_id": "sandbox-client", "redirect_uri": CALLBACK, "scope": scopes, "state": "st&1"} | more
        if challenge:
            query |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        path = f"/oauth/{hub}/authorize" if hub else "/oauth/authorize"
        return self.session.get(self.url + path, params=query, timeout=20, allow_redirects=False)

    def code(self, *arguments, **options):
        answer = self.authorize(*arguments, **options)
        assert answer.status_code == 302 and answer.headers["location"].startswith(CALLBACK)
        query = parse_qs(urlparse(answer.headers["location"]).query)
        assert query["state"] == ["st&1"]
        return query["code"][0]

    def grant(self, path="/oauth/2026-09/token", **form):
        base = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
        return self.call("POST", path, form=base | form, headers={})

    def exchange(self, code, path="/oauth/2026-09/token", **more):
        return self.grant(path, **({"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK} | more))

    def refresh(self, token, path="/oauth/2026-09/token", **more):
        return self.grant(path, **({"grant_type": "refresh_token", "refresh_token": token} | more))

    def install(self, *arguments, **options):
        pair = self.exchange(self.code(*arguments, **options)).json()
        self.token = pair["access_token"]
        return pair

    def stop(self, with_signal=signal.SIGTERM):
        self.session.close()
        self.process.send_signal(with_signal)
        return self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def shared():
    sandbox = Sandbox("--search-lag", "0", "--rate-limit", "off")
    yield sandbox
    assert sandbox.stop() == 0


@pytest.fixture
def sandbox(shared):
    shared.control("POST", "reset")
    shared.token = "sandbox-private-app-token"
    return shared


@pytest.fixture
def installed(sandbox):
    sandbox.install()
    return sandbox


def template(sandbox, **more):
    body = {"name": "Link click", "objectType": "contacts", "headerTemplate": "Clicked: {{slug}}",
            "detailTemplate": "**{{slug}}** {{#if country}}from {{country}}{{/if}}",
            "tokens": [{"name": "slug", "label": "Slug", "type": "string"},
                       {"name": "country", "label": "Country", "type": "string"},
                       {"name": "clicks", "label": "Clicks", "type": "number"},
                       {"name": "device", "label": "Device", "type": "enumeration",
                        "options": [{"label": "Mobile", "value": "mobile"}]}]} | more
    path = "/integrators/timeline/v3/54321/event-templates"
    return sandbox.data("POST", path, body, query={"hapikey": "sandbox-developer-key"}, headers={})


def event(template_id, **more):
    return {"eventTemplateId": template_id, "id": "evt_1", "email": "a@x.test", "timestamp": "2025-10-24T10:00:00.123Z",
            "tokens": {"slug": "spring"}, "extraData": {"utm": {"source": "webinar"}}} | more


# -------------------------------------------------------------------------------------------------------------- OAuth


@pytest.mark.parametrize("path", ["/oauth/v1/token", "/oauth/v3/token", "/oauth/2026-03/token", "/oauth/2026-09/token"])
def test_HCON_01_a_code_becomes_a_pair_and_the_pair_is_refreshed(sandbox, path):
    pair = sandbox.exchange(sandbox.code(), path).json()
    assert pair["expires_in"] == 1800 and pair["token_type"] == "bearer"
    assert ("hub_id" in pair) == (path != "/oauth/v1/token")
    sandbox.token = pair["access_token"]
    sandbox.data("GET", "/crm/v3/objects/contacts/37765128953")
    again = sandbox.refresh(pair["refresh_token"], path).json()
    assert again["refresh_token"] == pair["refresh_token"] and again["access_token"] != pair["access_token"]
    info = sandbox.data("GET", f"/oauth/v1/access-tokens/{again['access_token']}")
    assert (info["hub_id"], info["app_id"], info["scopes"]) == (HUB, 54321, ALL.split())
    kinds = [(e["event"], e["refreshes"]) for e in sandbox.ledger()["oauth"]]
    assert kinds == [("authorized", None), ("granted", None), ("refreshed", 1)]


def test_a_code_works_once_for_its_address_and_its_proof(sandbox):
    verifier = "v" * 64
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    code = sandbox.code(challenge=challenge)
    status = lambda answer: (answer.status_code, answer.json().get("status"))
    assert status(sandbox.exchange(code)) == (400, "BAD_CODE_VERIFIER")
    assert status(sandbox.exchange(code, code_verifier="w" * 64)) == (400, "BAD_CODE_VERIFIER")
    assert status(sandbox.exchange(code, redirect_uri="http://127.0.0.1/other", code_verifier=verifier)) == (400, "BAD_REDIRECT_URI")
    assert sandbox.exchange(code, code_verifier=verifier).status_code == 200
    assert status(sandbox.exchange(code, code_verifier=verifier)) == (400, "BAD_AUTH_CODE")
    sandbox.control("POST", "hubspot/oauth", {"code_expires_in": 0})
    assert status(sandbox.exchange(sandbox.code())) == (400, "BAD_AUTH_CODE")


@pytest.mark.parametrize("path", ["/oauth/v1/token", "/oauth/v3/token"])
def test_the_token_endpoint_refuses_as_the_vendor_does(sandbox, path):
    def status(answer):
        assert answer.status_code == 400
        return answer.json()["status"]

    assert status(sandbox.refresh("nope", path)) == "BAD_REFRESH_TOKEN"
    assert status(sandbox.refresh("nope", path, client_id="x")) == "BAD_CLIENT_ID"
    assert status(sandbox.refresh("nope", path, client_secret="x")) == "BAD_CLIENT_SECRET"
    answer = sandbox.call("POST", path, form={"grant_type": "password", "client_id": "sandbox-client",
                                              "client_secret": "sandbox-secret"}, headers={}, valid=False)
    assert status(answer) == "BAD_GRANT_TYPE"
    pair = sandbox.exchange(sandbox.code(), path).json()
    sandbox.control("POST", "hubspot/oauth", {"end": "uninstall"})
    assert status(sandbox.refresh(pair["refresh_token"], path)) == "BAD_HUB"
    sandbox.token = pair["access_token"]
    assert sandbox.refused(401, "GET", "/crm/v3/owners")["category"] == "INVALID_AUTHENTICATION"


def test_OAU_03_with_rotation_the_replaced_refresh_token_is_dead(sandbox):
    sandbox.control("POST", "hubspot/oauth", {"rotate": True})
    first = sandbox.install()
    second = sandbox.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert sandbox.refresh(first["refresh_token"]).json()["status"] == "BAD_REFRESH_TOKEN"
    assert sandbox.ledger()["violations"] == [], "once, before the new pair was used: the answer may have been lost"
    assert sandbox.refresh(second["refresh_token"]).status_code == 200


def test_OAU_06_using_a_replaced_refresh_token_is_a_breach(sandbox):
    sandbox.control("POST", "hubspot/oauth", {"rotate": True})
    first = sandbox.install()
    second = sandbox.refresh(first["refresh_token"]).json()
    sandbox.data("GET", "/crm/v3/owners", token=second["access_token"])
    assert sandbox.refresh(first["refresh_token"]).status_code == 400
    assert "used again" in sandbox.ledger()["violations"][0]["detail"]
    assert [e["event"] for e in sandbox.ledger()["oauth"]][-1] == "dead_token_reused"


def test_OAU_15_a_refresh_whose_answer_was_lost_has_happened(sandbox):
    sandbox.control("POST", "hubspot/oauth", {"rotate": True})
    first = sandbox.install()
    sandbox.control("POST", "faults", {"match": {"path": "/oauth/2026-09/token"}, "kind": "drop_after_commit"})
    with pytest.raises(requests.ConnectionError):
        sandbox.refresh(first["refresh_token"])
    assert sandbox.refresh(first["refresh_token"]).json()["status"] == "BAD_REFRESH_TOKEN"
    assert [e["event"] for e in sandbox.ledger()["oauth"]][-2:] == ["refreshed", "dead_token_retried"]
    assert sandbox.ledger()["violations"] == []
    sandbox.refresh(first["refresh_token"])
    assert len(sandbox.ledger()["violations"]) == 1, "twice is too often"


def test_OAU_01_an_access_token_expires_when_its_answer_said(sandbox):
    sandbox.control("POST", "hubspot/oauth", {"expires_in": 0})
    pair = sandbox.install()
    assert pair["expires_in"] == 0
    refused = sandbox.refused(401, "GET", "/crm/v3/owners")
    assert refused["category"] == "EXPIRED_AUTHENTICATION" and refused["context"]["expire time"]
    sandbox.control("POST", "hubspot/oauth", {"expires_in": 600})
    sandbox.token = sandbox.refresh(pair["refresh_token"]).json()["access_token"]
    sandbox.data("GET", "/crm/v3/owners")
    sandbox.control("POST", "hubspot/oauth", {"end": "expire_access"})
    assert sandbox.refused(401, "GET", "/crm/v3/owners")["category"] == "EXPIRED_AUTHENTICATION"


@pytest.mark.parametrize("generation", ["v3", "2026-03", "2026-09"])
def test_tokens_are_described_and_revoked(sandbox, generation):
    pair = sandbox.install()
    base = f"/oauth/{generation}/token"
    describe = lambda token: sandbox.grant(f"{base}/introspect", token=token).json()
    assert describe(pair["access_token"])["hub_id"] == HUB and describe(pair["refresh_token"])["active"]
    assert describe("nope") == {"active": False}
    assert sandbox.grant(f"{base}/revoke", token=pair["refresh_token"], token_type_hint="refresh_token").status_code == 200
    assert describe(pair["refresh_token"]) == {"active": False}
    assert sandbox.refresh(pair["refresh_token"]).json()["status"] == "BAD_REFRESH_TOKEN"
    sandbox.data("GET", "/crm/v3/owners"), "access tokens that are out live on"


def test_v1_describes_and_deletes_refresh_tokens(sandbox):
    pair = sandbox.install()
    path = f"/oauth/v1/refresh-tokens/{pair['refresh_token']}"
    assert sandbox.data("GET", path)["client_id"] == "sandbox-client"
    assert sandbox.call("DELETE", path).status_code == 204
    sandbox.refused(404, "GET", path)
    sandbox.refused(404, "GET", "/oauth/v1/access-tokens/nope")
    assert pair["refresh_token"] not in json.dumps(sandbox.control("GET", "ledger"))


def test_HCON_03_fewer_scopes_are_granted_than_asked_for(sandbox):
    sandbox.control("POST", "hubspot/oauth", {"grant_scopes": ["oauth", "crm.objects.contacts.write"]})
    pair = sandbox.install()
    assert pair["scopes"] == ["oauth", "crm.objects.contacts.write"]
    refused = sandbox.refused(403, "GET", "/crm/v3/objects/deals/9001")
    assert refused["category"] == "MISSING_SCOPES"
    assert refused["errors"][0]["context"]["requiredGranularScopes"] == ["crm.objects.deals.read"]
    sandbox.data("PATCH", "/crm/v3/objects/contacts/37765128953", {"properties": {"firstname": "B"}})


def test_a_person_says_no_or_is_asked(sandbox):
    sandbox.control("POST", "hubspot/oauth", {"consent": "deny"})
    query = parse_qs(urlparse(sandbox.authorize().headers["location"]).query)
    assert query["error"] == ["access_denied"] and query["state"] == ["st&1"]
    sandbox.control("POST", "hubspot/oauth", {"consent": "ask"})
    page = sandbox.authorize()
    assert page.status_code == 200 and "Connect app" in page.text and "Sandbox Hub" in page.text
    assert sandbox.authorize(decision="allow").status_code == 302
    sandbox.control("POST", "hubspot/oauth", {"consent": "allow", "redirect_uris": ["https://good.test/cb"]})
    assert sandbox.authorize().status_code == 400
    assert sandbox.authorize(redirect_uri="https://good.test/cb").status_code == 302
    assert sandbox.authorize(client_id="other").status_code == 400
    assert sandbox.authorize(redirect_uri="https://good.test/cb", scopes="crm.everything").status_code == 400


def test_HCON_07_accounts_are_apart(sandbox):
    sandbox.control("POST", "hubspot/portals", {"hub_id": 777, "name": "Second"})
    first = sandbox.install()
    second = sandbox.install(hub=777)
    assert (first["hub_id"], second["hub_id"]) == (HUB, 777)
    sandbox.data("POST", "/crm/v3/objects/contacts", {"properties": {"email": "two@x.test"}}, token=second["access_token"])
    path, query = "/crm/v3/objects/contacts/two@x.test", {"idProperty": "email"}
    sandbox.data("GET", path, query=query, token=second["access_token"])
    sandbox.refused(404, "GET", path, query=query, token=first["access_token"])
    assert sandbox.data("GET", "/account-info/v3/details", token=second["access_token"])["portalId"] == 777
    sandbox.control("POST", "hubspot/oauth", {"end": "uninstall", "account": 777})
    sandbox.refused(401, "GET", "/crm/v3/owners", token=second["access_token"])
    sandbox.data("GET", "/crm/v3/owners", token=first["access_token"])


def test_tokens_can_be_revoked_by_control(sandbox):
    pair = sandbox.install()
    sandbox.control("POST", "hubspot/revoke", {"token": pair["access_token"]})
    assert sandbox.refused(401, "GET", "/crm/v3/owners")["category"] == "INVALID_AUTHENTICATION"
    sandbox.control("POST", "hubspot/revoke", {"token": "sandbox-private-app-token"})
    sandbox.refused(401, "GET", "/crm/v3/owners", token="sandbox-private-app-token")
    sandbox.control("POST", "hubspot/tokens", {"token": "made", "kind": "oauth", "scopes": ["crm.objects.owners.read"]})
    sandbox.data("GET", "/crm/v3/owners", token="made")
    sandbox.refused(401, "GET", "/crm/v3/owners", headers={})


# ----------------------------------------------------------------------------------------------------- contacts, deals


@pytest.mark.parametrize("base", ["/crm/v3/objects", "/crm/objects/2026-09"])
def test_a_contact(sandbox, base):
    made = sandbox.data("POST", f"{base}/contacts", {"properties": {"email": "New@x.test", "firstname": "N"}})
    path = f"{base}/contacts/{made['id']}"
    assert sandbox.data("GET", path, query={"properties": "firstname,phone"})["properties"]["phone"] is None
    by_email = sandbox.data("GET", f"{base}/contacts/new@x.test", query={
        "idProperty": "email", "properties": ["email", "lifecyclestage"], "propertiesWithHistory": "firstname"})
    assert by_email["id"] == made["id"] and by_email["propertiesWithHistory"]["firstname"][0]["value"] == "N"
    sandbox.data("PATCH", path, {"properties": {"firstname": "", "phone": "1"}})
    after = sandbox.data("GET", path, query={"properties": "firstname,phone"})["properties"]
    assert (after["firstname"], after["phone"]) == (None, "1")
    sandbox.data("PATCH", f"{base}/contacts/new@x.test", {"properties": {"phone": "2"}}, query={"idProperty": "email"})
    assert len(sandbox.data("GET", f"{base}/contacts", query={"limit": "1"})["results"]) == 1
    clash = sandbox.refused(409, "POST", f"{base}/contacts", {"properties": {"email": "new@x.test"}})
    assert clash["message"] == f"Contact already exists. Existing ID: {made['id']}" and clash["category"] == "CONFLICT"
    history = next(c for c in sandbox.ledger()["contacts"] if c["id"] == made["id"])["history"]
    assert [(h["name"], h["value"]) for h in history] == [
        ("email", "New@x.test"), ("firstname", "N"), ("firstname", ""), ("phone", "1"), ("phone", "2")]
    assert sandbox.call("DELETE", path).status_code == 204
    assert sandbox.refused(404, "GET", path)["category"] == "OBJECT_NOT_FOUND"


@pytest.mark.parametrize("name, value, code", [
    ("nope", "x", "PROPERTY_DOESNT_EXIST"), ("hs_analytics_first_url", "x", "READ_ONLY_VALUE"),
    ("hs_analytics_source", "x", "READ_ONLY_VALUE"), ("num_associated_deals", "1", "READ_ONLY_VALUE"),
    ("email", "no address", "INVALID_EMAIL"), ("lifecyclestage", "Lead", "INVALID_OPTION"),
])
def test_PROP_04_one_refused_value_fails_the_whole_update(sandbox, name, value, code):
    path = "/crm/v3/objects/contacts/37765128953"
    refused = sandbox.refused(400, "PATCH", path, {"properties": {"firstname": "Changed", name: value}})
    assert refused["category"] == "VALIDATION_ERROR"
    reasons = json.loads(refused["message"].removeprefix("Property values were not valid: "))
    assert [(reason["name"], reason["error"]) for reason in reasons] == [(name, code)]
    assert sandbox.data("GET", path)["properties"]["firstname"] == "Ada"


def test_the_stage_of_a_life_only_moves_forward(sandbox):
    path = "/crm/v3/objects/contacts/37765128953"
    for stage, expected in [("lead", "lead"), ("customer", "customer"), ("lead", "customer")]:
        sandbox.data("PATCH", path, {"properties": {"lifecyclestage": stage}})
        assert sandbox.data("GET", path, query={"properties": "lifecyclestage"})["properties"]["lifecyclestage"] == expected


def test_RES_08_a_merged_id_finds_the_survivor(sandbox):
    other = sandbox.data("POST", "/crm/v3/objects/contacts", {"properties": {"email": "b@x.test", "phone": "5"}})["id"]
    merged = sandbox.data("POST", "/crm/v3/objects/contacts/merge",
                          {"primaryObjectId": "37765128953", "objectIdToMerge": other})
    assert merged["id"] not in (other, "37765128953")
    assert merged["properties"]["hs_merged_object_ids"] == f"37765128953;{other}"
    for old in (other, "37765128953"):
        found = sandbox.data("GET", f"/crm/v3/objects/contacts/{old}", query={"properties": "email,phone"})
        assert found["id"] == merged["id"] and found["properties"]["phone"] == "5"
    deals = sandbox.data("POST", "/crm/v4/associations/contacts/deals/batch/read", {"inputs": [{"id": other}]})
    assert [to["toObjectId"] for to in deals["results"][0]["to"]] == ["9001"]
    kept = sandbox.control("POST", "hubspot/contacts", {"properties": {"email": "c@x.test"}})["id"]
    again = sandbox.control("POST", "hubspot/merge", {"primary": kept, "merged": merged["id"], "new_id": False})
    assert again["id"] == kept


def test_a_contact_is_erased(sandbox):
    body = {"objectId": "a@x.test", "idProperty": "email"}
    assert sandbox.call("POST", "/crm/v3/objects/contacts/gdpr-delete", body).status_code == 204
    sandbox.refused(404, "GET", "/crm/v3/objects/contacts/37765128953")


def test_batches_of_contacts(sandbox):
    write = lambda verb, inputs, **more: sandbox.call("POST", f"/crm/v3/objects/contacts/batch/{verb}", {"inputs": inputs} | more)
    made = write("create", [{"properties": {"email": f"n{i}@x.test"}} for i in range(3)])
    assert made.status_code == 201
    ids = [row["id"] for row in made.json()["results"]]
    read = write("read", [{"id": i} for i in ids + ["1"]], properties=["email"], propertiesWithHistory=[])
    assert read.status_code == 207 and len(read.json()["results"]) == 3 and read.json()["errors"][0]["context"]["ids"] == ["1"]
    by_email = write("read", [{"id": "n1@x.test"}], properties=["email"], propertiesWithHistory=[], idProperty="email")
    assert by_email.json()["results"][0]["id"] == ids[1]
    updated = write("update", [{"id": i, "properties": {"phone": "1"}} for i in ids])
    assert updated.status_code == 200 and len(updated.json()["results"]) == 3
    silent = write("update", [{"id": "n1@x.test", "idProperty": "email", "properties": {"phone": "9"}}])
    assert silent.status_code == 200 and silent.json()["results"] == []
    assert sandbox.call("POST", "/crm/v3/objects/contacts/batch/archive", {"inputs": [{"id": ids[0]}]}).status_code == 204


def test_upsert_with_trace_ids_writes_what_it_can(sandbox):
    def upsert(inputs):
        return sandbox.call("POST", "/crm/v3/objects/contacts/batch/upsert", {"inputs": inputs})

    def one(email, **properties):
        return {"idProperty": "email", "id": email, "properties": {"email": email} | properties}

    mixed = [one("a@x.test", phone="1"), one("new@x.test", nope="1"), one("other@x.test")]
    refused = upsert(mixed)
    assert refused.status_code == 400 and "nope" in refused.json()["message"]
    assert sandbox.data("GET", "/crm/v3/objects/contacts/37765128953", query={"properties": "phone"})["properties"]["phone"] is None
    partly = upsert([row | {"objectWriteTraceId": f"t-{n}"} for n, row in enumerate(mixed)])
    assert partly.status_code == 207 and partly.json()["numErrors"] == 1
    assert partly.json()["errors"][0]["context"]["objectWriteTraceId"] == ["t-1"]
    assert [(row["objectWriteTraceId"], row["new"]) for row in partly.json()["results"]] == [("t-0", False), ("t-2", True)]
    assert upsert([one(f"m{i}@x.test") for i in range(101)]).status_code == 400


def test_a_batch_without_its_wrapper_is_complete_and_empty_and_noted(sandbox):
    answer = sandbox.call("POST", "/crm/v3/objects/contacts/batch/upsert", [{"id": "x"}], valid=False)
    assert answer.status_code == 200 and answer.json()["results"] == []
    assert "inputs" in sandbox.ledger()["violations"][0]["detail"]


def test_search(sandbox):
    def search(**body):
        return sandbox.data("POST", "/crm/v3/objects/contacts/search", body)

    def where(name, operator, **more):
        return {"filterGroups": [{"filters": [{"propertyName": name, "operator": operator} | more]}]}

    for number in range(5):
        sandbox.data("POST", "/crm/v3/objects/contacts", {"properties": {"email": f"s{number}@x.test", "company": "Acme Ltd"}})
    found = search(**where("email", "EQ", value="S3@x.test"), properties=["email"], limit=10, after="0")
    assert found["total"] == 1 and found["results"][0]["properties"]["email"] == "s3@x.test"
    page = search(**where("company", "CONTAINS_TOKEN", value="acme"), limit=2, sorts=["-email"])
    assert page["total"] == 5 and page["paging"]["next"]["after"] == "2"
    assert [row["properties"]["email"] for row in page["results"]] == ["s4@x.test", "s3@x.test"]
    assert search(**where("email", "IN", values=["S1@x.test"]))["total"] == 0, "values of IN must be in lower case"
    assert search(**where("email", "IN", values=["s1@x.test", "s2@x.test"]))["total"] == 2
    assert search(**where("company", "NOT_HAS_PROPERTY"))["total"] == 1
    assert search(query="s4@")["total"] == 1
    sandbox.refused(400, "POST", "/crm/v3/objects/contacts/search", {"limit": 201})
    sandbox.refused(400, "POST", "/crm/v3/objects/contacts/search", {"limit": 100, "after": "9950"})
    assert sandbox.data("POST", "/crm/v3/objects/deals/search", where("dealstage", "EQ", value="appointmentscheduled"))["total"] == 1


def test_search_lags_behind(sandbox):
    sandbox.control("POST", "search-lag", {"ms": 3_600_000})
    sandbox.data("POST", "/crm/v3/objects/contacts", {"properties": {"email": "late@x.test"}})
    body = {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "EQ", "value": "late@x.test"}]}]}
    assert sandbox.data("POST", "/crm/v3/objects/contacts/search", body)["total"] == 0
    sandbox.refused(409, "POST", "/crm/v3/objects/contacts", {"properties": {"email": "late@x.test"}})
    sandbox.control("POST", "search-lag", {"ms": 0})
    assert sandbox.data("POST", "/crm/v3/objects/contacts/search", body)["total"] == 1


def test_RULE_05_a_deal_moves(sandbox):
    path = "/crm/v3/objects/deals/9001"
    sandbox.data("PATCH", path, {"properties": {"dealstage": "qualifiedtobuy"}})
    deal = sandbox.data("GET", path, query={"properties": "dealstage,hs_is_closed", "associations": "contacts"})
    assert deal["properties"]["dealstage"] == "qualifiedtobuy" and deal["properties"]["hs_is_closed"] == "false"
    assert deal["associations"]["contacts"]["results"] == [{"id": "37765128953", "type": "deal_to_contact"}]
    moves = sandbox.ledger()["deals"][0]["moves"]
    assert [(m["from"], m["to"], m["source"]) for m in moves] == [("appointmentscheduled", "qualifiedtobuy", "INTEGRATION")]
    for values in ({"dealstage": "QualifiedToBuy"}, {"pipeline": "nope"}, {"hs_is_closed": "true"}):
        sandbox.refused(400, "PATCH", path, {"properties": values})
    made = sandbox.data("POST", "/crm/v3/objects/deals", {
        "properties": {"dealname": "D", "dealstage": "closedwon"},
        "associations": [{"to": {"id": "37765128953"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 3}]}]})
    assert made["properties"]["hs_is_closed_won"] == "true" and made["properties"]["pipeline"] == "default"
    read = sandbox.call("POST", "/crm/v3/objects/deals/batch/read", {
        "inputs": [{"id": "9001"}, {"id": made["id"]}], "properties": ["amount"], "propertiesWithHistory": []})
    assert [row["properties"]["amount"] for row in read.json()["results"]] == ["5000.00", None]
    both = sandbox.data("POST", "/crm/v3/objects/deals/batch/update", {
        "inputs": [{"id": i, "properties": {"amount": "7"}} for i in ("9001", made["id"])]})
    assert len(both["results"]) == 2


@pytest.mark.parametrize("base", ["/crm/v3/pipelines", "/crm/pipelines/2026-09"])
def test_pipelines(sandbox, base):
    (pipeline,) = sandbox.data("GET", f"{base}/deals")["results"]
    assert [s["id"] for s in pipeline["stages"]] == [
        "appointmentscheduled", "qualifiedtobuy", "presentationscheduled", "decisionmakerboughtin", "contractsent",
        "closedwon", "closedlost"]
    assert sandbox.data("GET", f"{base}/deals/default")["id"] == "default"
    sandbox.control("POST", "hubspot/stages", {"id": "demo", "label": "Demo", "display_order": 0})
    assert len(sandbox.data("GET", f"{base}/deals/default/stages")["results"]) == 8
    assert sandbox.data("GET", f"{base}/deals/default/stages/demo")["label"] == "Demo"
    sandbox.control("DELETE", "hubspot/stages/demo")
    sandbox.refused(404, "GET", f"{base}/deals/default/stages/demo")
    sandbox.control("POST", "hubspot/pipelines", {"id": "renewals", "stages": [{"id": "due", "label": "Due"}]})
    assert len(sandbox.data("GET", f"{base}/deals")["results"]) == 2
    sandbox.control("DELETE", "hubspot/pipelines/renewals")
    sandbox.refused(404, "GET", f"{base}/deals/renewals")


def test_owners(sandbox):
    owners = sandbox.data("GET", "/crm/v3/owners/")["results"]
    assert sandbox.data("GET", "/crm/owners/2026-09", query={"email": owners[1]["email"]})["results"] == owners[1:]
    assert sandbox.data("GET", f"/crm/v3/owners/{owners[0]['id']}") == owners[0]
    sandbox.refused(404, "GET", "/crm/v3/owners/1")


def test_associations(sandbox):
    (deal,) = sandbox.control("POST", "hubspot/deals", [{"id": "9100", "properties": {"dealname": "E"}}])
    put = "/crm/v4/objects/deals/9100/associations/default/contacts/37765128953"
    assert sandbox.data("PUT", put)["results"][0]["associationSpec"]["associationTypeId"] == 3
    read = lambda *ids: sandbox.call("POST", "/crm/v4/associations/contacts/deals/batch/read", {"inputs": [{"id": i} for i in ids]})
    found = read("37765128953")
    assert found.status_code == 200
    assert [to["toObjectId"] for to in found.json()["results"][0]["to"]] == ["9001", "9100"]
    assert found.json()["results"][0]["to"][0]["associationTypes"] == [{"category": "HUBSPOT_DEFINED", "typeId": 4}]
    lonely = sandbox.control("POST", "hubspot/contacts", {"properties": {"email": "l@x.test"}})["id"]
    partly = read("37765128953", lonely)
    assert partly.status_code == 207 and partly.json()["errors"][0]["context"]["fromObjectId"] == [lonely]
    sandbox.control("POST", "hubspot/associations", {
        "from": "contacts", "from_id": "37765128953", "to": "deals", "to_id": "9100", "label": "Primary"})
    labels = read("37765128953").json()["results"][0]["to"][1]["associationTypes"]
    assert {"category": "USER_DEFINED", "typeId": 28, "label": "Primary"} in labels
    listed = sandbox.data("GET", "/crm/v4/objects/contacts/37765128953/associations/deals")
    assert len(listed["results"]) == 2
    assert sandbox.data("GET", "/crm/v4/associations/contacts/deals/labels")["results"][0]["typeId"] == 4
    assert sandbox.call("DELETE", "/crm/v4/objects/contacts/37765128953/associations/deals/9100").status_code == 204
    made = sandbox.call("POST", "/crm/v4/associations/contacts/deals/batch/create", {"inputs": [
        {"from": {"id": lonely}, "to": {"id": deal["id"]}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 4}]},
        {"from": {"id": "1"}, "to": {"id": deal["id"]}, "types": []}]})
    assert made.status_code == 207 and len(made.json()["results"]) == 1
    again = sandbox.data("POST", "/crm/v4/associations/contacts/deals/batch/associate/default",
                         {"inputs": [{"from": {"id": lonely}, "to": {"id": "9001"}}]})
    assert len(again["results"]) == 2
    sandbox.refused(404, "PUT", "/crm/v4/objects/deals/1/associations/default/contacts/37765128953")


def test_a_note(sandbox):
    note = sandbox.data("POST", "/crm/v3/objects/notes", {
        "properties": {"hs_note_body": "<p>clicked</p>", "hs_timestamp": "2025-10-24T10:00:00.000Z"},
        "associations": [{"to": {"id": "37765128953"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}]}]})
    assert sandbox.data("GET", f"/crm/v3/objects/notes/{note['id']}", query={"properties": "hs_note_body"})["properties"]["hs_note_body"]
    (kept,) = sandbox.ledger()["notes"]
    assert kept["associations"] == {"contacts": ["37765128953"]}
    sandbox.refused(400, "POST", "/crm/v3/objects/notes", {"properties": {"hs_note_body": "x"}})
    sandbox.refused(400, "POST", "/crm/v3/objects/notes", {
        "properties": {"hs_timestamp": "1761300000123"},
        "associations": [{"to": {"id": "1"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}]}]})


# ----------------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("base", ["/crm/v3/properties", "/crm/properties/2026-09"])
def test_HCON_06_properties(sandbox, base):
    def new(name, **more):
        return {"groupName": "contactinformation", "name": name, "label": "Last UTM source", "type": "string", "fieldType": "text"} | more

    first = sandbox.data("GET", f"{base}/contacts/hs_analytics_first_url")
    assert first["hubspotDefined"] and first["modificationMetadata"]["readOnlyValue"]
    made = sandbox.data("POST", f"{base}/contacts", new("elido_last_utm_source"))
    assert not made["hubspotDefined"] and not made["modificationMetadata"]["readOnlyValue"]
    assert sandbox.refused(409, "POST", f"{base}/contacts", new("elido_last_utm_source"))["category"] == "CONFLICT"
    sandbox.refused(400, "POST", f"{base}/contacts", new("Bad Name"))
    sandbox.refused(400, "POST", f"{base}/contacts", new("x", groupName="nope"))
    sandbox.refused(404, "GET", f"{base}/contacts/nope")
    batch = sandbox.call("POST", f"{base}/contacts/batch/create", {"inputs": [new("a1"), new("elido_last_utm_source")]})
    assert batch.status_code == 207 and batch.json()["errors"][0]["context"]["name"] == ["elido_last_utm_source"]
    assert sandbox.call("POST", f"{base}/contacts/batch/create", {"inputs": [new("a2")]}).status_code == 201
    read = sandbox.call("POST", f"{base}/contacts/batch/read", {"archived": False, "inputs": [{"name": "a2"}, {"name": "a9"}]})
    assert read.status_code == 207 and len(read.json()["results"]) == 1
    assert sandbox.data("PATCH", f"{base}/contacts/a1", {"label": "Other"})["label"] == "Other"
    assert sandbox.call("DELETE", f"{base}/contacts/a1").status_code == 204
    sandbox.refused(400, "DELETE", f"{base}/contacts/email")
    names = [p["name"] for p in sandbox.data("GET", f"{base}/contacts")["results"]]
    assert "elido_last_utm_source" in names and "a1" not in names
    assert sandbox.data("GET", f"{base}/contacts/groups")["results"]
    assert sandbox.ledger()["properties"]["contacts"] == ["elido_last_utm_source", "a2"]
    sandbox.data("PATCH", "/crm/v3/objects/contacts/37765128953", {"properties": {"elido_last_utm_source": "webinar"}})


# -------------------------------------------------------------------------------------------------------------- events


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


# ------------------------------------------------------------------------------------------------- limits, faults, breaches


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


# --------------------------------------------------------------------------------------------------------- Pipedrive's OAuth


def pipedrive_grant(sandbox, secret="sandbox-pipedrive-secret", **form):
    return sandbox.session.post(f"{sandbox.url}/oauth/token", data=form, auth=("sandbox-pipedrive-client", secret), timeout=20)


def test_pipedrive_installs_refreshes_and_revokes(sandbox):
    sandbox.control("POST", "pipedrive/oauth", {"rotate": True})
    page = sandbox.session.get(f"{sandbox.url}/oauth/authorize", timeout=20, allow_redirects=False, params={
        "client_id": "sandbox-pipedrive-client", "redirect_uri": CALLBACK, "state": "s"})
    query = parse_qs(urlparse(page.headers["location"]).query)
    assert query["state"] == ["s"]
    code = {"grant_type": "authorization_code", "code": query["code"][0], "redirect_uri": CALLBACK}
    assert pipedrive_grant(sandbox, secret="wrong", **code).status_code == 400
    pair = pipedrive_grant(sandbox, **code).json()
    assert pair["token_type"] == "Bearer" and pair["expires_in"] == 3599 and "deals:full" in pair["scope"].split(",")
    assert pipedrive_grant(sandbox, **code).status_code == 400
    get = lambda token: sandbox.session.get(f"{sandbox.url}/v1/users/me", headers={"authorization": f"Bearer {token}"}, timeout=20)
    assert get(pair["access_token"]).json()["data"]["company_domain"] == "sandbox"
    again = pipedrive_grant(sandbox, grant_type="refresh_token", refresh_token=pair["refresh_token"]).json()
    assert again["refresh_token"] != pair["refresh_token"]
    assert pipedrive_grant(sandbox, grant_type="refresh_token", refresh_token=pair["refresh_token"]).status_code == 400
    assert get(again["access_token"]).status_code == 200
    sandbox.control("POST", "pipedrive/oauth", {"end": "expire_access"})
    assert get(again["access_token"]).status_code == 401 and get(pair["access_token"]).status_code == 401
    assert sandbox.session.post(f"{sandbox.url}/oauth/revoke", data={"token": again["refresh_token"]},
                                auth=("sandbox-pipedrive-client", "sandbox-pipedrive-secret"), timeout=20).status_code == 200
    assert pipedrive_grant(sandbox, grant_type="refresh_token", refresh_token=again["refresh_token"]).status_code == 400
    text = json.dumps(sandbox.control("GET", "ledger"))
    assert pair["access_token"] not in text and again["refresh_token"] not in text


def test_pipedrive_user_denies(sandbox):
    sandbox.control("POST", "pipedrive/oauth", {"consent": "deny"})
    page = sandbox.session.get(f"{sandbox.url}/oauth/authorize", timeout=20, allow_redirects=False, params={
        "client_id": "sandbox-pipedrive-client", "redirect_uri": CALLBACK})
    assert parse_qs(urlparse(page.headers["location"]).query) == {"error": ["user_denied"]}
