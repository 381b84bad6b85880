# SPDX-License-Identifier: Apache-2.0
"""What docs/admin.md says of retries, dead letters and click events is what the code does (OBS-08)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "admin.md").read_text()
FACTORS = {"milliseconds": 0.001, "seconds": 1}
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def source(path: str) -> str:
    return (ROOT / "Sources" / path).read_text()


def value(literal: str) -> float:
    """A number, or a duration in seconds: `600`, `.seconds(86_400)`, `Duration.milliseconds(500)`."""
    unit, digits = re.fullmatch(r"(?:(?:Duration)?\.(\w+)\()?([\d_]+)\)?", literal).groups()
    return int(digits.replace("_", "")) * (FACTORS[unit] if unit else 1)


def default(text: str, name: str) -> float:
    """Of a parameter or a property that is named so."""
    [literal] = re.findall(rf"\b{name}(?:: \w+)? = ((?:Duration)?\.?\w*\(?[\d_]+\)?)", text)
    return value(literal)


def section(title: str) -> str:
    [found] = re.findall(rf"^#+ {title}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found


def written(setting: str) -> float:
    """The default in the table of settings."""
    [text] = re.findall(rf"^\| `{re.escape(setting)}` \| `([^`]*)`", PAGE, re.MULTILINE)
    digits, unit = re.fullmatch(r"(\d+)(ms|s|m|h)?", text).groups()
    return int(digits) * (UNITS[unit] if unit else 1)


def array(text: str, name: str) -> list[str]:
    [members] = re.findall(rf"let {name} = MemberNames\(\[(.*?)\]\)", text, re.DOTALL)
    return re.findall(r'"(\w+)"', members)


def test_the_retry_policy_that_is_written_is_the_one_that_runs() -> None:
    """OBS-08, THR-14, THR-15, Z-04: attempts, age, tries within a tick and waits"""
    machine, backoff = source("MilepostEngine/Delivery/DeliveryMachine.swift"), source("MilepostEngine/Delivery/Backoff.swift")
    [settings] = re.findall(r"struct Delivery: .*?\n    \}", source("MilepostConfiguration/Configuration.swift"), re.DOTALL)
    for setting, key, (text, parameter) in [
        ("delivery.max_attempts", "maxAttempts", (machine, "maximumAttempts")),
        ("delivery.max_age", "maxAge", (machine, "maximumAge")),
        ("delivery.in_tick_retries", "inTickRetries", (machine, "triesWithinTick")),
        ("delivery.request_timeout", "requestTimeout", (machine, "requestTimeout")),
        ("delivery.retry_base", "retryBase", (backoff, "base")),
    ]:
        assert written(setting) == default(settings, key) == default(text, parameter), setting
    page = section("Retries and dead letters")
    assert f"doubles from `delivery.retry_base` to {default(backoff, 'cap'):.0f} s" in page
    assert f"when it is at most {default(machine, 'longestWaitWithinTick'):.0f} s" in page
    assert "ceiling / 2" in backoff and "at least half" in page
    assert default(machine, "crashesOfPoison") == 2 and "died on this record twice" in page


def test_dead_letters_are_described_with_every_state_and_code() -> None:
    """OBS-08: the states of a delivery, and the codes that the engine itself gives to a dead letter"""
    page = section("Retries and dead letters")
    [states] = re.findall(r"enum State: String.*?\n    \}", source("MilepostModel/Delivery.swift").split("struct Journal")[0], re.DOTALL)[:1]
    names = [raw or name for name, raw in re.findall(r'^ +case (\w+)(?: = "(\w+)")?$', states, re.MULTILINE)]
    [line] = re.findall(r"^A delivery is (.*?)\.", page, re.MULTILINE)
    assert re.findall(r"`(\w+)`", line) == names and len(names) > 5
    codes = set(re.findall(r'Reason\(\s*code: "(\w+)"', source("MilepostEngine/Delivery/DeliveryMachine.swift")))
    assert {"gave_up", "outcome_unknown", "poison"} <= codes
    assert not [code for code in sorted(codes) if f"`{code}`" not in page], codes


def test_the_click_event_that_is_written_is_the_one_that_is_read() -> None:
    """OBS-08: each field, each part of the campaign, and how long they may be"""
    reader = source("MilepostIntake/Clicks/EventReader.swift")
    page = section("Bring in clicks")
    table = re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", page, re.MULTILINE)
    fields = [name for names, _ in table for name in re.findall(r"`(\w+)`", names)]
    # An address is dropped unread.
    assert sorted(fields) == sorted([*array(reader, "fields"), "ip"])
    [campaign] = [kind for names, kind in table if names == "`utm`"]
    assert re.findall(r"`(\w+)`", campaign) == array(reader, "utmParts")
    limits = dict(re.findall(r"static let (\w+) = (\d+)", source("MilepostIntake/IntakeLimits.swift")))
    for limit, fields in [
        ("identifier", "bytes for `link`, `id` and `contact_id`"), ("adClickID", "for `gclid` and `fbclid`"),
        ("url", "for `url`"), ("description", "for `referrer` and `user_agent`"), ("device", "for `device` and `purpose`"),
        ("campaign", "for each part of `utm`"),
    ]:
        assert f"{int(limits[limit]):,} {fields}" in " ".join(page.split()), limit
    described = int(default(source("MilepostIntake/IntakeLimits.swift"), "describedRejections"))
    assert f"{described:,} rejections at most" in page
