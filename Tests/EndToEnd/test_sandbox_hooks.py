# SPDX-License-Identifier: Apache-2.0
"""The sandbox's receiver of webhooks checks signatures: against the reference package, and of what the daemon really sends."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from harness import DIST, LISTENING, SHARED, Process, Rest, Sandbox, wait_for

pytestmark = pytest.mark.timeout(120)

VECTORS = json.loads((SHARED / "specs/standard-webhooks/vectors.json").read_text())
ED25519 = next(vector for vector in VECTORS["sign"] if "private_key" in vector)


def new_key() -> str:
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


def signed(key: str, identifier: str, body: str, at: datetime | None = None) -> dict[str, str]:
    """Headers as the reference package makes them."""
    at = at or datetime.now(UTC)
    return {
        "webhook-id": identifier, "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(key).sign(identifier, at, body), "content-type": "application/json",
    }


def entries(rest: Rest) -> list[dict[str, Any]]:
    return rest.get("/_sandbox/ledger?only=requests&path=/hooks/*")["requests"]


class TestTheReferencePackage:
    def test_what_it_signs_is_valid_and_what_was_tampered_with_is_not(self, sandbox: Sandbox) -> None:
        """EXT-04: judged as the reference package would judge it"""
        key, old = new_key(), new_key()
        sandbox.rest.post("/_sandbox/hooks/keys", {"path": "/hooks/reference", "keys": [key, old]})
        body = '{"a":1,"b":"früh"}'
        now = datetime.now(UTC)
        cases = [
            (signed(key, "msg_1", body), body, "valid"),
            (signed(old, "msg_2", body), body, "valid"),
            (signed(new_key(), "msg_3", body), body, "invalid"),
            (signed(key, "msg_4", body), body + " ", "invalid"),
            ({**signed(key, "msg_5", body), "webhook-id": "msg_6"}, body, "invalid"),
            (signed(key, "msg_7", body, now - timedelta(seconds=400)), body, "expired"),
            (signed(key, "msg_8", body, now + timedelta(seconds=400)), body, "expired"),
            ({"content-type": "application/json"}, body, "missing"),
            (signed(key, "msg_1", body), body, "valid"),
        ]
        before = len(entries(sandbox.rest))
        for headers, sent, _ in cases:
            assert sandbox.rest.request("POST", "/hooks/reference", sent.encode(), headers).status == 200
        told = entries(sandbox.rest)[before:]
        assert [entry["signature"] for entry in told] == [expected for *_, expected in cases], told
        assert [entry["repeats"] for entry in told] == [0] * 8 + [1], "the first message came again"
        assert re.search(r"40\d s old", told[5]["signature_why"]) and "no webhook-id" in told[7]["signature_why"], told
        sandbox.rest.delete("/_sandbox/hooks/keys")

    def test_the_command_line_takes_keys_and_refuses_what_is_not_signed(self, tmp_path: Path) -> None:
        key = new_key()
        process = Process(
            "sandbox",
            [str(DIST / "milepost-sandbox"), "--listen", "127.0.0.1:0", "--hook-key", key, "--hook-key",
             ED25519["public_key"], "--require-signed-hooks"], tmp_path / "sandbox.log")
        try:
            rest = Rest(process.wait_line(LISTENING).group(1))
            assert rest.request("POST", "/hooks/in", b"{}", signed(key, "msg_1", "{}")).status == 200
            refused = rest.request("POST", "/hooks/in", b"{}", signed(new_key(), "msg_2", "{}"))
            assert refused.status == 401 and "signature invalid" in refused.text, refused
            assert rest.request("POST", "/hooks/in", b"{}").status == 401
            assert rest.get("/_sandbox/hooks/keys") == [
                {"path": "/hooks/*", "keys": ["v1", "v1a"], "tolerance_s": 300, "refuse": True}]
            assert key.split("_")[1] not in json.dumps(rest.get("/_sandbox/ledger"))
        finally:
            process.stop()
        for wrong in (["--hook-key", "whsec_"], ["--require-signed-hooks"]):
            run = subprocess.run(
                [str(DIST / "milepost-sandbox"), "--listen", "127.0.0.1:0", *wrong], capture_output=True, text=True, timeout=20)
            assert run.returncode == 64 and "--hook-key" in run.stderr, run
        shown = subprocess.run([str(DIST / "milepost-sandbox"), "--help"], capture_output=True, text=True, timeout=20).stdout
        assert "--hook-key" in shown and "--require-signed-hooks" in shown


class TestTheDaemon:
    """EXT-04: what custom-hook sends, each kind of key, and both while one is rotated"""

    @pytest.mark.parametrize("kind", ["symmetric", "ed25519", "rotating"])
    def test_hooks_of_the_daemon_are_valid(self, own, kind: str) -> None:
        daemon = own()
        daemon.settings["plugins"]["custom-hook"] = {"enabled": True, "endpoints": {"receiver": daemon.sandbox.url}}
        daemon.write_config()
        daemon.start()
        symmetric = new_key()
        held, known = {
            "symmetric": (symmetric, symmetric),
            "ed25519": (ED25519["private_key"], ED25519["public_key"]),
            "rotating": (f"{new_key()} {symmetric}", symmetric),
        }[kind]
        sandbox = daemon.sandbox.rest
        sandbox.post("/_sandbox/hooks/keys", {"keys": [known], "refuse": True})
        workspace = daemon.workspace("acme")
        workspace.rest.post(
            f"{workspace.base}/integrations/custom-hook",
            {"credentials": {"signing_key": held}, "url": f"{daemon.sandbox.url}/hooks/in", "thresholds": [2]})
        workspace.clicks("spring", 2)
        workspace.tick()
        [entry] = entries(sandbox)
        assert entry["signature"] == "valid" and entry["status"] == 200 and entry["repeats"] == 0, entry
        assert [delivery["state"] for delivery in workspace.deliveries()] == ["delivered"]

    def test_another_key_is_refused_and_the_connection_waits_for_one(self, own) -> None:
        """EXT-04: a refusal of the receiver is a matter of the key, and a retry of the same message is counted"""
        daemon = own()
        daemon.settings["plugins"]["custom-hook"] = {"enabled": True, "endpoints": {"receiver": daemon.sandbox.url}}
        daemon.write_config()
        daemon.start()
        right = new_key()
        daemon.sandbox.rest.post("/_sandbox/hooks/keys", {"keys": [right], "refuse": True})
        workspace = daemon.workspace("acme")
        path = f"{workspace.base}/integrations/custom-hook"
        workspace.rest.post(
            path, {"credentials": {"signing_key": new_key()}, "url": f"{daemon.sandbox.url}/hooks/in", "thresholds": [2]})
        workspace.clicks("spring", 2)
        workspace.tick()
        [entry] = entries(daemon.sandbox.rest)
        assert entry["signature"] == "invalid" and entry["status"] == 401, entry
        assert workspace.rest.get(path)["state"] == "needs_reauth"
        workspace.rest.patch(path, {"credentials": {"signing_key": right}})
        wait_for("it leaves", lambda: len(entries(daemon.sandbox.rest)) == 2)
        again = entries(daemon.sandbox.rest)[-1]
        assert again["signature"] == "valid" and again["repeats"] == 1, again
