# SPDX-License-Identifier: Apache-2.0
"""The daemon in a small internet of its own: run by test_ssrf.py inside a network and a mount namespace, never collected.

On the loopback interface of the namespace lie a public address, a private one and the clouds' metadata address; the resolver is ours,
and so is the authority that signed the receivers' certificate. So nothing in the product is told that this is a test: no
override, no injected resolver, the system's look-up and libcurl as they are."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness import Daemon, Workspace

PUBLIC, PRIVATE, METADATA = "198.20.0.7", "10.20.30.40", "169.254.169.254"
pytestmark = pytest.mark.timeout(120)


class Names:
    """A DNS server for A records: the answers of a name in their order, the last for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            query, peer = self.socket.recvfrom(2048)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            kind = struct.unpack_from(">H", query, at + 1)[0]
            question = query[12 : at + 5]
            name = ".".join(labels).lower()
            known = self.answers.get(name)
            addresses = []
            if kind == 1 and known:
                self.asked.append(name)
                addresses = known.pop(0) if len(known) > 1 else known[0]
            header = query[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, len(addresses), 0, 0)
            records = b"".join(
                b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(address) for address in addresses)
            self.socket.sendto(header + question + records, peer)


class Receivers:
    """One HTTPS server on all addresses of the namespace, which keeps where each request arrived."""

    def __init__(self, certificate: Path) -> None:
        self.arrived: list[tuple[str, str]] = []
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}
        receivers = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                receivers.arrived.append((self.connection.getsockname()[0], self.path))
                status, headers = receivers.answers.get(self.path, (204, {}))
                self.send_response(status)
                for name, value in {**headers, "content-length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("0.0.0.0", 443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Names, Receivers]:
    assert os.environ.get("MILEPOST_NAMESPACE") == "1", "run by test_ssrf.py"
    folder = tmp_path_factory.mktemp("internet")
    run = lambda *command: subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: E731
    run("ip", "link", "set", "lo", "up")
    for address in (PUBLIC, PRIVATE, METADATA):
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
    certificate, key, both = folder / "cert.pem", folder / "key.pem", folder / "both.pem"
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
        "/CN=hooks", "-addext",
        f"subjectAltName=DNS:*.example.com,DNS:localhost,IP:{PUBLIC},IP:{PRIVATE},IP:{METADATA},IP:127.0.0.1",
        "-keyout", str(key), "-out", str(certificate))
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:2\n")
    # Seen by this mount namespace alone.
    run("mount", "--bind", str(resolver), os.path.realpath("/etc/resolv.conf"))
    run("mount", "--bind", str(certificate), os.path.realpath("/etc/ssl/certs/ca-certificates.crt"))
    return Names(), Receivers(both)


@pytest.fixture
def daemon(tmp_path: Path, internet: tuple[Names, Receivers]) -> Iterator[Daemon]:
    made = Daemon(tmp_path, plugins={"custom-hook": {"enabled": True}})
    made.start()
    internet[1].arrived.clear()
    yield made
    if made.process.alive:
        made.kill()


def connect(workspace: Workspace, name: str, url: str) -> None:
    key = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    workspace.rest.post(
        f"{workspace.base}/integrations/custom-hook@{name}",
        {"credentials": {"signing_key": key}, "url": url, "thresholds": [2]}, expect=(200, 201))


def cross(workspace: Workspace, link: str) -> None:
    workspace.clicks(link, 2)
    workspace.tick()


def state(workspace: Workspace, name: str) -> dict[str, Any]:
    return workspace.rest.get(f"{workspace.base}/integrations/custom-hook@{name}")


def test_a_public_receiver_is_reached_and_no_private_one_in_any_spelling(daemon: Daemon, internet: tuple[Names, Receivers]) -> None:
    """EXT-05"""
    names, receivers = internet
    names.answers = {
        "hooks.example.com": [[PUBLIC]], "mixed.example.com": [[METADATA, PRIVATE, PUBLIC]], "inside.example.com": [[PRIVATE]],
        "meta.example.com": [[METADATA]], "home.example.com": [["127.0.0.1"]]}
    workspace = daemon.workspace("acme")
    connect(workspace, "good", "https://hooks.example.com/good")
    connect(workspace, "mixed", "https://mixed.example.com/mixed")
    number = int.from_bytes(socket.inet_aton(METADATA), "big")
    urls = [
        "https://inside.example.com/", "https://meta.example.com/", "https://home.example.com/", "https://LOCALHOST/",
        f"https://{METADATA}/", f"https://{number}/", f"https://{number:#x}/", f"https://0{number:o}/", "https://127.1/", "https://0x7f.1/",
        f"https://[::ffff:{METADATA}]/", f"https://[64:ff9b::{METADATA}]/", "https://[::1]/", "https://[fe80::1]/", "https://0/",
        f"https://{PRIVATE}/",
    ]
    for index, url in enumerate(urls):
        connect(workspace, f"n{index}", url)
    cross(workspace, "spring")
    assert sorted(receivers.arrived) == [(PUBLIC, "/good"), (PUBLIC, "/mixed")]
    for index, url in enumerate(urls):
        found = state(workspace, f"n{index}")
        assert found["state"] == "needs_target", (url, found)


def test_a_name_that_turns_private_is_refused_at_the_next_look_up_and_on_a_reconnect(
    daemon: Daemon, internet: tuple[Names, Receivers]) -> None:
    """EXT-05, DNS rebinding: what was judged is what is connected to, and the second answer is judged too"""
    names, receivers = internet
    names.answers = {"rebind.example.com": [[PUBLIC], [METADATA]]}
    names.asked.clear()
    workspace = daemon.workspace("acme")
    connect(workspace, "rebind", "https://rebind.example.com/rebind")
    cross(workspace, "first")
    assert receivers.arrived == [(PUBLIC, "/rebind")] and names.asked == ["rebind.example.com"]
    # Connection and look-up are gone with the daemon; the next one asks again and hears the private address.
    daemon.kill()
    daemon.start()
    cross(workspace, "second")
    assert names.asked == ["rebind.example.com"] * 2
    assert receivers.arrived == [(PUBLIC, "/rebind")]
    assert state(workspace, "rebind")["state"] == "needs_target"
    assert METADATA in json.dumps(state(workspace, "rebind"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_private_place_is_not_followed(status: int, daemon: Daemon, internet: tuple[Names, Receivers]) -> None:
    """EXT-05"""
    names, receivers = internet
    names.answers = {"hooks.example.com": [[PUBLIC]], "inside.example.com": [[PRIVATE]]}
    workspace = daemon.workspace("acme")
    targets = [f"https://{METADATA}/meta", "https://inside.example.com/in", "https://127.1/", "http://localhost/", "//169.254.169.254/"]
    for index, target in enumerate(targets):
        receivers.answers[f"/r{index}"] = (status, {"location": target})
        connect(workspace, f"r{index}", f"https://hooks.example.com/r{index}")
    cross(workspace, "spring")
    assert {place for place, _ in receivers.arrived} == {PUBLIC}
    assert {path for _, path in receivers.arrived} == {f"/r{index}" for index in range(len(targets))}
    assert "delivered" not in {delivery["state"] for delivery in workspace.deliveries()}
