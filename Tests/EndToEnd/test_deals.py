# SPDX-License-Identifier: Apache-2.0
"""What a deal and its note hold, which fields are filled, and which links stay out (F, J, K, L)."""

from __future__ import annotations

import pytest

from harness import DEALS, NOTES, Sandbox, Workspace, rfc3339, slug, titles, wait_for


class TestDeals:
    def test_the_deal_and_its_note_hold_what_the_seed_says(self, own) -> None:
        """DEAL-01 to DEAL-06, decisions 12"""
        daemon = own(analytics_url="https://go.example/{workspace}/{link}").start()
        workspace = daemon.workspace("acme")
        daemon.rest.put(
            f"{workspace.base}/links/lnk_1",
            {
                "slug": "spring",
                "destination": "https://acme.example/?utm_source=news&utm_medium=mail&utm_campaign=q2",
                "title": "Spring sale",
            },
        )
        workspace.connect(thresholds=[2], stage_id=12, link_field="Link")
        workspace.clicks("lnk_1", 2)
        workspace.tick()
        [deal] = daemon.sandbox.deals()
        assert deal["title"] == "Link spring hit 2 clicks"
        assert (deal["pipeline_id"], deal["stage_id"]) == (1, 12)
        assert deal["custom_fields"][daemon.sandbox.field_key("Link")] == "lnk_1"
        [note] = daemon.sandbox.notes(deal["id"])
        for part in ("news", "mail", "q2", "spring", '<a href="https://go.example/acme/lnk_1"'):
            assert part in note["content"], f"{part} is not in {note['content']}"
        delivery = workspace.deliveries()[0]
        assert (delivery["state"], delivery["remote_id"]) == ("delivered", str(deal["id"]))

    def test_missing_campaign_parts_are_left_out(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """DEAL-03: never "null" or "nil"."""
        link = slug(workspace)
        workspace.connect(thresholds=[2])
        workspace.clicks(link, 2, utm={"source": "news"})
        workspace.tick()
        [deal] = sandbox.deals(link)
        content = sandbox.notes(deal["id"])[0]["content"]
        assert "news" in content and not any(
            word in content.lower() for word in ("null", "nil", "none", "optional(")
        ), content

    def test_the_most_frequent_campaign_of_the_clicks_labels_the_deal(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """decisions 12"""
        link = slug(workspace)
        workspace.connect(thresholds=[5])
        workspace.clicks(link, 2, utm={"source": "rare", "medium": "m", "campaign": "c"})
        workspace.clicks(link, 3, utm={"source": "frequent", "medium": "m", "campaign": "c"})
        workspace.tick()
        content = sandbox.notes(sandbox.deals(link)[0]["id"])[0]["content"]
        assert "frequent" in content and "rare" not in content, content

    def test_the_title_template_is_configurable(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """DEAL-02"""
        link = slug(workspace)
        workspace.connect(thresholds=[2], title_template="{slug} reached {threshold}!")
        workspace.clicks(link, 2)
        workspace.tick()
        assert [deal["title"] for deal in sandbox.deals(link)] == [f"{link} reached 2!"]

    def test_all_deals_of_a_link_are_found_by_its_field(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """DEAL-07"""
        link = slug(workspace)
        workspace.connect(thresholds=[2, 4], link_field="Link")
        workspace.clicks(link, 4)
        workspace.tick()
        key = sandbox.field_key("Link")
        found = [deal for deal in sandbox.deals() if deal["custom_fields"].get(key) == link]
        assert len(found) == 2

    def test_a_failure_between_deal_and_note_is_completed_without_a_second_deal(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """DEAL-08, invariant 5"""
        link = slug(workspace)
        workspace.connect(thresholds=[2])
        workspace.clicks(link, 2)
        sandbox.fault("status", path=NOTES, status=503, times=0)
        assert workspace.tick()["retrying"] == 1
        [deal] = sandbox.deals(link)
        assert sandbox.notes(deal["id"]) == []
        mark = sandbox.mark()
        sandbox.clear_faults()
        assert workspace.tick()["delivered"] == 1
        assert sandbox.requests("POST", DEALS, since=mark) == []
        assert len(sandbox.notes(deal["id"])) == 1
        steps = {
            entry["step"]: entry["state"] for entry in workspace.delivery(workspace.deliveries()[0]["id"])["journal"]
        }
        assert (steps["deal"], steps["note"]) == ("done", "done"), steps

    @pytest.mark.parametrize(
        "hostile",
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "a\tb\u0007c",
            "&lt;b&gt;",
            "x" * 2000,
            "‮gnirps‬ 🎉",
        ],
    )
    def test_markup_and_control_characters_cannot_break_the_note(
        self, workspace: Workspace, sandbox: Sandbox, hostile: str
    ) -> None:
        """DEAL-10"""
        link = slug(workspace)
        workspace.put_link(link, slug=hostile, title=hostile)
        workspace.connect(thresholds=[2])
        workspace.clicks(link, 2, utm={"source": hostile[:250], "medium": hostile[:250], "campaign": hostile[:250]})
        mark = sandbox.mark()
        assert workspace.tick()["delivered"] == 1, workspace.deliveries()
        [note] = sandbox.requests("POST", NOTES, since=mark)
        content = note["body"]["content"]
        assert "<script" not in content and "<img" not in content, content
        assert not any(ord(letter) < 0x20 and letter not in "\n" for letter in content), repr(content)
        [deal] = sandbox.requests("POST", DEALS, since=mark)
        assert not any(ord(letter) < 0x20 for letter in deal["body"]["title"]), repr(deal["body"]["title"])
        assert len(deal["body"]["title"]) <= 255

    def test_a_stage_that_is_gone_stops_with_a_message_and_asks_for_a_target(self, own) -> None:
        """DEAL-11"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2], stage_id=13)
        daemon.sandbox.rest.delete("/_sandbox/stages/13")
        workspace.clicks("spring", 2)
        assert workspace.tick()["held"] == 1
        connection = workspace.connection()
        assert connection["state"] == "needs_target" and "13" in connection["reason"]["message"], connection
        assert [delivery["state"] for delivery in workspace.deliveries()] == ["held"]
        calls = len(daemon.sandbox.requests("POST", DEALS))
        assert workspace.tick()["held"] == 1
        assert len(daemon.sandbox.requests("POST", DEALS)) == calls
        workspace.patch(stage_id=12)
        wait_for("the new target is used", lambda: daemon.sandbox.deals())
        workspace.drain()
        assert [deal["stage_id"] for deal in daemon.sandbox.deals()] == [12]

    def test_no_deal_is_ever_changed_after_it_was_made(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """DEAL-12"""
        link = slug(workspace)
        workspace.connect(thresholds=[2, 3, 4])
        for _ in range(4):
            workspace.clicks(link, 1)
            workspace.tick()
        changes = [entry for entry in sandbox.requests() if entry["method"] in ("PUT", "PATCH", "DELETE")]
        assert changes == []


class TestFields:
    def test_a_field_is_named_by_label_or_by_key(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """FLD-01, FLD-07 for deals"""
        key = sandbox.field_key("Link")
        workspace.connect(thresholds=[2], link_field="Link")
        workspace.clicks(slug(workspace, "label"), 2)
        workspace.tick()
        workspace.patch(link_field=key)
        workspace.clicks(slug(workspace, "key"), 2)
        workspace.tick()
        for name in ("label", "key"):
            [deal] = sandbox.deals(slug(workspace, name))
            assert deal["custom_fields"][key] == slug(workspace, name)

    def test_an_unknown_label_is_a_warning_and_the_deal_exists(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """FLD-02, FLD-09, OBS-06: the warning says to use the field's key"""
        link = slug(workspace)
        workspace.connect(thresholds=[2], link_field="No such field")
        workspace.clicks(link, 2)
        assert workspace.tick()["delivered"] == 1
        assert len(sandbox.deals(link)) == 1
        [delivery] = workspace.deliveries()
        assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)
        told = str(delivery) + str(workspace.connection()["warnings"])
        assert "No such field" in told and "40-character key" in told, told
        warned = [series for series in workspace.daemon.metrics() if series.startswith("milepost_warnings_total")]
        assert warned, "no metric counts the warning"

    def test_a_field_that_is_made_later_is_found_when_its_name_is_not_known(self, own) -> None:
        """FLD-04: definitions are cached, and read again on an unknown name"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2], link_field="Made later")
        workspace.clicks("before", 2)
        workspace.tick()
        made = daemon.sandbox.rest.post("/_sandbox/fields", {"name": "Made later", "field_type": "varchar"})
        workspace.clicks("after", 2)
        workspace.tick()
        values = {deal["title"].split()[1]: deal["custom_fields"].get(made["key"]) for deal in daemon.sandbox.deals()}
        assert values == {"before": None, "after": "after"}

    def test_a_rename_in_the_vendors_account_does_not_break_the_mapping(self, own) -> None:
        """FLD-08: the mapping keeps the key, over a restart that reads the definitions anew, and a notice says so"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        key = daemon.sandbox.field_key("Link")
        workspace.connect(thresholds=[2], link_field="Link", fields={"Clicks": "7"})
        assert workspace.connection()["settings"]["link_field"] == key
        daemon.sandbox.rest.patch(f"/_sandbox/fields/{key}", {"name": "Short link id"})
        daemon.restart()
        workspace.clicks("spring", 2)
        workspace.tick()
        [deal] = daemon.sandbox.deals()
        assert deal["custom_fields"][key] == "spring"
        assert deal["custom_fields"][daemon.sandbox.field_key("Clicks")] == 7
        [notice] = [entry for entry in workspace.connection()["warnings"] if entry["code"] == "field_renamed"]
        assert "Link is called Short link id" in notice["message"] and key in notice["message"], notice
        workspace.clicks("summer", 2)
        workspace.tick()
        daemon.restart()
        workspace.clicks("autumn", 2)
        workspace.tick()
        told = [entry["code"] for entry in workspace.connection()["warnings"]]
        assert told.count("field_renamed") == 1, "one rename is told once"
        workspace.rest.patch(f"{workspace.base}/integrations/pipedrive", {"link_field": "Short link id"})
        assert workspace.connection()["warnings"] == [], "settings that are checked again accept the name"
        labels = {item["value"]: item["label"] for item in workspace.rest.get(
            f"{workspace.base}/integrations/pipedrive/options/deal_fields")["items"]}
        assert labels[key] == "Short link id", "what a person sees follows the vendor"

    def test_two_fields_of_one_label_are_not_guessed_between(self, own) -> None:
        """FLD-10"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        daemon.sandbox.rest.post("/_sandbox/fields", {"name": "Link", "field_type": "varchar"})
        workspace.connect(thresholds=[2], link_field="Link")
        workspace.clicks("spring", 2)
        assert workspace.tick()["delivered"] == 1
        [deal] = daemon.sandbox.deals()
        assert not [value for value in deal["custom_fields"].values() if value == "spring"], deal["custom_fields"]
        told = str(workspace.deliveries()) + str(workspace.connection()["warnings"])
        assert "key" in told and "Link" in told, told

    @pytest.mark.parametrize(
        ("name", "given", "expected"),
        [
            ("Deal Source", "Short link", None),
            ("Last click", "2026-11-21", "2026-11-21"),
            ("Clicks", "42", 42),
            ("Clicked URL", "https://x.example", "https://x.example"),
            ("Account lead", "1", 1),
        ],
    )
    def test_field_types_are_converted(
        self, workspace: Workspace, sandbox: Sandbox, name: str, given: str, expected
    ) -> None:
        """FLD-05, FLD-11: the readable name and value reach the wire as the vendor's key and form"""
        link = slug(workspace)
        workspace.connect(thresholds=[2], fields={name: given})
        workspace.clicks(link, 2)
        workspace.tick()
        [deal] = sandbox.deals(link)
        field = next(field for field in sandbox.state()["fields"] if field["name"] == name)
        if field["options"]:
            expected = next(option["id"] for option in field["options"] if option["label"] == given)
        assert deal["custom_fields"][field["key"]] == expected, deal["custom_fields"]

    def test_a_value_that_does_not_fit_its_field_is_refused_with_a_reason(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """FLD-11: the deal is made without it and the warning names the field."""
        link = slug(workspace)
        workspace.connect(thresholds=[2], fields={"Last click": "not a date"})
        workspace.clicks(link, 2)
        assert workspace.tick()["delivered"] == 1
        assert len(sandbox.deals(link)) == 1
        assert "Last click" in str(workspace.deliveries()) + str(workspace.connection()["warnings"])


class TestExclusions:
    @pytest.mark.parametrize(
        ("facts", "code"), [({"flags": ["test"]}, "excluded_test"), ({"flags": ["internal"]}, "excluded_internal")]
    )
    def test_flagged_links_make_no_deals_and_say_why(
        self, workspace: Workspace, sandbox: Sandbox, facts: dict, code: str
    ) -> None:
        """EXC-01, EXC-02, EXC-05, ING-13"""
        link = slug(workspace)
        workspace.put_link(link, **facts)
        workspace.connect(thresholds=[2])
        workspace.clicks(link, 2)
        workspace.tick()
        assert sandbox.deals(link) == []
        line = workspace.explained(link, 2)
        assert (line["outcome"], line["reason_code"]) == ("not_fired", code), line
        assert workspace.link(link)["totals"]["all"] == 2

    def test_an_opted_out_owner_keeps_the_link_out_and_back_in_only_from_then_on(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """EXC-03"""
        link = slug(workspace)
        workspace.put_link(link, owner="jo")
        workspace.rest.put(f"{workspace.base}/members/jo", {"crm_opt_out": True})
        workspace.connect(thresholds=[2, 4])
        workspace.clicks(link, 2)
        workspace.tick()
        assert sandbox.deals(link) == []
        assert workspace.explained(link, 2)["reason_code"] == "excluded_opt_out"
        workspace.rest.put(f"{workspace.base}/members/jo", {"crm_opt_out": False})
        workspace.clicks(link, 1)
        workspace.tick()
        assert sandbox.deals(link) == []
        workspace.clicks(link, 1)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 4 clicks"]

    def test_excluded_links_do_not_make_a_folder_fire(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """EXC-04: the exclusions hold under folder aggregation too."""
        folder = f"folder-{workspace.name}"
        excluded, counted = slug(workspace, "out"), slug(workspace, "in")
        workspace.put_link(excluded, folder=folder, flags=["test"])
        workspace.put_link(counted, folder=folder)
        workspace.connect(aggregation="folder", thresholds=[10])
        workspace.clicks(excluded, 20)
        workspace.clicks(counted, 5)
        workspace.tick()
        assert sandbox.deals(folder) == []
        workspace.clicks(counted, 5)
        workspace.tick()
        [deal] = sandbox.deals(folder)
        assert excluded not in sandbox.notes(deal["id"])[0]["content"]

    def test_robots_count_apart_and_only_where_all_clicks_count(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """EXC-06, decisions 13"""
        link = slug(workspace)
        workspace.connect(thresholds=[2], count="people")
        workspace.clicks(link, 5, user_agent="curl/8.0")
        workspace.tick()
        assert workspace.link(link)["totals"] == {"all": 5, "people": 0}
        assert sandbox.deals(link) == []
        workspace.clicks(
            link, 2, user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120 Safari/537.36"
        )
        workspace.tick()
        assert len(sandbox.deals(link)) == 1


class TestPlans:
    def test_a_free_workspace_may_connect_and_fires_nothing(self, own) -> None:
        """PLAN-03, PLAN-05, PLAN-06, PLAN-02"""
        daemon = own(plans={"free": {"fires": False}, "pro": {}, "trial": {"trial_days": 14}}).start()
        workspace = daemon.workspace("acme")
        daemon.rest.put("/v1/workspaces/acme", {"plan": "free"})
        workspace.connect(thresholds=[2, 4])
        workspace.clicks("spring", 2)
        workspace.tick()
        assert daemon.sandbox.deals() == []
        assert workspace.explained("spring", 2)["reason_code"] == "plan_does_not_fire"
        connection = workspace.connection()
        assert (connection["state"], connection["reason"]["code"]) == ("plan", "plan_does_not_fire")
        assert "workspaces set acme --plan" in daemon.cli("status", check=False).out
        daemon.rest.put("/v1/workspaces/acme", {"plan": "pro"})
        workspace.clicks("spring", 1)
        workspace.tick()
        assert daemon.sandbox.deals() == [], "an upgrade fired for what was passed while free"
        workspace.clicks("spring", 1)
        workspace.tick()
        assert [deal["title"] for deal in daemon.sandbox.deals()] == ["Link spring hit 4 clicks"]

        for days, expected in ((13, 1), (15, 0)):
            trial = daemon.workspace(f"trial{days}")
            daemon.rest.put(f"/v1/workspaces/{trial.name}", {"plan": "trial", "trial_started_at": rfc3339(days=days)})
            trial.connect(thresholds=[2])
            trial.clicks(f"trial{days}", 2)
            trial.tick()
            assert len(daemon.sandbox.deals(f"trial{days}")) == expected
