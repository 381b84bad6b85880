# SPDX-License-Identifier: Apache-2.0
"""From a click's acceptance to its event on a contact's timeline, with the real HubSpot plugin in a worker."""

from __future__ import annotations

import http.client
import json
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import harness
from hubspot_steps import Installation

if TYPE_CHECKING:
    from bench import Bench

PAUSE = 0.25
"""Seconds between two clicks: each makes a request for the event and one for the contact, and the vendor allows 11 a second."""


def measure(bench: Bench) -> None:
    """Clicks one by one, each with a campaign; the sandbox notes when the event came in, on the same clock."""
    count = 40 if bench.quick else 300
    made: list[harness.Daemon] = []

    def own(**settings: Any) -> harness.Daemon:
        folder = bench.scratch / f"timeline{next(bench.numbers)}"
        folder.mkdir()
        sandbox = harness.Sandbox(folder)
        daemon = harness.Daemon(folder, sandbox, log={"level": "info"}, **settings)
        daemon.sandbox = sandbox
        made.append(daemon)
        return daemon

    try:
        spent = sorted(latencies(Installation(own), count))
    finally:
        for daemon in made:
            if daemon.process and daemon.process.alive:
                daemon.kill()
            daemon.sandbox.process.kill()
    note = f"{count} clicks, {1 / PAUSE:.0f} a second, from before the POST to the vendor's receipt; event and contact are written"
    for name, figure, aim in [("median", statistics.median(spent), 50), ("99th percentile", spent[int(len(spent) * 0.99)], 1000)]:
        bench.add(f"click to timeline, {name}", "ms", [figure], aim=f"< {aim}", meets=lambda figure, _, aim=aim: figure < aim, note=note)


def latencies(it: Installation, count: int) -> list[float]:
    it.set_app()
    it.make_template()
    it.install()
    it.provision()
    contacts = [str(5000 + number) for number in range(10)]
    it.contacts(*contacts)
    path, token = f"{it.workspace.base}/events", it.daemon.token
    client = http.client.HTTPConnection(*it.daemon.url.removeprefix("http://").split(":"), timeout=60)
    rng = random.Random(1)
    for number in range(count):
        time.sleep(PAUSE * rng.uniform(0.5, 1.5))
        event = {
            "id": f"t{number}", "link": "pricing", "contact_id": rng.choice(contacts), "ts": harness.rfc3339(),
            "utm": {"source": f"s{number}", "campaign": "q2"},
        }
        client.request("POST", path, json.dumps(event), {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        answer = client.getresponse()
        body = answer.read()
        assert answer.status == 200, body
    client.close()
    harness.wait_for("all events", lambda: len(it.ledger()["events"]) == count, timeout=60, pause=0.2)
    it.nothing_undescribed()
    return [float(event["latency_ms"]) for event in it.ledger()["events"]]
