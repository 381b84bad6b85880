#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every suite, keeps going after a failure, and ends with one line: N passed, N failed.

usage: Tests/run.py quick|full [SUITE ...]      suites: rooms, kit, plugins, hubspot, custom-hook, python

Counts come from the runners' own XML reports. A suite that ran no test counts as one failure.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as tree

ROOT = pathlib.Path(__file__).resolve().parent.parent


def swift(package, scratch=None):
    """Builds, then tests without building: `swift test` by itself would compile everything once more with other flags,
    and the tests shall run against the very objects that the binaries are made of (decisions 39)."""
    where = ["-c", "release", "--package-path", str(ROOT / package)]
    if scratch:
        where += ["--scratch-path", str(ROOT / ".build" / scratch)]
    return lambda report: [
        ["swift", "build", *where, "--build-tests"],
        ["swift", "test", *where, "--skip-build", "--xunit-output", str(report)],
    ]


def python(report):
    # Large counts take longer than a test of `make test` may.
    patience = ["-o", "timeout=2400"] if sys.argv[1] == "full" else []
    return [[
        str(ROOT / ".venv/bin/python"), "-m", "pytest", "-q", "-c", str(ROOT / "Tests/pytest.ini"),
        "--rootdir", str(ROOT / "Tests"), f"--junitxml={report}", *patience, str(ROOT / "Tests"),
    ]]


SUITES = {
    "rooms": ("rooms of the daemon (Swift)", swift(".")),
    "kit": ("the Swift SDK", swift("Sources/MilepostKit", scratch="kit")),
    "plugins": ("the pipedrive plugin", swift("Plugins/pipedrive", scratch="plugins/pipedrive-tests")),
    "custom-hook": ("the custom-hook plugin", swift("Plugins/custom-hook", scratch="plugins/custom-hook-tests")),
    "hubspot": ("the hubspot plugin", swift("Plugins/hubspot", scratch="plugins/hubspot-tests")),
    "python": ("contracts, house rules, end to end (Python)", python),
}


def counts(folder):
    """(passed, failed, skipped) over all reports that a runner left in the folder."""
    total = failed = skipped = 0
    for report in folder.glob("*.xml"):
        try:
            suites = tree.parse(report).getroot().iter("testsuite")
        except tree.ParseError:  # the runner died while it wrote
            failed, total = failed + 1, total + 1
            continue
        for suite in suites:
            total += int(suite.get("tests", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped += int(suite.get("skipped", 0))
    return total - failed - skipped, failed, skipped


def run(name, environment):
    title, command = SUITES[name]
    print(f"\n== {title}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        for step in command(report):
            status = subprocess.run(step, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode
            if status != 0:
                break
        passed, failed, skipped = counts(pathlib.Path(folder))
    if passed + failed == 0:
        print(f"{name}: ran no test", flush=True)
        failed = 1
    elif status != 0 and failed == 0:
        print(f"{name}: the runner ended with {status}", flush=True)
        failed = 1
    seconds = time.monotonic() - started
    print(f"-- {title}: {passed} passed, {failed} failed, {skipped} skipped in {seconds:.0f} s", flush=True)
    return passed, failed, skipped


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in ("quick", "full") or not set(sys.argv[2:]) <= set(SUITES):
        sys.exit(__doc__)
    # Plugins' tests write down what they sent; the contract tests after them hold it against the vendors' descriptions.
    contract = ROOT / ".build/contract"
    contract.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, MILEPOST_TEST_MODE=sys.argv[1], MILEPOST_CONTRACT_DIR=str(contract))
    # Swift Testing begins all tests at once by itself. With some 1,360 descriptors open Foundation's Process.run may read past
    # the end of a directory's entries, and the run dies.
    environment.setdefault("SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH", "48")
    passed = failed = skipped = 0
    for name in sys.argv[2:] or SUITES:
        result = run(name, environment)
        passed, failed, skipped = passed + result[0], failed + result[1], skipped + result[2]
    print(f"\n{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    sys.exit(0 if failed == 0 else 1)


if __name__ == "__main__":
    main()
