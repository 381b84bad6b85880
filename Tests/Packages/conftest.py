# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from machine import WORK, Machine, build_packages  # noqa: E402


@pytest.fixture(scope="session")
def packages() -> dict[str, Path]:
    return build_packages("0.1.0", "first")


@pytest.fixture(scope="session")
def newer() -> dict[str, Path]:
    return build_packages("0.1.1", "second")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    made = Machine(WORK / "machine").boot()
    yield made
    made.stop()
