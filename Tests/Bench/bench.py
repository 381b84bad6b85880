# SPDX-License-Identifier: Apache-2.0
"""What Milepost costs, measured on the real binaries beside bare SQLite and bare libcurl in the same run.

    .venv/bin/python Tests/Bench/bench.py [--quick] [--only NAME,NAME] [--json FILE]

Every figure is a median of five, with smallest and largest value; --quick takes one round of a fifth of the size. Reads
the binaries of MILEPOST_DIST (default .build/dist), works in a scratch folder below MILEPOST_BENCH_DIR (default .build: in
memory fsync would be free). An aim that is missed fails nothing. docs/benchmarks.md says how to read the table.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "EndToEnd"))

import harness  # noqa: E402  (lies in the folder that was just added)
import hook_bench  # noqa: E402
import rule_bench  # noqa: E402
import timeline_bench  # noqa: E402

WORKSPACE = "bench"
TRANSACTION = 8192  # SQLiteConfiguration.clicksPerTransaction: one request of so many lines is one transaction
LINKS = 1000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
STEP_TIMEOUT = 300


@dataclass
class Row:
    """One line of the table. `ratio` is ours to bare; `is_met` is None where there is no aim."""

    name: str
    unit: str
    aim: str
    figure: float
    low: float
    high: float
    bare: float | None = None
    ratio: float | None = None
    is_met: bool | None = None
    note: str = ""


class Bench:
    def __init__(self, scratch: Path, quick: bool):
        self.scratch, self.quick = scratch, quick
        self.rounds = 1 if quick else 5
        self.rows: list[Row] = []
        self.numbers = iter(range(1, 10_000))

    # Parts

    def compile(self) -> None:
        libraries_of = {
            "bare_sqlite": ["-lsqlite3"], "bare_pipe": ["-lsqlite3"], "bare_windows": ["-lsqlite3"], "bare_curl": ["-lcurl"],
            "bare_hooks": ["-lcurl"], "hook_sink": [], "post_load": []}
        for name, libraries in libraries_of.items():
            run(["cc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", self.tool(name), str(HERE / f"{name}.c"), *libraries])

    def tool(self, name: str) -> str:
        return str(self.scratch / name)

    @contextlib.contextmanager
    def daemon(self, sandbox: harness.Sandbox | None = None, **settings: Any) -> Iterator[harness.Daemon]:
        """A fresh daemon that ticks only when asked; its folder is gone afterwards."""
        folder = self.scratch / f"daemon{next(self.numbers)}"
        folder.mkdir()
        daemon = harness.Daemon(folder, sandbox, log={"level": "info"}, **settings)
        try:
            daemon.start()
            yield daemon
        finally:
            if daemon.process and daemon.process.alive:
                daemon.kill()
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def sandbox(self) -> Iterator[harness.Sandbox]:
        folder = self.scratch / f"sandbox{next(self.numbers)}"
        folder.mkdir()
        sandbox = harness.Sandbox(folder)
        try:
            yield sandbox
        finally:
            sandbox.process.kill()

    def load(self, mode: str, port: int, token: str, connections: int, amount: float, argument: str) -> dict[str, Any]:
        return json.loads(run([self.tool("post_load"), mode, str(port), token, str(connections), str(amount), argument]))

    def add(self, name: str, unit: str, values: list[float], *, aim: str = "", bare: list[float] | None = None,
            meets: Callable[[float, float | None], bool] | None = None, note: str = "") -> None:
        figure = statistics.median(values)
        floor = statistics.median(bare) if bare else None
        ratio = figure / floor if floor else None
        row = Row(name, unit, aim, figure, min(values), max(values), floor, ratio, meets(figure, ratio) if meets else None, note)
        self.rows.append(row)
        print(line(row), flush=True)

    # Intake

    def intake(self) -> None:
        """NDJSON, acknowledged and on disk, beside SQLite alone with the same rows and the same transaction size."""
        requests = 5 if self.quick else 25
        events = requests * TRANSACTION
        file = self.scratch / "events.ndjson"
        write_events(file, (f"link-{number % LINKS}" for number in shuffled(events)))
        ours, bare = [], []
        for _ in range(self.rounds):
            bare.append(self.bare_sqlite(events))
            with self.daemon() as daemon:
                ready_workspace(daemon)
                result = self.load("lines", port(daemon), daemon.token, 3, TRANSACTION, str(file))
            assert result["accepted"] == events, result
            ours.append(result["per_second"])
        file.unlink()
        self.add("NDJSON intake, durable", "events/s", ours, aim="0.6 of bare", bare=bare, meets=lambda _, ratio: ratio >= 0.6,
                 note=f"{events:,} events, {TRANSACTION:,} a request and transaction, 3 connections; bare: SQLite, same rows")

    def bare_sqlite(self, events: int) -> float:
        database = self.scratch / "bare.db"
        try:
            return float(run([self.tool("bare_sqlite"), str(database), str(events), str(TRANSACTION), str(LINKS)]))
        finally:
            for path in self.scratch.glob("bare.db*"):
                path.unlink()

    def posts(self) -> None:
        """One event a request over 64 kept-alive connections, beside an epoll server in C that stores and answers."""
        seconds = 1 if self.quick else 5
        rates, p50, p99, bare_rates, bare_p99 = [], [], [], [], []
        for _ in range(self.rounds):
            bare = self.bare_pipe(seconds)
            with self.daemon() as daemon:
                ready_workspace(daemon)
                result = self.load("single", port(daemon), daemon.token, 64, seconds, "event")
            assert result["accepted"] == result["requests"], result
            rates.append(result["per_second"])
            p50.append(result["p50_us"] / 1000)
            p99.append(result["p99_us"] / 1000)
            bare_rates.append(bare["per_second"])
            bare_p99.append(bare["p99_us"] / 1000)
        self.add("single-event POSTs, durable", "requests/s", rates, aim="20,000", bare=bare_rates,
                 meets=lambda figure, _: figure >= 20_000, note="64 connections; bare: epoll and SQLite in C, no JSON, no authentication")
        self.add("their median latency", "ms", p50)
        self.add("their 99th percentile", "ms", p99, aim="< 10", bare=bare_p99, meets=lambda figure, _: figure < 10)

    def bare_pipe(self, seconds: float) -> dict[str, Any]:
        database, number = self.scratch / "bare.db", free_port()
        server = subprocess.Popen(
            [self.tool("bare_pipe"), str(database), str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert server.stdout.readline() == b"ready\n"
            return self.load("single", number, "mpt_bench", 64, seconds, "event")
        finally:
            server.stdin.close()  # ends it
            server.wait(10)
            server.stdout.close()
            for path in self.scratch.glob("bare.db*"):
                path.unlink()

    # Ticks

    def ticks(self) -> None:
        """A tick after one link in a hundred has changed, with a connection that looks at all of them."""
        for links, aim in [(50_000, 2), (200_000 if self.quick else 1_000_000, None if self.quick else 40)]:
            with self.sandbox() as sandbox, self.daemon(sandbox) as daemon:
                said, seen = self.tick_times(daemon, sandbox, links)
            self.add(f"tick, {links:,} links, 1% changed", "ms", said, aim=f"< {aim}" if aim else "",
                     meets=(lambda figure, _, aim=aim: figure < aim) if aim else None,
                     note=f"the tick's own figure, whole ms; {statistics.median(seen):.1f} ms as its caller sees it")

    def tick_times(self, daemon: harness.Daemon, sandbox: harness.Sandbox, links: int) -> tuple[list[float], list[float]]:
        ready_workspace(daemon)
        self.post_links(daemon, range(links), "all")
        connect(daemon, sandbox)
        client = http.client.HTTPConnection("127.0.0.1", port(daemon), timeout=STEP_TIMEOUT)
        tick(client, daemon.token)
        said, seen = [], []
        for number in range(self.rounds):
            changed = random.Random(number).sample(range(links), links // 100)
            self.post_links(daemon, changed, f"round{number}")
            started = time.perf_counter()
            report = tick(client, daemon.token)
            seen.append((time.perf_counter() - started) * 1000)
            said.append(report["duration_ms"])
            assert report["links_examined"] == len(changed) and report["crossings"] == 0, report
        client.close()
        return said, seen

    def post_links(self, daemon: harness.Daemon, links: Any, prefix: str) -> None:
        """One click on each link."""
        file = self.scratch / "links.ndjson"
        write_events(file, (f"link-{number}" for number in links), prefix)
        result = self.load("lines", port(daemon), daemon.token, 3, TRANSACTION, str(file))
        assert result["accepted"] == len(links), result
        file.unlink()

    # The plugin boundary

    def abi(self) -> None:
        """`perform` to answer, for a plugin in C that completes at once: host, boundary and, in a worker, two frames."""
        folder = self.scratch / "abi"
        driver, plugins = build_driver(folder), build_echo(folder / "plugins")
        found: dict[tuple[str, int], list[float]] = {}
        for _ in range(self.rounds):
            worker = str(harness.DIST / "milepost-plugin-worker")
            for text in run([driver, plugins, worker, "32000" if self.quick else "160000"]).splitlines():
                result = json.loads(text)
                found.setdefault((result["isolation"], result["depth"]), []).append(result["us"])
        for isolation, aim in [("inline", 2), ("worker", 20)]:
            self.add(f"ABI, {isolation}, 64 under way", "µs/operation", found[isolation, 64], aim=f"< {aim}",
                     meets=lambda figure, _, aim=aim: figure < aim, note="ping, from the engine's call to its answer")
            self.add(f"ABI, {isolation}, one at a time", "µs", found[isolation, 1])

    # Each in a file of its own
    rules, timeline, hooks = rule_bench.measure, timeline_bench.measure, hook_bench.measure

    # Memory, start, way to a deal

    def rest(self) -> None:
        """A connected daemon that has nothing to do."""
        shared, written, worker, worker_written = [], [], [], []
        for _ in range(self.rounds):
            with self.sandbox() as sandbox, self.daemon(sandbox) as daemon:
                ready_workspace(daemon)
                connect(daemon, sandbox)
                plugin = next(p for p in daemon.rest.get("/v1/admin/plugins")["plugins"] if p["name"] == "pipedrive")
                assert plugin["pid"], plugin
                time.sleep(2)  # lets the log be cut and the allocator settle
                ours, theirs = memory(daemon.process.pid), memory(plugin["pid"])
            shared.append(ours["Pss"] / 1024)
            written.append(ours["Private_Dirty"] / 1024)
            worker.append((theirs["Private_Clean"] + theirs["Private_Dirty"]) / 1024)
            worker_written.append(theirs["Private_Dirty"] / 1024)
        self.add("daemon at rest, proportional", "MB", shared, aim="< 40", meets=lambda figure, _: figure < 40,
                 note="PSS; one worker, one connection")
        self.add("daemon at rest, written", "MB", written, note="what the kernel cannot drop and read again")
        self.add("worker at rest, private", "MB", worker, aim="< 3", meets=lambda figure, _: figure < 3, note="pipedrive.so in it")
        self.add("worker at rest, written", "MB", worker_written, note="what the kernel cannot drop and read again")

    def start(self) -> None:
        """From exec to the first 200 of /readyz, on an initialised data directory, with pipedrive enabled."""
        spent = []
        with self.sandbox() as sandbox, self.daemon(sandbox) as daemon:
            ready_workspace(daemon)
            connect(daemon, sandbox)
            for _ in range(self.rounds):
                daemon.stop()
                daemon.settings["listen"] = f"127.0.0.1:{free_port()}"
                daemon.write_config()
                spent.append(start_to_ready(daemon) * 1000)
        self.add("start to ready", "ms", spent, aim="< 300", meets=lambda figure, _: figure < 300)

    def deal(self) -> None:
        """One click that crosses a threshold: posted, ticked, deal and note in the CRM. Beside libcurl's two requests."""
        count = 5 if self.quick else 20
        with self.sandbox() as sandbox, self.daemon(sandbox) as daemon:
            ready_workspace(daemon)
            connect(daemon, sandbox, thresholds=[1])
            client = http.client.HTTPConnection("127.0.0.1", port(daemon), timeout=STEP_TIMEOUT)
            spent = []
            for number in range(count):
                started = time.perf_counter()
                ask(client, "POST", f"/v1/workspaces/{WORKSPACE}/events", daemon.token, {"ts": int(time.time()), "link": f"deal-{number}"})
                report = tick(client, daemon.token)
                spent.append((time.perf_counter() - started) * 1000)
                assert report["delivered"] == 1, report
            client.close()
            deals, notes = sandbox.deals(), sandbox.notes()
            assert len(deals) == count and len(notes) == count, (len(deals), len(notes))
            bare = self.bare_requests(sandbox, deals[0]["id"])
        self.add("click to deal with note", "ms", spent, bare=bare, note="event, tick, two CRM requests; bare: those two by libcurl")

    def bare_requests(self, sandbox: harness.Sandbox, deal: int) -> list[float]:
        """Milliseconds that creating a deal and a note takes with libcurl alone."""
        total = 0.0
        for path, body in [
            ("/api/v2/deals", {"title": "bare {n}", "pipeline_id": 1, "stage_id": 11}),
            ("/v1/notes", {"content": "bare {n}", "deal_id": deal}),
        ]:
            answer = run([self.tool("bare_curl"), sandbox.url + path, sandbox.token, "100", "1", json.dumps(body)])
            total += float(answer.split()[1]) / 1000
        return [total]


# ------------------------------------------------------------------------------------------------------------- one step


def run(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_TIMEOUT, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def shuffled(count: int) -> list[int]:
    numbers = list(range(count))
    random.Random(1).shuffle(numbers)
    return numbers


def write_events(file: Path, links: Iterator[str], prefix: str = "event") -> None:
    now = int(time.time())
    with file.open("w") as output:
        for number, link in enumerate(links):
            output.write(
                f'{{"id":"{prefix}-{number}","ts":{now},"link":"{link}","referrer":"https://news.example.com/today",'
                f'"country":"DE","user_agent":"{AGENT}"}}\n')


def port(daemon: harness.Daemon) -> int:
    return int(daemon.url.rsplit(":", 1)[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ready_workspace(daemon: harness.Daemon) -> None:
    """A workspace appears with an administrator's first write."""
    daemon.rest.post(f"/v1/workspaces/{WORKSPACE}/events", {"ts": int(time.time()), "link": "first"})


def connect(daemon: harness.Daemon, sandbox: harness.Sandbox, **settings: Any) -> None:
    daemon.rest.post(
        f"/v1/workspaces/{WORKSPACE}/integrations/pipedrive",
        {"credentials": {"api_token": sandbox.token}, "pipeline_id": 1, "stage_id": 11, **settings})


def ask(client: http.client.HTTPConnection, method: str, path: str, token: str, body: Any = None) -> Any:
    text = b"" if body is None else json.dumps(body).encode()
    client.request(method, path, text, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
    response = client.getresponse()
    answer = response.read()
    assert response.status in (200, 201), (response.status, answer[:1000])
    return json.loads(answer)


def tick(client: http.client.HTTPConnection, token: str) -> dict[str, Any]:
    report = ask(client, "POST", "/v1/admin/tick", token)
    assert not report["errors"], report
    return report


def start_to_ready(daemon: harness.Daemon) -> float:
    """Seconds; asks again every millisecond."""
    address = daemon.settings["listen"].split(":")
    started = time.perf_counter()
    daemon.process = harness.Process(
        "milepostd", [str(harness.DIST / "milepostd"), "--config", str(daemon.config_file)], daemon.log, daemon.environment())
    while time.perf_counter() - started < 30:
        with contextlib.suppress(OSError, http.client.HTTPException):
            client = http.client.HTTPConnection(address[0], int(address[1]), timeout=5)
            client.request("GET", "/readyz")
            status = client.getresponse().status
            client.close()
            if status == 200:
                return time.perf_counter() - started
        time.sleep(0.001)
    raise RuntimeError("the daemon was not ready within 30 s")


def memory(pid: int) -> dict[str, int]:
    """KiB by the kernel's names. Needs root, because the daemon forbids being looked at."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def build_driver(folder: Path) -> str:
    """The Swift driver over MilepostPluginHost, built in release beside a link to the sources it measures."""
    folder.mkdir()
    shutil.copy(HERE / "abi" / "Package.swift", folder)
    (folder / "Driver").symlink_to(HERE / "abi" / "Driver")
    (folder / "Sources").symlink_to(ROOT / "Sources")
    run(["swift", "build", "-c", "release", "--package-path", str(folder)])
    return str(folder / ".build" / "release" / "abi-cost")


def build_echo(folder: Path) -> str:
    folder.mkdir()
    manifest = json.dumps({
        "manifest": 1, "id": "dev.milepost.bench.echo", "name": "echo", "title": "Echo", "version": "0.1.0", "license": "Apache-2.0",
        "abi": {"major": 1, "min_host_minor": 0}, "kinds": ["destination"],
        "egress": [{"hosts": ["api.example.com"], "ports": [443], "methods": ["POST"]}],
        "limits": {"memory_mb": 64, "threads": 8},
    })
    (folder / "echo.json").write_text(manifest)
    quoted = manifest.replace("\\", "\\\\").replace('"', '\\"')
    run(["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread", "-I", str(ROOT / "include"), f'-DMANIFEST="{quoted}"',
         "-o", str(folder / "echo.so"), str(ROOT / "Tests" / "Plugins" / "echo" / "echo.c")])
    for path, mode in [(folder, 0o755), (folder / "echo.so", 0o755), (folder / "echo.json", 0o644)]:
        os.chmod(path, mode)
    return str(folder)


# --------------------------------------------------------------------------------------------------------------- report


def machine(scratch: Path) -> dict[str, Any]:
    """What the figures depend on, without naming the machine."""
    processor = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    kind = run(["df", "--output=fstype", str(scratch)]).split()[-1]
    return {
        "cores": len(os.sched_getaffinity(0)), "processor": processor.group(1) if processor else platform.machine(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1), "kernel": platform.release(),
        "filesystem": kind, "fdatasync_us": round(fdatasync_cost(scratch)), "load_before": round(os.getloadavg()[0], 2),
    }


def fdatasync_cost(scratch: Path) -> float:
    """Median microseconds of a 4 KiB append made durable: the floor under every single commit."""
    spent = []
    with (scratch / "sync").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(os.urandom(4096))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            spent.append(time.perf_counter() - started)
    (scratch / "sync").unlink()
    return statistics.median(spent) * 1e6


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def line(row: Row) -> str:
    verdict = {True: "met", False: "MISSED", None: ""}[row.is_met]
    spread = f"{number(row.low)} … {number(row.high)}"
    bare = number(row.bare) if row.bare is not None else ""
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
    return f"| {row.name} | {row.aim} | {number(row.figure)} {row.unit} | {spread} | {bare} | {ratio} | {verdict} | {row.note} |"


MEASURES = ["start", "rest", "intake", "posts", "ticks", "abi", "deal", "rules", "timeline", "hooks"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures Milepost beside bare SQLite and libcurl.")
    parser.add_argument("--quick", action="store_true", help="one round, smaller: to see that it runs")
    parser.add_argument("--only", default="", help=f"some of {', '.join(MEASURES)}")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    chosen = [name for name in options.only.split(",") if name] or MEASURES
    if unknown := set(chosen) - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    base = Path(os.environ.get("MILEPOST_BENCH_DIR") or ROOT / ".build")
    base.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    scratch.chmod(0o755)
    failures = []
    try:
        bench = Bench(scratch, options.quick)
        facts = machine(scratch)
        print("machine: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
        print("\n| measure | aim | median | spread | bare | ratio | | note |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
        bench.compile()
        for name in chosen:
            try:
                getattr(bench, name)()
            except (AssertionError, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                failures.append(f"{name}: {error}")
    finally:
        harness.end_all()
        shutil.rmtree(scratch, ignore_errors=True)
    if options.json:
        report = {"machine": facts, "quick": options.quick, "rows": [asdict(row) for row in bench.rows], "failures": failures}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    for failure in failures:
        print(f"could not measure {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
