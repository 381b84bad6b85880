# SPDX-License-Identifier: Apache-2.0
"""Children with a log of their own that are ended by their own process id, and waiting by looking with a bound."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
        self, name: str, command: list[str], log: Path, env: dict[str, str] | None = None, user: int | None = None,
        pass_fds: tuple[int, ...] = (),
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
                pass_fds=pass_fds,
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
