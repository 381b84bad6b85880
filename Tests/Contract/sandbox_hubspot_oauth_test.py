# SPDX-License-Identifier: Apache-2.0
"""The sandbox's authorisation servers, HubSpot's against the vendor's documents, over a real socket."""

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlparse

import pytest
import requests

import vendor_spec
from hubspot_bench import ALL, CALLBACK, HUB, sandbox, shared  # noqa: F401 (fixtures)


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
    assert sandbox.control("GET", "hubspot/oauth")["account"] == HUB, "ending an account's grants does not choose it"
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
    assert vendor_spec.validate_pipedrive_tokens(pair) == []
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
    entries = sandbox.control("GET", "ledger")["requests"]
    assert [error for e in entries for error in vendor_spec.validate_request(
        e["method"], e["path"], e["query"], e["headers"], e["body"])] == []
    text = json.dumps(sandbox.control("GET", "ledger"))
    assert pair["access_token"] not in text and again["refresh_token"] not in text


def test_pipedrive_user_denies(sandbox):
    sandbox.control("POST", "pipedrive/oauth", {"consent": "deny"})
    page = sandbox.session.get(f"{sandbox.url}/oauth/authorize", timeout=20, allow_redirects=False, params={
        "client_id": "sandbox-pipedrive-client", "redirect_uri": CALLBACK})
    assert parse_qs(urlparse(page.headers["location"]).query) == {"error": ["user_denied"]}
