# SPDX-License-Identifier: Apache-2.0
"""EXT-05 with real addresses: the tests of ssrf_inside.py in a network namespace, where public, private and metadata addresses are
this machine's own. The table of every special-purpose range in every spelling is SpecialPurposeTests.swift."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ROOT


def has_namespaces() -> bool:
    """Root in a container may still be refused."""
    return subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, timeout=30).returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="a network namespace needs CAP_SYS_ADMIN; SpecialPurposeTests.swift holds the table")
@pytest.mark.timeout(400)
def test_hooks_reach_public_receivers_and_no_private_ones(tmp_path: Path) -> None:
    """EXT-05"""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, "-m", "pytest", "-q", "-x", "-c",
         ROOT / "Tests/pytest.ini", "--rootdir", ROOT / "Tests", "--basetemp", tmp_path / "inside", "-p", "no:cacheprovider",
         Path(__file__).with_name("ssrf_inside.py")],
        env={**os.environ, "MILEPOST_NAMESPACE": "1"}, capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "7 passed" in done.stdout, done.stdout[-2000:]
