# SPDX-License-Identifier: Apache-2.0
"""kill -9 at every point of a token refresh, races for a token, and a standby that takes over at once (section R).

Seeded: MILEPOST_SEED and MILEPOST_REFRESH_ROUNDS override the seed and the number of rounds.
"""

from __future__ import annotations

import http.client
import os
import random
import threading

import pytest
from oauth_steps import Installed, installed  # noqa: F401  the fixture

from harness import FULL, Daemon, Rest, wait_for

SEED = int(os.environ.get("MILEPOST_SEED") or 20261125)
ROUNDS = int(os.environ.get("MILEPOST_REFRESH_ROUNDS") or (500 if FULL else 50))
CRASH_POINTS = ["before_refresh_intent", "after_refresh_intent", "before_refresh_store", "after_refresh_store"]


class Rounds:
    """Lives of daemons on one directory, each ended at a crash point or in the middle of a race, with a standby behind it."""

    def __init__(self, it: Installed, rng: random.Random):
        self.it, self.rng = it, rng
        self.reinstalls = 0
        self.allowed = 0
        self.asked = 0
        self.enough = threading.Event()

    def play(self, number: int) -> None:
        it, rng = self.it, self.rng
        vendor, daemon = it.vendor, it.daemon
        point = CRASH_POINTS[number % len(CRASH_POINTS)]
        fault = rng.choice([None, None, None, "drop_after", "drop_before", "cut", (503, {"message": "busy"})])
        reused = len(vendor.reused)
        before = [grant for grant in vendor.grants if grant.alive][-1]
        kills = rng.random() < 0.75
        # One disaster a round; in one of six both come together, and then nobody may be able to tell any more.
        is_double = kills and bool(fault) and rng.random() < 1 / 6
        if kills and not is_double:
            fault = None
        if fault:
            vendor.fault(fault)
        # The first refresh comes at once: the last round's token has ended.
        crash = ("--allow-crash-points", "--crash-at", f"{point}:{rng.randint(1, 3)}") if kills else ()
        daemon.start(*crash, ready=not kills)
        standby = self.standby()
        try:
            it.workspace.daemon = daemon
            self.enough.clear()
            wants = [threading.Thread(target=self.want, args=(daemon,)) for _ in range(6)]
            for thread in wants:
                thread.start()
            if kills:
                daemon.process.wait(30)
            else:
                # The fault is past before the kill, which comes wherever the daemon happens to be.
                began = len(vendor.refreshes)

                def is_over() -> bool:
                    state = it.tokens()["state"]
                    went_on = state == "ok" and len(vendor.refreshes) > began + 1
                    return not vendor.faults and (went_on or state == "revoked")

                wait_for("the chain settles", is_over)
                self.enough.set()
                daemon.kill()
            for thread in wants:
                thread.join(30)
            standby.wait_ready(30)
            heir = Installed(standby, vendor)
            state = wait_for(
                f"round {number}, {point}, {fault}: the chain settles",
                lambda: (lambda t: t if t["state"] in ("ok", "revoked") else None)(heir.tokens()),
                timeout=30,
            )
            # The vendor committed once more than was ever stored: an answer was lost, on the way or with its daemon.
            is_lost = len(before.dead) > state["refreshes"]
            sent_again = vendor.reused[reused:]
            assert sent_again == [] or (state["state"] == "revoked" and is_lost and len(sent_again) == 1), (
                f"round {number}, {point}, {fault}: a replaced token was sent again: {sent_again}"
            )
            if state["state"] == "revoked":
                self.reinstalls += 1
                is_unknown = is_double and state["reason"]["code"] == "refresh_outcome_unknown"
                assert is_unknown or (vendor.rotating and is_lost), (
                    f"round {number}, {point}, {fault}: an installation was asked for and no answer was lost: {state}"
                )
                assert heir.install()["state"] == "active"
            self.allowed += is_lost
            # Asked to end, in the middle of whatever it does: no answer is lost by that.
            assert standby.stop() == 0
        finally:
            vendor.faults.clear()
            if standby.process.alive:
                standby.kill()
        assert vendor.overlaps == 0, f"round {number}: two refreshes at once"

    def standby(self) -> Daemon:
        active = self.it.daemon
        made = Daemon(active.directory / "standby")
        made.settings = active.settings
        made.token = active.token
        made.write_config()
        return made.start(ready=False)

    def want(self, daemon: Daemon) -> None:
        """Calls the vendor through the daemon, so that a token is wanted now."""
        for _ in range(200):
            try:
                answer = Rest(daemon.url, daemon.token).request("GET", f"{self.it.url}/options/pipelines", timeout=20)
            except (OSError, http.client.HTTPException):
                return
            if answer.status != 503:
                self.asked += 1
            if answer.status == 200 and self.enough.is_set():
                return


@pytest.mark.parametrize("rotating", [True, False])
def test_crashes_and_races_cost_an_installation_only_where_the_answer_was_lost(installed, rotating: bool) -> None:
    """OAU-03, OAU-05, OAU-06, OAU-12, OAU-15: kill -9 at every point of a refresh, a standby that takes over at once, many
    tasks that want a token."""
    it = installed(rotating=rotating, expires_in=1)
    it.connect()
    it.daemon.kill()
    rng = random.Random(SEED + rotating)
    rounds = Rounds(it, rng)
    for number in range(ROUNDS // 2):
        rounds.play(number)
    if rotating:
        assert rounds.reinstalls > 0, "no answer was ever lost: this proves nothing"
    print(
        f"rotating {rotating}: {ROUNDS // 2} rounds, {rounds.reinstalls} reinstalls, {rounds.allowed} lost answers, "
        f"{len(it.vendor.refreshes)} refreshes, {rounds.asked} wants")
