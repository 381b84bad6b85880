#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every suite, keeps going after a failure, and ends with one line: N passed, N failed.
#   Tests/run.sh quick|full
set -uo pipefail
cd "$(dirname "$0")/.."
mode=${1:-quick}
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# suite NAME PATTERN COMMAND...: PATTERN finds "<passed> <failed>" in the runner's own closing line.
suite() {
    local name=$1 counter=$2 good bad status
    shift 2
    echo
    echo "== $name"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    read -r good bad < <("$counter" "$log")
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ "$status" -eq 0 ] && [ "$good" -eq 0 ]; then echo "$name ran no test"; bad=1; fi
    passed=$((passed + good)) failed=$((failed + bad))
    [ "$bad" -eq 0 ] || failures+="  $name: $bad failed"$'\n'
}
failures=""

# "Test run with 120 tests in 14 suites passed after ..."; a failing run names its failures one by one.
swift_counts() {
    local total bad
    total=$(grep -oE 'Test run with [0-9]+ tests?' "$1" | grep -oE '[0-9]+' | paste -sd+ | bc)
    bad=$(grep -cE '^(✘|.\[0m)?.*Test .* failed after' "$1")
    echo "$((${total:-0} - bad)) $bad"
}
pytest_counts() {
    local line
    line=$(grep -E '^=+ .*(passed|failed|error).* =+$' "$1" | tail -1)
    echo "$(grep -oE '[0-9]+ passed' <<<"$line" | grep -oE '[0-9]+' || echo 0) $(grep -oE '[0-9]+ (failed|errors?)' <<<"$line" | grep -oE '[0-9]+' | paste -sd+ | bc 2>/dev/null || true)" |
        awk '{print $1 + 0, $2 + 0}'
}

swift_tests() {
    swift build -c release --build-tests --static-swift-stdlib && swift test -c release --skip-build --static-swift-stdlib --parallel
}

suite "rooms (Swift)" swift_counts swift build -c release --version
suite "contracts and end to end (Python)" pytest_counts env MILEPOST_TEST_MODE="$mode" .venv/bin/python -m pytest -q -c Tests/pytest.ini Tests

echo
printf '%s' "$failures"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
