# SPDX-License-Identifier: Apache-2.0
"""Signed hooks, as a receiver sees them: the reference libraries judge what the real daemon sends (EXT-04, I)."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from harness import Daemon, Workspace, wait_for

pytestmark = pytest.mark.timeout(120)


def new_key() -> str:
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


class Receiver:
    """A web server that keeps what it got and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[int], int] = lambda number: 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answer(len(receiver.requests))
                if status == 0:  # committed, and the answer is lost
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def hooked(tmp_path: Path, receiver: Receiver) -> Iterator[Daemon]:
    """A daemon whose configuration lets hooks go to the receiver on loopback."""
    daemon = Daemon(
        tmp_path,
        plugins={"custom-hook": {"enabled": True, "endpoints": {"receiver": receiver.url}}},
    )
    daemon.start()
    yield daemon
    if daemon.process.alive:
        daemon.kill()


def connect(
    workspace: Workspace, receiver: Receiver, key: str, integration: str = "custom-hook", **settings: Any
) -> dict[str, Any]:
    body = {"credentials": {"signing_key": key}, "url": f"{receiver.url}/in", "thresholds": [2], **settings}
    return workspace.rest.post(f"{workspace.base}/integrations/{integration}", body)


def cross(workspace: Workspace, link: str = "spring") -> None:
    workspace.rest.put(f"{workspace.base}/links/{link}", {"slug": link, "folder": "Paid", "tags": ["q2"]})
    workspace.clicks(link, 2, utm={"source": "meta", "campaign": "früh"})
    workspace.tick()


class TestSignedHooks:
    def test_the_reference_library_accepts_what_arrives(self, hooked: Daemon, receiver: Receiver) -> None:
        """EXT-04, ING-07: the same queue, journal and explanation as for a CRM"""
        key, workspace = new_key(), hooked.workspace("acme")
        connect(workspace, receiver, key)
        cross(workspace)
        [(headers, body)] = receiver.requests
        told = Webhook(key).verify(body, headers)
        assert told["type"] == "milepost.link.threshold_crossed"
        assert told["data"]["link"]["slug"] == "spring" and told["data"]["utm"]["campaign"] == "früh"
        with pytest.raises(WebhookVerificationError):
            Webhook(new_key()).verify(body, headers)
        [delivery] = workspace.deliveries()
        assert (delivery["state"], delivery["remote_id"]) == ("delivered", headers["webhook-id"])

    def test_an_ed25519_signature_is_verified_with_the_public_key(self, hooked: Daemon, receiver: Receiver) -> None:
        """EXT-04: asymmetric keys (whsk_)"""
        private = Ed25519PrivateKey.generate()
        seed = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        workspace = hooked.workspace("acme")
        connect(workspace, receiver, "whsk_" + base64.b64encode(seed + public).decode())
        cross(workspace)
        [(headers, body)] = receiver.requests
        version, signature = headers["webhook-signature"].split(",")
        assert version == "v1a"
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        private.public_key().verify(base64.b64decode(signature), signed)

    def test_a_key_is_rotated_without_one_failed_check(self, hooked: Daemon, receiver: Receiver) -> None:
        """EXT-04: two valid keys"""
        old, new, workspace = new_key(), new_key(), hooked.workspace("acme")
        for number, keys in enumerate([old, f"{new} {old}", new]):
            connect(workspace, receiver, keys)
            cross(workspace, f"link{number}")
        accepted = []
        for headers, body in receiver.requests:
            accepted.append(set())
            for name, key in (("old", old), ("new", new)):
                try:
                    Webhook(key).verify(body, headers)
                    accepted[-1].add(name)
                except WebhookVerificationError:
                    pass
        assert accepted == [{"old"}, {"old", "new"}, {"new"}]

    def test_a_lost_answer_brings_the_same_id_again_with_a_time_of_its_own(
        self, hooked: Daemon, receiver: Receiver
    ) -> None:
        """Standard Webhooks: the id stays, the time is that of the sending"""
        key, workspace = new_key(), hooked.workspace("acme")
        receiver.answer = lambda number: {1: 0, 2: 503}.get(number, 200)
        connect(workspace, receiver, key)
        cross(workspace)
        hooked.drain("acme")
        assert len(receiver.requests) == 3
        assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
        for headers, body in receiver.requests:
            Webhook(key).verify(body, headers)
        assert [delivery["state"] for delivery in workspace.deliveries()] == ["delivered"]

    def test_two_receivers_of_one_workspace_have_keys_of_their_own(self, hooked: Daemon, receiver: Receiver) -> None:
        """decisions 17"""
        one, two, workspace = new_key(), new_key(), hooked.workspace("acme")
        connect(workspace, receiver, one, url=f"{receiver.url}/one")
        connect(workspace, receiver, two, "custom-hook@two", url=f"{receiver.url}/two")
        cross(workspace)
        assert len(receiver.requests) == 2
        for headers, body in receiver.requests:
            verified = []
            for key in (one, two):
                try:
                    Webhook(key).verify(body, headers)
                    verified.append(key)
                except WebhookVerificationError:
                    pass
            assert len(verified) == 1

    def test_no_key_is_found_in_anything_that_was_written(self, hooked: Daemon, receiver: Receiver) -> None:
        """SEC-06, EXT-03, invariant 6"""
        key, workspace = new_key(), hooked.workspace("acme")
        receiver.answer = lambda number: 500
        connect(workspace, receiver, key)
        cross(workspace)
        shown = json.dumps(workspace.deliveries()) + hooked.rest.request("GET", "/metrics").text
        for path in hooked.directory.rglob("*"):
            if path.is_file() and "keys" not in path.parts:
                assert key[6:].encode() not in path.read_bytes(), path
        assert key[6:] not in shown


class TestFormats:
    def test_structured_cloudevents_are_read_by_the_reference_library(self, hooked: Daemon, receiver: Receiver) -> None:
        workspace = hooked.workspace("acme")
        connect(workspace, receiver, new_key(), format="cloudevents")
        cross(workspace)
        [(headers, body)] = receiver.requests
        event = from_http_event(HTTPMessage(headers, body))
        assert event.get_type() == "milepost.link.threshold_crossed" and event.get_source() == "urn:milepost:acme"
        assert event.get_subject() == "spring" and event.get_data()["threshold"] == 2

    def test_binary_cloudevents_are_read_by_the_reference_library(self, hooked: Daemon, receiver: Receiver) -> None:
        workspace = hooked.workspace("acme")
        connect(workspace, receiver, new_key(), format="cloudevents_binary", source="https://links.example/acme")
        cross(workspace)
        [(headers, body)] = receiver.requests
        event = from_http_event(HTTPMessage(headers, body))
        assert event.get_source() == "https://links.example/acme" and event.get_specversion() == "1.0"
        assert event.get_data()["link"]["tags"] == ["q2"]

    def test_a_template_and_headers_are_filled(self, hooked: Daemon, receiver: Receiver) -> None:
        workspace = hooked.workspace("acme")
        connect(
            workspace,
            receiver,
            new_key(),
            format="template",
            body_template='{"text":"{{data.link.slug}} hit {{data.threshold}}","total":"{{data.total.all}}"}',
            headers={"X-Campaign": "{{data.utm.campaign}}"},
        )
        cross(workspace)
        [(headers, body)] = receiver.requests
        assert json.loads(body) == {"text": "spring hit 2", "total": 2}
        assert headers["x-campaign"].encode("latin-1").decode() == "früh"


class TestFilters:
    def test_what_a_filter_leaves_out_is_dropped_with_the_reason_and_not_dead(
        self, hooked: Daemon, receiver: Receiver
    ) -> None:
        """HOOK-09, HOOK-02, HOOK-03, invariant 8"""
        workspace = hooked.workspace("acme")
        connect(workspace, receiver, new_key(), only={"utm_source": ["google"]})
        connect(workspace, receiver, new_key(), "custom-hook@paid", only={"folder": ["paid"], "tag": ["q*"]})
        cross(workspace)
        assert len(receiver.requests) == 1
        states = {delivery["integration"]: delivery for delivery in workspace.deliveries()}
        assert states["custom-hook@paid"]["state"] == "delivered"
        dropped = states["custom-hook"]
        assert dropped["state"] == "dropped" and "its utm_source is meta" in dropped["reason"]
        told = json.dumps(workspace.rest.get(f"{workspace.base}/links/spring/explain"))
        assert "its utm_source is meta" in told and "google" in told


class TestEndpoints:
    def test_an_address_inside_the_network_is_refused_unless_the_configuration_names_it(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        """EXT-05: no request leaves; the connection says what to do"""
        daemon = Daemon(tmp_path, plugins={"custom-hook": {"enabled": True}})
        try:
            daemon.start()
            workspace = daemon.workspace("acme")
            body = {"credentials": {"signing_key": new_key()}, "url": receiver.url}
            refused = workspace.rest.post(f"{workspace.base}/integrations/custom-hook", body, expect=(422,))
            assert [error["code"] for error in refused["errors"]] == ["plain_http_refused"], refused
            assert "plugins.custom-hook.endpoints" in refused["detail"] and "use https" in refused["detail"], refused
            for number, url in enumerate(["https://169.254.169.254/latest", "https://[::1]/in"]):
                name = f"custom-hook@n{number}"
                connect(workspace, receiver, new_key(), name, url=url)
            cross(workspace)
            assert receiver.requests == []
            for number in range(2):
                state = workspace.rest.get(f"{workspace.base}/integrations/custom-hook@n{number}")
                assert state["state"] == "needs_target"
                assert "plugins.custom-hook.endpoints" in json.dumps(state)
            told = [entry for entry in workspace.rest.get("/v1/admin/status")["problems"] if entry["code"] == "needs_target"]
            assert len(told) == 2 and all("it must have url" in entry["cure"] for entry in told), told
            assert "pipeline" not in json.dumps(told), "that is another plugin's word"
        finally:
            if daemon.process and daemon.process.alive:
                daemon.kill()

    def test_a_warning_is_told_once_and_no_more_when_disconnected(self, hooked: Daemon, receiver: Receiver) -> None:
        """connect and configure both find that there is no TLS"""
        workspace = hooked.workspace("acme")
        connect(workspace, receiver, new_key())
        place = f"{workspace.base}/integrations/custom-hook"

        def told() -> list[str]:
            return [entry["code"] for entry in workspace.rest.get("/v1/admin/status")["problems"]]

        assert [warning["code"] for warning in workspace.rest.get(place)["warnings"]] == ["plain_http"]
        assert told() == ["plain_http"]
        workspace.rest.patch(place, {"batch": True})
        assert told() == ["plain_http"]
        workspace.rest.delete(place)
        assert told() == []

    def test_a_receiver_that_is_gone_is_asked_no_more_and_its_queue_kept(
        self, hooked: Daemon, receiver: Receiver
    ) -> None:
        """410 means gone (EXT-08): disabled at once; another address ends that"""
        workspace = hooked.workspace("acme")
        receiver.answer = lambda number: 410
        connect(workspace, receiver, new_key())
        cross(workspace)
        workspace.tick()
        assert len(receiver.requests) == 1
        gone = workspace.rest.get(f"{workspace.base}/integrations/custom-hook")
        assert (gone["state"], gone["reason"]["code"]) == ("disabled", "endpoint_gone") and "410" in gone["reason"]["message"]
        assert [delivery["state"] for delivery in workspace.deliveries()] == ["held"]
        receiver.answer = lambda number: 200
        workspace.rest.patch(f"{workspace.base}/integrations/custom-hook", {"url": f"{receiver.url}/new"})
        wait_for("the queue leaves", lambda: len(receiver.requests) == 2)
        hooked.drain("acme")
        assert [delivery["state"] for delivery in workspace.deliveries()] == ["delivered"]
