# SPDX-License-Identifier: Apache-2.0
"""A socket that the service manager keeps (a tiny parent that speaks LISTEN_FDS, decisions 42): whoever connects while the
daemon restarts waits and is not refused."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harness import DIST, Daemon, Process, Rest, rfc3339, wait_for

# What systemd does between fork and exec: the socket becomes descriptor 3, and the variables name this very process.
HAND_OVER = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.environ.update(LISTEN_FDS=sys.argv[2], LISTEN_PID=str(os.getpid() + int(sys.argv[3])), LISTEN_FDNAMES='http')\n"
    "os.execv(sys.argv[4], sys.argv[4:])\n"
)


class Activated(Daemon):
    """A daemon whose listening socket belongs to its parent, as milepost.socket's belongs to systemd."""

    listener: socket.socket
    pid_offset = 0

    def begin(self, count: int = 1, log: Path | None = None) -> Process:
        if self.token is None:
            self.init()
        return Process(
            "milepostd",
            [sys.executable, "-c", HAND_OVER, str(self.listener.fileno()), str(count), str(self.pid_offset),
             str(DIST / "milepostd"), "--config", str(self.config_file)],
            log or self.log, self.environment(), pass_fds=(self.listener.fileno(),))

    def start(self, *arguments: str, ready: bool = True, timeout: float = 30) -> Daemon:
        self.process = self.begin()
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        if ready:
            self.process.wait_line("handed over by the service manager", timeout)
        return self


@pytest.fixture
def activated(tmp_path: Path):
    daemon = Activated(tmp_path / "daemon", limits={"connections": 64})
    daemon.listener = socket.socket()
    daemon.listener.bind(("127.0.0.1", 0))
    daemon.listener.listen(512)
    daemon.url = f"http://127.0.0.1:{daemon.listener.getsockname()[1]}"
    yield daemon
    if daemon.process and daemon.process.alive:
        daemon.process.kill()
    daemon.listener.close()


class Clients:
    """Threads that post one click after another; what comes of each is counted, and an error is kept, not retried."""

    def __init__(self, daemon: Daemon, fresh: int = 4, lasting: int = 2):
        self.daemon, self.accepted, self.errors = daemon, 0, []
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.threads = [
            threading.Thread(target=self.run, args=(number, number < fresh), daemon=True) for number in range(fresh + lasting)
        ]
        for thread in self.threads:
            thread.start()

    def run(self, number: int, is_fresh: bool) -> None:
        host = self.daemon.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        made = 0
        while not self.stopping.is_set():
            made += 1
            body = json.dumps({"id": f"{number}-{made}", "ts": rfc3339(seconds=5), "link": "spring"})
            headers = {"Authorization": f"Bearer {self.daemon.token}", "Content-Type": "application/json"}
            try:
                if is_fresh:
                    connection.close()
                    headers["Connection"] = "close"
                connection.request("POST", "/v1/workspaces/acme/events", body, headers)
                answer = connection.getresponse()
                content = json.loads(answer.read())
                with self.lock:
                    if answer.status == 200 and content["accepted"] == 1:
                        self.accepted += 1
                    else:
                        self.errors.append(f"{answer.status} {content}")
            except Exception as error:  # noqa: BLE001: whatever it is, it is a request that was not served
                with self.lock:
                    self.errors.append(repr(error))
                connection.close()

    def come_to(self, count: int) -> None:
        wait_for(f"{count} clicks; {self.accepted} so far, errors {self.errors[:5]}", lambda: self.accepted >= count or self.errors, 60)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client still waits for its answer"


def test_clicks_that_come_while_the_daemon_restarts_wait_and_none_is_lost_or_refused(activated: Activated) -> None:
    """EXT-14: over five restarts every request is answered with 200, and every click counts once"""
    daemon = activated.start()
    daemon.rest.put("/v1/workspaces/acme/links/spring", {})
    clients = Clients(daemon)
    for _ in range(5):
        clients.come_to(clients.accepted + 60)
        assert daemon.stop() == 0, daemon.process.output()[-3000:]
        # Nobody is there now: what is sent lies in the queue of the socket that the parent keeps.
        daemon.start()
    clients.come_to(clients.accepted + 60)
    clients.stop()
    assert clients.errors == []
    assert daemon.rest.get("/v1/workspaces/acme/links/spring")["totals"]["all"] == clients.accepted


def test_a_request_sent_before_the_daemon_starts_is_answered_by_it(activated: Activated) -> None:
    """EXT-14: no 'starting' for who waits in the queue; ready is told only once it is served"""
    daemon = activated
    daemon.init()
    with socket.create_connection(daemon.listener.getsockname(), timeout=60) as early:
        early.sendall(b"GET /readyz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        daemon.start()
        answer = b""
        while piece := early.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert re.search(rb"\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", answer, re.I), answer


def test_handed_sockets_take_the_place_of_listen_and_the_status_says_so(activated: Activated) -> None:
    """EXT-14, EXT-15: the address has one place, and the log names the other one"""
    daemon = activated.start()
    place = daemon.url.removeprefix("http://")
    assert daemon.rest.get("/v1/admin/status")["listen"] == place
    assert "'listen' is not used" in daemon.process.output() and "milepost.socket" in daemon.process.output()


def test_more_connections_than_the_limit_wait_until_one_ends(activated: Activated) -> None:
    """EXT-14: limits.connections holds on a handed socket as on an ordinary one"""
    activated.settings["limits"] = {"connections": 2, "idle_timeout": "30s"}
    activated.write_config()
    daemon = activated.start()
    held = [socket.create_connection(daemon.listener.getsockname(), timeout=20) for _ in range(2)]
    try:
        for one in held:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
        with socket.create_connection(daemon.listener.getsockname(), timeout=20) as third:
            third.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            third.settimeout(0.5)
            with pytest.raises(TimeoutError):
                third.recv(1)
            held.pop().close()
            third.settimeout(20)
            assert third.recv(65536).startswith(b"HTTP/1.1 200 ")
    finally:
        for one in held:
            one.close()


def test_sockets_meant_for_another_process_are_left_alone(activated: Activated) -> None:
    """EXT-14: LISTEN_PID names somebody else, so this daemon listens where 'listen' says"""
    activated.pid_offset = 1
    activated.process = activated.begin()
    url = activated.process.wait_line(r"listening on (http://[0-9.]+:\d+)\n").group(1)
    assert url != activated.url
    wait_for("it works", lambda: Rest(url).request("GET", "/readyz").status == 200)


@pytest.mark.parametrize("kind", ["datagram", "not listening", "count"])
def test_what_cannot_be_listened_on_ends_the_start_with_a_sentence(tmp_path: Path, kind: str) -> None:
    """EXT-14: exit status 78, so that systemd does not try again for ever"""
    daemon = Activated(tmp_path / "daemon")
    daemon.listener = socket.socket(type=socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    with daemon.listener:
        daemon.listener.bind(("127.0.0.1", 0))
        process = daemon.begin(count=99 if kind == "count" else 1)
        assert process.wait(20) == 78, process.output()
        assert "milepost.socket" in process.output(), process.output()


def test_a_standby_with_the_same_socket_takes_over_and_nobody_is_refused(activated: Activated) -> None:
    """EXT-14, decisions 15: it takes no connection before it takes work"""
    first = activated.start()
    first.rest.put("/v1/workspaces/acme/links/spring", {})
    second = first.begin(log=first.directory / "second.log")
    second.wait_line("standby: another daemon works on this data directory")
    try:
        clients = Clients(first)
        clients.come_to(100)
        assert first.stop() == 0
        second.wait_line("handed over by the service manager")
        clients.come_to(clients.accepted + 100)
        clients.stop()
        assert clients.errors == []
        assert first.rest.get("/v1/workspaces/acme/links/spring")["totals"]["all"] == clients.accepted
    finally:
        second.kill()


def test_workers_do_not_inherit_the_socket(activated: Activated) -> None:
    """EXT-14: a plugin that outlives its daemon must not keep anybody's connection"""
    activated.settings["plugins"] = {"custom-hook": {"enabled": True, "isolation": "worker"}}
    activated.write_config()
    daemon = activated.start()
    wait_for("the worker runs", lambda: "custom-hook" in str(daemon.rest.get("/v1/admin/plugins")))
    inode = os.fstat(daemon.listener.fileno()).st_ino
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(daemon.process.pid)], capture_output=True, text=True, check=False).stdout.split()
    assert children, "no worker runs"
    for child in children:
        links = [os.readlink(f"/proc/{child}/fd/{entry}") for entry in os.listdir(f"/proc/{child}/fd")]
        assert f"socket:[{inode}]" not in links, links
