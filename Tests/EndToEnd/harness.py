# SPDX-License-Identifier: Apache-2.0
"""Real processes for the tests: the daemon, the CRM sandbox, the command line, and a REST client.

Everything listens on loopback with a port of the kernel's choice, lies in a directory of its own, waits by looking with
a bound, and is ended by its own process id.

Environment: MILEPOST_DIST (binaries, default .build/dist), MILEPOST_SHARED (vendors' documents and click data, default
../shared), MILEPOST_TEST_MODE (quick or full), MILEPOST_TEST_ISOLATION (worker or inline), MILEPOST_KILLS and
MILEPOST_SEED (the crash test).
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DIST = Path(os.environ.get("MILEPOST_DIST") or ROOT / ".build" / "dist").resolve()
SHARED = Path(os.environ.get("MILEPOST_SHARED") or ROOT.parent / "shared").resolve()
CLICK_FILE = SHARED / "data" / "usagov-bitly-clicks.jsonl"
FULL = os.environ.get("MILEPOST_TEST_MODE", "quick") == "full"

VENDOR_TOKEN = "0123456789abcdef0123456789abcdef01234567"
ISOLATION = os.environ.get("MILEPOST_TEST_ISOLATION", "worker")

UNFINISHED = {"pending", "in_flight", "uncertain", "retrying"}

# Where the plugin creates: deals in the generation of today, notes in v1, which has no successor.
DEALS, NOTES = "/api/v2/deals", "/v1/notes"


def wait_for(what: str, probe: Callable[[], Any], timeout: float = 15.0, pause: float = 0.02) -> Any:
    """Looks until `probe` returns something true, and returns that. A probe may raise `ConnectionError` meanwhile."""
    deadline = time.monotonic() + timeout
    last: BaseException | None = None
    while time.monotonic() < deadline:
        try:
            found = probe()
            if found:
                return found
        except (ConnectionError, http.client.HTTPException, TimeoutError) as error:
            last = error
        time.sleep(pause)
    raise AssertionError(f"not within {timeout:g} s: {what}" + (f" (last: {last!r})" if last else ""))


def rfc3339(moment: datetime | None = None, **ago: float) -> str:
    """Now, or `moment`, less `ago` (as for timedelta), as the API writes times."""
    moment = (moment or datetime.now(UTC)) - timedelta(**ago)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ---------------------------------------------------------------------------------------------------------------- REST


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


# ----------------------------------------------------------------------------------------------------------- processes


_libc = ctypes.CDLL(None)


def die_with_the_tests() -> None:
    """In a child, before it becomes the program: ends it when the tests are killed and can clean up no more."""
    PR_SET_PDEATHSIG = 1
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Process:
    """A child in a session of its own, with its output in a file. It is ended by its own process id only."""

    running: list[Process] = []
    """Everything started and not yet reaped, for logs of failures and for cleaning up."""

    def __init__(
        self, name: str, command: list[str], log: Path, env: dict[str, str] | None = None, user: int | None = None
    ):
        assert Path(command[0]).exists(), f"{command[0]} is not there: run make build, or set MILEPOST_DIST"
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._offset = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                user=user,
                start_new_session=True,
                preexec_fn=die_with_the_tests,
            )
        Process.running.append(self)

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def alive(self) -> bool:
        return self.child.poll() is None

    def output(self) -> str:
        """What this process has written; not what an earlier one wrote to the same file."""
        with self.log.open("rb") as file:
            file.seek(self._offset)
            return file.read().decode(errors="replace")

    def wait_line(self, pattern: str, timeout: float = 20) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.output())
            if not found and not self.alive:
                raise AssertionError(f"{self.name} ended with {self.child.returncode}:\n{self.output()[-4000:]}")
            return found

        return wait_for(f"{self.name} writes /{pattern}/; it wrote:\n{self.output()[-2000:]}", look, timeout)

    def kill(self) -> None:
        """Ends it as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait(10)

    def stop(self, timeout: float = 20) -> int:
        """Asks it to end; fails when it does not."""
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)
        return self.wait(timeout)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        try:
            code = self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} (pid {self.pid}) still runs after {timeout:g} s") from None
        if self in Process.running:
            Process.running.remove(self)
        return code


LISTENING = r"listening on (http://[0-9.]+:\d+)"


class Sandbox:
    """The CRM sandbox and its control API."""

    def __init__(
        self, directory: Path, *, plan: str = "off", search_lag_ms: int = 0, token: str = VENDOR_TOKEN, seed: int = 1
    ):
        self.directory, self.token = directory, token
        self.process = Process(
            "sandbox",
            [
                str(DIST / "milepost-sandbox"),
                "--listen",
                "127.0.0.1:0",
                "--token",
                token,
                "--rate-limit",
                plan,
                "--search-lag",
                f"{search_lag_ms}ms",
                "--seed",
                str(seed),
            ],
            directory / "sandbox.log",
        )
        self.url = self.process.wait_line(LISTENING).group(1)
        self.rest = Rest(self.url)

    # Faults and state

    def fault(self, kind: str, method: str = "POST", path: str = "/api/v2/deals", **more: Any) -> dict[str, Any]:
        match: dict[str, Any] = {"method": method, "path": path}
        if "body_contains" in more:
            match["body_contains"] = more.pop("body_contains")
        return self.rest.post("/_sandbox/faults", {"match": match, "kind": kind, **more})

    def faults(self) -> list[dict[str, Any]]:
        return self.rest.get("/_sandbox/faults")

    def clear_faults(self) -> None:
        self.rest.delete("/_sandbox/faults")

    def struck(self) -> int:
        """How often the faults that are set have struck."""
        return sum(fault["struck"] for fault in self.faults())

    def add_token(self, token: str, **facts: Any) -> str:
        self.rest.post("/_sandbox/tokens", {"token": token, **facts})
        return token

    def revoke(self, token: str | None = None) -> None:
        self.rest.post("/_sandbox/revoke", {"token": token or self.token})

    def restore(self, token: str | None = None) -> None:
        self.rest.post("/_sandbox/restore", {"token": token or self.token})

    def state(self) -> dict[str, Any]:
        """The first company with its pipelines, stages and fields."""
        return self.rest.get("/_sandbox/state")["companies"][0]

    def field_key(self, name: str) -> str:
        keys = [field["key"] for field in self.state()["fields"] if field["name"] == name]
        assert len(keys) == 1, keys
        return keys[0]

    def set_search_lag(self, milliseconds: int) -> None:
        self.rest.post("/_sandbox/search-lag", {"ms": milliseconds})

    # The ledger

    def ledger(self, only: str = "deals,notes,persons") -> dict[str, Any]:
        return self.rest.get(f"/_sandbox/ledger?only={only}")

    def deals(self, part: str = "") -> list[dict[str, Any]]:
        """Deals that really exist, oldest first, those whose title holds `part`."""
        return [deal for deal in self.ledger("deals")["deals"] if part in deal["title"]]

    def notes(self, deal: int | None = None) -> list[dict[str, Any]]:
        return [note for note in self.ledger("notes")["notes"] if deal is None or note["deal_id"] == deal]

    def requests(self, method: str | None = None, path: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Requests received after number `since`; `path` is an expression for the whole path."""
        entries = self.rest.get(f"/_sandbox/ledger?only=requests&since={since}")["requests"]
        return [
            entry
            for entry in entries
            if (method is None or entry["method"] == method) and (path is None or re.fullmatch(path, entry["path"]))
        ]

    def mark(self) -> int:
        """The number of the newest request, for `since`."""
        return max((entry["n"] for entry in self.requests()), default=0)

    def stop(self, archived: bool = True) -> None:
        if self.process.alive:
            if archived:
                with contextlib.suppress(Exception):
                    archive_requests(self)
            self.process.stop()


ARCHIVE: list[dict[str, Any]] = []
"""Requests that sandboxes received during this session, for test_contract."""
_archived: dict[str, int] = {}


def archive_requests(sandbox: Sandbox) -> None:
    """Keeps a copy of what the sandbox received, once each."""
    for entry in sandbox.requests(since=_archived.get(sandbox.url, 0)):
        ARCHIVE.append(entry)
        _archived[sandbox.url] = entry["n"]


def yaml(value: Any) -> str:
    """JSON is YAML."""
    return json.dumps(value, indent=1)


class Daemon:
    """One data directory with its configuration, and the daemon on it, which may die and start again."""

    def __init__(self, directory: Path, sandbox: Sandbox | None = None, **settings: Any):
        self.directory = directory
        self.data = directory / "data"
        self.config_file = directory / "milepost.yaml"
        self.log = directory / "milepostd.log"
        self.process: Process | None = None
        self.env: dict[str, str] = {}
        self.token: str | None = None
        self.url = ""
        self.settings: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "data_dir": str(self.data),
            "plugin_dirs": [str(DIST / "plugins")],
            "kms": {"type": "file", "path": str(directory / "keys" / "kek")},
            # A day, so that no tick but those of the test runs.
            "schedule": {"threshold_interval": "24h"},
            "delivery": {"request_timeout": "1s", "operation_timeout": "10s", "retry_base": "20ms"},
            "log": {"level": "debug"},
        }
        if sandbox:
            self.settings["plugins"] = {
                "pipedrive": {
                    "enabled": True,
                    "isolation": ISOLATION,
                    "rate_plan": "ultimate",
                    "endpoints": {"api": sandbox.url},
                }
            }
        merge(self.settings, settings)
        self.write_config()

    def write_config(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(yaml(self.settings))

    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MILEPOST_")}
        return {**kept, "HOME": str(self.directory), "XDG_CONFIG_HOME": str(self.directory / "xdg"), **self.env}

    def init(self) -> str:
        """Makes keys and the first token."""
        done = subprocess.run(
            [str(DIST / "milepostd"), "--init", "--config", str(self.config_file)],
            capture_output=True,
            text=True,
            timeout=30,
            env=self.environment(),
        )
        assert done.returncode == 0, f"--init ended with {done.returncode}: {done.stdout}{done.stderr}"
        self.token = json.loads(done.stdout)["token"]
        return self.token

    def start(self, *arguments: str, ready: bool = True, timeout: float = 20) -> Daemon:
        if self.token is None:
            self.init()
        assert not (self.process and self.process.alive), "the daemon runs already"
        self.process = Process(
            "milepostd",
            [str(DIST / "milepostd"), "--config", str(self.config_file), *arguments],
            self.log,
            self.environment(),
        )
        self.url = self.process.wait_line(LISTENING, timeout).group(1)
        if ready:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout: float = 20) -> None:
        def is_ready() -> bool:
            assert self.process.alive, (
                f"the daemon ended with {self.process.child.returncode}:\n{self.process.output()[-4000:]}"
            )
            return Rest(self.url, timeout=5).request("GET", "/readyz").status == 200

        wait_for("the daemon is ready", is_ready, timeout)

    def arm(self, point: str, count: int = 1) -> Daemon:
        """Starts a daemon that kills itself when it comes to the named crash point for the `count`-th time."""
        return self.start("--allow-crash-points", "--crash-at", f"{point}:{count}")

    @property
    def rest(self) -> Rest:
        return Rest(self.url, self.token)

    def cli(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 60, **env: str
    ) -> Run:
        return run_cli(
            *arguments,
            env={**self.environment(), "MILEPOST_URL": self.url, "MILEPOST_TOKEN": self.token or "", **env},
            stdin=stdin,
            check=check,
            timeout=timeout,
        )

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> int:
        return self.process.stop()

    def restart(self, *arguments: str) -> Daemon:
        self.stop()
        return self.start(*arguments)

    def tick(self, workspace: str | None = None) -> dict[str, Any]:
        return self.rest.post("/v1/admin/tick" + (f"?workspace={workspace}" if workspace else ""))

    def drain(self, workspace: str, timeout: float = 30) -> None:
        """Ticks until nothing of the workspace is under way."""

        left: list[dict[str, Any]] = []

        def is_settled() -> bool:
            self.tick(workspace)
            left[:] = unfinished(self.rest, workspace)
            return not left

        try:
            wait_for("settled", is_settled, timeout, pause=0.25)
        except AssertionError:
            facts = ("link", "folder", "threshold", "state", "attempts", "reason", "next_attempt_at")
            told = "\n".join(str({name: delivery[name] for name in facts}) for delivery in left[:10])
            raise AssertionError(
                f"after {timeout:g} s {len(left)} deliveries of {workspace} are not settled:\n{told}"
            ) from None

    def metrics(self) -> dict[str, float]:
        """Every series of /metrics by its name with labels."""
        text = self.rest.request("GET", "/metrics").expect(200).decode()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def workspace(self, name: str) -> Workspace:
        return Workspace(self, name)


def unfinished(rest: Rest, workspace: str) -> list[dict[str, Any]]:
    return listed(rest, f"/v1/workspaces/{workspace}/deliveries?state={','.join(sorted(UNFINISHED))}", "deliveries")


def listed(rest: Rest, path: str, key: str) -> list[dict[str, Any]]:
    """Every item of a paged list."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        more = {"limit": 500} | ({"cursor": cursor} if cursor else {})
        page = rest.get(path + ("&" if "?" in path else "?") + urllib.parse.urlencode(more))
        items += page[key]
        cursor = page["next"]
        if not cursor:
            return items


def merge(base: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value


@dataclass
class Run:
    """A finished run of the command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_cli(
    *arguments: str, env: dict[str, str], stdin: str | None = None, check: bool = True, timeout: float = 60
) -> Run:
    done = subprocess.run(
        [str(DIST / "milepost"), *arguments],
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env,
    )
    run = Run(done.returncode, done.stdout, done.stderr)
    assert not check or run.code == 0, f"milepost {' '.join(arguments)} ended with {run.code}:\n{run.out}\n{run.err}"
    return run


# ---------------------------------------------------------------------------------------------------------- workspaces


@dataclass
class Workspace:
    """A workspace of its own for one test, so that tests can share a daemon."""

    daemon: Daemon
    name: str
    _made: int = field(default=0)

    @property
    def base(self) -> str:
        return f"/v1/workspaces/{self.name}"

    @property
    def rest(self) -> Rest:
        return self.daemon.rest

    def connect(self, token: str = VENDOR_TOKEN, expect: Iterable[int] = (200, 201), **settings: Any) -> dict[str, Any]:
        body = {"credentials": {"api_token": token}, "pipeline_id": 1, "stage_id": 11, **settings}
        return self.rest.post(f"{self.base}/integrations/pipedrive", body, expect=expect)

    def patch(self, expect: Iterable[int] = (200,), **settings: Any) -> dict[str, Any]:
        return self.rest.patch(f"{self.base}/integrations/pipedrive", settings, expect=expect)

    def connection(self) -> dict[str, Any]:
        return self.rest.get(f"{self.base}/integrations/pipedrive")

    def clicks(self, link: str, count: int, **facts: Any) -> None:
        """Posts `count` new clicks on a link and checks that each was taken."""
        lines = []
        for _ in range(count):
            self._made += 1
            lines.append(
                json.dumps({"id": f"{self.name}-{self._made}", "ts": rfc3339(seconds=5), "link": link, **facts})
            )
        answer = self.rest.post(
            f"{self.base}/events", "\n".join(lines).encode(), headers={"Content-Type": "application/x-ndjson"}
        )
        assert answer["accepted"] == count and answer["rejected"] == 0, answer

    def put_link(self, link: str, **facts: Any) -> dict[str, Any]:
        return self.rest.put(f"{self.base}/links/{urllib.parse.quote(link, safe='')}", facts)

    def link(self, link: str) -> dict[str, Any]:
        return self.rest.get(f"{self.base}/links/{urllib.parse.quote(link, safe='')}")

    def tick(self) -> dict[str, Any]:
        report = self.daemon.tick(self.name)
        assert report["errors"] == [], report
        return report

    def drain(self, timeout: float = 30) -> None:
        self.daemon.drain(self.name, timeout)

    def deliveries(self, **filters: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode(filters)
        return listed(self.rest, f"{self.base}/deliveries" + (f"?{query}" if query else ""), "deliveries")

    def delivery(self, identifier: str) -> dict[str, Any]:
        return self.rest.get(f"{self.base}/deliveries/{identifier}")

    def explain(self, link: str) -> dict[str, Any]:
        return self.rest.get(f"{self.base}/links/{urllib.parse.quote(link, safe='')}/explain")

    def explained(self, link: str, threshold: int) -> dict[str, Any]:
        """The one explanation for a threshold."""
        lines = [line for line in self.explain(link)["explanations"] if line["threshold"] == threshold]
        assert len(lines) == 1, lines
        return lines[0]


def slug(workspace: Workspace, name: str = "spring") -> str:
    """A link that nobody else uses: tests share a vendor account."""
    return f"{name}-{workspace.name}"


def titles(sandbox: Sandbox, link: str) -> list[str]:
    """Titles of the deals of one link, in the order of their creation."""
    return [deal["title"] for deal in sandbox.deals(f"Link {link} hit")]


# ------------------------------------------------------------------------------------------------------------- cleaning


def end_all() -> None:
    """Ends every process a test left behind, each by its own id."""
    for process in list(Process.running):
        process.kill()


@contextlib.contextmanager
def temporary_directory() -> Iterable[Path]:
    path = Path(tempfile.mkdtemp(prefix="milepost-test-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
