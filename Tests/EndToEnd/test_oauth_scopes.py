# SPDX-License-Identifier: Apache-2.0
"""Scopes by feature, refusals that name what is missing, and tokens of one account (Z-05, HCON-02, HCON-03, section S).

The plugin is a double whose `connect` answers the account and the lacking scope that its settings name.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oauth_vendor import Vendor

from harness import ROOT, VENDOR_TOKEN, Daemon, Workspace, problem, wait_for

SOURCE = ROOT / "Tests" / "Plugins" / "destinations" / "destination.c"
MANIFEST: dict[str, Any] = {
    "manifest": 1,
    "id": "dev.milepost.test.crm",
    "name": "crm",
    "title": "A CRM",
    "version": "0.1.0",
    "license": "Apache-2.0",
    "abi": {"major": 1, "min_host_minor": 0},
    "kinds": ["destination"],
    "endpoints": {"api": {"default": "https://api.example.com"}, "app": {"default": "https://app.example.com"}},
    "egress": [{"hosts": ["api.example.com"], "ports": [443], "methods": ["POST"]}],
    "auth": [
        {
            "scheme": "oauth2",
            "credential": "oauth",
            "title": "Install",
            "authorize": {"endpoint": "app", "path": "/oauth/authorize"},
            "token": {
                "endpoint": "api",
                "path": "/oauth/2026/token",
                "client_auth": "body",
                "generation_setting": "oauth_generation",
                "paths": {"2026": "/oauth/2026/token", "v1": "/oauth/v1/token"},
            },
            "pkce": "S256",
            "scopes": {
                "separator": " ",
                "base": ["oauth", "contacts.write", "deals.read", "timeline"],
                "features": [
                    {"scope": "deals.write", "feature": "rules", "reason": "moves deals on"},
                    {"scope": "schemas.write", "feature": "provision", "reason": "makes the properties"},
                    {"scope": "contacts.read", "feature": "email_match", "reason": "finds contacts by e-mail"},
                    {"scope": "files", "feature": "setting:attach", "reason": "attaches files"},
                ],
            },
            "refresh": {"margin_s": 90},
        },
        {
            "scheme": "api_key",
            "credential": "private_token",
            "hidden": True,
            "fields": [{"name": "private_token", "title": "Token of one account", "secret": True}],
            "placements": [{"name": "bearer", "in": "bearer"}],
        },
    ],
    "actions": [
        {"name": "deal", "title": "Do something", "trigger": "threshold", "idempotency": "search"},
        {"name": "move", "title": "Move something on", "trigger": "rule", "idempotency": "natural"},
    ],
    "config_schema": {
        "type": "object",
        "properties": {
            name: {"type": "string"} for name in ("account", "lacks", "oauth_generation")
        } | {"attach": {"type": "boolean"}, "provision": {"type": "boolean"}},
    },
    "limits": {"memory_mb": 64, "threads": 8},
}
BASE = ["oauth", "contacts.write", "deals.read", "timeline"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("plugins")
    manifest = json.dumps(MANIFEST)
    (made / "crm.json").write_text(manifest)
    quoted = manifest.replace("\\", "\\\\").replace('"', '\\"')
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += ["-I", str(ROOT / "include"), f'-DMANIFEST="{quoted}"', "-o", str(made / "crm.so"), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    for path in made.iterdir():
        path.chmod(0o755 if path.suffix == ".so" else 0o644)
    return made


class CRM:
    def __init__(self, daemon: Daemon, vendor: Vendor):
        self.daemon, self.vendor = daemon, vendor
        self.rest = daemon.rest
        self.acme: Workspace = daemon.workspace("acme")
        self.base = f"{self.acme.base}/integrations"
        self.rest.put(
            "/v1/admin/apps/crm", {"client_id": Vendor.CLIENT, "client_secret": Vendor.SECRET, "app_id": 54321}
        )

    def authorize(self, name: str = "crm", **body: Any) -> dict[str, Any]:
        return self.rest.post(f"{self.base}/{name}/authorize", body)

    def install(self, name: str = "crm", granted: list[str] | None = None, **body: Any) -> Any:
        link = self.authorize(name, **body)
        return self.rest.request(
            "POST",
            f"{self.base}/{name}/authorize/complete",
            {"redirect_url": self.vendor.consent(link["url"], granted)},
        )


@pytest.fixture
def crm(own, folder: Path) -> Iterator[Callable[[], CRM]]:
    vendors: list[Vendor] = []

    def make(**options: Any) -> CRM:
        daemon = own(plugin_dirs=[str(folder)])
        vendor = Vendor(daemon.sandbox.url, VENDOR_TOKEN, **options)
        vendors.append(vendor)
        endpoints = {"api": vendor.url, "app": vendor.url}
        daemon.settings["plugins"] = {"crm": {"enabled": True, "isolation": "worker", "endpoints": endpoints}}
        daemon.write_config()
        return CRM(daemon.start(), vendor)

    yield make
    for vendor in vendors:
        vendor.stop()


class TestScopes:
    def test_scopes_follow_the_features_that_are_on_and_each_has_its_reason(self, crm) -> None:
        """HCON-02, Z-05"""
        it = crm()
        link = it.authorize(provision=False)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link["url"]).query))
        assert query["scope"].split(" ") == BASE and query["code_challenge_method"] == "S256", query
        link = it.authorize(features=["rules", "email_match"], attach=True)
        wanted = {item["scope"]: item for item in link["scopes"]}
        assert list(wanted) == [*BASE, "deals.write", "schemas.write", "contacts.read", "files"]
        assert wanted["deals.write"]["reason"] == "moves deals on" and wanted["files"]["feature"] == "setting:attach"
        assert all(item["reason"] for item in link["scopes"])
        shown = it.daemon.cli("connect", "crm", "--no-wait", "-w", "acme", "--feature", "rules").out
        assert "deals.write: moves deals on" in shown, shown
        bad = it.rest.request("POST", f"{it.base}/crm/authorize", {"features": ["flying"]})
        problem(bad, 422, "validation_failed")

    def test_fewer_scopes_than_needed_are_refused_by_name(self, crm) -> None:
        """HCON-03: by the token's answer, and by the plugin's proof"""
        it = crm()
        it.vendor.scopes = ["oauth", "contacts.write"]
        document = problem(it.install(), 422, "scope_missing")
        for scope in ("deals.read", "timeline", "schemas.write"):
            assert scope in document["detail"], document
        problem(it.rest.request("GET", f"{it.base}/crm"), 404, "not_found")
        it.vendor.scopes = None
        assert "sales-email-read" in problem(it.install(lacks="sales-email-read"), 422, "scope_missing")["detail"]
        problem(it.rest.request("GET", f"{it.base}/crm"), 404, "not_found")

    def test_the_endpoints_generation_is_a_setting(self, crm) -> None:
        """Z-10; PKCE is proved by the vendor"""
        it = crm(expires_in=2)
        assert it.install(oauth_generation="v1").status == 201
        assert it.vendor.paths[-1] == "/oauth/v1/token"
        wait_for("refreshes use it too", lambda: it.vendor.refreshes)
        assert set(it.vendor.paths) == {"/oauth/v1/token"}
        bad = it.rest.request("POST", f"{it.base}/crm/authorize", {"oauth_generation": "v7"})
        assert "v1" in problem(bad, 422, "validation_failed")["detail"]

    def test_one_workspace_connects_several_accounts_by_oauth(self, crm) -> None:
        """HCON-07, decisions 17"""
        it = crm()
        assert it.install(account="62515").status == 201
        assert it.install("crm@second", account="62516").status == 201
        assert {shown["account"]["id"] for shown in it.rest.get(it.base)["integrations"]} == {"62515", "62516"}

    def test_a_refresh_far_older_than_those_of_its_peers_is_shown_as_such(self, crm) -> None:
        """OBS-04: six days against minutes; peers that are all as old say nothing"""
        it = crm()
        for number in range(3):
            assert it.install(f"crm@n{number}", account=str(62515 + number)).status == 201

        def stale(days: dict[str, int]) -> list[str]:
            it.daemon.stop()
            with sqlite3.connect(it.daemon.data / "milepost.db") as database:
                for name, age in days.items():
                    at = int((time.time() - age * 86_400) * 1000)
                    changed = database.execute(
                        "UPDATE oauth_chains SET last_refresh_at = ?, issued_at = ? WHERE connection_id ="
                        " (SELECT id FROM connections WHERE integration = ?)", (at, at, name))
                    assert changed.rowcount == 1
            database.close()
            it.daemon.start()
            it.rest = it.daemon.rest
            found = it.rest.get(it.base)["integrations"]
            assert all(shown["oauth"]["stale"] in (True, False) for shown in found)
            return [shown["integration"] for shown in found if shown["oauth"]["stale"]]

        assert stale({}) == []
        assert stale({"crm@n1": 6}) == ["crm@n1"]
        shown = it.rest.get(f"{it.base}/crm@n1")
        assert shown["oauth"]["stale"] is True and shown["oauth"]["last_refresh_age"] == "6 days ago"
        page = it.daemon.cli("integrations", "show", "crm@n1", "-w", "acme")
        assert "6 days ago" in page.out and "peers" in page.out, page.out
        assert stale({"crm@n0": 6, "crm@n2": 6}) == []

    def test_a_secret_of_the_app_may_be_changed_alone(self, crm) -> None:
        it = crm()
        app = it.rest.put("/v1/admin/apps/crm", {"developer_key": "developer-key-value"})
        assert app["client_id"] == Vendor.CLIENT and app["secrets"] == ["client_secret", "developer_key"]
        assert app["app_id"] == "54321" and "developer-key-value" not in json.dumps(app)
        gone = it.rest.put("/v1/admin/apps/crm", {"developer_key": None})
        assert gone["secrets"] == ["client_secret"]
        problem(it.rest.request("PUT", "/v1/admin/apps/crm", {"client_secret": None}), 422, "validation_failed")
        problem(it.rest.request("PUT", "/v1/admin/apps/crm", {"nonsense": "x"}), 422, "validation_failed")


class TestScopesOfRules:
    RULE = {
        "id": "moving",
        "trigger": {"link_tag": "t", "contact_window": "7d", "click_threshold": 2},
        "action": {"type": "crm.move", "from_stage": "a", "to_stage": "b"},
    }

    def lacking(self, rule: dict[str, Any]) -> list[str]:
        return [warning["message"] for warning in rule["warnings"] if warning["code"] == "rule_scope_missing"]

    def test_a_rule_asks_for_its_scope_and_says_when_the_connection_lacks_it(self, crm) -> None:
        """Z-05, HCON-03: until a new installation asks for it, the rule, status and doctor say which is missing"""
        it = crm()
        assert it.install(account="62515").status == 201
        rules = f"{it.acme.base}/rules"
        made = it.rest.post(rules, {**self.RULE, "mode": "observe"})
        assert self.lacking(made) == [], "a rule that only observes moves nothing"
        assert "deals.write" not in [item["scope"] for item in it.authorize()["scopes"]]

        [told] = self.lacking(it.rest.put(f"{rules}/moving", self.RULE))
        assert "deals.write (moves deals on)" in told and "milepost connect crm --oauth -w acme" in told, told
        assert self.lacking(it.rest.get(f"{rules}/moving")) == [told]
        assert self.lacking(it.rest.get(rules)["rules"][0]) == [told]
        problems = {entry["code"]: entry for entry in it.rest.get("/v1/admin/status")["problems"]}
        assert "acme/crm" in problems["rule_scope_missing"]["message"], problems
        doctor = it.daemon.cli("doctor", check=False)
        assert "deals.write" in doctor.out + doctor.err, doctor

        asked = {item["scope"]: item for item in it.authorize()["scopes"]}
        assert asked["deals.write"] == {"scope": "deals.write", "feature": "rules", "reason": "moves deals on"}
        assert it.install(account="62515").status == 200
        assert self.lacking(it.rest.get(f"{rules}/moving")) == []
        assert "rule_scope_missing" not in [entry["code"] for entry in it.rest.get("/v1/admin/status")["problems"]]
        it.rest.delete(f"{rules}/moving")
        assert "deals.write" not in [item["scope"] for item in it.authorize()["scopes"]]


class TestWhatPluginsAreTold:
    def test_scopes_and_expiry_are_in_the_instance_and_follow_each_refresh(self, crm) -> None:
        """Z-05, EXT-01: a plugin need not ask the vendor what somebody consented to"""
        it = crm(expires_in=3)
        assert it.install(account="62515").status == 201
        shown = it.rest.get(f"{it.base}/crm")
        assert shown["account"]["user_label"].split(",") == [*BASE, "schemas.write"], shown["account"]
        first = shown["account"]["user_id"]
        assert first.startswith("20") and first.endswith("Z"), shown["account"]
        wait_for("a refresh", lambda: len(it.vendor.refreshes) > 1)
        changed = it.rest.patch(f"{it.base}/crm", {"attach": True})
        [told] = [warning["message"] for warning in changed["warnings"] if warning["code"] == "told"]
        expires, _, scopes = told.partition(" ")
        assert expires > first and scopes.split(",") == [*BASE, "schemas.write"], (first, told)

    def test_of_a_pasted_token_nothing_is_known(self, crm) -> None:
        """PAT-05"""
        it = crm()
        made = it.rest.post(f"{it.base}/crm", {"credentials": {"private_token": "one"}, "account": "62515"})
        assert made["account"]["user_label"] == "" and made["account"]["user_id"] == "", made["account"]


class TestTokensOfOneAccount:
    def test_it_connects_when_named_and_is_shown_nowhere(self, crm) -> None:
        """PAT-01, PAT-02, PAT-03"""
        it = crm()
        offered = next(plugin for plugin in it.rest.get("/v1/admin/plugins")["plugins"] if plugin["name"] == "crm")
        assert [auth["credential"] for auth in offered["auth"]] == ["oauth"], offered
        refused = problem(it.rest.request("POST", f"{it.base}/crm", {}), 422, "validation_failed")
        assert "private_token" not in json.dumps(refused), refused
        run = it.daemon.cli("connect", "crm", "--credential", "private_token=tok", "--yes", "-w", "acme", "--json")
        assert run.json["credential"] == "private_token" and run.json["account"]["label"] == "holds private_token"
        assert run.json["oauth"] is None and it.vendor.paths == [], "nothing is refreshed"

    def test_doctor_recommends_oauth_where_a_pasted_token_is_in_use(self, crm) -> None:
        """PRV-06, Z-18: and says nothing of an installation"""
        it = crm()
        it.rest.post(f"{it.base}/crm", {"credentials": {"private_token": "one"}, "account": "62515"})
        assert it.install("crm@consented", account="62516").status == 201
        doctor = it.daemon.cli("doctor", "--config", str(it.daemon.config_file), "--json", check=False)
        found = [entry for entry in doctor.json["findings"] if entry["code"] == "oauth_recommended"]
        assert [entry["what"] for entry in found] == ["acme/crm holds a pasted token"], doctor.out
        assert found[0]["severity"] == "warning" and "milepost connect crm --oauth -w acme" in found[0]["cure"], found

    def test_a_second_account_needs_oauth(self, crm) -> None:
        """PAT-04"""
        it = crm()
        token = {"credentials": {"private_token": "one"}}
        it.rest.post(f"{it.base}/crm", {**token, "account": "62515"})
        second = it.rest.request("POST", f"{it.base}/crm@two", {**token, "account": "62516"})
        document = problem(second, 409, "single_account")
        assert "OAuth" in document["detail"], document
        assert it.install("crm@two", account="62516").status == 201
        it.rest.post(f"{it.base}/crm@same", {**token, "account": "62515"})

    def test_features_that_the_token_may_not_use_are_named(self, crm) -> None:
        """PAT-05"""
        it = crm()
        made = it.rest.post(f"{it.base}/crm", {"credentials": {"private_token": "one"}, "lacks": "deals.write"})
        [warning] = [found for found in made["warnings"] if found["code"] == "scope_missing"]
        assert "deals.write (rules: moves deals on)" in warning["message"], warning
