# SPDX-License-Identifier: Apache-2.0
"""The client that docs/client.md makes from the OpenAPI document, line by line, against a real daemon (HOOK-07, HOOK-08)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from harness import ISOLATION, ROOT, VENDOR_TOKEN, Daemon, Sandbox, wait_for
from test_hooks import Receiver, new_key, receiver  # noqa: F401

pytestmark = pytest.mark.timeout(240)

PAGE = (ROOT / "docs" / "client.md").read_text()


def block(language: str) -> str:
    [found] = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE)
    return found


@pytest.fixture
def daemon(tmp_path: Path, receiver: Receiver) -> Iterator[Daemon]:  # noqa: F811
    sandbox = Sandbox(tmp_path)
    made = Daemon(
        tmp_path / "daemon",
        plugins={
            "pipedrive": {"enabled": True, "isolation": ISOLATION, "endpoints": {"api": sandbox.url}},
            "custom-hook": {"enabled": True, "endpoints": {"receiver": receiver.url}},
        },
    )
    made.start()
    yield made
    if made.process.alive:
        made.kill()
    sandbox.stop()


def generated(daemon: Daemon, directory: Path) -> tuple[Path, str]:
    """The client's folder, and what the generator said."""
    document = directory / "openapi.json"
    document.write_bytes(daemon.rest.request("GET", "/openapi.json").body)
    # Without the formatting that would follow.
    quiet = directory / "generator.yaml"
    quiet.write_text("post_hooks: []\n")
    done = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(document), "--output-path",
         str(directory / "client"), "--config", str(quiet)],
        capture_output=True, text=True, timeout=120, cwd=directory,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "client", done.stdout + done.stderr


def test_the_page_does_what_it_prints(daemon: Daemon, receiver: Receiver, tmp_path: Path) -> None:  # noqa: F811
    """HOOK-07: connect(connector, credentials, domain) by a generated client; HOOK-08: the payload's round trip"""
    client, said = generated(daemon, tmp_path)
    warnings = re.findall(r"(?m)^WARNING.*$|^ERROR.*$|Endpoint will not be generated", said)
    known = re.findall(r"[Uu]nsupported content.type application/x-ndjson", said)
    assert len(warnings) == len(known) == 2, said
    version = re.search(r"openapi-python-client==([\d.]+)", PAGE)[1]
    assert f"openapi-python-client=={version}" in (ROOT / "Tests" / "requirements.txt").read_text()

    workspace, key = daemon.workspace("acme"), new_key()
    workspace.rest.put(f"{workspace.base}", {})
    token = daemon.cli(
        "tokens", "create", "integrator", "--scope", "admin", "--scope", "ingest", "-w", "acme", "--json"
    ).json["token"]
    script = tmp_path / "integrator.py"
    script.write_text(block("python"))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True, text=True, timeout=60,
        env={
            **os.environ, "PYTHONPATH": str(client), "MILEPOST_URL": daemon.url, "MILEPOST_TOKEN": token,
            "PIPEDRIVE_TOKEN": VENDOR_TOKEN, "HOOK_KEY": key, "HOOK_URL": f"{receiver.url}/in",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == block("text")

    wait_for("the hook arrives", lambda: receiver.requests)
    daemon.drain("acme")
    [(headers, body)] = receiver.requests
    told = Webhook(key).verify(body, headers)
    assert told["type"] == "milepost.deal.stage_changed"
    deal = {name: told["data"][name] for name in told["data"] if name not in ("event", "integration")}
    assert deal == {
        "dealId": "42", "dealTitle": "Spring campaign", "previousStage": "11", "newStage": "12", "personId": "77",
        "value": "5000.00", "currency": "EUR",
    }
    assert told["data"]["integration"] == "pipedrive"
    [delivery] = workspace.deliveries()
    assert (delivery["state"], delivery["action"], delivery["event"]) == ("delivered", "event_hook", told["data"]["event"])


def test_every_operation_of_the_document_becomes_a_function(daemon: Daemon, tmp_path: Path) -> None:
    """HOOK-07: no endpoint is left out"""
    client, _ = generated(daemon, tmp_path)
    made = {path.stem for path in (client / "milepost_client" / "api").rglob("*.py")} - {"__init__"}
    document = json.loads((tmp_path / "openapi.json").read_text())
    wanted = {
        re.sub(r"\W", "_", operation["operationId"]) for path in document["paths"].values() for operation in path.values()
    }
    assert wanted - made == set()
