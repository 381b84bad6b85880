# SPDX-License-Identifier: Apache-2.0
"""Checks recorded requests against the documents of the vendor they went to.

    errors = validate_request(entry["method"], entry["path"], entry["query"], entry["headers"], entry["body"])

An empty list means that the document agrees. Requests to the receiver of webhooks (/hooks/...) belong to no vendor.
"""

from urllib.parse import parse_qsl

import hubspot_spec
import pipedrive_spec

PIPEDRIVE_CLIENT = "sandbox-pipedrive-client"
# RFC 7009, which Pipedrive's page on OAuth names; its API document has no such operation.
REVOKE = {"token", "token_type_hint"}


def vendor(path, query=None):
    """"pipedrive", "hubspot" or None."""
    if path in ("/oauth/token", "/oauth/token/", "/oauth/revoke"):
        return "pipedrive"
    if path == "/oauth/authorize" and (query or {}).get("client_id") == PIPEDRIVE_CLIENT:
        return "pipedrive"
    if path.startswith("/hooks"):
        return None
    return "hubspot" if hubspot_spec.is_ours(path) else "pipedrive"


def validate_request(method, path, query=None, headers=None, body=None):
    name = vendor(path, query)
    if name == "hubspot":
        return hubspot_spec.validate_request(method, path, query, headers, body)
    if name is None:
        return []
    if path.startswith("/oauth/"):
        return _pipedrive_oauth(method, path, query or {}, headers or {}, body)
    return pipedrive_spec.validate_request(method, path, query, headers, body)


def _oauth_item(path):
    document = pipedrive_spec._document("v1-2026-08.json")
    return document["paths"][path]


def _pipedrive_oauth(method, path, query, headers, body):
    if path == "/oauth/authorize":
        known = {p["name"] for p in _oauth_item(path)["get"]["parameters"]}
        return [f"query {name}: no such parameter" for name in query if name not in known]
    errors = [] if method == "POST" else [f"{method} {path}: no such operation"]
    if not headers.get("content-type", "").startswith(hubspot_spec.FORM):
        errors.append(f"content-type: {headers.get('content-type')!r}")
    if "authorization" not in headers:
        errors.append("header authorization: required")
    known = set(REVOKE)
    if path != "/oauth/revoke":
        # The document has the two grants as two operations that differ by a slash.
        schemas = [_oauth_item(p)["post"]["requestBody"]["content"][hubspot_spec.FORM]["schema"]
                   for p in ("/oauth/token", "/oauth/token/")]
        known = {name for schema in schemas for name in schema["properties"]} | {"code_verifier"}
    return errors + [f"body/{name}: no such member" for name, _ in parse_qsl(body or "") if name not in known]


def validate_pipedrive_tokens(answer):
    """Sentences about what Pipedrive's document has against the answer of its token endpoint."""
    schema = _oauth_item("/oauth/token")["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    errors = pipedrive_spec._errors(pipedrive_spec._schema(schema, "v1"), answer, "answer")
    return errors + [f"answer/{name}: missing" for name in schema["properties"] if name not in answer]
