# SPDX-License-Identifier: Apache-2.0
"""Thresholds, deals, fields, exclusions, plans and connecting, by the numbers of the requirements (B, D, E, F, H, J, K, L)."""

from __future__ import annotations

import threading
import time

import pytest

from harness import VENDOR_TOKEN, Daemon, Sandbox, Workspace, problem, rfc3339, wait_for

DEALS, NOTES = "/api/v2/deals", "/v1/notes"


def titles(sandbox: Sandbox, link: str) -> list[str]:
    return [deal["title"] for deal in sandbox.deals(f"Link {link} hit")]


def connect(workspace: Workspace, **settings) -> None:
    """Connects, and flags every deal of this workspace by its own links; other tests share the vendor account."""
    workspace.connect(**settings)


def slug(workspace: Workspace, name: str = "spring") -> str:
    """A link id nobody else uses."""
    return f"{name}-{workspace.name}"


class TestSchedule:
    def test_80_then_240_makes_exactly_the_deal_of_100(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-09, THR-07, CFG-10"""
        link = slug(workspace)
        connect(workspace)
        assert workspace.connection()["settings"]["thresholds"] == [100, 1000, 10_000]
        workspace.clicks(link, 80)
        assert workspace.tick()["crossings"] == 0
        workspace.clicks(link, 160)
        assert workspace.tick()["delivered"] == 1
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]
        assert workspace.explained(link, 1000)["outcome"] == "not_reached"
        assert workspace.link(link)["highest_threshold"] == {"pipedrive": 100}  # THR-08

    def test_80_then_1200_makes_two_deals(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-10"""
        link = slug(workspace)
        connect(workspace)
        workspace.clicks(link, 80)
        workspace.tick()
        workspace.clicks(link, 1120)
        assert workspace.tick()["delivered"] == 2
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks", f"Link {link} hit 1000 clicks"]

    def test_0_to_10000_makes_three_deals_lowest_first(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-10"""
        link = slug(workspace)
        connect(workspace)
        workspace.clicks(link, 10_000)
        assert workspace.tick()["delivered"] == 3
        assert titles(sandbox, link) == [f"Link {link} hit {n} clicks" for n in (100, 1000, 10_000)]

    def test_crossing_is_inclusive(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-11: 99, 100, 101"""
        link = slug(workspace)
        connect(workspace)
        for count, expected in [(99, 0), (1, 1), (1, 1)]:
            workspace.clicks(link, count)
            workspace.tick()
            assert len(titles(sandbox, link)) == expected

    def test_a_total_that_does_not_rise_fires_nothing_again(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-12: what was reached stays reached, over erasure and more clicks."""
        link = slug(workspace)
        connect(workspace)
        workspace.clicks(link, 120, contact_id="jo")
        workspace.tick()
        workspace.rest.delete(f"{workspace.base}/contacts/jo")
        workspace.tick()
        workspace.clicks(link, 40)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]

    def test_a_vendor_that_always_answers_503_is_asked_three_times_a_tick(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-14, THR-16, decisions 3: three calls with growing gaps, then none until the next tick."""
        link = slug(workspace)
        connect(workspace, thresholds=[2])
        workspace.clicks(link, 2)
        sandbox.fault("status", status=503, times=0)
        mark = sandbox.mark()
        report = workspace.tick()
        assert (report["retrying"], report["delivered"]) == (1, 0), report
        calls = sandbox.requests("POST", DEALS, since=mark)
        assert [call["status"] for call in calls] == [503, 503, 503]
        assert workspace.deliveries()[0]["state"] == "retrying"
        time.sleep(0.5)  # Nothing may come by itself between two ticks; there is no event to wait for.
        assert len(sandbox.requests("POST", DEALS, since=mark)) == 3
        workspace.tick()
        assert len(sandbox.requests("POST", DEALS, since=mark)) == 6
        sandbox.clear_faults()
        assert workspace.tick()["delivered"] == 1
        assert titles(sandbox, link) == [f"Link {link} hit 2 clicks"]

    def test_a_missed_tick_is_caught_up_from_the_cursor(self, own) -> None:
        """THR-17: crossings while no tick ran are found after a restart, however old the clicks are."""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        lines = "\n".join(f'{{"id":"old-{n}","link":"spring","ts":"2026-01-01T00:00:00Z"}}' for n in range(2))
        daemon.rest.post(f"{workspace.base}/events", lines.encode(), headers={"Content-Type": "application/x-ndjson"})
        daemon.kill()
        daemon.start()
        workspace.drain()
        assert [deal["title"] for deal in daemon.sandbox.deals()] == ["Link spring hit 2 clicks"]

    def test_the_schedule_ticks_by_itself(self, own) -> None:
        """THR-01, THR-20: the first deal comes without anybody asking, within one interval."""
        daemon = own(schedule={"threshold_interval": "1s", "window": "2s"}).start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        workspace.clicks("spring", 2)
        wait_for("the scheduled tick makes the deal", lambda: daemon.sandbox.deals(), timeout=8)

    def test_a_first_connect_takes_the_totals_as_baseline(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-19: 5,000 before the connect fire nothing; 10,000 later does."""
        link = slug(workspace)
        workspace.put_link(link)
        workspace.clicks(link, 5000)
        connect(workspace)
        assert workspace.tick()["delivered"] == 0
        assert workspace.explained(link, 100)["reason_code"] == "baseline"
        workspace.clicks(link, 5000)
        assert workspace.tick()["delivered"] == 1
        assert titles(sandbox, link) == [f"Link {link} hit 10000 clicks"]

    def test_fire_current_fires_for_what_the_totals_have_reached(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-19, the setting"""
        link = slug(workspace)
        workspace.put_link(link)
        workspace.clicks(link, 150)
        connect(workspace, fire_current=True)
        assert workspace.tick()["delivered"] == 1
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]

    def test_a_rate_limited_answer_is_waited_for(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """RATE-06, RATE-07: 429 means not applied; the deal comes, once."""
        link = slug(workspace)
        connect(workspace, thresholds=[2])
        workspace.clicks(link, 2)
        sandbox.fault("status", status=429, headers={"x-ratelimit-reset": "1", "retry-after": "1"})
        workspace.drain()
        assert titles(sandbox, link) == [f"Link {link} hit 2 clicks"]


class TestDeadLetters:
    def test_caps_end_in_the_dead_letters_and_a_replay_delivers_once(self, own) -> None:
        """THR-15, EXT-06, EXT-07: attempt cap, list, search, export, single and bulk replay, none twice."""
        daemon = own(delivery={"max_attempts": 2, "in_tick_retries": 0}).start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        for number in range(4):
            workspace.clicks(f"spring{number}", 2)
        daemon.sandbox.fault("status", status=503, times=0)
        wait_for("all four are dead", lambda: workspace.tick() and len(workspace.deliveries(state="dead")) == 4)
        dead = workspace.deliveries(state="dead")
        assert all(delivery["attempts"] == 2 and "503" in delivery["reason"] or "gave" in delivery["reason"].lower() for delivery in dead), dead
        assert daemon.metrics()['milepost_dead_letters{integration="pipedrive",workspace="acme"}'] == 4
        calls = len(daemon.sandbox.requests("POST", DEALS))
        workspace.tick()
        assert len(daemon.sandbox.requests("POST", DEALS)) == calls, "a dead letter was sent without a replay"

        exported = daemon.rest.request("GET", f"{workspace.base}/deliveries/export?state=dead").expect(200)
        assert len(exported.decode().splitlines()) == 4
        daemon.sandbox.clear_faults()
        answer = daemon.rest.request("POST", f"{workspace.base}/deliveries/{dead[0]['id']}/replay")
        assert answer.status == 202, answer.body
        workspace.drain()
        problem(daemon.rest.request("POST", f"{workspace.base}/deliveries/{dead[0]['id']}/replay"), 409, "conflict")
        code = dead[1]["reason_code"]
        replayed = daemon.rest.post(
            f"{workspace.base}/deliveries/replay", {"state": "dead", "integration": "pipedrive", "code": code})
        assert replayed["replayed"] == 3
        workspace.drain()
        assert daemon.rest.post(f"{workspace.base}/deliveries/replay", {"state": "dead"})["replayed"] == 0
        assert sorted(deal["title"] for deal in daemon.sandbox.deals()) == [f"Link spring{n} hit 2 clicks" for n in range(4)]
        assert len(daemon.sandbox.notes()) == 4

    def test_a_body_the_vendor_refuses_goes_to_the_dead_letters_at_once(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """EXT-07: 400 is final; the reason is the vendor's own sentence."""
        link = slug(workspace)
        connect(workspace, thresholds=[2])
        workspace.clicks(link, 2)
        sandbox.fault("status", status=400, times=0, body={"success": False, "error": "Title is cursed", "code": "ERR_SCHEMA"})
        mark = sandbox.mark()
        assert workspace.tick()["dead"] == 1
        assert len(sandbox.requests("POST", DEALS, since=mark)) == 1
        dead = workspace.deliveries(state="dead")[0]
        assert "Title is cursed" in dead["reason"], dead
        assert workspace.explained(link, 2)["outcome"] == "dead"


class TestDeals:
    def test_the_deal_and_its_note_hold_what_the_seed_says(self, own) -> None:
        """DEAL-01 to DEAL-06, decisions 12"""
        daemon = own(public_url="https://go.example").start()
        workspace = daemon.workspace("acme")
        daemon.rest.put(f"{workspace.base}/links/lnk_1", {
            "slug": "spring", "destination": "https://acme.example/?utm_source=news&utm_medium=mail&utm_campaign=q2",
            "title": "Spring sale"})
        workspace.connect(thresholds=[2], stage_id=12, link_field="Link")
        workspace.clicks("lnk_1", 2)
        workspace.tick()
        [deal] = daemon.sandbox.deals()
        assert deal["title"] == "Link spring hit 2 clicks"
        assert (deal["pipeline_id"], deal["stage_id"]) == (1, 12)
        assert deal["custom_fields"][daemon.sandbox.field_key("Link")] == "lnk_1"
        [note] = daemon.sandbox.notes(deal["id"])
        for part in ("news", "mail", "q2", "spring", '<a href="https://go.example/'):
            assert part in note["content"], f"{part} is not in {note['content']}"
        delivery = workspace.deliveries()[0]
        assert (delivery["state"], delivery["remote_id"]) == ("delivered", str(deal["id"]))

    def test_missing_campaign_parts_are_left_out(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """DEAL-03: never "null" or "nil"."""
        link = slug(workspace)
        connect(workspace, thresholds=[2])
        workspace.clicks(link, 2, utm={"source": "news"})
        workspace.tick()
        [deal] = sandbox.deals(link)
        content = sandbox.notes(deal["id"])[0]["content"]
        assert "news" in content and not any(word in content.lower() for word in ("null", "nil", "none", "optional(")), content

    def test_the_most_frequent_campaign_of_the_clicks_labels_the_deal(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """decisions 12"""
        link = slug(workspace)
        connect(workspace, thresholds=[5])
        workspace.clicks(link, 2, utm={"source": "rare", "medium": "m", "campaign": "c"})
        workspace.clicks(link, 3, utm={"source": "frequent", "medium": "m", "campaign": "c"})
        workspace.tick()
        content = sandbox.notes(sandbox.deals(link)[0]["id"])[0]["content"]
        assert "frequent" in content and "rare" not in content, content

    def test_the_title_template_is_configurable(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """DEAL-02"""
        link = slug(workspace)
        connect(workspace, thresholds=[2], title_template="{slug} reached {threshold}!")
        workspace.clicks(link, 2)
        workspace.tick()
        assert [deal["title"] for deal in sandbox.deals(link)] == [f"{link} reached 2!"]

    def test_all_deals_of_a_link_are_found_by_its_field(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """DEAL-07"""
        link = slug(workspace)
        connect(workspace, thresholds=[2, 4], link_field="Link")
        workspace.clicks(link, 4)
        workspace.tick()
        key = sandbox.field_key("Link")
        found = [deal for deal in sandbox.deals() if deal["custom_fields"].get(key) == link]
        assert len(found) == 2

    def test_a_failure_between_deal_and_note_is_completed_without_a_second_deal(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """DEAL-08, invariant 5"""
        link = slug(workspace)
        connect(workspace, thresholds=[2])
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
        steps = {entry["step"]: entry["state"] for entry in workspace.delivery(workspace.deliveries()[0]["id"])["journal"]}
        assert (steps["deal"], steps["note"]) == ("done", "done"), steps

    @pytest.mark.parametrize("hostile", [
        '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "a\tb\u0007c", "&lt;b&gt;", "x" * 2000, "‮gnirps‬ 🎉",
    ])
    def test_markup_and_control_characters_cannot_break_the_note(self, workspace: Workspace, sandbox: Sandbox, hostile: str) -> None:
        """DEAL-10"""
        link = slug(workspace)
        workspace.put_link(link, slug=hostile, title=hostile)
        connect(workspace, thresholds=[2])
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
        calls = len(daemon.sandbox.requests("POST", DEALS))
        workspace.tick()
        assert len(daemon.sandbox.requests("POST", DEALS)) == calls
        workspace.patch(stage_id=12)
        wait_for("the new target is used", lambda: daemon.sandbox.deals())
        workspace.drain()
        assert [deal["stage_id"] for deal in daemon.sandbox.deals()] == [12]

    def test_no_deal_is_ever_changed_after_it_was_made(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """DEAL-12"""
        link = slug(workspace)
        connect(workspace, thresholds=[2, 3, 4])
        for _ in range(4):
            workspace.clicks(link, 1)
            workspace.tick()
        changes = [entry for entry in sandbox.requests() if entry["method"] in ("PUT", "PATCH", "DELETE")]
        assert changes == []


class TestThresholdLists:
    def test_a_custom_list_is_read_back_and_takes_effect_with_the_next_tick(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """CFG-01, CFG-02"""
        link = slug(workspace)
        connect(workspace)
        assert workspace.patch(thresholds=[50, 500, 5000, 50_000])["settings"]["thresholds"] == [50, 500, 5000, 50_000]
        assert workspace.connection()["settings"]["thresholds"] == [50, 500, 5000, 50_000]
        workspace.clicks(link, 50)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 50 clicks"]

    def test_a_change_never_fires_backwards(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """CFG-03, invariant 9"""
        link = slug(workspace)
        connect(workspace, thresholds=[1000])
        workspace.clicks(link, 600)
        workspace.tick()
        workspace.patch(thresholds=[500, 1000])
        workspace.tick()
        assert titles(sandbox, link) == []
        assert workspace.explained(link, 500)["outcome"] == "not_fired"
        workspace.patch(thresholds=[500, 700, 1000])
        workspace.clicks(link, 100)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 700 clicks"]

    def test_clicks_between_the_last_tick_and_the_change_do_not_fire_for_the_new_threshold(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """CFG-03 with the race: what lies behind at the moment of the change lies behind, ticked or not; an old threshold
        that was crossed before the change still fires."""
        link = slug(workspace)
        connect(workspace, thresholds=[100])
        workspace.clicks(link, 120)
        workspace.patch(thresholds=[50, 100])
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]

    def test_history_is_kept_across_list_changes(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """CFG-04"""
        link = slug(workspace)
        connect(workspace, thresholds=[100])
        workspace.clicks(link, 100)
        workspace.tick()
        workspace.patch(thresholds=[200])
        workspace.patch(thresholds=[100, 200])
        workspace.clicks(link, 10)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]

    @pytest.mark.parametrize(("thresholds", "pointer"), [
        ([0], "/thresholds/0"), ([-5], "/thresholds/0"), ([10, 10], "/thresholds/1"), ([1.5], "/thresholds/0"),
        ([], "/thresholds"), ("100", "/thresholds"), (["100"], "/thresholds/0"), (list(range(1, 34)), "/thresholds"),
        ([10**30], "/thresholds/0"),
    ])
    def test_a_bad_list_is_refused_with_the_field_and_the_reason(self, workspace: Workspace, thresholds, pointer: str) -> None:
        """CFG-05"""
        connect(workspace)
        answer = workspace.rest.request("PATCH", f"{workspace.base}/integrations/pipedrive", {"thresholds": thresholds})
        assert answer.status in (400, 422), answer.body
        if answer.status == 422:
            document = problem(answer, 422, "validation_failed")
            assert [error["pointer"] for error in document["errors"]] == [pointer]
        assert workspace.connection()["settings"]["thresholds"] == [100, 1000, 10_000]

    def test_a_list_is_sorted_when_saved(self, workspace: Workspace) -> None:
        """CFG-05"""
        connect(workspace)
        assert workspace.patch(thresholds=[500, 50, 5000])["settings"]["thresholds"] == [50, 500, 5000]


class TestFolders:
    def test_a_folder_fires_once_for_the_sum_and_names_its_top_three(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """CFG-06, CFG-07, CFG-08, DUP-07"""
        folder = f"folder-{workspace.name}"
        counts = {"a": 10, "b": 30, "c": 30, "d": 5, "e": 25}
        for name in counts:
            workspace.put_link(slug(workspace, name), folder=folder, slug=f"slug-{name}")
        connect(workspace, aggregation="folder")
        for name, count in counts.items():
            workspace.clicks(slug(workspace, name), count)
        workspace.tick()
        workspace.tick()
        [deal] = sandbox.deals(folder)
        assert "100" in deal["title"], deal["title"]
        content = sandbox.notes(deal["id"])[0]["content"]
        places = [content.find(f"slug-{name}") for name in ("b", "c", "e")]
        assert all(place >= 0 for place in places) and places == sorted(places), content
        assert "slug-a" not in content and "slug-d" not in content, content
        assert not [deal for deal in sandbox.deals(workspace.name) if folder not in deal["title"]]
        delivery = workspace.deliveries()[0]
        assert (delivery["link"], delivery["folder"]) == (None, folder)

    def test_a_link_without_folder_fires_nothing_and_says_so(self, workspace: Workspace, sandbox: Sandbox) -> None:
        link = slug(workspace)
        connect(workspace, aggregation="folder", thresholds=[2])
        workspace.clicks(link, 5)
        workspace.tick()
        assert sandbox.deals(link) == []
        assert workspace.explain(link)["explanations"][0]["reason_code"] == "no_folder"

    def test_moving_a_link_neither_fires_again_nor_loses_a_threshold(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """CFG-09"""
        one, two = f"one-{workspace.name}", f"two-{workspace.name}"
        link, other = slug(workspace, "a"), slug(workspace, "b")
        workspace.put_link(link, folder=one)
        workspace.put_link(other, folder=two)
        connect(workspace, aggregation="folder", thresholds=[100])
        workspace.clicks(link, 100)
        workspace.clicks(other, 20)
        workspace.tick()
        assert len(sandbox.deals(one)) == 1
        workspace.put_link(link, folder=two)
        workspace.tick()
        workspace.put_link(link, folder=one)
        workspace.tick()
        workspace.clicks(link, 5)
        workspace.tick()
        assert len(sandbox.deals(one)) == 1

    def test_switching_the_aggregation_keeps_both_histories(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """CFG-11"""
        link, folder = slug(workspace), f"folder-{workspace.name}"
        workspace.put_link(link, folder=folder)
        connect(workspace, thresholds=[100])
        workspace.clicks(link, 100)
        workspace.tick()
        workspace.patch(aggregation="folder")
        workspace.tick()
        assert len(sandbox.deals(workspace.name)) == 1, "the folder's past fired"
        workspace.patch(aggregation="link")
        workspace.clicks(link, 10)
        workspace.tick()
        workspace.patch(aggregation="folder")
        workspace.clicks(link, 10)
        workspace.tick()
        assert len(sandbox.deals(workspace.name)) == 1


class TestFields:
    def test_a_field_is_named_by_label_or_by_key(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """FLD-01"""
        key = sandbox.field_key("Link")
        connect(workspace, thresholds=[2], link_field="Link")
        workspace.clicks(slug(workspace, "label"), 2)
        workspace.tick()
        workspace.patch(link_field=key)
        workspace.clicks(slug(workspace, "key"), 2)
        workspace.tick()
        for name in ("label", "key"):
            [deal] = sandbox.deals(slug(workspace, name))
            assert deal["custom_fields"][key] == slug(workspace, name)

    def test_an_unknown_label_is_a_warning_and_the_deal_exists(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """FLD-02, OBS-06"""
        link = slug(workspace)
        connect(workspace, thresholds=[2], link_field="No such field")
        workspace.clicks(link, 2)
        assert workspace.tick()["delivered"] == 1
        assert len(sandbox.deals(link)) == 1
        [delivery] = workspace.deliveries()
        assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)
        told = str(delivery) + str(workspace.connection()["warnings"])
        assert "No such field" in told, told
        warned = [series for series in workspace.daemon.metrics() if series.startswith("milepost_warnings_total")]
        assert warned, "no metric counts the warning"

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

    @pytest.mark.parametrize(("name", "given", "expected"), [
        ("Deal Source", "Short link", None), ("Last click", "2026-11-21", "2026-11-21"), ("Clicks", "42", 42),
        ("Clicked URL", "https://x.example", "https://x.example"), ("Account lead", "1", 1),
    ])
    def test_field_types_are_converted(self, workspace: Workspace, sandbox: Sandbox, name: str, given: str, expected) -> None:
        """FLD-11"""
        link = slug(workspace)
        connect(workspace, thresholds=[2], fields={name: given})
        workspace.clicks(link, 2)
        workspace.tick()
        [deal] = sandbox.deals(link)
        field = next(field for field in sandbox.state()["fields"] if field["name"] == name)
        if field["options"]:
            expected = next(option["id"] for option in field["options"] if option["label"] == given)
        assert deal["custom_fields"][field["key"]] == expected, deal["custom_fields"]

    def test_a_value_that_does_not_fit_its_field_is_refused_with_a_reason(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """FLD-11: the deal is made without it and the warning names the field."""
        link = slug(workspace)
        connect(workspace, thresholds=[2], fields={"Last click": "not a date"})
        workspace.clicks(link, 2)
        assert workspace.tick()["delivered"] == 1
        assert len(sandbox.deals(link)) == 1
        assert "Last click" in str(workspace.deliveries()) + str(workspace.connection()["warnings"])


class TestExclusions:
    @pytest.mark.parametrize(("facts", "code"), [({"flags": ["test"]}, "excluded_test"), ({"flags": ["internal"]}, "excluded_internal")])
    def test_flagged_links_make_no_deals_and_say_why(self, workspace: Workspace, sandbox: Sandbox, facts: dict, code: str) -> None:
        """EXC-01, EXC-02, EXC-05, ING-13"""
        link = slug(workspace)
        workspace.put_link(link, **facts)
        connect(workspace, thresholds=[2])
        workspace.clicks(link, 2)
        workspace.tick()
        assert sandbox.deals(link) == []
        line = workspace.explained(link, 2)
        assert (line["outcome"], line["reason_code"]) == ("not_fired", code), line
        assert workspace.link(link)["totals"]["all"] == 2

    def test_an_opted_out_owner_keeps_the_link_out_and_back_in_only_from_then_on(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """EXC-03"""
        link = slug(workspace)
        workspace.put_link(link, owner="jo")
        workspace.rest.put(f"{workspace.base}/members/jo", {"crm_opt_out": True})
        connect(workspace, thresholds=[2, 4])
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
        connect(workspace, aggregation="folder", thresholds=[10])
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
        connect(workspace, thresholds=[2], count="people")
        workspace.clicks(link, 5, user_agent="curl/8.0")
        workspace.tick()
        assert workspace.link(link)["totals"] == {"all": 5, "people": 0}
        assert sandbox.deals(link) == []
        workspace.clicks(link, 2, user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120 Safari/537.36")
        workspace.tick()
        assert len(sandbox.deals(link)) == 1


class TestPlans:
    def test_a_free_workspace_may_connect_and_fires_nothing(self, own) -> None:
        """PLAN-03, PLAN-05, PLAN-06, PLAN-02"""
        daemon = own(plans={"free": {"fires": False}, "pro": {}, "trial": {"days": 14}}).start()
        workspace = daemon.workspace("acme")
        daemon.rest.put("/v1/workspaces/acme", {"plan": "free"})
        workspace.connect(thresholds=[2, 4])
        workspace.clicks("spring", 2)
        workspace.tick()
        assert daemon.sandbox.deals() == []
        assert workspace.explained("spring", 2)["reason_code"] == "plan_does_not_fire"
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


class TestConnecting:
    def test_the_token_is_proved_with_users_me_before_anything_is_stored(self, workspace: Workspace, sandbox: Sandbox) -> None:
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
            "POST", f"{workspace.base}/integrations/pipedrive",
            {"credentials": {"api_token": "not-a-good-token"}, "pipeline_id": 1, "stage_id": 11})
        document = problem(answer, 422, "credential_refused")
        assert "not-a-good-token" not in str(document)
        problem(workspace.rest.request("GET", f"{workspace.base}/integrations/pipedrive"), 404, "not_found")

    def test_a_dry_run_stores_nothing(self, workspace: Workspace) -> None:
        answer = workspace.rest.post(
            f"{workspace.base}/integrations/pipedrive?dry_run=true",
            {"credentials": {"api_token": VENDOR_TOKEN}, "pipeline_id": 1, "stage_id": 11})
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
        assert [(item["value"], item["label"]) for item in stages["items"]] == [(11, "New"), (12, "Contacted"), (13, "Qualified")]
        assert stages["suggested"] == 11
        workspace.connect()
        assert [item["value"] for item in daemon.rest.get(f"{url}/stages?pipeline_id=2")["items"]] == [21, 22]
        made = daemon.sandbox.rest.post("/_sandbox/pipelines", {"name": "Brand new"})
        assert made["id"] in [item["value"] for item in daemon.rest.get(f"{url}/pipelines")["items"]]  # PCON-10
        daemon.sandbox.rest.patch("/_sandbox/pipelines/1", {"name": "Outbound"})
        assert daemon.rest.get(f"{url}/pipelines").get("suggested") in (None, 1)
        labels = [item["label"] for item in daemon.rest.get(f"{url}/deal_fields")["items"]]
        assert "Link" in labels

    def test_a_reconnect_changes_the_target_and_keeps_the_history(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """PCON-13, REA-08"""
        link = slug(workspace)
        connect(workspace)
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
        connect(workspace, thresholds=[2, 4])
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

    @pytest.mark.parametrize(("body", "pointer"), [
        ({"credentials": {}, "pipeline_id": 1, "stage_id": 11}, "/credentials/api_token"),
        ({"credentials": {"api_token": VENDOR_TOKEN, "extra": "x"}, "pipeline_id": 1, "stage_id": 11}, "/credentials/extra"),
        ({"credentials": {"api_token": VENDOR_TOKEN}, "stage_id": 11}, "/pipeline_id"),
        ({"credentials": {"api_token": VENDOR_TOKEN}, "pipeline_id": 1, "stage_id": "eleven"}, "/stage_id"),
        ({"credentials": {"api_token": VENDOR_TOKEN}, "pipeline_id": 1, "stage_id": 11, "aggregation": "campaign"}, "/aggregation"),
        ({"credentials": {"api_token": VENDOR_TOKEN}, "pipeline_id": 1, "stage_id": 11, "colour": "red"}, "/colour"),
    ])
    def test_a_wrong_connect_names_the_field(self, workspace: Workspace, body: dict, pointer: str) -> None:
        answer = workspace.rest.request("POST", f"{workspace.base}/integrations/pipedrive", body)
        document = problem(answer, 422, "validation_failed")
        assert pointer in [error["pointer"] for error in document["errors"]], document
        problem(workspace.rest.request("GET", f"{workspace.base}/integrations/pipedrive"), 404, "not_found")

    def test_two_workspaces_on_one_account_are_warned_about(self, own) -> None:
        """decisions 6"""
        daemon = own().start()
        daemon.workspace("one").connect()
        connection = daemon.workspace("two").connect()
        assert "account_shared" in [warning["code"] for warning in connection["warnings"]]

    def test_v1_by_setting_makes_the_same_deal(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """Z-16"""
        link = slug(workspace)
        connect(workspace, thresholds=[2], api="v1", link_field="Link")
        mark = sandbox.mark()
        workspace.clicks(link, 2)
        workspace.tick()
        [deal] = sandbox.deals(link)
        assert deal["custom_fields"][sandbox.field_key("Link")] == link
        assert len(sandbox.notes(deal["id"])) == 1
        assert [entry for entry in sandbox.requests("POST", since=mark) if "/v2/" in entry["path"]] == []


class TestLimits:
    def test_the_vendors_burst_limit_is_never_run_into(self, own) -> None:
        """RATE-01, RATE-05, RATE-07: 40 deals with notes and pickers between, on the smallest plan, and no 429."""
        daemon = own(sandbox_options={"plan": "lite"}, plugins={"pipedrive": {"rate_plan": "lite"}}).start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        for number in range(40):
            workspace.clicks(f"spring{number}", 2)
        started = time.monotonic()
        workspace.drain(timeout=60)
        statuses = [entry["status"] for entry in daemon.sandbox.requests()]
        assert 429 not in statuses, f"{statuses.count(429)} of {len(statuses)} requests were refused"
        assert len(daemon.sandbox.deals()) == 40 and len(daemon.sandbox.notes()) == 40
        # 80 requests at 20 in two seconds: less than half of that rate would be a limiter that wastes the allowance.
        assert time.monotonic() - started < 16

    def test_a_spent_daily_budget_waits_and_loses_nothing(self, own) -> None:
        """Z-01, decisions 9: the connection says so, and deliveries wait without becoming dead letters."""
        daemon = own(sandbox_options={"plan": "lite"}, delivery={"max_attempts": 3}).start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        daemon.sandbox.rest.post("/_sandbox/rate-limit", {"daily_budget": 40})
        for number in range(6):
            workspace.clicks(f"spring{number}", 2)
        for _ in range(5):
            workspace.tick()
        connection = workspace.connection()
        assert connection["state"] == "daily_budget", connection
        assert workspace.deliveries(state="dead,dropped") == []
        done = len(workspace.deliveries(state="delivered"))
        assert 0 < done < 6 and len(daemon.sandbox.deals()) <= done + 1
        assert "daily_budget" in [entry["code"] for entry in daemon.rest.get("/v1/admin/status")["problems"]]


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
            "PATCH", f"{workspace.base}/integrations/pipedrive", {"credentials": {"api_token": "still-bad"}})
        problem(answer, 422, "credential_refused")
        assert workspace.connection()["state"] == "needs_reauth"

        # REA-03, REA-06: a good one is swapped in place, and what waited leaves at once, without a tick.
        daemon.sandbox.add_token("fresh-token")
        mark = daemon.sandbox.mark()
        workspace.patch(credentials={"api_token": "fresh-token"})
        wait_for("all that waited has left", lambda: len(daemon.sandbox.deals("spring")) == 30, timeout=60)
        assert all(entry["token_ok"] for entry in daemon.sandbox.requests(since=mark)), "the old token was used after the swap"
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
            "status", status=403, times=0,
            body={"success": False, "error": "You do not have permissions to do this", "error_info": ""})
        assert workspace.tick()["held"] == 1
        connection = workspace.connection()
        assert connection["state"] == "permission" and connection["reason"]["message"], connection
        assert workspace.deliveries()[0]["state"] not in ("dead", "dropped")
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
