# SPDX-License-Identifier: Apache-2.0
"""docs/plugin-guide.md is true: its commands run from top to bottom in an empty folder, and print what the page says (EXT-01)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import guide_page


# Ends what hangs, no more: the Swift kit is built in it, and two projects go through all checks.
@pytest.mark.timeout(900)
def test_the_commands_of_the_guide_print_what_the_page_says(tmp_path: Path) -> None:
    """In C, into a package and a repository that apt takes it from, and in Swift with the kit as it is installed."""
    page = guide_page.PAGE.read_text()
    if not all(map(shutil.which, guide_page.PACKAGING)):  # a machine that makes no packages
        page = re.sub(r"(?ms)^# Package and publish$.*?(?=^# )", "", page)
    steps = guide_page.run(page, tmp_path)
    assert len(steps) > 40
    assert "warning:" not in (tmp_path / "work/make.log").read_text()
    wrong = [step for step in steps if not guide_page.agree(step.expected, step.printed)]
    told = "\n\n".join(
        f"line {step.line}: {step.command}\n--- the page says\n" + "\n".join(map(guide_page.masked, step.expected))
        + "\n--- printed\n" + "\n".join(map(guide_page.masked, step.printed)) for step in wrong)
    assert not wrong, f"run Tests/EndToEnd/guide_page.py, and read what it changes:\n{told}"


def test_the_comparison_sees_a_difference() -> None:
    agree = guide_page.agree
    assert agree(["a", "…", "d"], ["a", "b", "c", "d"]) and agree(["…"], []) and agree([], [])
    assert not agree(["a", "…", "d"], ["a", "b"]) and not agree(["a"], ["a", "b"]) and not agree(["a", "b"], ["a"])
    assert agree(["took 12 ms, seed 5"], ["took 4 ms, seed 9"]) and not agree(["12 cards"], ["13 cards"])
