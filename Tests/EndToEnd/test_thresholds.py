# SPDX-License-Identifier: Apache-2.0
"""When a threshold fires, and when it does not: schedule, lists, folders, dead letters, limits (E, H, U)."""

from __future__ import annotations

import time

import pytest

from harness import DEALS, Sandbox, Workspace, problem, rfc3339, slug, titles, wait_for


class TestSchedule:
    def test_80_then_240_makes_exactly_the_deal_of_100(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-09, THR-07, CFG-10"""
        link = slug(workspace)
        workspace.connect()
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
        workspace.connect()
        workspace.clicks(link, 80)
        workspace.tick()
        workspace.clicks(link, 1120)
        assert workspace.tick()["delivered"] == 2
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks", f"Link {link} hit 1000 clicks"]

    def test_0_to_10000_makes_three_deals_lowest_first(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-10, THR-13: one call to the vendor for each crossing, and no other"""
        link = slug(workspace)
        workspace.connect()
        workspace.clicks(link, 10_000)
        mark = sandbox.mark()
        assert workspace.tick()["delivered"] == 3
        assert len(sandbox.requests("POST", DEALS, since=mark)) == 3
        assert titles(sandbox, link) == [f"Link {link} hit {n} clicks" for n in (100, 1000, 10_000)]

    def test_crossing_is_inclusive(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-11: 99, 100, 101"""
        link = slug(workspace)
        workspace.connect()
        for count, expected in [(99, 0), (1, 1), (1, 1)]:
            workspace.clicks(link, count)
            workspace.tick()
            assert len(titles(sandbox, link)) == expected

    def test_a_total_that_does_not_rise_fires_nothing_again(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-12: what was reached stays reached, over erasure and more clicks."""
        link = slug(workspace)
        workspace.connect()
        workspace.clicks(link, 120, contact_id="jo")
        workspace.tick()
        workspace.rest.delete(f"{workspace.base}/contacts/jo")
        workspace.tick()
        workspace.clicks(link, 40)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]

    def test_a_vendor_that_always_answers_503_is_asked_three_times_a_tick(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """THR-14, THR-16, decisions 3: three calls with growing gaps, then none until the next tick."""
        link = slug(workspace)
        workspace.connect(thresholds=[2])
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

    def test_what_the_seeds_window_would_see_is_seen_by_the_next_tick_once(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """THR-03, Z-03: the cursor replaces the window of seven minutes (docs/decisions/0008)."""
        workspace.connect(thresholds=[2])
        ages = {"new": 1, "mid": 200, "late": 6 * 60 + 59, "older": 3600}
        for name, seconds in ages.items():
            workspace.clicks(slug(workspace, name), 2, ts=rfc3339(seconds=seconds))
        report = workspace.tick()
        assert (report["crossings"], report["delivered"]) == (4, 4), report
        again = workspace.tick()
        assert (again["links_examined"], again["crossings"]) == (0, 0), again
        assert all(len(titles(sandbox, slug(workspace, name))) == 1 for name in ages)

    def test_a_workspace_whose_vendor_fails_does_not_stop_the_others(self, own) -> None:
        """THR-02: one tick over three workspaces; the one in the middle gets nothing but errors"""
        daemon = own().start()
        for name in ("a", "b", "c"):
            daemon.workspace(name).connect(thresholds=[2])
            daemon.workspace(name).clicks(f"spring-{name}", 2)
        daemon.sandbox.fault("status", status=400, times=0, body_contains="spring-b")
        report = daemon.tick()
        assert report["workspaces"] == 3 and report["delivered"] == 2, report
        assert [len(daemon.sandbox.deals(f"spring-{name}")) for name in ("a", "b", "c")] == [1, 0, 1]
        daemon.sandbox.clear_faults()

    def test_two_connections_take_the_same_clicks_each_at_its_own_pace(self, own) -> None:
        """ING-04, ING-06: one waits for its token, the other keeps up; then it goes on where it stopped"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        daemon.sandbox.add_token("second-token")
        workspace.connect(thresholds=[2])
        workspace.rest.post(
            f"{workspace.base}/integrations/pipedrive@second",
            {"credentials": {"api_token": "second-token"}, "pipeline_id": 1, "stage_id": 12, "thresholds": [2]},
        )
        workspace.clicks("one", 2)
        workspace.tick()
        daemon.sandbox.revoke("second-token")
        workspace.clicks("two", 2)
        workspace.tick()
        workspace.clicks("three", 2)
        workspace.tick()

        def made(stage: int) -> list[str]:
            return sorted(deal["title"].split()[1] for deal in daemon.sandbox.deals() if deal["stage_id"] == stage)

        assert (made(11), made(12)) == (["one", "three", "two"], ["one"]), daemon.sandbox.deals()
        daemon.sandbox.restore("second-token")
        workspace.rest.patch(
            f"{workspace.base}/integrations/pipedrive@second", {"credentials": {"api_token": "second-token"}}
        )
        workspace.drain()
        assert made(11) == made(12) == ["one", "three", "two"]

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
        daemon = own(schedule={"threshold_interval": "1s"}).start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        workspace.clicks("spring", 2)
        wait_for("the scheduled tick makes the deal", lambda: daemon.sandbox.deals(), timeout=8)

    def test_a_first_connect_takes_the_totals_as_baseline(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """THR-19: 5,000 before the connect fire nothing; 10,000 later does."""
        link = slug(workspace)
        workspace.put_link(link)
        workspace.clicks(link, 5000)
        workspace.connect()
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
        workspace.connect(fire_current=True)
        assert workspace.tick()["delivered"] == 1
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]

    def test_a_rate_limited_answer_is_waited_for(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """RATE-06, RATE-07: 429 means not applied; the deal comes, once."""
        link = slug(workspace)
        workspace.connect(thresholds=[2])
        workspace.clicks(link, 2)
        sandbox.fault("status", status=429, headers={"x-ratelimit-reset": "1", "retry-after": "1"})
        workspace.drain()
        assert titles(sandbox, link) == [f"Link {link} hit 2 clicks"]


class TestThresholdLists:
    def test_a_custom_list_is_read_back_and_takes_effect_with_the_next_tick(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """CFG-01, CFG-02"""
        link = slug(workspace)
        workspace.connect()
        assert workspace.patch(thresholds=[50, 500, 5000, 50_000])["settings"]["thresholds"] == [50, 500, 5000, 50_000]
        assert workspace.connection()["settings"]["thresholds"] == [50, 500, 5000, 50_000]
        workspace.clicks(link, 50)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 50 clicks"]

    def test_a_change_never_fires_backwards(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """CFG-03, invariant 9"""
        link = slug(workspace)
        workspace.connect(thresholds=[1000])
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
        """CFG-03 with the race: what lies behind at the moment of the change lies behind, ticked or not; an old one
        that was crossed before the change still fires."""
        link = slug(workspace)
        workspace.connect(thresholds=[100])
        workspace.clicks(link, 120)
        workspace.patch(thresholds=[50, 100])
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]

    def test_history_is_kept_across_list_changes(self, workspace: Workspace, sandbox: Sandbox) -> None:
        """CFG-04"""
        link = slug(workspace)
        workspace.connect(thresholds=[100])
        workspace.clicks(link, 100)
        workspace.tick()
        workspace.patch(thresholds=[200])
        workspace.patch(thresholds=[100, 200])
        workspace.clicks(link, 10)
        workspace.tick()
        assert titles(sandbox, link) == [f"Link {link} hit 100 clicks"]

    @pytest.mark.parametrize(
        ("thresholds", "pointer"),
        [
            ([0], "/thresholds/0"),
            ([-5], "/thresholds/0"),
            ([10, 10], "/thresholds/1"),
            ([1.5], "/thresholds/0"),
            ([], "/thresholds"),
            ("100", "/thresholds"),
            (["100"], "/thresholds/0"),
            (list(range(1, 34)), "/thresholds"),
            ([10**30], "/thresholds/0"),
        ],
    )
    def test_a_bad_list_is_refused_with_the_field_and_the_reason(
        self, workspace: Workspace, thresholds, pointer: str
    ) -> None:
        """CFG-05"""
        workspace.connect()
        answer = workspace.rest.request("PATCH", f"{workspace.base}/integrations/pipedrive", {"thresholds": thresholds})
        assert answer.status in (400, 422), answer.body
        if answer.status == 422:
            document = problem(answer, 422, "validation_failed")
            assert [error["pointer"] for error in document["errors"]] == [pointer]
        assert workspace.connection()["settings"]["thresholds"] == [100, 1000, 10_000]

    def test_null_goes_back_to_the_default(self, workspace: Workspace) -> None:
        """CFG-01, CFG-10"""
        workspace.connect(thresholds=[7], aggregation="folder", count="people", link_field="Link")
        settings = workspace.patch(thresholds=None, aggregation=None, count=None, link_field=None)["settings"]
        assert (settings["thresholds"], settings["aggregation"], settings["count"]) == ([100, 1000, 10_000], "link", "all")
        assert "link_field" not in settings, settings

    def test_a_list_is_sorted_when_saved(self, workspace: Workspace) -> None:
        """CFG-05"""
        workspace.connect()
        assert workspace.patch(thresholds=[500, 50, 5000])["settings"]["thresholds"] == [50, 500, 5000]


class TestFolders:
    def test_a_folder_fires_once_for_the_sum_and_names_its_top_three(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """CFG-06, CFG-07, CFG-08, DUP-07"""
        folder = f"folder-{workspace.name}"
        counts = {"a": 10, "b": 30, "c": 30, "d": 5, "e": 25}
        for name in counts:
            workspace.put_link(slug(workspace, name), folder=folder, slug=f"slug-{name}")
        workspace.connect(aggregation="folder")
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
        workspace.connect(aggregation="folder", thresholds=[2])
        workspace.clicks(link, 5)
        workspace.tick()
        assert sandbox.deals(link) == []
        assert workspace.explain(link)["explanations"][0]["reason_code"] == "no_folder"

    def test_moving_a_link_neither_fires_again_nor_loses_a_threshold(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """CFG-09"""
        one, two = f"one-{workspace.name}", f"two-{workspace.name}"
        link, other = slug(workspace, "a"), slug(workspace, "b")
        workspace.put_link(link, folder=one)
        workspace.put_link(other, folder=two)
        workspace.connect(aggregation="folder", thresholds=[100])
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
        workspace.connect(thresholds=[100])
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
        assert all(
            delivery["attempts"] == 2 and "503" in delivery["reason"] or "gave" in delivery["reason"].lower()
            for delivery in dead
        ), dead
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
            f"{workspace.base}/deliveries/replay", {"state": "dead", "integration": "pipedrive", "code": code}
        )
        assert replayed["replayed"] == 3
        workspace.drain()
        assert daemon.rest.post(f"{workspace.base}/deliveries/replay", {"state": "dead"})["replayed"] == 0
        assert sorted(deal["title"] for deal in daemon.sandbox.deals()) == [
            f"Link spring{n} hit 2 clicks" for n in range(4)
        ]
        assert len(daemon.sandbox.notes()) == 4

    def test_a_body_the_vendor_refuses_goes_to_the_dead_letters_at_once(
        self, workspace: Workspace, sandbox: Sandbox
    ) -> None:
        """EXT-07: 400 is final; the reason is the vendor's own sentence."""
        link = slug(workspace)
        workspace.connect(thresholds=[2])
        workspace.clicks(link, 2)
        sandbox.fault(
            "status", status=400, times=0, body={"success": False, "error": "Title is cursed", "code": "ERR_SCHEMA"}
        )
        mark = sandbox.mark()
        assert workspace.tick()["dead"] == 1
        assert len(sandbox.requests("POST", DEALS, since=mark)) == 1
        dead = workspace.deliveries(state="dead")[0]
        assert "Title is cursed" in dead["reason"], dead
        assert workspace.explained(link, 2)["outcome"] == "dead"


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
        assert 0 < done < 6, workspace.deliveries()
        assert "daily_budget" in [entry["code"] for entry in daemon.rest.get("/v1/admin/status")["problems"]]
