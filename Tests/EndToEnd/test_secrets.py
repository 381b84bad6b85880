# SPDX-License-Identifier: Apache-2.0
"""A marker token through everything the daemon does, and a search wherever it could have stayed (section C)."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import re
import tempfile
import urllib.parse
from pathlib import Path

import pytest

from harness import Daemon

MARKER = "MARKERf00dfeedc0ffee0badc0de0decafbad0abad"


def forms(secret: str) -> list[bytes]:
    """The secret as it could have been written: plain, percent-encoded, hexadecimal, base64 at each offset, UTF-16."""
    raw = secret.encode()
    encoded = [
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        urllib.parse.quote(secret, safe="").encode(),
        secret.encode("utf-16-le"),
    ]
    for offset in range(3):
        # The part of the base64 text that does not depend on what stands before and after.
        encoded.append(base64.b64encode(b"\0" * offset + raw)[4:-4])
    return encoded


def finds(data: bytes) -> bool:
    return any(form in data for form in forms(MARKER))


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory):
    """A daemon at trace level that connected, delivered, failed and was refused with the marker as its token."""
    from conftest import finish
    from harness import Sandbox

    directory = tmp_path_factory.mktemp("secrets")
    sandbox = Sandbox(directory, token=MARKER)
    daemon = Daemon(directory, sandbox, log={"level": "trace"}, plugins={"pipedrive": {"isolation": "worker"}})
    daemon.sandbox = sandbox
    try:
        daemon.start()
        workspace = daemon.workspace("acme")
        workspace.connect(token=MARKER, thresholds=[2], link_field="Link")
        workspace.clicks("delivered", 2)
        workspace.tick()
        for kind, more in [("garbage", {}), ("status", {"status": 500}), ("drop_after_commit", {})]:
            sandbox.fault(kind, **more)
            workspace.clicks(kind.replace("_", "-"), 2)
            workspace.tick()
        sandbox.fault("status", status=400, body={"success": False, "error": f"bad token {MARKER}", "data": MARKER})
        workspace.clicks("echoed", 2)
        workspace.tick()
        sandbox.fault("echo_token_401", times=0)
        workspace.clicks("refused", 2)
        workspace.tick()
        yield daemon, workspace
    finally:
        finish(daemon, sandbox)


def test_the_echoed_token_is_masked_in_the_record_of_the_401(used) -> None:
    """SEC-08"""
    daemon, workspace = used
    assert workspace.connection()["state"] == "needs_reauth"
    assert any(entry["fault"] == "echo_token_401" for entry in daemon.sandbox.requests())
    [delivery] = workspace.deliveries(link="refused")
    detail = workspace.delivery(delivery["id"])
    assert detail["history"], detail
    assert not finds(json.dumps(detail).encode()), detail


def test_no_file_of_the_daemon_holds_the_token(used) -> None:
    """SEC-01, SEC-06, SEC-07: database, WAL, shared memory, keys and the log at trace level."""
    daemon, _ = used
    files = [path for path in daemon.directory.rglob("*") if path.is_file() and path.name != "sandbox.log"]
    assert any(path.suffix in (".db", ".sqlite") or "db" in path.name for path in files), files
    assert any(path.name.endswith("-wal") for path in files), files
    assert daemon.log.stat().st_size > 1000
    assert [path for path in files if finds(path.read_bytes())] == []


def test_no_answer_of_the_api_holds_the_token(used) -> None:
    """SEC-12: every GET route of the description, and every POST that answers without changing much."""
    daemon, workspace = used
    paths = daemon.rest.get("/openapi.json")["paths"]
    walked = 0
    for path, operations in paths.items():
        if "get" not in operations:
            continue
        values = {
            "ws": ["acme"],
            "link": ["delivered", "refused", "echoed"],
            "integration": ["pipedrive"],
            "plugin": ["pipedrive"],
            "id": [delivery["id"] for delivery in workspace.deliveries()],
            "member": ["jo"],
            "contact": ["jo"],
            "picker": ["pipelines", "stages", "deal_fields"],
        }
        for filled in fill(path, values):
            answer = daemon.rest.request("GET", filled)
            walked += 1
            assert answer.status < 500 or answer.status in (502, 503), (
                f"{filled}: {answer.status} {answer.body[:500]!r}"
            )
            assert not finds(answer.body), f"{filled} answers with the token"
            assert not finds(str(answer.headers).encode()), filled
    assert walked >= len([path for path in paths if "get" in paths[path]])
    for answer in (
        daemon.rest.request(
            "POST",
            f"{workspace.base}/integrations/pipedrive",
            {"credentials": {"api_token": MARKER, "unknown": MARKER}, "pipeline_id": 1, "stage_id": 11},
        ),
        daemon.rest.request(
            "POST",
            f"{workspace.base}/integrations/pipedrive",
            {"credentials": {"api_token": [MARKER]}, "pipeline_id": 1, "stage_id": 11},
        ),
        daemon.rest.request(
            "PATCH", f"{workspace.base}/integrations/pipedrive", {"credentials": {"api_token": MARKER}}
        ),
        daemon.rest.request(
            "POST",
            f"{workspace.base}/integrations/pipedrive",
            ('{"credentials":{"api_token":"' + MARKER + '"').encode(),
            {"Content-Type": "application/json"},
        ),
    ):
        assert not finds(answer.body), answer.body


def fill(path: str, values: dict[str, list[str]]) -> list[str]:
    """Every way to fill a path's parameters."""
    filled = [path]
    for name in re.findall(r"{(\w+)}", path):
        assert name in values, f"{path} has a parameter this test does not know"
        filled = [
            text.replace("{" + name + "}", urllib.parse.quote(value, safe=""))
            for text in filled
            for value in values[name]
        ]
    return filled


def test_rest_tokens_are_stored_hashed(used) -> None:
    daemon, _ = used
    token = daemon.rest.post("/v1/admin/tokens", {"name": "marker", "scopes": ["viewer"]})["token"]
    for path in daemon.data.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes()
    assert token not in daemon.log.read_text(errors="replace")
    assert token not in json.dumps(daemon.rest.get("/v1/admin/tokens")) + json.dumps(daemon.rest.get("/v1/admin/audit"))


def test_the_command_line_shows_no_token(used) -> None:
    daemon, _ = used
    for arguments in (
        ["status"],
        ["doctor"],
        ["integrations", "show", "pipedrive", "-w", "acme"],
        ["deliveries", "-w", "acme"],
    ):
        for more in ([], ["--json"]):
            run = daemon.cli(*arguments, *more, check=False)
            assert not finds((run.out + run.err).encode()), arguments


def memory(pid: int) -> bytes:
    """What can be read of a process's memory."""
    found = bytearray()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            bounds, permissions = line.split()[:2]
            if not permissions.startswith("r") or "[vvar" in line or "[vsyscall" in line:
                continue
            start, end = (int(part, 16) for part in bounds.split("-"))
            if end - start > 1 << 28:
                continue
            try:
                mem.seek(start)
                found += mem.read(end - start)
            except OSError:
                continue
    return bytes(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory needs root")
def test_the_workers_memory_never_held_the_token(used) -> None:
    """EXT-03, SEC-09: the plugin translated, and the core added the secret after it."""
    daemon, _ = used
    [plugin] = [plugin for plugin in daemon.rest.get("/v1/admin/plugins")["plugins"] if plugin["name"] == "pipedrive"]
    assert plugin["state"] == "loaded" and plugin["pid"], plugin
    image = memory(plugin["pid"])
    assert b"pipedrive" in image, "this is not the worker's memory"
    assert not finds(image)
    # Neither does anything lie in what its environment or command line shows.
    for name in ("environ", "cmdline"):
        assert not finds(Path(f"/proc/{plugin['pid']}/{name}").read_bytes())


def give_to(uid: int, directory: Path) -> None:
    """Makes a folder another user's, and lets that user come to it."""
    for path in [directory, *directory.rglob("*")]:
        os.chown(path, uid, uid, follow_symlinks=False)
    for parent in directory.parents:
        if Path(tempfile.gettempdir()) in parent.parents:
            os.chmod(parent, os.stat(parent).st_mode | 0o011)


def readable(pid: int) -> str:
    """Names of the ways in which this process gets at another's memory."""
    found = []
    for name in ("mem", "environ", "maps"):
        with contextlib.suppress(PermissionError), open(f"/proc/{pid}/{name}", "rb") as file:
            if name == "mem" or file.read(1):
                found.append(name)
    PTRACE_ATTACH = 16
    if ctypes.CDLL(None).ptrace(PTRACE_ATTACH, pid, 0, 0) == 0:
        found.append("ptrace")
    return " ".join(found)


def as_user(uid: int, action) -> str:
    """Runs `action` in a child of another user and returns its text: as root a permission test passes for nothing."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() != uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            os.write(write, action().encode())
        except BaseException as error:  # the parent must hear of it, whatever it is
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        told = file.read()
    os.waitpid(child, 0)
    return told


def test_no_dump_of_the_daemon_can_be_had_by_its_own_user(own) -> None:
    """decisions 38 and 40: run as an unprivileged uid, read by a process of the same uid."""
    daemon = own()
    is_root = os.geteuid() == 0
    uid = 65534 if is_root else os.geteuid()
    daemon.init()
    if is_root:
        give_to(uid, daemon.directory)
    from harness import DIST, LISTENING, Process

    daemon.process = Process(
        "milepostd",
        [str(DIST / "milepostd"), "--config", str(daemon.config_file)],
        daemon.log,
        daemon.environment(),
        user=uid if is_root else None,
    )
    daemon.url = daemon.process.wait_line(LISTENING).group(1)
    daemon.wait_ready()
    pid = daemon.process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(rf"^Uid:\s+{uid}\s", status, re.M), status
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0, "the process is dumpable: /proc shows it as its user's own"
    assert as_user(uid, lambda: readable(pid)) == "", "the daemon's memory can be had by its own user"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0\s", limits), limits
    for plugin in daemon.rest.get("/v1/admin/plugins")["plugins"]:
        if plugin["pid"]:
            assert os.stat(f"/proc/{plugin['pid']}/mem").st_uid == 0, "a worker is dumpable"


def test_a_backup_holds_no_token_and_refuses_to_hold_the_key(own) -> None:
    """SEC-07, decisions 33"""
    daemon = own(sandbox_options={"token": MARKER}).start()
    workspace = daemon.workspace("acme")
    workspace.connect(token=MARKER)
    copy = daemon.directory / "copies" / "copy.db"
    copy.parent.mkdir()
    run = daemon.cli("backup", str(copy), "--json", check=False)
    assert run.code == 0, run.out + run.err
    assert copy.stat().st_size > 0 and not finds(copy.read_bytes())


def test_keys_rotate_while_deliveries_go_on(own) -> None:
    """SEC-11: a new key, a reload, a re-wrap under load; no failed delivery."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect(thresholds=[2])
    before = daemon.rest.get("/v1/admin/keys")
    assert before["keys"] and before["current_key"]
    import threading

    stop = threading.Event()

    def load() -> None:
        number = 0
        while not stop.is_set():
            workspace.clicks(f"spring{number}", 2)
            daemon.tick("acme")
            number += 1

    loading = threading.Thread(target=load)
    loading.start()
    try:
        run = daemon.cli("keys", "new", "--json", check=False)
        assert run.code == 0, run.out + run.err
        daemon.rest.post("/v1/admin/keys/reload")
        rewrapped = daemon.rest.post("/v1/admin/keys/rewrap")
        assert rewrapped["rewrapped"] >= 1
    finally:
        stop.set()
        loading.join(30)
    after = daemon.rest.get("/v1/admin/keys")
    assert after["current_key"] != before["current_key"], after
    wraps = {key["id"]: key["wraps"] for key in after["keys"]}
    assert wraps.get(before["current_key"], 0) == 0 and wraps[after["current_key"]] >= 1, after
    workspace.drain()
    assert workspace.deliveries(state="dead,held") == []
    assert workspace.connection()["state"] == "active"
