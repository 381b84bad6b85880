# SPDX-License-Identifier: Apache-2.0
"""The vendor of the projects that `milepost plugin new` makes, on loopback: its account, its lists, its records."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Vendor:
    """Keeps the records that were made, and the credentials that came with look-ups."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                vendor.keys.add(self.headers["authorization"])
                url = urlsplit(self.path)
                wanted = parse_qs(url.query).get("key")
                items = {
                    "/v1/me": {"id": "42", "name": "Example account"},
                    "/v1/lists": {"items": [{"id": 1, "name": "Leads"}]},
                    "/v1/records": {"items": [record for record in vendor.records if [record["key"]] == wanted]},
                }
                self.answer(200 if url.path in items else 404, items.get(url.path, {}))

            def do_POST(self) -> None:
                record = json.loads(self.rfile.read(int(self.headers["content-length"])))
                vendor.records.append(record | {"id": str(501 + len(vendor.records))})
                self.answer(201, {"id": vendor.records[-1]["id"]})

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
