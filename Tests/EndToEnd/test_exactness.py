# SPDX-License-Identifier: Apache-2.0
"""The crash test: whatever dies and whenever, deals equal crossings (invariants 1, 3, 4, 5; DUP-05; decisions 1 to 4).

Seeded and repeatable: MILEPOST_SEED and MILEPOST_KILLS override the seed and the number of kills.
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import random
import threading
import time

import pytest

from harness import DEALS, FULL, ISOLATION, NOTES, Daemon, Rest, listed, rfc3339, unfinished, wait_for

KILLS = int(os.environ.get("MILEPOST_KILLS") or (200 if FULL else 20))
SEED = int(os.environ.get("MILEPOST_SEED") or 20261121)
CRASH_POINTS = [
    "after_claim",
    "before_intent",
    "after_intent",
    "before_outcome",
    "after_outcome",
    "before_journal",
    "after_journal",
    "before_settle",
    "after_settle",
]
THRESHOLDS = [3, 6, 12]
WORKSPACE = "acme"

FAULTS = [
    # (name, fault): `after` lets requests pass first, so that the cut hits a connection that was used before.
    ("none", None),
    ("deal dropped after commit on a fresh connection", dict(kind="drop_after_commit", path=DEALS, after=0)),
    ("deal dropped after commit on a reused connection", dict(kind="drop_after_commit", path=DEALS, after=2)),
    ("note dropped after commit", dict(kind="drop_after_commit", path=NOTES, after=1)),
    ("deal committed late", dict(kind="late_commit", path=DEALS, delay_ms=700)),
    ("note committed late", dict(kind="late_commit", path=NOTES, delay_ms=500)),
    ("deal dropped before commit", dict(kind="drop_before_commit", path=DEALS, after=1)),
    ("deal answered 500 though committed", dict(kind="status", path=DEALS, status=500, commit=True)),
    ("deal answered 500, nothing done", dict(kind="status", path=DEALS, status=500)),
    ("deal answered 503", dict(kind="status", path=DEALS, status=503, times=2)),
    ("note answered 503", dict(kind="status", path=NOTES, status=503, times=2)),
    ("deal answered with garbage", dict(kind="garbage", path=DEALS)),
    ("deal answered too late", dict(kind="delay", path=DEALS, delay_ms=1500)),
]


class Clicks:
    """What was sent and what was acknowledged."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.links: list[str] = []
        self.sent: dict[str, dict] = {}
        self.acknowledged: set[str] = set()

    def batch(self, size: int) -> list[dict]:
        """New clicks, most of them on few links, so that thresholds are crossed."""
        if len(self.links) < 4 or self.rng.random() < 0.5:
            self.links.append(f"link{len(self.links):03d}")
        made = []
        for _ in range(size):
            click = {
                "id": f"c{len(self.sent)}",
                "ts": rfc3339(seconds=5),
                "link": self.rng.choice(self.links[-4:] if self.rng.random() < 0.8 else self.links),
            }
            self.sent[click["id"]] = click
            made.append(click)
        return made

    def post(self, rest: Rest, clicks: list[dict]) -> bool:
        """Posts a batch; a cut connection leaves it unacknowledged."""
        body = "\n".join(map(json.dumps, clicks)).encode()
        try:
            answer = rest.request(
                "POST", f"/v1/workspaces/{WORKSPACE}/events", body, {"Content-Type": "application/x-ndjson"}, timeout=10
            )
        except (OSError, http.client.HTTPException):
            return False
        counts = answer.expect(200)
        assert counts["rejected"] == 0, counts
        self.acknowledged.update(click["id"] for click in clicks)
        return True

    def resend(self, rest: Rest) -> None:
        """What a client does after an outage: sends again whatever was not acknowledged."""
        lost = [click for identifier, click in self.sent.items() if identifier not in self.acknowledged]
        if lost:
            assert self.post(rest, lost)

    def totals(self) -> collections.Counter:
        return collections.Counter(click["link"] for click in self.sent.values())


def tick_until_dead(daemon: Daemon, stop: threading.Event) -> None:
    """Ticks as long as the daemon answers."""
    while not stop.is_set():
        try:
            answer = daemon.rest.request("POST", f"/v1/admin/tick?workspace={WORKSPACE}", timeout=30)
            assert answer.status in (200, 503), answer.body
        except (OSError, http.client.HTTPException):
            return


def one_kill(daemon: Daemon, clicks: Clicks, rng: random.Random, number: int) -> str:
    """One life of a daemon, from its start to its death; returns what happened for the log."""
    name, fault = FAULTS[number % len(FAULTS)] if number < len(FAULTS) else rng.choice(FAULTS)
    daemon.sandbox.clear_faults()
    if fault:
        daemon.sandbox.fault(**fault)
    daemon.env["MILEPOST_PLUGINS__PIPEDRIVE__ISOLATION"] = "inline" if rng.random() < 0.25 else ISOLATION
    # Each named place once for certain, then places and random moments in equal parts.
    point = (
        CRASH_POINTS[number] if number < len(CRASH_POINTS) else rng.choice([*CRASH_POINTS, *[None] * len(CRASH_POINTS)])
    )
    count = 1 if number < len(CRASH_POINTS) else rng.randint(1, 4)
    if point:
        daemon.arm(point, count)
    else:
        # Answers later than their commits, so that a random moment has something to fall between.
        for path in (DEALS, NOTES):
            daemon.sandbox.fault("delay", path=path, delay_ms=rng.randint(10, 80), times=0)
        daemon.start()

    clicks.resend(daemon.rest)
    clicks.post(daemon.rest, clicks.batch(rng.randint(10, 30)))
    stop = threading.Event()
    ticking = threading.Thread(target=tick_until_dead, args=(daemon, stop), daemon=True)
    ticking.start()
    # At a crash point the daemon kills itself; when it does not come there in this time, or has none, we do.
    deadline = time.monotonic() + (3.0 if point else rng.uniform(0.0, 0.4))
    while daemon.process.alive and time.monotonic() < deadline:
        clicks.post(daemon.rest, clicks.batch(rng.randint(1, 5)))
        time.sleep(rng.uniform(0.0, 0.05))
    died_alone = not daemon.process.alive
    stop.set()
    struck = daemon.sandbox.struck()
    daemon.kill()
    ticking.join(40)
    assert not ticking.is_alive(), "a tick outlived its daemon"
    place = f"{point}:{count}" if point else "random moment"
    killer = "by itself" if died_alone else "by us"
    mode = daemon.env["MILEPOST_PLUGINS__PIPEDRIVE__ISOLATION"]
    return f"kill {number}: {place} ({killer}), {name} ({struck} struck), {mode}"


def expected_deals(totals: collections.Counter) -> collections.Counter:
    return collections.Counter(
        f"Link {link} hit {threshold} clicks"
        for link, total in totals.items()
        for threshold in THRESHOLDS
        if total >= threshold
    )


@pytest.mark.timeout(120 + 12 * KILLS)
def test_deals_equal_crossings_after_every_kill(own, capsys) -> None:
    rng = random.Random(SEED)
    daemon = own(sandbox_options={"search_lag_ms": 1000})
    daemon.start()
    daemon.workspace(WORKSPACE).connect(thresholds=THRESHOLDS)
    daemon.stop()

    clicks = Clicks(rng)
    story = [one_kill(daemon, clicks, rng, number) for number in range(KILLS)]
    reached = {line.split(": ")[1].split(":")[0] for line in story if "(by itself)" in line}
    with capsys.disabled():
        print(f"\n  {KILLS} kills, seed {SEED}, {len(clicks.sent)} clicks, crash points that struck: {sorted(reached)}")

    daemon.sandbox.clear_faults()
    daemon.env.clear()
    daemon.start()
    recovered = {click["link"]: 0 for click in clicks.sent.values()}
    # Before anything is sent again: what was acknowledged is there (invariant 1).
    acknowledged = collections.Counter(clicks.sent[identifier]["link"] for identifier in clicks.acknowledged)
    for link in listed(daemon.rest, f"/v1/workspaces/{WORKSPACE}/links", "links"):
        recovered[link["id"]] = link["totals"]["all"]
    for link, count in acknowledged.items():
        assert recovered[link] >= count, f"{link}: {count} clicks were acknowledged, {recovered[link]} are there"
    clicks.resend(daemon.rest)
    daemon.drain(WORKSPACE, timeout=60)

    told = "\n".join(story)
    totals = clicks.totals()
    stored = {
        link["id"]: link["totals"]["all"] for link in listed(daemon.rest, f"/v1/workspaces/{WORKSPACE}/links", "links")
    }
    assert stored == dict(totals), f"seed {SEED}: totals differ from what was sent\n{told}"
    assert daemon.rest.get("/v1/admin/audit-totals")["mismatches"] == []

    dead = listed(daemon.rest, f"/v1/workspaces/{WORKSPACE}/deliveries?state=dead,dropped,held", "deliveries")
    assert dead == [], f"seed {SEED}: {[(d['link'], d['threshold'], d['reason']) for d in dead]}\n{told}"
    ledger = daemon.sandbox.ledger()
    deals = collections.Counter(deal["title"] for deal in ledger["deals"])
    expected = expected_deals(totals)
    assert deals == expected, f"seed {SEED}: lost {expected - deals}, doubled {deals - expected}\n{told}"
    notes = collections.Counter(note["deal_id"] for note in ledger["notes"])
    assert notes == collections.Counter(deal["id"] for deal in ledger["deals"]), f"seed {SEED}: notes {notes}\n{told}"
    # Every crash point must have been met, or the test proves less than it says.
    if 2 * len(CRASH_POINTS) <= KILLS:
        assert reached >= set(CRASH_POINTS), f"never reached: {set(CRASH_POINTS) - reached}\n{told}"


@pytest.mark.parametrize("isolation", ["worker", "inline"])
@pytest.mark.parametrize("path", [DEALS, NOTES])
@pytest.mark.parametrize("passed", [0, 3], ids=["fresh", "reused"])
def test_an_answer_lost_after_the_commit_makes_no_second_one(own, isolation: str, path: str, passed: int) -> None:
    """DEAL-09, decisions 1: on a fresh connection, and on one that was used before (which libcurl would send again)."""
    daemon = own(plugins={"pipedrive": {"isolation": isolation}}, sandbox_options={"search_lag_ms": 500}).start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2])
    for number in range(5):
        workspace.clicks(f"spring{number}", 2)
    daemon.sandbox.fault("drop_after_commit", path=path, after=passed)
    workspace.tick()
    assert daemon.sandbox.struck() == 1
    workspace.drain()
    titles = [deal["title"] for deal in daemon.sandbox.deals()]
    assert sorted(titles) == [f"Link spring{n} hit 2 clicks" for n in range(5)]
    assert sorted(note["deal_id"] for note in daemon.sandbox.notes()) == sorted(d["id"] for d in daemon.sandbox.deals())


def test_a_commit_later_than_the_answer_is_waited_for(own) -> None:
    """decisions 4: "not found" does not count before request time-out and read lag have passed."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2])
    workspace.clicks("spring", 2)
    daemon.sandbox.fault("late_commit", delay_ms=900)
    assert workspace.tick()["delivered"] == 0
    delivery = workspace.deliveries()[0]
    assert delivery["state"] == "uncertain" and delivery["attempts"] >= 1, delivery
    [step] = [entry for entry in workspace.delivery(delivery["id"])["journal"] if entry["step"] == "deal"]
    assert step["wire"] == "maybe_sent" and step["state"] != "done", step
    workspace.drain()
    assert [deal["title"] for deal in daemon.sandbox.deals()] == ["Link spring hit 2 clicks"]
    assert len(daemon.sandbox.notes()) == 1


def test_a_dead_daemons_request_that_commits_after_the_look_up_is_waited_for(own) -> None:
    """decisions 4: the successor looks at once, finds nothing, and must not believe it yet."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2])
    workspace.clicks("spring", 2)
    daemon.sandbox.fault("late_commit", delay_ms=2000)
    ticking = threading.Thread(target=tick_until_dead, args=(daemon, threading.Event()))
    ticking.start()
    wait_for("the request has left", lambda: daemon.sandbox.requests("POST", DEALS), pause=0.005)
    daemon.kill()
    ticking.join(30)
    daemon.start()
    workspace.tick()
    assert daemon.sandbox.deals() == [], "the commit came too early for this test to say anything"
    assert len(daemon.sandbox.requests("POST", DEALS)) == 1, "sent again although the first may still be applied"
    workspace.drain()
    assert len(daemon.sandbox.deals()) == 1 and len(daemon.sandbox.notes()) == 1
    assert len(daemon.sandbox.requests("POST", DEALS)) == 1


def test_nothing_found_in_the_end_is_sent_once_more(own) -> None:
    """Invariant 4, the other half: what never arrived is not given up."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2])
    workspace.clicks("spring", 2)
    daemon.sandbox.fault("drop_before_commit")
    workspace.tick()
    assert workspace.deliveries()[0]["state"] in ("uncertain", "retrying")
    workspace.drain()
    assert len(daemon.sandbox.deals()) == 1 and len(daemon.sandbox.notes()) == 1


@pytest.mark.parametrize(("how", "notes"), [("archive", 1), ("delete", 0)])
def test_a_deal_that_was_put_away_before_the_look_up_is_found_all_the_same(own, how: str, notes: int) -> None:
    """Somebody tidied up between the lost answer and the look-up: it was delivered, and no second one is made."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2])
    workspace.clicks("spring", 2)
    daemon.sandbox.fault("drop_after_commit")
    workspace.tick()
    [deal] = daemon.sandbox.deals()
    path, key = f"{DEALS}/{deal['id']}", {"x-api-token": daemon.sandbox.token}
    if how == "archive":
        daemon.sandbox.rest.patch(path, {"is_archived": True}, headers=key)
    else:
        daemon.sandbox.rest.delete(path, headers=key)
    workspace.drain()
    assert len(daemon.sandbox.requests("POST", DEALS)) == 1
    [delivery] = workspace.deliveries()
    assert (delivery["state"], delivery["remote_id"]) == ("delivered", str(deal["id"])), delivery
    assert len(daemon.sandbox.notes()) == notes


def test_two_ticks_at_once_make_one_deal(own) -> None:
    """DUP-01 to DUP-03 from outside: many ticks at the same moment, one POST."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2])
    daemon.sandbox.fault("delay", delay_ms=200, times=0)
    for number in range(3):
        workspace.clicks(f"spring{number}", 2)
    threads = [threading.Thread(target=daemon.tick) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(daemon.sandbox.requests("POST", DEALS)) == 3
    assert len(daemon.sandbox.deals()) == 3
    wait_for("nothing is under way", lambda: not unfinished(daemon.rest, "acme"))
