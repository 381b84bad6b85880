# SPDX-License-Identifier: Apache-2.0
"""Clicks in by HTTP, signed hooks out, one event a hook, to a sink in C; beside a bare libcurl loop in the same run."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from bench import Bench

HERE = Path(__file__).resolve().parent
LINES = 2000
"""Clicks a request of the loader."""
TICK = os.sysconf("SC_CLK_TCK")


class Sink:
    """The receiver: `Tests/Bench/hook_sink.c`."""

    def __init__(self, tool: str, delay_ms: int):
        self.process = subprocess.Popen([tool, "0", str(delay_ms)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.origin = f"http://127.0.0.1:{self.process.stdout.readline().split()[1]}"

    def ask(self, what: str = "count") -> dict[str, Any]:
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def wait_for(self, requests: int, timeout: float = 300) -> dict[str, Any]:
        """Looks every few milliseconds, so that the last hook's time is known that well."""
        end = time.monotonic() + timeout
        while True:
            seen = self.ask()
            if seen["requests"] >= requests:
                return seen
            assert time.monotonic() < end, f"{seen['requests']} of {requests} hooks came within {timeout:.0f} s"
            time.sleep(0.004)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


@contextlib.contextmanager
def sink(bench: Bench, delay_ms: int = 0) -> Iterator[Sink]:
    made = Sink(bench.tool("hook_sink"), delay_ms)
    try:
        yield made
    finally:
        made.close()


def hooked(bench: Bench, isolation: str, receiver: Sink, connections: int) -> Any:
    """A daemon in which hooks may go to the receiver, over so many connections."""
    return bench.daemon(
        plugins={"custom-hook": {"enabled": True, "isolation": isolation, "endpoints": {"receiver": receiver.origin}}},
        delivery={"request_timeout": "30s", "operation_timeout": "60s", "connections_per_host": connections})


def connect(daemon: harness.Daemon, receiver: Sink) -> str:
    """Base of the workspace, which takes a connection that sends every click."""
    base = "/v1/workspaces/bench"
    key = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    links = [{"id": f"l{n}", "slug": f"l{n}", "destination": "https://example.com/offer", "tags": ["q2"]} for n in range(500)]
    daemon.rest.post(f"{base}/links", {"links": links})
    body = {"credentials": {"signing_key": key}, "url": f"{receiver.origin}/in", "clicks": True, "thresholds": [1_000_000]}
    daemon.rest.post(f"{base}/integrations/custom-hook", body)
    return base


def write_clicks(file: Path, count: int, prefix: str) -> None:
    now = int(time.time())
    with file.open("w") as output:
        for n in range(count):
            output.write(
                f'{{"id":"{prefix}-{n}","ts":{now},"link":"l{n * 7919 % 500}","contact_id":"c{n % 1000}","country":"DE",'
                f'"utm":{{"source":"news","campaign":"q2"}}}}\n')


def post(bench: Bench, daemon: harness.Daemon, file: Path) -> None:
    bench.load("lines", int(daemon.url.rsplit(":", 1)[1]), daemon.token, 2, LINES, str(file))


def family(daemon: harness.Daemon) -> list[int]:
    """The daemon and its workers."""
    own = daemon.process.child.pid
    children = Path(f"/proc/{own}/task/{own}/children")
    found = [own]
    for task in children.parent.parent.iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def cpu_seconds(daemon: harness.Daemon) -> float:
    spent = 0
    for pid in family(daemon):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / TICK


def private_mb(daemon: harness.Daemon) -> float:
    """Private memory of daemon and workers; needs root, because the daemon forbids being looked at."""
    total = 0
    for pid in family(daemon):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(int(value) for value in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB$", text, re.MULTILINE))
    return total / 1024


def bare(bench: Bench, receiver: Sink, count: int, connections: int, body: Path) -> float:
    return float(subprocess.run(
        [bench.tool("bare_hooks"), f"{receiver.origin}/in", str(count), str(connections), str(body)],
        capture_output=True, text=True, timeout=300, check=True).stdout)


def end_to_end(bench: Bench, isolation: str, delay_ms: int, connections: int, count: int) -> tuple[float, float, float]:
    """Hooks a second from the first POST to the last hook, the bare loop's, and our CPU seconds for 1,000 hooks."""
    file = bench.scratch / "clicks.ndjson"
    body = bench.scratch / "hook-body"
    with sink(bench, delay_ms) as receiver, hooked(bench, isolation, receiver, connections) as daemon:
        connect(daemon, receiver)
        write_clicks(file, 200, "warm")
        post(bench, daemon, file)
        body.write_text(receiver.wait_for(200)["body"])
        write_clicks(file, count, "click")
        receiver.ask("zero")
        before, started = cpu_seconds(daemon), time.monotonic()
        post(bench, daemon, file)
        seen = receiver.wait_for(count)
        spent = time.monotonic() - started
        cpu = (cpu_seconds(daemon) - before) * 1000 / count
        assert seen["distinct"] == seen["requests"] == count, seen
        floor = bare(bench, receiver, count, connections, body)
    return count / spent, floor, cpu


def measure(bench: Bench) -> None:
    """Through a worker and inline, 64 connections; then a receiver that takes 20 ms, 256 connections."""
    count = 10_000 if bench.quick else 100_000
    for isolation, aim in (("worker", 15_000), ("inline", 20_000)):
        rounds = [end_to_end(bench, isolation, 0, 64, count) for _ in range(bench.rounds)]
        bench.add(f"click to signed hook, {isolation}", "hooks/s", [ours for ours, _, _ in rounds], aim=f"{aim:,}",
                  bare=[floor for _, floor, _ in rounds], meets=lambda figure, _, aim=aim: figure >= aim,
                  note="one event a hook, 64 connections, from the first POST to the last hook; bare: libcurl, same bodies")
        bench.add(f"CPU for 1,000 hooks, {isolation}", "s", [cpu for _, _, cpu in rounds], aim="≤ 0.1",
                  meets=lambda figure, _: figure <= 0.1, note="daemon and worker, intake and log included")
    rounds = [end_to_end(bench, "worker", 20, 256, count // 2) for _ in range(bench.rounds)]
    bench.add("hooks to a receiver that takes 20 ms", "hooks/s", [ours for ours, _, _ in rounds], aim="0.9 of bare",
              bare=[floor for _, floor, _ in rounds], meets=lambda _, ratio: ratio >= 0.9,
              note="256 connections, worker")
    queued(bench)
    beside_a_crash(bench)


# -------------------------------------------------------------------------------------------------- what waits, and who else


def queued(bench: Bench) -> None:
    """Private memory with 100,000 clicks that wait for a receiver which does not answer."""
    count = 10_000 if bench.quick else 100_000
    file, found = bench.scratch / "clicks.ndjson", []
    for _ in range(bench.rounds):
        with sink(bench, 600_000) as receiver, hooked(bench, "worker", receiver, 64) as daemon:
            connect(daemon, receiver)
            write_clicks(file, count, "waiting")
            post(bench, daemon, file)
            harness.wait_for("calls are under way", lambda: receiver.ask()["requests"] >= 64, 30)
            found.append(private_mb(daemon))
    bench.add("memory with 100,000 hooks queued", "MB", found, aim="< 150", meets=lambda figure, _: figure < 150,
              note=f"daemon and worker, private; {count:,} clicks, a receiver that does not answer")


CRASHER: dict[str, Any] = {
    "manifest": 1, "id": "dev.milepost.bench.crasher", "name": "crasher", "title": "Crasher", "version": "0.1.0",
    "license": "Apache-2.0", "abi": {"major": 1, "min_host_minor": 0}, "kinds": ["destination"],
    "egress": [{"hosts": ["api.example.com"], "ports": [443], "methods": ["POST"]}],
    "auth": [{"scheme": "api_key", "credential": "api_token", "fields": [{"name": "api_token", "title": "Token", "secret": True}],
              "placements": [{"name": "header", "in": "header", "header": "x-api-token", "template": "{secret}"}]}],
    "actions": [{"name": "take", "title": "Take", "trigger": "click", "batch": {"max_records": 1}, "idempotency": "natural"}],
    "config_schema": {"type": "object", "properties": {}}, "limits": {"memory_mb": 64, "threads": 8},
}


def build_crasher(bench: Bench, crashes: bool) -> Path:
    """A folder with the hooks' plugin and one that crashes at every click, or takes it."""
    folder = bench.scratch / f"crasher{next(bench.numbers)}"
    folder.mkdir(mode=0o755)
    for name in ("custom-hook.so", "custom-hook.json"):
        shutil.copy(harness.DIST / "plugins" / name, folder / name)
    manifest = json.dumps(CRASHER)
    (folder / "crasher.json").write_text(manifest)
    quoted = manifest.replace("\\", "\\\\").replace('"', '\\"')
    subprocess.run(
        ["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-I", str(HERE.parents[1] / "include"), f'-DMANIFEST="{quoted}"',
         *(["-DCRASHES"] if crashes else []), "-o", str(folder / "crasher.so"), str(HERE / "crasher.c")],
        check=True, timeout=60)
    for path in folder.iterdir():
        path.chmod(0o755 if path.suffix == ".so" else 0o644)
    return folder


def beside(bench: Bench, plugins: Path, receiver: Sink, seconds: float, *, crashes: bool) -> float:
    """99th percentile in milliseconds from a click's POST to its hook, 200 clicks a second, beside the other connector."""
    receiver.ask("zero")
    settings: dict[str, Any] = {
        "plugin_dirs": [str(plugins)],
        "plugins": {
            "custom-hook": {"enabled": True, "isolation": "worker", "endpoints": {"receiver": receiver.origin}},
            "crasher": {"enabled": True, "isolation": "worker"}}}
    with bench.daemon(**settings) as daemon:
        base = connect(daemon, receiver)
        daemon.rest.post("/v1/workspaces/other/integrations/crasher", {"credentials": {"api_token": "0123456789abcdef"}})
        count, pause, reloaded = int(200 * seconds), 1 / 200, 0.0
        client = http.client.HTTPConnection(*daemon.url.removeprefix("http://").split(":"), timeout=60)
        headers = {"Authorization": f"Bearer {daemon.token}", "Content-Type": "application/json"}

        def ask(path: str, body: bytes) -> None:
            client.request("POST", path, body, headers)
            answer = client.getresponse()
            assert answer.status == 200, (path, answer.status, answer.read())
            answer.read()

        started = time.monotonic()
        for number in range(count):
            wait = started + number * pause - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            now = time.time()
            # Every twentieth is the other connector's; a reload forgives its crashes, so that no quarantine ends the loop.
            if number % 20 == 0:
                ask("/v1/workspaces/other/events", json.dumps({"id": f"o{number}", "ts": now, "link": "l", "contact_id": "c"}).encode())
            if time.monotonic() - reloaded > 0.5:
                reloaded = time.monotonic()
                ask("/v1/admin/reload", b"")
            click = {"id": f"p{number}", "ts": now, "link": f"l{number % 500}", "contact_id": "c",
                     "url": f"https://go.example.com/?t={time.monotonic() * 1e6:.0f}"}
            ask(f"{base}/events", json.dumps(click).encode())
        seen = receiver.wait_for(count)
        lines = daemon.process.output()
        assert ("crashed" in lines or "signal 6" in lines) == crashes, "the other connector is not as it should be"
        return seen["p99_us"] / 1000


def beside_a_crash(bench: Bench) -> None:
    """Ten interleaved pairs, with and without a connector that crashes in a loop: their differences in per cent."""
    pairs, seconds = (1, 3) if bench.quick else (10, 10)
    plugins = {crashes: build_crasher(bench, crashes) for crashes in (False, True)}
    quiet, loud = [], []
    with sink(bench) as receiver:
        for number in range(pairs):
            for crashes in (False, True) if number % 2 == 0 else (True, False):
                (loud if crashes else quiet).append(beside(bench, plugins[crashes], receiver, seconds, crashes=crashes))
    bench.add("99th percentile of a hook", "ms", quiet, note="200 clicks a second, beside a connector that takes its clicks")
    bench.add("the same beside a crashing one", "ms", loud, note="it aborts at every click, and is forgiven twice a second")
    bench.add("difference of the pairs", "%", [100 * (b - a) / a for a, b in zip(quiet, loud)], aim="< 5",
              meets=lambda figure, _: figure < 5, note=f"{pairs} interleaved pairs")
