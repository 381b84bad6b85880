# SPDX-License-Identifier: Apache-2.0
"""Connecting, reconnecting, and what happens when a credential stops working (B, D)."""

from __future__ import annotations

import threading
import time

import pytest

from harness import DEALS, VENDOR_TOKEN, Sandbox, Workspace, problem, rfc3339, slug, titles, wait_for


class TestConnecting:
    def test_the_token_is_proved_with_users_me_before_anything_is_stored(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """PCON-04, PCON-05, PCON-15"""
        mark = sandbox.mark()
        connection = workspace.connect()
        first = sandbox.requests(since=mark)[0]
        assert (first["method"], first["path"]) in (("GET", "/api/v1/users/me"), ("GET", "/v1/users/me")), first
        assert connection["account"]["label"] == "Sandbox Inc" and connection["account"]["id"] == "54235233"
        assert connection["maturity"] == "beta" and connection["state"] == "active"

    def test_a_refused_token_stores_nothing(self, workspace: Workspace) -> None:
        """PCON-06"""
        answer = workspace.rest.request(
            "POST",
            f"{workspace.base}/integrations/pipedrive",
            {"credentials": {"api_token": "not-a-good-token"}, "pipeline_id": 1, "stage_id": 11},
        )
        document = problem(answer, 422, "credential_refused")
        assert "not-a-good-token" not in str(document)
        problem(workspace.rest.request("GET", f"{workspace.base}/integrations/pipedrive"), 404, "not_found")

    def test_a_dry_run_stores_nothing(self, workspace: Workspace) -> None:
        answer = workspace.rest.post(
            f"{workspace.base}/integrations/pipedrive?dry_run=true",
            {"credentials": {"api_token": VENDOR_TOKEN}, "pipeline_id": 1, "stage_id": 11},
        )
        assert answer["account"]["label"] == "Sandbox Inc"
        problem(workspace.rest.request("GET", f"{workspace.base}/integrations/pipedrive"), 404, "not_found")

    def test_pickers_show_live_names_in_the_vendors_order_and_suggest_inbound(self, own) -> None:
        """PCON-07 to PCON-11, before and after a connection exists"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        url = f"{workspace.base}/integrations/pipedrive/options"
        trial = {"credentials": {"api_token": VENDOR_TOKEN}}
        pipelines = daemon.rest.post(f"{url}/pipelines", trial)
        assert [item["label"] for item in pipelines["items"]] == ["Inbound", "Renewals"]
        assert pipelines["suggested"] == 1
        stages = daemon.rest.post(f"{url}/stages", {**trial, "values": {"pipeline_id": 1}})
        assert [(item["value"], item["label"]) for item in stages["items"]] == [
            (11, "New"),
            (12, "Contacted"),
            (13, "Qualified"),
        ]
        assert stages["suggested"] == 11
        workspace.connect()
        assert [item["value"] for item in daemon.rest.get(f"{url}/stages?pipeline_id=2")["items"]] == [21, 22]
        made = daemon.sandbox.rest.post("/_sandbox/pipelines", {"name": "Brand new"})
        assert made["id"] in [item["value"] for item in daemon.rest.get(f"{url}/pipelines")["items"]]  # PCON-10
        daemon.sandbox.rest.patch("/_sandbox/pipelines/1", {"name": "Outbound"})
        assert daemon.rest.get(f"{url}/pipelines").get("suggested") in (None, 1)
        labels = [item["label"] for item in daemon.rest.get(f"{url}/deal_fields")["items"]]
        assert "Link" in labels

    @pytest.mark.parametrize("api", ["v2", "v1"])
    def test_a_list_longer_than_a_page_is_read_whole_and_each_item_once(self, own, api: str) -> None:
        """RATE-08, RATE-09: pages of 500 at most, by cursor or by offset until the vendor says that there are no more"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        for number in range(1203):
            daemon.sandbox.rest.post("/_sandbox/fields", {"name": f"Field {number}", "field_type": "varchar"})
        mark = daemon.sandbox.mark()
        items = daemon.rest.post(
            f"{workspace.base}/integrations/pipedrive/options/deal_fields",
            {"credentials": {"api_token": VENDOR_TOKEN}, "api": api},
        )["items"]
        made = [item["label"] for item in items if item["label"].startswith("Field ")]
        assert len(made) == len(set(made)) == 1203
        pages = daemon.sandbox.requests("GET", ".*/dealFields", since=mark)
        assert len(pages) >= 3 and all(int(page["query"]["limit"]) <= 500 for page in pages), pages

    def test_a_reconnect_changes_the_target_and_keeps_the_history(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """PCON-13, REA-08"""
        link = slug(workspace)
        workspace.connect()
        workspace.clicks(link, 100)
        workspace.tick()
        workspace.connect(stage_id=12)
        workspace.tick()
        workspace.clicks(link, 5)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]
        assert workspace.connection()["settings"]["stage_id"] == 12

    def test_what_is_crossed_while_disconnected_does_not_fire(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """decisions 11"""
        link = slug(workspace)
        workspace.connect(thresholds=[2, 4])
        workspace.rest.delete(f"{workspace.base}/integrations/pipedrive")
        assert workspace.connection()["state"] == "disconnected"
        workspace.clicks(link, 2)
        workspace.tick()
        workspace.connect()
        workspace.tick()
        assert sandbox.deals(link) == []
        line = workspace.explained(link, 2)
        assert (line["outcome"], line["reason_code"]) == ("not_fired", "crossed_while_disconnected"), line
        workspace.clicks(link, 2)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 4 clicks"]

    def test_token_and_target_are_saved_together_or_not_at_all(self, own) -> None:
        """PCON-12: killed at any moment of a connect, both or neither are there."""
        daemon = own().start()
        for delay in (0.0, 0.01, 0.03, 0.06, 0.1, 0.2):
            workspace = daemon.workspace(f"acme{int(delay * 1000)}")
            thread = threading.Thread(target=lambda: _quietly(workspace.connect))
            thread.start()
            time.sleep(delay)
            daemon.kill()
            thread.join(30)
            daemon.start()
            answer = daemon.rest.request("GET", f"{workspace.base}/integrations/pipedrive")
            if answer.status == 200:
                assert answer.json["settings"]["stage_id"] == 11, answer.body
                workspace.patch(thresholds=[2])
                workspace.clicks(f"link-{workspace.name}", 2)
                assert workspace.tick()["delivered"] == 1, "the target was stored without its token"
            else:
                problem(answer, 404, "not_found")

    def test_an_account_that_lacks_admin_access_is_warned_about(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """PCON-19"""
        sandbox.add_token("seller-token", admin=False)
        connection = workspace.connect(token="seller-token")
        assert any("admin" in warning["message"].lower() for warning in connection["warnings"]), connection["warnings"]

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"credentials": {}, "pipeline_id": 1, "stage_id": 11}, "/credentials/api_token"),
            (
                {"credentials": {"api_token": VENDOR_TOKEN, "extra": "x"}, "pipeline_id": 1, "stage_id": 11},
                "/credentials/extra",
            ),
            ({"credentials": {"api_token": VENDOR_TOKEN}, "stage_id": 11}, "/pipeline_id"),
            ({"credentials": {"api_token": VENDOR_TOKEN}, "pipeline_id": 1, "stage_id": "eleven"}, "/stage_id"),
            (
                {
                    "credentials": {"api_token": VENDOR_TOKEN},
                    "pipeline_id": 1,
                    "stage_id": 11,
                    "aggregation": "campaign",
                },
                "/aggregation",
            ),
            (
                {"credentials": {"api_token": VENDOR_TOKEN}, "pipeline_id": 1, "stage_id": 11, "colour": "red"},
                "/colour",
            ),
        ],
    )
    def test_a_wrong_connect_names_the_field(self, workspace: Workspace, body: dict, pointer: str) -> None:
        answer = workspace.rest.request("POST", f"{workspace.base}/integrations/pipedrive", body)
        document = problem(answer, 422, "validation_failed")
        assert pointer in [error["pointer"] for error in document["errors"]], document
        problem(workspace.rest.request("GET", f"{workspace.base}/integrations/pipedrive"), 404, "not_found")

    def test_an_unknown_setting_is_answered_with_every_setting_there_is(self, workspace: Workspace) -> None:
        """The plugin's own and the core's, so that a slip in either is seen."""
        workspace.connect()
        answer = workspace.rest.request("PATCH", f"{workspace.base}/integrations/pipedrive", {"treshold": [1]})
        [error] = problem(answer, 422, "validation_failed")["errors"]
        for name in ("pipeline_id", "link_field", "thresholds", "aggregation", "count", "fire_current"):
            assert name in error["message"], error

    def test_two_workspaces_on_one_account_are_warned_about(self, own) -> None:
        """decisions 6"""
        daemon = own().start()
        daemon.workspace("one").connect()
        connection = daemon.workspace("two").connect()
        assert "account_shared" in [warning["code"] for warning in connection["warnings"]]

    def test_v1_by_setting_makes_the_same_deal(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """Z-16"""
        link = slug(workspace)
        workspace.connect(thresholds=[2], api="v1", link_field="Link")
        mark = sandbox.mark()
        workspace.clicks(link, 2)
        workspace.tick()
        [deal] = sandbox.deals(link)
        assert deal["custom_fields"][sandbox.field_key("Link")] == link
        assert len(sandbox.notes(deal["id"])) == 1
        assert [entry for entry in sandbox.requests("POST", since=mark) if "/v2/" in entry["path"]] == []


class TestReauthorisation:
    def test_a_dead_token_waits_and_everything_leaves_after_the_swap(self, own) -> None:
        """REA-01 to REA-06, REA-08"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        workspace.clicks("before", 2)
        workspace.tick()
        daemon.sandbox.revoke()
        for number in range(30):
            workspace.clicks(f"spring{number}", 2)
        workspace.tick()
        connection = workspace.connection()
        assert connection["state"] == "needs_reauth" and connection["reason"]["message"], connection
        since = connection["state_since"]
        mark = daemon.sandbox.mark()
        workspace.tick()
        assert daemon.sandbox.requests("POST", since=mark) == [], "a dead token was used again"
        assert workspace.connection()["state_since"] == since, "the state changed more than once"
        assert workspace.deliveries(state="dead,dropped") == []
        # REA-02: status, doctor's text and a metric show it.
        assert "needs_reauth" in [entry["code"] for entry in daemon.rest.get("/v1/admin/status")["problems"]]
        series = 'milepost_connection_state{integration="pipedrive",state="needs_reauth",workspace="acme"}'
        assert daemon.metrics()[series] == 1

        # REA-04: a bad replacement leaves everything as it is.
        answer = daemon.rest.request(
            "PATCH", f"{workspace.base}/integrations/pipedrive", {"credentials": {"api_token": "still-bad"}}
        )
        problem(answer, 422, "credential_refused")
        assert workspace.connection()["state"] == "needs_reauth"

        # REA-03, REA-06: a good one is swapped in place, and what waited leaves at once, without a tick.
        daemon.sandbox.add_token("fresh-token")
        mark = daemon.sandbox.mark()
        workspace.patch(credentials={"api_token": "fresh-token"})
        wait_for("all that waited has left", lambda: len(daemon.sandbox.deals("spring")) == 30, timeout=60)
        assert all(entry["token_ok"] for entry in daemon.sandbox.requests(since=mark)), (
            "the old token was used after the swap"
        )
        workspace.drain()
        assert len(daemon.sandbox.deals("before")) == 1 and len(daemon.sandbox.deals()) == 31
        assert workspace.connection()["state"] == "active"

    def test_403_is_a_permission_problem_of_its_own(self, own) -> None:
        """REA-07"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        workspace.clicks("spring", 2)
        daemon.sandbox.fault(
            "status",
            status=403,
            times=0,
            body={"success": False, "error": "You do not have permissions to do this", "error_info": ""},
        )
        assert workspace.tick()["held"] == 1
        connection = workspace.connection()
        assert connection["state"] == "permission" and connection["reason"]["message"], connection
        [held] = workspace.deliveries(state="held")
        assert held["reason"] == connection["reason"]["message"] and connection["queue"]["held"] == 1, (held, connection)
        listed = daemon.cli("deliveries", "--state", "held", "-w", "acme", "--json").out
        assert held["id"] in listed, listed
        gauge = 'milepost_queue_depth{integration="pipedrive",state="held",workspace="acme"}'
        assert daemon.metrics()[gauge] == 1
        daemon.sandbox.clear_faults()
        workspace.patch(credentials={"api_token": VENDOR_TOKEN})
        wait_for("it leaves after the right was given", lambda: daemon.sandbox.deals())

    def test_the_page_of_the_vendors_cdn_is_no_permission_problem(self, own) -> None:
        """crm-apis.md 2: the CDN's HTML 403 means too many requests, not a missing right."""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        workspace.clicks("spring", 2)
        daemon.sandbox.fault("html_403")
        workspace.tick()
        assert workspace.connection()["state"] == "active"
        [delivery] = workspace.deliveries()
        assert delivery["state"] == "retrying" and delivery["next_attempt_at"] > rfc3339(minutes=-50), delivery
        calls = len(daemon.sandbox.requests("POST", DEALS))
        workspace.tick()
        assert len(daemon.sandbox.requests("POST", DEALS)) == calls, "the block would be renewed by us"


def _quietly(action) -> None:
    """Runs what a killed daemon may cut off."""
    try:
        action()
    except Exception:  # the daemon was killed under it, which is the test
        pass
