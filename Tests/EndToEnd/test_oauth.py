# SPDX-License-Identifier: Apache-2.0
"""OAuth 2.0 from the link to the thousandth refresh: connecting, reinstalling, crashes, races, restores (sections M, R).

Seeded: MILEPOST_SEED and MILEPOST_REFRESH_ROUNDS override the seed and the number of rounds.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import sqlite3
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oauth_vendor import Vendor

from harness import FULL, VENDOR_TOKEN, Daemon, Rest, Workspace, problem, wait_for

SEED = int(os.environ.get("MILEPOST_SEED") or 20261125)
ROUNDS = int(os.environ.get("MILEPOST_REFRESH_ROUNDS") or (500 if FULL else 50))
CRASH_POINTS = ["before_refresh_intent", "after_refresh_intent", "before_refresh_store", "after_refresh_store"]
TARGET = {"pipeline_id": 1, "stage_id": 11}


class Installed:
    """A daemon, the vendor, and the steps that a person takes."""

    def __init__(self, daemon: Daemon, vendor: Vendor):
        self.daemon, self.vendor = daemon, vendor
        self.workspace: Workspace = daemon.workspace("acme")
        self.url = f"{self.workspace.base}/integrations/pipedrive"

    @property
    def rest(self) -> Rest:
        return self.daemon.rest

    def set_app(self, secret: str = Vendor.SECRET) -> dict[str, Any]:
        return self.rest.put("/v1/admin/apps/pipedrive", {"client_id": Vendor.CLIENT, "client_secret": secret})

    def authorize(self, **body: Any) -> dict[str, Any]:
        return self.rest.post(f"{self.url}/authorize", body)

    def install(self, expect: tuple[int, ...] = (200, 201), **body: Any) -> Any:
        """Authorises, consents, and hands in the address that the vendor sends back to."""
        link = self.authorize(**body)
        return self.rest.post(
            f"{self.url}/authorize/complete", {"redirect_url": self.vendor.consent(link["url"])}, expect=expect
        )

    def connect(self, **body: Any) -> dict[str, Any]:
        self.set_app()
        return self.install(**TARGET, **body)

    def shown(self) -> dict[str, Any]:
        return self.workspace.connection()

    def tokens(self) -> dict[str, Any]:
        return self.shown()["oauth"]

    def callback(self, url: str) -> Any:
        parts = urllib.parse.urlsplit(url)
        return Rest(self.daemon.url).request("GET", f"{parts.path}?{parts.query}")


@pytest.fixture
def installed(own) -> Iterator[Callable[..., Installed]]:
    vendors: list[Vendor] = []

    def make(rotating: bool = True, expires_in: int | None = 3600, **settings: Any) -> Installed:
        daemon = own(**settings)
        vendor = Vendor(daemon.sandbox.url, VENDOR_TOKEN, rotating=rotating, expires_in=expires_in)
        vendors.append(vendor)
        daemon.settings["plugins"]["pipedrive"]["endpoints"] = {"api": vendor.url, "oauth": vendor.url}
        daemon.write_config()
        return Installed(daemon.start(), vendor)

    yield make
    for vendor in vendors:
        vendor.stop()


class TestConnecting:
    def test_a_person_consents_and_the_connection_delivers_with_a_bearer(self, installed) -> None:
        """PCON-17, HCON-01"""
        it = installed()
        it.set_app()
        link = it.authorize(**TARGET, thresholds=[2])
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link["url"]).query))
        assert link["url"].startswith(f"{it.vendor.url}/oauth/authorize?") and len(query["state"]) >= 32, link
        assert query["redirect_uri"] == link["redirect_uri"] and query["redirect_uri"].endswith("/oauth/callback")
        page = it.callback(it.vendor.consent(link["url"]))
        assert page.status == 200 and b"Connected" in page.body, page.body
        assert page.headers["content-security-policy"].startswith("default-src 'none'"), page.headers
        status = it.rest.get(f"{it.url}/authorize?id={link['id']}")
        assert status["state"] == "done", status
        shown = it.shown()
        assert shown["state"] == "active" and shown["credential"] == "oauth", shown
        assert shown["account"]["label"] == "Sandbox Inc" and shown["oauth"]["token_version"] == 1
        it.workspace.clicks("spring", 2)
        it.workspace.tick()
        assert [deal["title"] for deal in it.daemon.sandbox.deals("spring")] == ["Link spring hit 2 clicks"]
        assert ("POST", "/api/v2/deals", 200) in it.vendor.calls or ("POST", "/api/v2/deals", 201) in it.vendor.calls
        trail = it.rest.get("/v1/admin/audit")["entries"]
        assert any(row["action"] == "integrations.authorize.complete" for row in trail), trail

    def test_a_wrong_used_or_foreign_state_is_refused(self, installed) -> None:
        """HCON-01, PCON-17"""
        it = installed()
        it.set_app()
        link = it.authorize(**TARGET)
        back = it.vendor.consent(link["url"])
        forged = back.replace("state=", "state=0")
        assert it.callback(forged).status == 400
        assert it.callback("http://x/oauth/callback?code=abc").status == 400
        # A look-ahead must not use it up.
        head = Rest(it.daemon.url).request("HEAD", back[back.index("/oauth/callback") :])
        assert head.status == 200
        other = it.rest.request(
            "POST", "/v1/workspaces/other/integrations/pipedrive/authorize/complete", {"id": link["id"], "code": "abc"}
        )
        problem(other, 400, "authorization_unknown")
        assert it.vendor.exchanges == []
        assert it.callback(back).status == 200
        assert it.callback(back).status == 400, "a state is good once"
        assert len(it.vendor.exchanges) == 1

    def test_a_pasted_code_connects_where_the_vendor_cannot_reach_the_daemon(self, installed) -> None:
        """decisions 36"""
        it = installed()
        it.set_app()
        link = it.authorize(**TARGET)
        code = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(it.vendor.consent(link["url"])).query))["code"]
        answer = it.rest.post(f"{it.url}/authorize/complete", {"id": link["id"], "code": code})
        assert answer["state"] == "active"

    def test_a_refused_consent_and_a_bad_code_store_nothing(self, installed) -> None:
        """HCON-03"""
        it = installed()
        it.set_app()
        link = it.authorize(**TARGET)
        state = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link["url"]).query))["state"]
        page = it.callback(f"http://x/oauth/callback?error=%3Cscript%3E&state={state}")
        assert page.status == 422 and b"<script>" not in page.body, page.body
        problem(it.rest.request("GET", it.url), 404, "not_found")
        link = it.authorize(**TARGET)
        bad = it.rest.request("POST", f"{it.url}/authorize/complete", {"id": link["id"], "code": "no-such-code"})
        problem(bad, 422, "authorization_refused")
        assert it.rest.get(f"{it.url}/authorize?id={link['id']}")["state"] == "failed"
        problem(it.rest.request("GET", it.url), 404, "not_found")

    def test_there_is_no_field_for_a_pasted_oauth_token(self, installed) -> None:
        """HCON-09"""
        it = installed()
        it.set_app()
        answer = it.rest.request("POST", it.url, {"credentials": {"oauth": "x"}, **TARGET})
        assert "authorize" in problem(answer, 422, "validation_failed")["detail"]

    def test_app_secrets_are_never_shown_and_a_wrong_one_is_the_operators_matter(self, installed) -> None:
        it = installed()
        problem(it.rest.request("POST", f"{it.url}/authorize", TARGET), 409, "conflict")
        run = it.daemon.cli(
            "app", "set", "pipedrive", "--client-id", Vendor.CLIENT, "--json", stdin="wrong-secret-value\n"
        )
        assert "wrong-secret-value" not in run.out + run.err and run.json["client_id"] == Vendor.CLIENT
        answer = it.install(expect=(422,), **TARGET)
        assert answer["code"] == "app_refused", answer
        it.daemon.cli("app", "set", "pipedrive", stdin=Vendor.SECRET + "\n")
        assert it.install(**TARGET)["state"] == "active"
        for shown in (it.daemon.cli("app", "show").out, it.daemon.cli("app", "show", "pipedrive", "--json").out):
            assert Vendor.CLIENT in shown and Vendor.SECRET not in shown
        it.daemon.cli("app", "remove", "pipedrive")
        problem(it.rest.request("GET", "/v1/admin/apps/pipedrive"), 404, "not_found")

    def test_the_command_line_prints_the_link_and_waits(self, installed) -> None:
        it = installed()
        it.set_app()
        run = it.daemon.cli(
            "connect", "pipedrive", "--oauth", "--no-wait", "--set", "pipeline_id=1", "--set", "stage_id=11", "--json",
            "-w", "acme",
        )
        back = it.vendor.consent(run.json["url"])
        done = it.daemon.cli("connect", "pipedrive", "--redirect-url", back, "-w", "acme", "--json").json
        assert done["state"] == "active"
        link = it.authorize()
        waiting = threading.Thread(target=lambda: it.callback(it.vendor.consent(link["url"])))
        waiting.start()
        told = it.daemon.cli("connect", "pipedrive", "--authorization", link["id"], "-w", "acme")
        waiting.join()
        assert "active" in told.out and "version 2" in told.out, told.out

    def test_a_reinstall_keeps_the_history_and_work_resumes_at_once(self, installed) -> None:
        """HCON-08, OAU-11, OAU-12, REA-05, REA-06"""
        it = installed(expires_in=2)
        first = it.connect(thresholds=[2, 4])
        it.workspace.clicks("spring", 2)
        it.workspace.tick()
        it.vendor.uninstall()
        wait_for("the connection needs somebody", lambda: it.shown()["state"] == "needs_reauth")
        calls = len(it.vendor.refreshes)
        it.workspace.clicks("spring", 2)
        it.workspace.tick()
        assert len(it.vendor.refreshes) == calls, "no retry storm (OAU-13)"
        assert [d["state"] for d in it.workspace.deliveries(state="pending,retrying")] == ["pending"]
        again = it.install()
        assert again["id"] == first["id"] and again["state"] == "active"
        assert again["settings"]["pipeline_id"] == 1 and again["oauth"]["token_version"] > 1
        wait_for("the queue left without a tick", lambda: len(it.daemon.sandbox.deals("spring")) == 2, timeout=60)
        assert it.workspace.deliveries(state="dead,held,dropped") == []
