# SPDX-License-Identifier: Apache-2.0
"""The guard's verdicts at the edges of IANA's special-purpose blocks (EXT-05), beside Python's module `ipaddress`: written by
others from the same registries, and older. Where the two differ there is a reason below.

SpecialPurposeRecordTests.swift writes the verdicts to $MILEPOST_CONTRACT_DIR/special-addresses.json (default .build/contract);
`make test` runs those first.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(os.environ.get("MILEPOST_CONTRACT_DIR", ROOT / ".build/contract")) / "special-addresses.json"
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

pytestmark = pytest.mark.skipif(not RECORD.exists(), reason=f"no {RECORD}: Tests/run.py quick rooms makes it")

MAPPED, NAT64 = ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96")


@dataclass
class Difference:
    """Addresses about which the guard and `is_global` do not agree, and why the guard is as it is."""

    block: str
    reason: str
    is_everywhere: bool = True
    """Whether every Python says so; false where its releases differ (3.12.4 and 3.13 brought newer tables)."""


# Refused by the guard, and global to Python. The first that fits counts.
REFUSED = [
    Difference("192.31.196.0/24", "AS112 answers DNS only: no receiver lives in a block of the registry, reachable or not"),
    Difference("192.52.193.0/24", "AMT relays are no receivers"),
    Difference("192.175.48.0/24", "AS112, as above"),
    Difference("192.88.99.0/24", "terminated by RFC 7526; the registry says of it neither yes nor no"),
    Difference("192.0.0.0/24", "protocol assignments, in which two anycast addresses are reachable; a cloud has its metadata at 192.0.0.192",
               is_everywhere=False),
    Difference("224.0.0.0/4", "multicast is no receiver; it has a registry of its own"),
    Difference("2001::/23", "protocol assignments, in which AMT, AS112, ORCHIDv2 and anycast addresses are reachable", is_everywhere=False),
    Difference("2620:4f:8000::/48", "AS112, as above"),
    Difference("2002::/16", "6to4 leads to the IPv4 address in it through whatever relay is near; the registry says N/A", is_everywhere=False),
    Difference("64:ff9b::/96", "NAT64: the block is reachable, and what counts is the IPv4 address in it"),
    Difference("64:ff9b:1::/48", "translation for local use: the network decides what it leads to", is_everywhere=False),
    Difference("100:0:0:1::/64", "the dummy prefix of 2025 (RFC 9780)", is_everywhere=False),
    Difference("3fff::/20", "documentation since 2024 (RFC 9637)", is_everywhere=False),
    Difference("5f00::/16", "segment routing since 2024 (RFC 9602)", is_everywhere=False),
    # The rest of what is outside of 2000::/3, which is all of IPv6 that IANA has given out (RFC 4291, 2.4).
    Difference("::/3", "not handed out as global unicast"),
    Difference("4000::/2", "not handed out as global unicast"),
    Difference("8000::/1", "not handed out as global unicast: site-local, multicast, or nothing yet"),
]


def carried(address: Address) -> IPv4Address | None:
    """The IPv4 address that decides, of a mapped one and of one under the well-known prefix."""
    if isinstance(address, IPv6Address) and (address in MAPPED or address in NAT64):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def contains(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network


def difference(address: Address) -> Difference | None:
    """Of an address that carries one which decides, what says why that one is refused."""
    inner = carried(address)
    if inner is not None and not inner.is_global:
        return next(item for item in REFUSED if contains(ip_network(item.block), address))
    return next((item for item in REFUSED if contains(ip_network(item.block), inner or address)), None)


@pytest.fixture(scope="module")
def record() -> dict[str, object]:
    return json.loads(RECORD.read_text())


@pytest.fixture(scope="module")
def verdicts(record: dict[str, object]) -> dict[Address, bool]:
    """Whether the guard refuses, by address."""
    return {ip_address(text): refused for text, refused in record["refused"].items()}


@pytest.fixture(scope="module")
def blocks(record: dict[str, object]) -> list[Network]:
    return [ip_network(row["block"]) for row in record["rows"]]


def spellings(address: Address) -> list[Address]:
    if isinstance(address, IPv6Address):
        return [address]
    number = int(address)
    return [address, MAPPED[number], NAT64[number], IPv6Address(0x2002 << 112 | number << 80)]


def edges(block: Network) -> list[Address]:
    kind = type(block.network_address)
    first, last = int(block.network_address), int(block.broadcast_address)
    most = 2 ** block.max_prefixlen - 1
    return [kind(number) for number in (first, last, first - 1, last + 1) if 0 <= number <= most]


def test_the_record_holds_every_edge_of_every_row_in_every_spelling(verdicts: dict[Address, bool], blocks: list[Network]) -> None:
    """EXT-05"""
    assert [sum(block.version == version for block in blocks) for version in (4, 6)] == [26, 25]
    assert len(set(blocks)) == 51
    missing = [text for block in blocks for edge in edges(block) for text in spellings(edge) if text not in verdicts]
    assert missing == []


def test_nothing_in_a_block_of_the_registries_is_let_through(verdicts: dict[Address, bool], blocks: list[Network]) -> None:
    """EXT-05: reachable or not. Mapped addresses and those of NAT64 are judged by what they carry."""
    let_through = [
        str(address) for address, refused in verdicts.items()
        if not refused and any(contains(block, carried(address) or address) for block in blocks)]
    assert let_through == []


def test_the_guard_lets_through_nothing_that_python_does_not_call_global(verdicts: dict[Address, bool]) -> None:
    """EXT-05. What carries an IPv4 address is asked by that: before 3.13 Python took the mapped ones for one private block, and
    those of NAT64 are global to it whatever they lead to."""
    wrong = [str(address) for address, refused in verdicts.items() if not refused and not (carried(address) or address).is_global]
    assert wrong == []
    assert sum(not refused for refused in verdicts.values()) > 60


def test_what_the_guard_refuses_beyond_python_has_a_reason_each(verdicts: dict[Address, bool]) -> None:
    """EXT-05"""
    unexplained, used = [], set()
    for address, refused in verdicts.items():
        if refused and address.is_global:
            reason = difference(address)
            if reason is None:
                unexplained.append(str(address))
            else:
                used.add(reason.block)
    assert unexplained == []
    stale = [item.block for item in REFUSED if item.is_everywhere and item.block not in used]
    assert stale == [], "these differences are none any more"


def test_public_neighbours_of_the_blocks_are_let_through(verdicts: dict[Address, bool], blocks: list[Network]) -> None:
    """EXT-05: a guard that refused everything would pass the tests above."""
    multicast, given_out = ip_network("224.0.0.0/4"), ip_network("2000::/3")
    wrong = []
    for address, refused in verdicts.items():
        inner = carried(address) or address
        is_special = any(contains(block, inner) for block in blocks) or contains(multicast, inner)
        if inner.version == 6 and inner not in given_out:
            continue
        if refused != is_special:
            wrong.append(str(address))
    assert wrong == []
