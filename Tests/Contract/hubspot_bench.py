# SPDX-License-Identifier: Apache-2.0
"""A running sandbox, and a client of its HubSpot that checks every answer, and every request that was meant well."""

import os
import signal
import subprocess
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
