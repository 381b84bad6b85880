# SPDX-License-Identifier: Apache-2.0
"""A vendor that speaks HTTP/2 over TLS and ends each request as the command line says.

    http2_server.py CERTIFICATE KEY [ACT ...]

Prints "port N", then a line of JSON for every complete request. The acts, one a request, in order; past the last every request
is answered:

    answer          200 with a body that names connection and stream
    gone-answer     GOAWAY that lets the stream end, then the answer: a server that is about to restart
    reset           RST_STREAM, internal error: the request was taken
    refused         RST_STREAM, refused: libcurl alone would send it again
    goaway          GOAWAY that leaves the stream out, then the end of the connection
    half            the answer's head and half its body, then RST_STREAM
    cut             the end of the connection
"""

from __future__ import annotations

import json
import socket
import ssl
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INTERNAL_ERROR, REFUSED_STREAM = 2, 7


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


class Gone(Exception):
    """The other end, or we, closed the connection."""


class Connection:
    def __init__(self, stream: ssl.SSLSocket, index: int, acts: list[str]) -> None:
        self.stream, self.index, self.acts = stream, index, acts
        self.bodies: dict[int, bytes] = {}

    def read(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            chunk = self.stream.recv(count - len(got))
            if not chunk:
                raise Gone
            got += chunk
        return got

    def serve(self) -> None:
        assert self.read(len(PREFACE)) == PREFACE
        self.stream.sendall(frame(SETTINGS, 0, 0))
        while True:
            head = self.read(9)
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF
            payload = self.read(int.from_bytes(head[:3], "big"))
            if kind == SETTINGS and not flags & ACK:
                self.stream.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.stream.sendall(frame(PING, ACK, 0, payload))
            elif kind in (HEADERS, DATA):
                self.bodies[stream] = self.bodies.get(stream, b"") + (payload if kind == DATA else b"")
                if flags & END_STREAM:
                    self.act(stream)

    def act(self, stream: int) -> None:
        body = self.bodies.pop(stream).decode()
        print(json.dumps({"connection": self.index, "stream": stream, "body": body}), flush=True)
        act = self.acts.pop(0) if self.acts else "answer"
        # 0x88 is the static table's ":status: 200" (RFC 7541, appendix A).
        head = frame(HEADERS, END_HEADERS, stream, b"\x88")
        text = f"connection {self.index}, stream {stream}".encode()
        if act == "answer":
            self.stream.sendall(head + frame(DATA, END_STREAM, stream, text))
        elif act == "gone-answer":
            self.stream.sendall(frame(GOAWAY, 0, 0, number(stream) + number(0)))
            self.stream.sendall(head + frame(DATA, END_STREAM, stream, text))
        elif act == "reset":
            self.stream.sendall(frame(RST_STREAM, 0, stream, number(INTERNAL_ERROR)))
        elif act == "refused":
            self.stream.sendall(frame(RST_STREAM, 0, stream, number(REFUSED_STREAM)))
        elif act == "goaway":
            self.stream.sendall(frame(GOAWAY, 0, 0, number(0) + number(0)))
            raise Gone
        elif act == "half":
            self.stream.sendall(head + frame(DATA, 0, stream, text[:5]))
            self.stream.sendall(frame(RST_STREAM, 0, stream, number(INTERNAL_ERROR)))
        elif act == "cut":
            raise Gone
        else:
            raise SystemExit(f"no act is called {act}")


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    context.set_alpn_protocols(["h2"])
    acts = sys.argv[3:]
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"port {listener.getsockname()[1]}", flush=True)
    index = 0
    while True:
        accepted, _ = listener.accept()
        try:
            with context.wrap_socket(accepted, server_side=True) as stream:
                index += 1
                Connection(stream, index, acts).serve()
        except (Gone, OSError):
            continue  # the next connection


if __name__ == "__main__":
    main()
