# SPDX-License-Identifier: Apache-2.0
"""Checks requests and answers against HubSpot's OpenAPI documents.

    errors = validate_request("PATCH", "/crm/v3/objects/contacts/1", {}, {"content-type": "application/json"}, {...})
    errors = validate_response("PATCH", "/crm/v3/objects/contacts/1", 200, {...})

Both return a list of sentences; an empty list means that the document agrees. `validate_ledger(entries)` checks every
request that a sandbox has recorded. The documents are read from $MILEPOST_SHARED/specs/hubspot (default ../shared beside
the repository).
"""

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qsl

import jsonschema

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MILEPOST_SHARED", ROOT.parent / "shared"))
FORM = "application/x-www-form-urlencoded"

# crm-apis.md 3.1: the dated generation of a path, and the older alias of the timeline, beside the path of the documents.
GENERATIONS = [
    (r"^/crm/objects/20\d\d-\d\d/(\w+/[^/]+/associations/)", r"/crm/v4/objects/\1"),
    (r"^/crm/objects/20\d\d-\d\d/", "/crm/v3/objects/"),
    (r"^/crm/(properties|pipelines|owners)/20\d\d-\d\d", r"/crm/v3/\1"),
    (r"^/crm/associations/20\d\d-\d\d/", "/crm/v4/associations/"),
    (r"^/events/custom/20\d\d-\d\d/", "/events/v3/"),
    (r"^/crm/v3/timeline/", "/integrators/timeline/v3/"),
    (r"^/crm/v3/owners$", "/crm/v3/owners/"),
    # Notes have no document of their own here; every object type has the same shapes.
    (r"^/crm/v3/objects/notes", "/crm/v3/objects/deals"),
]
# In the vendor's reference and in no document at hand.
UNDOCUMENTED = {"/account-info/v3/details"}
# The page that a browser sees belongs to no API document.
PAGES = re.compile(r"^/oauth/(\d+/)?authorize$")
# The old query form of the developer key is a security scheme and no parameter of an operation.
SECURITY_PARAMETERS = {"hapikey"}

# Where the documents are known to be wrong. Each slip names its place and its source, and opens nothing else.
#
# specs/README.md: "HubSpot 429 bodies seen live lack the `category` that the error schema requires."
WITHOUT_CATEGORY = {429}
# specs/hubspot/errors.json: refusals of the v1 token endpoint have a `status` of their own in place of a category.
V1_TOKEN = "/oauth/v1/token"


def canonical(path):
    for pattern, replacement in GENERATIONS:
        path = re.sub(pattern, replacement, path)
    return path


@lru_cache
def _documents():
    folder = SHARED / "specs" / "hubspot"
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return [document for document in found if "paths" in document]


@lru_cache
def operation(method, path):
    """(document, operation) for a concrete path, or None. A literal path wins over one with parameters."""
    path = canonical(path)
    candidates = []
    for number, document in enumerate(_documents()):
        for template, item in document["paths"].items():
            pattern = "^" + re.sub(r"\\\{[^/]+?\\\}", "([^/]+)", re.escape(template)) + "$"
            if re.match(pattern, path) and method.lower() in item:
                candidates.append((template.count("{"), template, number, item))
    if not candidates:
        return None
    _, _, number, item = min(candidates, key=lambda candidate: candidate[:3])
    found = dict(item[method.lower()])
    found["parameters"] = item.get("parameters", []) + found.get("parameters", [])
    return number, found


def _schema(schema):
    """An OpenAPI 3.0 schema as JSON Schema."""
    if isinstance(schema, list):
        return [_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: _schema(value) for key, value in schema.items() if key not in ("nullable", "example", "examples")}
    return {"anyOf": [{"type": "null"}, out]} if schema.get("nullable") else out


@lru_cache
def _components(number):
    return {"schemas": _schema(_documents()[number]["components"]["schemas"])}


def _errors(number, schema, value, where):
    schema = _schema(schema) | {"components": _components(number)}
    validator = jsonschema.Draft7Validator(schema, format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER)
    return [f"{where}{'/'.join([''] + [str(p) for p in e.absolute_path])}: {e.message[:300]}"
            for e in validator.iter_errors(value)]


def _unknown(number, schema, value, where):
    """Members that no schema names, at every depth: a generated client could not send them."""
    if "$ref" in schema:
        schema = _documents()[number]["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, list) and "items" in schema:
        return [error for item in value for error in _unknown(number, schema["items"], item, where + "[]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    errors = []
    for name, inner in value.items():
        if name not in schema["properties"]:
            errors.append(f"{where}/{name}: no such member")
        else:
            errors += _unknown(number, schema["properties"][name], inner, f"{where}/{name}")
    return errors


def _convert(text, schema):
    try:
        if schema.get("type") in ("integer", "number"):
            return float(text) if schema["type"] == "number" else int(text)
    except ValueError:
        return text
    if schema.get("type") == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


def _query_errors(number, found, query):
    errors = []
    parameters = {p["name"]: p for p in found["parameters"] if p["in"] == "query"}
    for name, value in query.items():
        if name in SECURITY_PARAMETERS:
            continue
        if name not in parameters:
            errors.append(f"query {name}: no such parameter")
            continue
        schema = parameters[name]["schema"]
        values = value if isinstance(value, list) else [value]
        if schema.get("type") == "array":
            errors += _errors(number, schema, [word for v in values for word in v.split(",")], f"query {name}")
        else:
            for word in values:
                errors += _errors(number, schema, _convert(word, schema), f"query {name}")
    return errors + [f"query {name}: required" for name, p in parameters.items() if p.get("required") and name not in query]


def validate_request(method, path, query=None, headers=None, body=None):
    """Sentences about what the vendor's document has against a request. `body` is parsed JSON, the text of a form, or None."""
    if path in UNDOCUMENTED or PAGES.match(path):
        return []
    found = operation(method, path)
    if not found:
        return [f"{method} {path}: no such operation in the vendor's documents"]
    number, found = found
    headers = {name.lower(): value for name, value in (headers or {}).items()}
    errors = _query_errors(number, found, dict(query or {}))
    content = found.get("requestBody", {}).get("content", {})
    if body is None or body == "":
        return errors + (["body: required"] if content else [])
    if not content:
        return errors + ["body: the operation takes none"]
    kind, media = next(iter(content.items()))
    if not headers.get("content-type", "").startswith(kind):
        errors.append(f"content-type: {headers.get('content-type')!r} is not {kind}")
    if kind == FORM and isinstance(body, str):
        body = dict(parse_qsl(body, keep_blank_values=True))
    schema = media["schema"]
    if canonical(path) == V1_TOKEN:
        # The v1 document is older than proof keys; the vendor takes them in every generation.
        schema = schema | {"properties": schema["properties"] | {"code_verifier": {"type": "string"}}}
    return errors + _errors(number, schema, body, "body") + _unknown(number, schema, body, "body")


def validate_response(method, path, status, body, content_type="application/json"):
    """Sentences about what the vendor's document has against an answer. `body` is None when empty."""
    if path in UNDOCUMENTED:
        return []
    found = operation(method, path)
    if not found:
        is_envelope = isinstance(body, dict) and body.get("status") == "error" and "correlationId" in body
        return [] if status == 404 and is_envelope else [f"{method} {path}: no such operation in the vendor's documents"]
    number, found = found
    answer = found["responses"].get(str(status)) or (found["responses"].get("default") if status >= 400 else None)
    if answer is None:
        # The authored documents list few refusals; the common envelope is the same everywhere.
        if status < 400:
            return [f"status {status}: the document knows {', '.join(found['responses'])}"]
        answer = {"content": {"application/json": {"schema": ENVELOPE}}}
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        return [] if body is None else [f"status {status}: the document shows no body"]
    if body is None:
        return [f"status {status}: no body"]
    if status in WITHOUT_CATEGORY and "category" not in body:
        body = body | {"category": "RATE_LIMIT"}
    if canonical(path) == V1_TOKEN and status >= 400:
        body = body | {"category": body["status"]}
    errors = [] if content_type.startswith("application/json") else [f"content-type {content_type}"]
    return errors + _errors(number, schema, body, "answer")


ENVELOPE = {
    "type": "object", "required": ["status", "message", "correlationId"],
    "properties": {"status": {"enum": ["error"]}, "message": {"type": "string"}, "correlationId": {"type": "string"},
                   "category": {"type": "string"}, "errors": {"type": "array"}, "context": {"type": "object"}},
}


def is_ours(path):
    return path.startswith(("/oauth/", "/crm/", "/integrators/", "/events/", "/account-info/"))


def validate_ledger(entries):
    """Checks every request to HubSpot that a sandbox recorded (`requests` of GET /_sandbox/ledger). Secrets are stars there."""
    errors = []
    for entry in entries:
        if not is_ours(entry["path"]) or entry["path"] in ("/oauth/token", "/oauth/revoke"):
            continue
        for error in validate_request(entry["method"], entry["path"], entry["query"], entry["headers"], entry["body"]):
            errors.append(f"request {entry['n']}, {entry['method']} {entry['path']}: {error}")
    return errors
