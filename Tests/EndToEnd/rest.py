# SPDX-License-Identifier: Apache-2.0
"""A REST client that shows what it was answered, and the check of a problem document."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def expect(self, *statuses: int) -> Any:
        """The body, when the status is one of those expected; else a failure that shows the body."""
        assert self.status in statuses, f"HTTP {self.status}, expected {statuses}: {self.body[:2000]!r}"
        if not self.body:
            return None
        is_json = "json" in self.headers.get("content-type", "") and "ndjson" not in self.headers.get(
            "content-type", ""
        )
        return json.loads(self.body) if is_json else self.body


class Rest:
    """One client with one token; safe to use from several threads, a connection for each."""

    def __init__(self, base: str, token: str | None = None, timeout: float = 60):
        self.base, self.token, self.timeout = base, token, timeout
        parts = urllib.parse.urlsplit(base)
        self._host, self._port = parts.hostname, parts.port
        self._local = threading.local()

    def with_token(self, token: str | None) -> Rest:
        return Rest(self.base, token, self.timeout)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Sends one request, once. A value other than bytes is sent as JSON."""
        fields = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            fields.setdefault("Content-Type", "application/json")
        if self.token:
            fields.setdefault("Authorization", f"Bearer {self.token}")
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout or self.timeout)
        try:
            connection.request(method, path, body=body, headers=fields)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Any:
        return self.request("GET", path, **options).expect(200)

    def post(self, path: str, body: Any = None, expect: Iterable[int] = (200, 201, 202), **options: Any) -> Any:
        return self.request("POST", path, body, **options).expect(*expect)

    def put(self, path: str, body: Any = None, expect: Iterable[int] = (200, 201), **options: Any) -> Any:
        return self.request("PUT", path, body, **options).expect(*expect)

    def patch(self, path: str, body: Any, expect: Iterable[int] = (200,), **options: Any) -> Any:
        return self.request("PATCH", path, body, **options).expect(*expect)

    def delete(self, path: str, expect: Iterable[int] = (200, 204), **options: Any) -> Any:
        return self.request("DELETE", path, **options).expect(*expect)


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Checks that an answer is a problem document of this status and code, and returns it."""
    assert answer.status == status, f"HTTP {answer.status}, expected {status} {code}: {answer.body[:2000]!r}"
    assert answer.headers.get("content-type", "").startswith("application/problem+json"), answer.headers
    document = answer.json
    assert document["code"] == code, document
    assert document["status"] == status and document["title"] and document["detail"], document
    assert document["type"].endswith("/" + code), document
    return document
