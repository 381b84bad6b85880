# SPDX-License-Identifier: Apache-2.0
"""Checks requests and answers against Pipedrive's own OpenAPI documents.

    errors = validate_request("POST", "/api/v2/deals", {}, {"content-type": "application/json"}, {"title": "x"})
    errors = validate_response("POST", "/api/v2/deals", 200, {"success": True, "data": {...}})

Both return a list of sentences; an empty list means that the document agrees. `validate_ledger(entries)` checks every
request that a sandbox has recorded. The documents are read from $MILEPOST_SHARED/specs/pipedrive (default
../shared beside the repository); they are the vendor's and no copy of them lives here.
"""

import json
import os
import re
from functools import lru_cache
from pathlib import Path

import jsonschema

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MILEPOST_SHARED", ROOT.parent / "shared"))
METHODS = ("get", "post", "put", "patch", "delete")
DOCUMENTS = {"v2": ["v2-2026-08.json"], "v1": ["v1-2026-08.json", "v1-legacy-2026-01.json"]}

# Where the documents are known to be wrong. Each slip names its place and its source, and opens nothing else.
#
# specs/README.md: "v2 marks person_id, org_id and others as never null; live answers hold nulls." The same is true of
# the empty relations, dates and next pages of v1. Only these names, only in answers, only null beside their own type.
NULL_IN_ANSWERS = {
    "person_id", "org_id", "lead_id", "deal_id", "project_id", "task_id", "last_update_user_id",
    "stage_change_time", "won_time", "lost_time", "close_time", "expected_close_date", "next_cursor",
    "deal", "person", "organization", "project", "task", "icon_url", "last_name", "picture_id",
    "org_name", "person_name", "label", "rotten_days",
}
# specs/README.md: "v1 *Fields lists allow only 17 values of field_type; live accounts answer more."
OPEN_ENUMS_IN_ANSWERS = {"field_type"}
# v1 marks the times of field definitions as date-time and shows "2019-02-04 13:58:03" in its own example of them.
PLAIN_TIMES_IN_V1_ANSWERS = {"add_time", "update_time"}
# The vendor's pages document comma-separated lists for these; the document's enum holds single words only.
LIST_PARAMETERS = {"item_types", "fields", "include_fields", "status"}
# The old query form of the credential is a security scheme and no parameter of an operation.
SECURITY_PARAMETERS = {"api_token"}


@lru_cache
def _document(name):
    return json.loads((SHARED / "specs" / "pipedrive" / name).read_text())


def split_path(path):
    """("v2", "/deals/5") of "/api/v2/deals/5"; None for a path of no generation."""
    match = re.match(r"^/(?:api/)?(v[12])(/.*)$", path)
    if not match or (match[1] == "v2" and not path.startswith("/api/")):
        return None
    return match[1], match[2]


@lru_cache
def operation(method, path):
    """(template, operation) for a concrete path, or None. A literal path wins over one with parameters."""
    parts = split_path(path)
    if not parts:
        return None
    generation, rest = parts
    candidates = []
    for name in DOCUMENTS[generation]:
        for template, item in _document(name)["paths"].items():
            pattern = "^" + re.sub(r"\\\{[^/]+?\\\}", "([^/]+)", re.escape(template)) + "$"
            if re.match(pattern, rest) and method.lower() in item:
                candidates.append((template.count("{"), template, item))
    if not candidates:
        return None
    _, template, item = min(candidates, key=lambda candidate: candidate[:2])
    found = dict(item[method.lower()])
    found["parameters"] = item.get("parameters", []) + found.get("parameters", [])
    return template, found


def _schema(schema, answer, name=None):
    """An OpenAPI 3.0 schema as JSON Schema. `answer` is the generation of an answer, in which alone the known slips are
    mended, or None for a request."""
    if isinstance(schema, list):
        return [_schema(item, answer) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {n: _schema(s, answer, n) for n, s in value.items()}
        elif key in ("items", "additionalProperties", "not") and isinstance(value, dict):
            out[key] = _schema(value, answer)
        elif key in ("allOf", "anyOf", "oneOf"):
            out[key] = [_schema(item, answer, name) for item in value]
        elif key == "required" and not isinstance(value, list):
            continue  # `required: true` inside a schema is a slip of OpenAPI 2 and means nothing.
        elif key in ("nullable", "example", "examples", "readOnly", "xml", "deprecated", "title", "description"):
            continue
        else:
            out[key] = value
    if answer and name in OPEN_ENUMS_IN_ANSWERS:
        out.pop("enum", None)
    if answer == "v1" and name in PLAIN_TIMES_IN_V1_ANSWERS:
        out.pop("format", None)
    if schema.get("nullable") or (answer and name in NULL_IN_ANSWERS):
        out = {"anyOf": [{"type": "null"}, out]}
    return out


def _errors(schema, value, where):
    validator = jsonschema.Draft7Validator(schema, format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER)
    return [f"{where}{'/'.join([''] + [str(p) for p in e.absolute_path])}: {e.message[:300]}"
            for e in validator.iter_errors(value)]


def _known_members(schema):
    """Names that the object of a request body may hold, through every allOf."""
    names = set(schema.get("properties", {}))
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key, []):
            names |= _known_members(part)
    return names


def _convert(text, schema):
    kind = schema.get("type")
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


def _query_errors(found, query):
    errors = []
    parameters = {p["name"]: p for p in found["parameters"] if p["in"] == "query"}
    for name, value in query.items():
        if name in SECURITY_PARAMETERS:
            continue
        if name not in parameters:
            errors.append(f"query {name}: no such parameter")
            continue
        schema = _schema(parameters[name]["schema"], None)
        words = value.split(",") if name in LIST_PARAMETERS and isinstance(value, str) else [value]
        for word in words:
            errors += _errors(schema, _convert(word, schema) if isinstance(word, str) else word, f"query {name}")
    for name, parameter in parameters.items():
        if parameter.get("required") and name not in query:
            errors.append(f"query {name}: required")
    return errors


def validate_request(method, path, query=None, headers=None, body=None):
    """Sentences about what the vendor's document has against a request. `body` is parsed JSON, None when empty."""
    found = operation(method, path)
    if not found:
        return [f"{method} {path}: no such operation in the vendor's documents"]
    _, found = found
    headers = {name.lower(): value for name, value in (headers or {}).items()}
    errors = _query_errors(found, dict(query or {}))
    content = found.get("requestBody", {}).get("content", {})
    if body is None:
        if content and found["requestBody"].get("required"):
            errors.append("body: required")
        return errors
    if "application/json" not in content:
        return errors + ["body: the operation takes none"]
    if not headers.get("content-type", "").startswith("application/json"):
        errors.append(f"content-type: {headers.get('content-type')!r} is not application/json")
    schema = content["application/json"]["schema"]
    errors += _errors(_schema(schema, None), body, "body")
    if isinstance(body, dict):
        known = _known_members(schema)
        # v1 puts custom fields at the root, under keys of 40 hexadecimal characters; v2 refuses them there.
        hash_key = re.compile(r"^[0-9a-f]{40}(_currency|_until|_timezone_id)?$")
        is_v1 = split_path(path)[0] == "v1"
        errors += [f"body/{name}: no such member" for name in body
                   if name not in known and not (is_v1 and hash_key.match(name))]
    return errors


def validate_response(method, path, status, body, content_type="application/json"):
    """Sentences about what the vendor's document has against an answer. Error answers that a document does not list
    are checked for the common envelope (`specs/pipedrive/errors.json`)."""
    found = operation(method, path)
    if not found:
        return [f"{method} {path}: no such operation in the vendor's documents"]
    _, found = found
    answer = found["responses"].get(str(status))
    if answer is None:
        if status < 400:
            return [f"status {status}: the document knows {', '.join(found['responses'])}"]
        envelope = isinstance(body, dict) and body.get("success") is False and isinstance(body.get("error"), str)
        return [] if envelope else [f"status {status}: not the vendor's error envelope"]
    errors = []
    if not content_type.startswith("application/json"):
        errors.append(f"content-type {content_type}")
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    return errors + (_errors(_schema(schema, split_path(path)[0]), body, "answer") if schema else [])


def token_cost(method, path):
    """Cost of a call in tokens of the daily budget, None when the document names none."""
    found = operation(method, path)
    return found[1].get("x-token-cost") if found else None


def validate_ledger(entries):
    """Checks every request that a sandbox recorded (`requests` of GET /_sandbox/ledger)."""
    errors = []
    for entry in entries:
        for error in validate_request(entry["method"], entry["path"], entry["query"], entry["headers"], entry["body"]):
            errors.append(f"request {entry['n']}, {entry['method']} {entry['path']}: {error}")
    return errors
