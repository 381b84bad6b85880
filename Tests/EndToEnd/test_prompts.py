# SPDX-License-Identifier: Apache-2.0
"""`milepost connect` with a person at the terminal: what is asked, what is shown, and what an interrupt leaves (B)."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import DIST, VENDOR_TOKEN, Daemon, problem, rfc3339, wait_for


def at_a_terminal() -> None:
    """In a child: the terminal becomes its controlling one, so that Ctrl-C is a signal as it is for a person, also where
    whoever started the tests ignores it."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A command on a terminal of its own, read and typed at as a person does."""

    def __init__(self, daemon: Daemon, *arguments: str):
        self.shown = ""
        self.master, slave = pty.openpty()
        self.child = subprocess.Popen(
            [str(DIST / "milepost"), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**daemon.environment(), "MILEPOST_URL": daemon.url, "MILEPOST_TOKEN": daemon.token, "TERM": "dumb"},
            start_new_session=True,
            preexec_fn=at_a_terminal,
        )
        self.slave = slave

    def read(self) -> None:
        while select.select([self.master], [], [], 0.02)[0]:
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                return
            if not piece:
                return
            self.shown += piece.decode(errors="replace")

    def expect(self, pattern: str, timeout: float = 15) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            self.read()
            return re.search(pattern, self.shown)

        return wait_for(f"the terminal shows /{pattern}/; it shows: {self.shown!r}", look, timeout)

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def secret(self, text: str) -> None:
        """Types where nothing is echoed; waits for that, because what was typed before is thrown away."""
        wait_for("the terminal is silent", lambda: not self.echoes)
        self.type(text)

    def end(self, timeout: float = 20) -> int:
        deadline = time.monotonic() + timeout
        while self.child.poll() is None:
            assert time.monotonic() < deadline, f"still runs; it shows: {self.shown!r}"
            self.read()
        self.read()
        return self.child.returncode

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait(5)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def daemon(own) -> Daemon:
    return own().start()


@pytest.fixture
def terminal(daemon: Daemon) -> Iterator[Terminal]:
    made = Terminal(daemon, "connect", "pipedrive", "-w", "acme")
    yield made
    made.close()


def is_not_connected(daemon: Daemon) -> None:
    problem(daemon.rest.request("GET", "/v1/workspaces/acme/integrations/pipedrive"), 404, "not_found")


def test_connect_asks_for_the_token_in_silence_and_lists_live_pipelines_and_stages(daemon, terminal) -> None:
    """PCON-03 to PCON-05, PCON-07 to PCON-09, PCON-11"""
    terminal.expect("api_token: ")
    assert "Personal preferences, API tab" in terminal.shown, terminal.shown
    assert "https://support.pipedrive.com/" in terminal.shown, terminal.shown
    terminal.secret(VENDOR_TOKEN + "\n")
    terminal.expect(r"1\) Inbound   \(suggested: press Enter\)")
    terminal.expect(r"2\) Renewals")
    terminal.expect(r"pipelines \[1-2\]: ")
    assert terminal.echoes, "the terminal stayed silent"
    terminal.type("2\n")
    stages = terminal.expect(r"(?s)pipelines.*?stages \[1-(\d)\]: ")
    assert "Contacted" not in stages.group(0), "the stages are those of the pipeline chosen"
    terminal.type("\n")  # the suggested one: the first by the vendor's order
    assert terminal.end() == 0, terminal.shown
    assert "Sandbox Inc" in terminal.shown, "the company is named"
    assert VENDOR_TOKEN not in terminal.shown, "the token was shown"
    connection = daemon.workspace("acme").connection()
    assert (connection["settings"]["pipeline_id"], connection["settings"]["stage_id"]) == (2, 21), connection


def test_the_page_that_shows_the_token_can_be_changed_when_the_vendor_moves_it(own) -> None:
    """PCON-03"""
    daemon = own(plugins={"pipedrive": {"credential_help": "https://intranet.example/crm-token"}}).start()
    terminal = Terminal(daemon, "connect", "pipedrive", "-w", "acme")
    try:
        terminal.expect("api_token: ")
        assert "https://intranet.example/crm-token" in terminal.shown and "support.pipedrive" not in terminal.shown
    finally:
        terminal.close()
    assert "intranet.example" in daemon.cli("plugins", "show", "pipedrive").out


def test_a_refused_token_stores_nothing_and_says_so(daemon, terminal) -> None:
    """PCON-06"""
    terminal.expect("api_token: ")
    terminal.secret("wrong-marker\x7f\x7f-token\n")
    assert terminal.end() == 1
    assert "credential_refused" in terminal.shown and "wrong-mark" not in terminal.shown, terminal.shown
    is_not_connected(daemon)


@pytest.mark.parametrize("moment", ["token", "half a token", "pipeline", "stage"])
def test_an_interrupt_stores_nothing_and_leaves_the_terminal_as_it_was(daemon, terminal, moment: str) -> None:
    """PCON-12"""
    terminal.expect("api_token: ")
    if moment in ("token", "half a token"):
        terminal.secret("\x03" if moment == "token" else VENDOR_TOKEN[:9] + "\x03")
    else:
        terminal.secret(VENDOR_TOKEN + "\n")
        terminal.expect(r"pipelines \[1-2\]: ")
        if moment == "stage":
            terminal.type("1\n")
            terminal.expect(r"stages \[1-\d\]: ")
        terminal.type("\x03")
    assert terminal.end() == -signal.SIGINT, terminal.shown
    assert terminal.echoes, "the terminal stayed silent"
    is_not_connected(daemon)


def test_lists_are_read_afresh_each_time(daemon, terminal) -> None:
    """PCON-10"""
    daemon.sandbox.rest.post("/_sandbox/pipelines", {"name": "Brand new"})
    terminal.expect("api_token: ")
    terminal.secret(VENDOR_TOKEN + "\n")
    terminal.expect(r"3\) Brand new")
    terminal.type("\x03")


def test_the_printed_checklist_works_as_written(daemon, terminal) -> None:
    """PCON-20: the eight steps of docs/admin.md, in order, with the commands that it prints"""
    page = (Path(__file__).resolve().parents[2] / "docs" / "admin.md").read_text()
    steps = re.findall(r"(?m)^(\d)\. ", page.split("### The first deal, step by step")[1].split("\n## ")[0])
    assert steps == list("12345678")
    # 1, 2: where the token is; paste it where it is asked for.
    assert "profile menu" in daemon.cli("plugins", "show", "pipedrive").out
    terminal.expect("api_token: ")
    terminal.secret(VENDOR_TOKEN + "\n")
    # 4, 5: pipeline and stage, by Enter the suggested ones.
    terminal.expect(r"pipelines \[1-2\]: ")
    terminal.type("\n")
    terminal.expect(r"stages \[1-\d\]: ")
    terminal.type("\n")
    assert terminal.end() == 0, terminal.shown
    # 3: the company.
    assert "Sandbox Inc" in terminal.shown
    # 6: it is active.
    assert re.search(r"pipedrive.*active", daemon.cli("status").out), daemon.cli("status").out
    # 7: a low threshold for a trial, and clicks.
    daemon.cli("integrations", "set", "pipedrive", "-w", "acme", "thresholds=[2]")
    clicks = daemon.directory / "clicks.ndjson"
    clicks.write_text("".join(f'{{"id":"c{n}","link":"spring","ts":"{rfc3339(seconds=5)}"}}\n' for n in range(2)))
    daemon.cli("import", "clicks", str(clicks), "--format", "milepost", "-w", "acme")
    # 8: the deal.
    daemon.cli("tick")
    [deal] = daemon.sandbox.deals()
    assert (deal["pipeline_id"], deal["stage_id"]) == (1, 11)
    assert str(deal["id"]) in daemon.cli("deliveries", "-w", "acme").out
