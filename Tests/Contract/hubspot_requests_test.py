# SPDX-License-Identifier: Apache-2.0
"""Every request that the hubspot plugin sent in its own tests agrees with HubSpot's API description.

The plugin's tests write them to $MILEPOST_CONTRACT_DIR/hubspot-requests.ndjson (default .build/contract); `make test` runs
those first.
"""

import json
import os
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from hubspot_spec import UNDOCUMENTED, validate_request

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(os.environ.get("MILEPOST_CONTRACT_DIR", ROOT / ".build/contract")) / "hubspot-requests.ndjson"

pytestmark = pytest.mark.skipif(not RECORD.exists(), reason=f"no {RECORD}: Tests/run.py quick hubspot makes it")


def requests():
    return [json.loads(line) for line in RECORD.read_text().split("\n") if line]


def test_pipeline_of_the_record_is_broad():
    """PROP-02, TL-01, RULE-05, HCON-06: the record holds what the plugin is for."""
    seen = {(r["method"], urlsplit(r["url"]).path) for r in requests()}
    for wanted in [
        ("POST", "/integrators/timeline/v3/events"), ("POST", "/integrators/timeline/v3/events/batch/create"),
        ("POST", "/crm/v3/timeline/events"), ("POST", "/integrators/timeline/2026-03/events"), ("POST", "/events/v3/send"),
        ("POST", "/crm/v3/objects/contacts/batch/update"), ("PATCH", "/crm/v3/objects/contacts/101"),
        ("PATCH", "/crm/v3/objects/deals/9001"), ("POST", "/crm/v4/associations/contacts/deals/batch/read"),
        ("POST", "/crm/v3/properties/contacts"), ("POST", "/integrators/timeline/v3/54321/event-templates"),
        ("POST", "/crm/v3/objects/notes"), ("GET", "/crm/v3/owners/"),
    ]:
        assert wanted in seen, wanted


def test_every_request_agrees_with_the_vendors_description():
    wrong = []
    for request in requests():
        url = urlsplit(request["url"])
        if url.path in UNDOCUMENTED:
            continue
        headers = {"content-type": "application/json"} if request["body"] is not None else {}
        errors = validate_request(
            request["method"], url.path, dict(parse_qsl(url.query, keep_blank_values=True)), headers, request["body"])
        wrong += [f"{request['method']} {url.path}: {error}" for error in errors]
    assert wrong == []


def test_no_first_touch_property_ever_leaves():
    """PROP-04, Z-13: on create as little as on update, not in one request of all tests, the hostile ones included."""
    for request in requests():
        if request["method"] not in ("POST", "PATCH") or not isinstance(request["body"], dict):
            continue
        bodies = [request["body"], *(i for i in request["body"].get("inputs", []) if isinstance(i, dict))]
        for body in bodies:
            properties = body.get("properties")
            names = properties if isinstance(properties, dict) else {}
            assert not [n for n in names if n.startswith(("hs_analytics_", "original_source"))], request
        if "/properties/" in request["url"]:
            assert not str(request["body"].get("name")).startswith(("hs_analytics_", "original_source")), request


def test_only_the_template_is_sent_with_the_developer_key():
    for request in requests():
        is_template = "/event-templates" in request["url"]
        assert (request["credential"] == "developer_key") == is_template, request["url"]
