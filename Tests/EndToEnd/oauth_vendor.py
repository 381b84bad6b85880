# SPDX-License-Identifier: Apache-2.0
"""A vendor with OAuth 2.0 in front of the CRM sandbox, on loopback: it issues tokens, takes them as bearers, and loses its
answers on command.

Rotating or not; strict about what a client must never do: a refresh token whose successor was delivered and sent again is
remembered in `reused`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import secrets
import socket
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Grant:
    """One installation: its newest refresh token and those it replaced."""

    number: int
    scopes: list[str]
    refresh: str
    alive: bool = True
    dead: set[str] = field(default_factory=set)
    # The refresh token of an answer that was committed and never delivered: the client cannot know it.
    lost: set[str] = field(default_factory=set)


class Vendor:
    CLIENT, SECRET = "test-client", "test-secret-0f1e2d3c4b5a69788796a5b4c3d2e1f0"

    def __init__(self, upstream: str, upstream_token: str, *, rotating: bool = True, expires_in: int | None = 3600):
        self.upstream, self.upstream_token = urllib.parse.urlsplit(upstream), upstream_token
        self.rotating, self.expires_in = rotating, expires_in
        self.scopes: list[str] | None = None
        self.lock = threading.Lock()
        self.codes: dict[str, dict[str, str]] = {}
        self.grants: list[Grant] = []
        self.access: dict[str, tuple[Grant, float]] = {}
        self.issued: list[str] = []
        self.faults: list[Any] = []
        self.refreshes: list[dict[str, Any]] = []
        self.exchanges: list[dict[str, str]] = []
        self.reused: list[str] = []
        self.paths: list[str] = []
        self.overlaps = 0
        self._inside = 0
        self.calls: list[tuple[str, str, int]] = []
        self.hold: threading.Event | None = None
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                vendor.handle(self)

            do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # a client that was killed

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # What a test commands

    def fault(self, kind: Any) -> None:
        """The next token request meets it: drop_before, drop_after, cut, rubbish, or (status, body)."""
        self.faults.append(kind)

    def consent(self, url: str, scopes: list[str] | None = None) -> str:
        """What a person does on the authorise page: answers the address he is sent back to."""
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        assert query["client_id"] == self.CLIENT and query["response_type"] == "code", query
        code = "code-" + secrets.token_hex(16)
        self.codes[code] = query | {"granted": " ".join(scopes if scopes is not None else query.get("scope", "").split())}
        self.issued.append(code)
        return f"{query['redirect_uri']}?" + urllib.parse.urlencode({"code": code, "state": query["state"]})

    def uninstall(self) -> None:
        for grant in self.grants:
            grant.alive = False

    def expire_access(self) -> None:
        """Access tokens end now, earlier than their answers said."""
        with self.lock:
            self.access = {token: (grant, 0.0) for token, (grant, _) in self.access.items()}

    # Answers

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("content-length") or 0)
        body = request.rfile.read(length)
        path = urllib.parse.urlsplit(request.path).path
        if path.endswith("/token"):
            self.token(request, body)
        else:
            self.forward(request, body)

    def token(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        form = dict(urllib.parse.parse_qsl(body.decode()))
        form["path"] = request.path
        is_refresh = form.get("grant_type") == "refresh_token"
        with self.lock:
            self._inside += is_refresh
            self.overlaps += is_refresh and self._inside > 1
            fault = self.faults.pop(0) if self.faults else None
        try:
            if self.hold:
                self.hold.wait(20)
            if fault == "drop_before":
                self.note(form, fault, committed=False)
                return drop(request)
            if isinstance(fault, tuple):
                self.note(form, fault, committed=False)
                return send(request, *fault)
            with self.lock:
                status, answer, grant, before = self.commit(request, form)
            self.note(form, fault, committed=status == 200)
            if status == 200 and fault in ("drop_after", "cut", "rubbish") and grant and self.rotating:
                grant.lost.add(answer["refresh_token"])
            if fault == "drop_after":
                return drop(request)
            if fault == "cut":
                data = json.dumps(answer).encode()
                request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[: len(data) // 2])
                return drop(request)
            if fault == "rubbish":
                return send(request, 200, b"<html>maintenance</html>")
            if fault == "hang":
                time.sleep(3)
                return drop(request)
            try:
                send(request, status, answer)
            except OSError:
                if grant and self.rotating:
                    grant.lost.add(answer["refresh_token"])
        finally:
            with self.lock:
                self._inside -= is_refresh

    def note(self, form: dict[str, str], fault: Any, committed: bool) -> None:
        self.paths.append(form.pop("path"))
        if form.get("grant_type") == "refresh_token":
            self.refreshes.append({"token": form.get("refresh_token"), "fault": fault, "committed": committed})
        else:
            self.exchanges.append(form)

    def commit(self, request: BaseHTTPRequestHandler, form: dict[str, str]) -> tuple[int, Any, Grant | None, str | None]:
        client = base64.b64decode((request.headers.get("authorization") or "Basic ").split(" ", 1)[1]).decode()
        client = client or f"{form.get('client_id')}:{form.get('client_secret')}"
        if client != f"{self.CLIENT}:{self.SECRET}":
            return 401, {"error": "invalid_client"}, None, None
        if form.get("grant_type") == "authorization_code":
            asked = self.codes.pop(form.get("code", ""), None)
            if asked is None or asked["redirect_uri"] != form.get("redirect_uri"):
                return 400, {"error": "invalid_grant"}, None, None
            if "code_challenge" in asked:
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
                    return 400, {"error": "invalid_grant"}, None, None
            grant = Grant(len(self.grants), asked["granted"].split(), self.fresh("refresh"))
            self.grants.append(grant)
            return 200, self.pair(grant), grant, None
        sent = form.get("refresh_token", "")
        for grant in self.grants:
            if sent == grant.refresh and grant.alive:
                if self.rotating:
                    grant.dead.add(sent)
                    grant.refresh = self.fresh("refresh")
                return 200, self.pair(grant), grant, sent
            if sent in grant.dead and grant.refresh not in grant.lost:
                self.reused.append(sent)
        return 400, {"status": "BAD_REFRESH_TOKEN", "error": "invalid_grant", "message": f"token {sent} is bad"}, None, None

    def fresh(self, kind: str) -> str:
        token = f"{kind}-{secrets.token_hex(24)}"
        self.issued.append(token)
        return token

    def pair(self, grant: Grant) -> dict[str, Any]:
        access = self.fresh("access")
        self.access[access] = (grant, time.monotonic() + (self.expires_in or 1800))
        answer = {"access_token": access, "token_type": "Bearer", "refresh_token": grant.refresh}
        if self.expires_in is not None:
            answer["expires_in"] = self.expires_in
        if self.scopes is not None:
            answer["scope"] = ",".join(self.scopes)
        return answer

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        bearer = (request.headers.get("authorization") or "").removeprefix("Bearer ")
        known = self.access.get(bearer)
        pasted = request.headers.get("x-api-token") == self.upstream_token and not bearer
        if pasted:
            known = (Grant(-1, [], ""), time.monotonic() + 60)
        if not known or time.monotonic() > known[1] or not known[0].alive:
            self.calls.append((request.command, request.path, 401))
            return send(request, 401, {"success": False, "error": f"Unauthorized {bearer}"})
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("authorization", "host", "connection")}
        upstream = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port, timeout=20)
        try:
            upstream.request(request.command, request.path, body or None, {**headers, "x-api-token": self.upstream_token})
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        self.calls.append((request.command, request.path, answer.status))
        send(request, answer.status, data, answer.getheader("content-type") or "application/json")


def send(request: BaseHTTPRequestHandler, status: int, answer: Any, kind: str = "application/json") -> None:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def drop(request: BaseHTTPRequestHandler) -> None:
    with contextlib.suppress(OSError):
        request.wfile.flush()
        request.connection.shutdown(socket.SHUT_RDWR)
    request.close_connection = True
