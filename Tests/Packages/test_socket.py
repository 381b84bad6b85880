# SPDX-License-Identifier: Apache-2.0
"""milepost.socket in a booted Debian: off until switched on, and then requests wait over a restart of the daemon."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from machine import Machine, wait_for
from test_installed import clicks, install, milepost

POST = "curl -s -o /dev/null -w '%{http_code}' --max-time 60 -H 'Authorization: Bearer '$(cat /srv/token) " \
    "-H 'Content-Type: application/x-ndjson' --data-binary @- http://127.0.0.1:8787/v1/workspaces/acme/events"


def test_the_socket_is_off_until_it_is_switched_on(machine: Machine, packages: dict[str, Path]) -> None:
    """EXT-14"""
    install(machine, packages["milepost"])
    machine.run("milepost init --json > /srv/init && systemctl start milepost.service")
    token = json.loads(machine.run("cat /srv/init").stdout)["token"]
    machine.run("cat > /srv/token", stdin=token)
    assert machine.run("systemctl is-enabled milepost.socket", check=False).stdout.strip() == "disabled"
    assert machine.run("systemctl is-active milepost.socket", check=False).stdout.strip() == "inactive"


def test_switched_on_it_keeps_every_request_over_restarts(machine: Machine) -> None:
    """EXT-14: none refused, none lost, counted"""
    machine.run("systemctl stop milepost.service && systemctl enable --now milepost.socket && systemctl start milepost.service")
    assert milepost(machine, "status")["listen"] == "127.0.0.1:8787"
    log = machine.run("journalctl -u milepost.service -o cat").stdout
    assert "handed over by the service manager" in log, log[-2000:]
    answers, stopping = [], threading.Event()

    def send() -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            answers.append(machine.run(POST, stdin=clicks(f"waits{number}", 1), check=False).stdout)

    thread = threading.Thread(target=send)
    thread.start()
    for _ in range(3):
        reached = len(answers) + 5
        wait_for("requests are answered", lambda reached=reached: len(answers) >= reached, 60)
        machine.run("systemctl restart milepost.service")
    stopping.set()
    thread.join(90)
    assert set(answers) == {"200"}, answers
    found = milepost(machine, "links -w acme")["links"]
    assert sum(link["totals"]["all"] for link in found) == min(len(answers), 50), "a page holds 50"


def test_a_package_that_comes_anew_leaves_the_socket_alone(machine: Machine, newer: dict[str, Path]) -> None:
    """EXT-14: an upgrade restarts the daemon and never the queue"""
    before = machine.run("systemctl show milepost.socket -p ActiveEnterTimestampMonotonic -p ActiveState").stdout
    daemon = machine.run("systemctl show milepost.service -p MainPID").stdout
    install(machine, newer["milepost"])
    assert machine.run("systemctl show milepost.socket -p ActiveEnterTimestampMonotonic -p ActiveState").stdout == before
    assert machine.run("systemctl show milepost.service -p MainPID").stdout != daemon
    assert milepost(machine, "status")["listen"] == "127.0.0.1:8787"
