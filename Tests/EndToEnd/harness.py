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
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from processes import Process, wait_for
from rest import Answer, Rest, problem

__all__ = ["Answer", "Process", "Rest", "problem", "wait_for"]  # for the tests, which know one library

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


def rfc3339(moment: datetime | None = None, **ago: float) -> str:
    """Now, or `moment`, less `ago` (as for timedelta), as the API writes times."""
    moment = (moment or datetime.now(UTC)) - timedelta(**ago)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
