# SPDX-License-Identifier: Apache-2.0
"""Every request that the plugin sent during these tests is valid by the vendor's own OpenAPI documents, v1 and v2.

This module runs last (conftest.py), so that it judges what all others have sent; alone it judges its own requests.
"""

from __future__ import annotations

import json
import re

import vendor_spec
import pytest

from harness import ARCHIVE, SHARED, VENDOR_TOKEN, archive_requests

pytestmark = pytest.mark.skipif(
    not (SHARED / "specs" / "pipedrive").exists(),
    reason=f"{SHARED}/specs/pipedrive is not there; MILEPOST_SHARED names its folder",
)


def used_everything(daemon, generation: str) -> None:
    """Connects, looks, delivers, repeats and reconciles in one API generation."""
    sandbox = daemon.sandbox
    workspace = daemon.workspace(f"contract-{generation}")
    settings = {"pipeline_id": 1, "stage_id": 11, "api": generation}
    for picker, values in [("pipelines", {}), ("stages", {"pipeline_id": 1}), ("deal_fields", {}), ("users", {})]:
        answer = daemon.rest.post(
            f"{workspace.base}/integrations/pipedrive/options/{picker}",
            {"credentials": {"api_token": VENDOR_TOKEN}, "values": values, **settings},
        )
        assert answer["items"], (picker, answer)
    workspace.connect(
        api=generation,
        thresholds=[2],
        link_field="Link",
        fields={"Deal Source": "Short link", "Last click": "2026-11-21", "Clicks": "5"},
    )
    workspace.clicks(f"plain-{generation}", 2)
    workspace.tick()
    deals = "/api/v2/deals" if generation == "v2" else "/v1/deals"
    for number, (kind, path, link_field) in enumerate(
        [
            ("drop_after_commit", deals, "Link"),
            ("drop_after_commit", deals, None),
            ("drop_before_commit", deals, "Link"),
            ("drop_after_commit", "/v1/notes", "Link"),
            ("drop_before_commit", "/v1/notes", None),
        ]
    ):
        workspace.patch(link_field=link_field)
        sandbox.fault(kind, path=path)
        workspace.clicks(f"cut-{generation}-{number}", 2)
        workspace.tick()
        assert sandbox.struck() == 1, f"{kind} never struck {path}"
        sandbox.clear_faults()
    workspace.drain()
    assert workspace.deliveries(state="dead,held,dropped") == []


@pytest.mark.parametrize("generation", ["v2", "v1"])
def test_every_request_is_valid_by_the_vendors_document(own, generation: str) -> None:
    """The issue's list item 9: each endpoint used is covered, in both generations (Z-16)."""
    daemon = own().start()
    used_everything(daemon, generation)
    archive_requests(daemon.sandbox)
    made = daemon.sandbox.requests()
    paths = {re.sub(r"/\d+", "/{id}", entry["path"]) for entry in made}
    assert any(path.endswith(f"/{generation}/deals") for path in paths) and "/v1/notes" in paths, paths
    assert any("earch" in path for path in paths), f"nothing was looked up by search: {paths}"
    assert any(path.endswith("/users/me") for path in paths), paths
    assert not judged(made), "\n".join(judged(made))


def test_every_request_of_this_whole_session_is_valid() -> None:
    if not ARCHIVE:
        pytest.skip("no other test has sent anything in this session")
    assert not judged(ARCHIVE), "\n".join(judged(ARCHIVE))


def test_the_credential_travels_in_a_header_and_never_in_a_url() -> None:
    """PCON-18"""
    if not ARCHIVE:
        pytest.skip("no other test has sent anything in this session")
    for entry in ARCHIVE:
        # At a token endpoint the client proves itself in the body or with Basic authentication, as the vendor wants it.
        if vendor_spec.vendor(entry["path"], entry["query"]) and not entry["path"].startswith("/oauth/"):
            headers = entry["headers"]
            assert "***" in (headers.get("x-api-token"), headers.get("authorization")) or entry["query"].get("hapikey"), entry
        assert "api_token" not in entry["query"] and "access_token" not in entry["query"], entry


REMEMBERED = [
    r"/integrators/timeline/[^/]+/events(/.*)?", r"/crm/[^/]+/timeline/events(/.*)?", r"/events/.*",
    r"/crm/(v3/)?objects/([^/]+/)?notes(/.*)?",
]


def rewriting(entries: list[dict]) -> list[str]:
    """Requests that would change or remove what a timeline shows, in any of the ways that events are written."""
    return [
        f"{entry['method']} {entry['path']}" for entry in entries
        if any(re.fullmatch(path, entry["path"]) for path in REMEMBERED)
        and (entry["method"] not in ("GET", "POST") or re.search(r"/(update|upsert|archive|merge|gdpr-delete)$", entry["path"]))
        # An update of nothing asks whether the token has the right at all.
        and entry["body"] != {"inputs": []}
    ]


def test_no_request_ever_rewrites_or_removes_a_timeline_event() -> None:
    """TL-10: events are only ever added; with or without a batch, in each back end"""
    if not ARCHIVE:
        pytest.skip("no other test has sent anything in this session")
    assert not rewriting(ARCHIVE), rewriting(ARCHIVE)


@pytest.mark.parametrize(
    ("method", "path", "is_found"),
    [
        ("DELETE", "/integrators/timeline/v3/events/1/one", True), ("PUT", "/crm/v3/timeline/events", True),
        ("PATCH", "/crm/v3/objects/notes/7", True), ("DELETE", "/crm/objects/2026-03/notes/7", True),
        ("POST", "/crm/v3/objects/notes/batch/archive", True), ("POST", "/crm/v3/objects/notes/batch/create", False),
        ("POST", "/integrators/timeline/v3/events/batch/create", False), ("PATCH", "/crm/v3/objects/contacts/1", False),
        ("GET", "/integrators/timeline/v3/events/1/one/render", False), ("POST", "/events/v3/send", False),
    ],
)
def test_the_judge_of_timelines_sees_what_it_should(method: str, path: str, is_found: bool) -> None:
    """TL-10: so that the test above does not pass by blindness"""
    assert bool(rewriting([{"method": method, "path": path, "body": {"inputs": [{"id": "1"}]}}])) is is_found


def judged(entries: list[dict]) -> list[str]:
    """What is wrong with requests, each kind of fault once."""
    found: dict[str, str] = {}
    for entry in entries:
        # A vendor's answer to a bad request is part of some tests of the sandbox itself, never of the daemon's traffic.
        for error in vendor_spec.validate_request(
            entry["method"], entry["path"], entry["query"], entry["headers"], entry["body"]
        ):
            found.setdefault(
                re.sub(r"\d+", "N", error),
                f"{entry['method']} {entry['path']} {json.dumps(entry['body'])[:400]}: {error}",
            )
    return sorted(found.values())
