# SPDX-License-Identifier: Apache-2.0
"""A daemon with the HubSpot plugin in front of the sandbox, and the steps that administrator and visitor take."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.parse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import ISOLATION, Daemon, Rest, Workspace, listed, rfc3339, wait_for

CLIENT, SECRET, DEVELOPER_KEY, APP_ID = "sandbox-client", "sandbox-secret", "sandbox-developer-key", "54321"
HUB, SECOND = 62515, 777
STAGES = {"pipeline": "default", "from_stage": "appointmentscheduled", "to_stage": "qualifiedtobuy"}


class Installation:
    """A daemon whose HubSpot is the sandbox; nothing is connected yet."""

    def __init__(self, own: Callable[..., Daemon], **settings: Any):
        # The redirect URI names the listener, so its port is chosen beforehand.
        self.daemon = own(listen=f"127.0.0.1:{free_port()}", **settings)
        self.sandbox = self.daemon.sandbox
        endpoints = {"api": self.sandbox.url, "app": self.sandbox.url}
        self.daemon.settings["plugins"] = {
            "hubspot": {"enabled": True, "isolation": ISOLATION, "endpoints": endpoints}
        }
        self.daemon.write_config()
        self.daemon.start()
        self.workspace: Workspace = self.daemon.workspace("acme")

    @property
    def rest(self) -> Rest:
        return self.daemon.rest

    # The administrator

    def cli(self, *arguments: str, **options: Any) -> Any:
        return self.daemon.cli(*arguments, "-w", "acme", **options)

    def set_app(self) -> Any:
        return self.cli(
            "app", "set", "hubspot", "--client-id", CLIENT, "--app-id", APP_ID, "--developer-key", "--json",
            stdin=f"{SECRET}\n{DEVELOPER_KEY}\n",
        ).json

    def link(self, name: str = "hubspot", *options: str) -> dict[str, Any]:
        """The link that `milepost connect` prints."""
        return self.cli("connect", name, "--no-wait", "--json", *options).json

    def follow(self, link: dict[str, Any]) -> Any:
        """What a browser does: the vendor's page, and the daemon's page that it sends back to."""
        redirected = visit(link["url"])
        assert redirected.status == 302, redirected
        back = urllib.parse.urlsplit(redirected.headers["location"])
        assert f"{back.scheme}://{back.netloc}" == self.daemon.url, redirected.headers
        return Rest(self.daemon.url).request("GET", f"{back.path}?{back.query}")

    def install(self, name: str = "hubspot", *options: str) -> dict[str, Any]:
        page = self.follow(self.link(name, *options))
        assert page.status == 200, page.body
        return self.shown(name)

    def shown(self, name: str = "hubspot") -> dict[str, Any]:
        return self.rest.get(f"{self.workspace.base}/integrations/{name}")

    def provision(self, name: str = "hubspot") -> None:
        self.rest.post(f"{self.workspace.base}/integrations/{name}/provision", {}, timeout=150)

    def make_template(self) -> None:
        self.rest.post("/v1/admin/apps/hubspot/provision", {}, timeout=150)

    # The vendor

    def control(self, path: str, body: Any) -> Any:
        return self.sandbox.rest.post(f"/_sandbox/hubspot/{path}", body)

    def contacts(self, *identifiers: str, hub: int = HUB) -> None:
        made = [{"id": i, "properties": {"email": f"c{i}@example.test"}, "hub_id": hub} for i in identifiers]
        self.control("contacts", made)

    def deal(self, contact: str, amount: str, stage: str = "appointmentscheduled") -> str:
        properties = {"dealname": f"Deal of {contact}", "pipeline": "default", "dealstage": stage, "amount": amount}
        return self.control("deals", {"properties": properties, "contacts": [contact]})["id"]

    def ledger(self, hub: int = HUB) -> dict[str, Any]:
        portals = self.sandbox.rest.get("/_sandbox/ledger?only=hubspot")["hubspot"]["portals"]
        return next(portal for portal in portals if portal["hub_id"] == hub)

    def events(self, hub: int = HUB) -> Counter[str]:
        """How many events each contact's timeline shows."""
        return Counter(event["object_id"] for event in self.ledger(hub)["events"])

    def stage(self, deal: str) -> str:
        return next(row for row in self.ledger()["deals"] if row["id"] == deal)["properties"]["dealstage"]

    def moves(self) -> list[dict[str, Any]]:
        return self.sandbox.requests("PATCH", r"/crm/.*deals/[^/]+")

    def nothing_undescribed(self, allowed: tuple[str, ...] = ()) -> None:
        """Nothing was sent that the vendor does not describe, and no replaced token after its successor."""
        found = self.sandbox.rest.get("/_sandbox/ledger?only=violations")["violations"]
        assert [entry for entry in found if entry.get("kind") not in allowed] == [], found

    # Visitors

    def clicks(self, contact: str | None, count: int, link: str = "pricing", tag: str = "e", **facts: Any) -> None:
        known = {"contact_id": contact} if contact else {}
        for start in range(0, count, 5000):
            lines = [
                json.dumps({"id": f"{tag}-{contact}-{number}", "ts": rfc3339(seconds=5), "link": link, **known, **facts})
                for number in range(start, min(count, start + 5000))
            ]
            answer = self.rest.post(
                f"{self.workspace.base}/events", "\n".join(lines).encode(),
                headers={"Content-Type": "application/x-ndjson"},
            )
            assert answer["accepted"] == len(lines), answer

    def firings(self, rule: str) -> list[dict[str, Any]]:
        return listed(self.rest, f"{self.workspace.base}/rules/{rule}/firings", "firings")

    def settled_rules(self, rule: str, count: int) -> list[dict[str, Any]]:
        """The rule's firings once there are `count` and none waits, and all their deliveries are finished."""

        def look() -> list[dict[str, Any]]:
            found = self.firings(rule)
            unfinished = [row for row in self.workspace.deliveries() if row["state"] not in ("delivered", "dropped")]
            done = len(found) >= count and not unfinished and all(row["state"] != "waiting" for row in found)
            return found if done else []

        found = wait_for(f"{count} settled firings of {rule}", look, timeout=30)
        assert len(found) == count, found
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def visit(url: str) -> Any:
    """One request of a browser, which follows nothing by itself."""
    parts = urllib.parse.urlsplit(url)
    return Rest(f"{parts.scheme}://{parts.netloc}").request("GET", f"{parts.path}?{parts.query}")


def put_back(daemon: Daemon, backup: Path) -> None:
    """Restores a backup as docs/admin.md says; the daemon stands still."""
    for part in daemon.data.glob("milepost.db*"):
        part.unlink()
    shutil.copy(backup, daemon.data / "milepost.db")


@pytest.fixture
def hubspot(own: Callable[..., Daemon]) -> Callable[..., Installation]:
    return lambda **settings: Installation(own, **settings)
