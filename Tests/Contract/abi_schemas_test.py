# SPDX-License-Identifier: Apache-2.0
"""The JSON bodies of the plugin contract: the schemas are valid, and examples and shipped manifests agree with them."""

import json
import re
from pathlib import Path

import pytest

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "include/milepost/schemas").glob("*.json"))}
REGISTRY = referencing.Registry().with_resources(
    (schema["$id"], referencing.Resource.from_contents(schema)) for schema in SCHEMAS.values()
)


def validator(name):
    return jsonschema.Draft202012Validator(SCHEMAS[name], registry=REGISTRY)


def verbs():
    header = (ROOT / "include/milepost/types.h").read_text()
    return [verb.lower() for verb in re.findall(r"#define MP_VERB_(\w+) ", header)]


def test_every_verb_of_the_header_has_a_request_and_a_result():
    assert verbs()
    for verb in verbs():
        assert f"{verb}.request" in SCHEMAS
        assert f"{verb}.result" in SCHEMAS


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_valid_and_named_after_its_file(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"].endswith(f"/{name}.json")


@pytest.mark.parametrize("name", SCHEMAS)
def test_examples_validate_and_unknown_members_are_tolerated(name):
    assert SCHEMAS[name]["examples"]
    for example in SCHEMAS[name]["examples"]:
        validator(name).validate(example)
        validator(name).validate({**example, "x_of_a_later_revision": 1})


@pytest.mark.parametrize("name", [name for name in SCHEMAS if SCHEMAS[name].get("required")])
def test_a_missing_member_is_noticed(name):
    for member in SCHEMAS[name]["required"]:
        example = dict(SCHEMAS[name]["examples"][0])
        del example[member]
        assert not validator(name).is_valid(example), member


def test_a_failed_record_needs_an_error():
    assert not validator("deliver.result").is_valid({"records": [{"index": 0, "class": "retry"}]})


MANIFESTS = [path for path in sorted((ROOT / "Plugins").glob("*/*.json")) if path.stem == path.parent.name]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_shipped_manifest_validates(path):
    manifest = json.loads(path.read_text())
    validator("manifest").validate(manifest)
    assert manifest["name"] == path.stem
    jsonschema.Draft202012Validator.check_schema(manifest.get("config_schema", {}))
    pickers = {picker["id"] for picker in manifest.get("pickers", [])}
    for setting in manifest.get("config_schema", {}).get("properties", {}).values():
        assert setting.get("x-mp-picker") in pickers | {None}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_an_action_that_searches_says_for_how_long_the_vendor_lags(path):
    for action in json.loads(path.read_text()).get("actions", []):
        if action.get("idempotency") == "search":
            assert action["reconcile"] and action["read_lag_ms"] > 0
