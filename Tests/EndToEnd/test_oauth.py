# SPDX-License-Identifier: Apache-2.0
"""OAuth 2.0 from the link to a refusal: connecting, reinstalling, refreshing, restores and copies (sections M, R)."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import urllib.parse

import pytest
from oauth_steps import TARGET, installed  # noqa: F401  the fixture
from oauth_vendor import Vendor

from harness import VENDOR_TOKEN, Daemon, Rest, problem, wait_for


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
        [row] = [
            row
            for row in it.rest.get("/v1/admin/audit")["entries"]
            if row["action"] == "integrations.authorize.complete"
        ]
        assert row["actor"] and code not in json.dumps(row), row

    def test_a_target_may_be_chosen_after_the_consent(self, installed) -> None:
        """The lists to choose from need the tokens, and a code is good once."""
        it = installed()
        it.set_app()
        made = it.install()
        assert made["state"] == "needs_target" and "pipeline" in made["reason"]["message"], made
        assert it.rest.get(f"{it.url}/options/pipelines")["items"]
        assert it.workspace.patch(**TARGET)["state"] == "active"

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


class TestTokens:
    def test_tokens_are_refreshed_in_time_and_shown_without_being_told(self, installed) -> None:
        """OBS-01, OBS-03, OAU-01, OAU-04"""
        it = installed(expires_in=2)
        it.connect(thresholds=[2])
        wait_for("three refreshes", lambda: it.tokens()["refreshes"] >= 3)
        tokens = it.tokens()
        assert tokens["token_version"] == tokens["refreshes"] + 1 and tokens["last_refresh_age"] == "just now", tokens
        metrics = it.daemon.metrics()
        assert metrics['pipedrive_refresh_attempts_total{result="ok"}'] >= 3
        assert metrics['milepost_refresh_attempts_total{plugin="pipedrive",result="ok"}'] >= 3
        assert "version" in it.daemon.cli("status").out
        it.vendor.fault((503, {"message": "down"}))
        wait_for(
            "an error is counted",
            lambda: it.daemon.metrics().get('pipedrive_refresh_attempts_total{result="error"}', 0) >= 1,
        )
        wait_for("it recovers by itself", lambda: it.tokens()["state"] == "ok")
        assert it.shown()["state"] == "active" and it.vendor.reused == []

    def test_a_token_that_ends_early_costs_one_refresh_and_one_repeat(self, installed) -> None:
        """OAU-16: under load, each crossing makes one deal."""
        it = installed()
        it.connect(thresholds=[1])
        for number in range(12):
            it.workspace.clicks(f"early{number}", 1)
        it.vendor.expire_access()
        it.workspace.tick()
        it.workspace.drain()
        assert len(it.vendor.refreshes) == 1, it.vendor.refreshes
        assert len(it.daemon.sandbox.deals("early")) == 12 and it.workspace.deliveries(state="dead,held") == []
        assert it.shown()["state"] == "active"

    @pytest.mark.parametrize("rotating", [True, False])
    @pytest.mark.parametrize("fault", ["drop_after", "cut", "rubbish", "drop_before"])
    def test_a_lost_answer_is_tried_once_more(self, installed, fault: str, rotating: bool) -> None:
        """OAU-15"""
        it = installed(rotating=rotating, expires_in=2)
        it.connect()
        it.vendor.fault(fault)
        wait_for("the fault struck", lambda: any(sent["fault"] == fault for sent in it.vendor.refreshes))
        struck = next(n for n, sent in enumerate(it.vendor.refreshes) if sent["fault"] == fault)
        wait_for("it is tried once more", lambda: len(it.vendor.refreshes) > struck + 1)
        if rotating and fault != "drop_before":
            wait_for("somebody is asked", lambda: it.shown()["state"] == "needs_reauth")
            assert it.tokens()["reason"]["code"] == "refresh_answer_lost", it.tokens()
            assert len(it.vendor.refreshes) == struck + 2
            assert it.install()["state"] == "active"
        else:
            wait_for("it goes on", lambda: it.tokens()["state"] == "ok")
            assert it.shown()["state"] == "active"
        assert it.vendor.reused == [] and it.vendor.overlaps == 0

    def test_a_switch_to_a_token_and_back_keeps_one_connection(self, installed) -> None:
        """Z-18: both ways stay open; a connection holds one of them."""
        it = installed()
        first = it.connect()
        static = it.workspace.connect()
        assert static["id"] == first["id"] and static["credential"] == "api_token" and static["oauth"] is None
        refused = it.rest.request("PATCH", it.url, {"credentials": {"api_token": VENDOR_TOKEN}})
        assert refused.status == 200
        again = it.install()
        assert again["id"] == first["id"] and again["credential"] == "oauth"
        other = it.rest.request("PATCH", it.url, {"credentials": {"api_token": VENDOR_TOKEN}})
        problem(other, 409, "conflict")

    def test_no_secret_of_oauth_stays_anywhere(self, installed) -> None:
        """SEC-06, SEC-07, SEC-08: client secret, code, access and refresh tokens in no file, answer, metric or log."""
        it = installed(expires_in=2, log={"level": "trace"})
        it.connect(thresholds=[1])
        wait_for("two refreshes", lambda: it.tokens()["refreshes"] >= 2)
        it.vendor.fault((500, {"echo": Vendor.SECRET}))
        it.vendor.fault("rubbish")
        it.workspace.clicks("spring", 1)
        it.workspace.tick()
        it.vendor.expire_access()
        it.vendor.uninstall()
        wait_for("the end", lambda: it.shown()["state"] == "needs_reauth")
        it.workspace.clicks("late", 1)
        it.workspace.tick()
        secrets = [Vendor.SECRET, *it.vendor.issued]
        assert len(secrets) > 4
        answers = [
            json.dumps(it.rest.get(path))
            for path in (
                "/v1/admin/status", "/v1/admin/apps", "/v1/admin/audit", "/v1/admin/plugins", it.url,
                f"{it.workspace.base}/deliveries",
            )
        ] + [json.dumps(it.workspace.delivery(found["id"])) for found in it.workspace.deliveries()]
        answers.append(it.rest.request("GET", "/metrics").text)
        backup = it.daemon.directory / "copy.db"
        it.daemon.cli("backup", str(backup))
        files = [path for path in it.daemon.directory.rglob("*") if path.is_file() and path.name != "sandbox.log"]
        assert any(path.name == "oauth-lineage.json" for path in files), files
        for secret in secrets:
            assert not any(secret in answer for answer in answers), "an answer holds a secret"
            assert [path for path in files if secret.encode() in path.read_bytes()] == []


class TestRestores:
    def test_a_restored_backup_sends_nothing_and_a_reinstall_resumes(self, installed) -> None:
        """OAU-07, OAU-11, OAU-12, EXT-18"""
        it = installed(expires_in=4)
        it.connect(thresholds=[1])
        backup = it.daemon.directory / "copy.db"
        it.daemon.cli("backup", str(backup))
        wait_for("the vendor rotated", lambda: it.tokens()["refreshes"] >= 2)
        it.daemon.stop()
        for part in it.daemon.data.glob("milepost.db*"):
            part.unlink()
        shutil.copy(backup, it.daemon.data / "milepost.db")
        sent = len(it.vendor.refreshes)
        it.daemon.start()
        shown = it.shown()
        assert shown["state"] == "needs_reauth" and shown["reason"]["code"] == "credentials_restored", shown
        assert "restored or copied credentials" in shown["reason"]["message"]
        it.workspace.clicks("spring", 1)
        it.workspace.tick()
        assert len(it.vendor.refreshes) == sent and it.vendor.reused == []
        problems = it.rest.get("/v1/admin/status")["problems"]
        assert any("Install it again" in found["cure"] for found in problems), problems
        it.install()
        wait_for("work resumes", lambda: len(it.daemon.sandbox.deals("spring")) == 1)

    def test_a_copied_directory_does_not_end_the_originals_access(self, installed) -> None:
        """OAU-08"""
        it = installed(expires_in=4)
        it.connect()
        it.daemon.stop()
        copy = it.daemon.directory.parent / "copy"
        shutil.copytree(it.daemon.directory, copy)
        twin = Daemon(copy)
        twin.settings = {**it.daemon.settings, "data_dir": str(twin.data)}
        twin.settings["kms"] = {"type": "file", "path": str(copy / "keys" / "kek")}
        twin.write_config()
        twin.token = it.daemon.token
        it.daemon.start()
        twin.start()
        try:
            shown = twin.rest.get(it.url)
            assert shown["state"] == "needs_reauth" and shown["reason"]["code"] == "credentials_copied", shown
            before = it.tokens()["refreshes"]
            wait_for("the original goes on", lambda: it.tokens()["refreshes"] >= before + 2)
            assert it.shown()["state"] == "active" and it.vendor.reused == []
        finally:
            twin.kill()

    def test_a_moved_directory_goes_on_when_somebody_answers_for_it(self, installed) -> None:
        it = installed(expires_in=4)
        it.connect()
        it.daemon.stop()
        moved = it.daemon.data.with_name("moved")
        shutil.copytree(it.daemon.data, moved)
        it.daemon.settings["data_dir"] = str(moved)
        it.daemon.write_config()
        it.daemon.start()
        assert it.shown()["state"] == "needs_reauth"
        assert it.daemon.cli("app", "adopt", "--json").json == {"adopted": 1}
        wait_for("it refreshes", lambda: it.tokens()["refreshes"] >= 1)
        assert it.shown()["state"] == "active"

    def test_an_edited_row_is_reported_as_such(self, installed) -> None:
        """OAU-09"""
        it = installed(expires_in=4)
        it.connect()
        it.daemon.stop()
        with sqlite3.connect(it.daemon.data / "milepost.db") as database:
            database.execute("UPDATE oauth_chains SET token_version = token_version + 5")
        database.close()
        sent = len(it.vendor.refreshes)
        it.daemon.start()
        wait_for("it is noticed", lambda: it.shown()["state"] == "needs_reauth")
        assert it.shown()["reason"]["code"] == "credentials_edited" and len(it.vendor.refreshes) == sent
        assert it.install()["state"] == "active"
