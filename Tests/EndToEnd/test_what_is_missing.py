# SPDX-License-Identifier: Apache-2.0
"""What the command line says where something that it needs is not there: the key, the daemon."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from harness import DIST, run_cli

pytestmark = pytest.mark.timeout(120)


def test_init_makes_no_key_for_a_database_that_had_another(own) -> None:
    """SEC-09: a new one opens nothing that the lost one sealed; the last resort takes a word of its own"""
    daemon = own()
    daemon.init()
    key = Path(daemon.settings["kms"]["path"])
    key.unlink()
    before = (daemon.data / "milepost.db").read_bytes()
    command = ("init", "--config", str(daemon.config_file), "--json")
    refused = run_cli(*command, env=daemon.environment(), check=False)
    assert refused.code == 1 and not key.exists() and (daemon.data / "milepost.db").read_bytes() == before, refused
    assert f"its key {key} is missing" in refused.err and "restore the key from its own backup" in refused.err, refused
    assert "milepostd --make-key" in refused.err and "connected again" in refused.err, refused
    found = json.loads(
        run_cli("doctor", "--config", str(daemon.config_file), "--json", env=daemon.environment(), check=False).out)
    [lost] = [entry for entry in found["findings"] if entry["code"] == "kek"]
    assert "milepost init" not in lost["cure"] and "--make-key" in lost["cure"], lost
    subprocess.run(
        [str(DIST / "milepostd"), "--make-key", "--config", str(daemon.config_file)], env=daemon.environment(),
        check=True, capture_output=True)
    assert key.exists() and run_cli(*command, env=daemon.environment()).json["kek_created"] is False


def test_an_import_says_at_once_that_nobody_answers_and_how_long_it_tries(own) -> None:
    daemon = own()
    clicks = daemon.directory / "clicks.ndjson"
    clicks.write_text('{"link":"spring","ts":"2026-11-21T12:00:00Z"}\n')
    importing = subprocess.Popen(
        [str(DIST / "milepost"), "import", "clicks", str(clicks), "--format", "milepost", "--json"],
        env={**daemon.environment(), "MILEPOST_URL": "http://127.0.0.1:1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        said = importing.stderr.readline()
        assert "the daemon does not answer" in said and "127.0.0.1:1" in said, said
        assert "trying again for 47 seconds" in said and importing.poll() is None, said
    finally:
        importing.kill()
        assert importing.communicate()[0] == "", "standard output is the answer's"
