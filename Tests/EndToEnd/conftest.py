# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a daemon with its sandbox, shared by a module or alone; logs of the processes beside every failure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import Daemon, Process, Sandbox, Workspace

LOG_TAIL = 6000
_numbers = itertools.count(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        logs = {process.log for process in Process.running} | set(item.stash.get(LOGS, set()))
        for log in sorted(logs):
            if log.exists():
                report.sections.append((f"tail of {log.name}", log.read_text(errors="replace")[-LOG_TAIL:]))


LOGS = pytest.StashKey[set]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The contract test judges what the others have sent, so it comes last."""
    items.sort(key=lambda item: item.path.name == "test_contract.py")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a sandbox (`shared.sandbox`) for all tests of a module."""
    directory = tmp_path_factory.mktemp("shared")
    sandbox = Sandbox(directory)
    daemon = Daemon(directory, sandbox)
    daemon.sandbox = sandbox
    try:
        daemon.start()
        yield daemon
    finally:
        finish(daemon, sandbox)


@pytest.fixture
def sandbox(shared: Daemon) -> Iterator[Sandbox]:
    """The module's sandbox without faults."""
    shared.sandbox.clear_faults()
    shared.sandbox.set_search_lag(0)
    yield shared.sandbox
    shared.sandbox.clear_faults()


@pytest.fixture
def workspace(shared: Daemon, sandbox: Sandbox, request: pytest.FixtureRequest) -> Workspace:
    """A workspace of this test alone, not yet connected."""
    return shared.workspace(unique_name(request.node.name))


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons of this test alone: `own(search_lag_ms=…, **settings)`, not yet started."""
    made: list[tuple[Daemon, Sandbox]] = []

    def make(sandbox_options: dict[str, Any] | None = None, **settings: Any) -> Daemon:
        directory = tmp_path / f"daemon{len(made)}"
        directory.mkdir()
        sandbox = Sandbox(directory, **(sandbox_options or {}))
        daemon = Daemon(directory, sandbox, **settings)
        daemon.sandbox = sandbox
        request.node.stash.setdefault(LOGS, set()).update({daemon.log, sandbox.process.log})
        made.append((daemon, sandbox))
        return daemon

    yield make
    for daemon, sandbox in made:
        finish(daemon, sandbox)


def finish(daemon: Daemon, sandbox: Sandbox) -> None:
    """Ends both; the daemon gently, so that a stop that hangs is seen somewhere, and never more than once."""
    try:
        if daemon.process and daemon.process.alive:
            daemon.kill()
    finally:
        # What plugins made for a test send is no matter of the vendor's contract.
        sandbox.stop(archived=set(daemon.settings.get("plugins", {})) <= {"pipedrive", "hubspot"})


def unique_name(text: str) -> str:
    """A workspace's name from a test's: short, lower case, used once."""
    return f"{re.sub(r'[^a-z0-9]+', '-', text.lower())[:40].strip('-')}-{next(_numbers)}"


@pytest.fixture(scope="session", autouse=True)
def no_process_left_behind() -> Iterator[None]:
    yield
    harness.end_all()
