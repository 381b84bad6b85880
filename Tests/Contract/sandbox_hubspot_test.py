# SPDX-License-Identifier: Apache-2.0
"""The records and definitions of the sandbox's HubSpot against the vendor's documents, over a real socket."""

import json

import pytest

from hubspot_bench import installed, sandbox, shared  # noqa: F401 (fixtures)


@pytest.mark.parametrize("base", ["/crm/v3/objects", "/crm/objects/2026-09"])
def test_a_contact(sandbox, base):
    made = sandbox.data("POST", f"{base}/contacts", {"properties": {"email": "New@x.test", "firstname": "N"}})
    path = f"{base}/contacts/{made['id']}"
    assert sandbox.data("GET", path, query={"properties": "firstname,phone"})["properties"]["phone"] is None
    by_email = sandbox.data("GET", f"{base}/contacts/new@x.test", query={
        "idProperty": "email", "properties": ["email", "lifecyclestage"], "propertiesWithHistory": "firstname"})
    assert by_email["id"] == made["id"] and by_email["propertiesWithHistory"]["firstname"][0]["value"] == "N"
    sandbox.data("PATCH", path, {"properties": {"firstname": "", "phone": "1"}})
    after = sandbox.data("GET", path, query={"properties": "firstname,phone"})["properties"]
    assert (after["firstname"], after["phone"]) == (None, "1")
    sandbox.data("PATCH", f"{base}/contacts/new@x.test", {"properties": {"phone": "2"}}, query={"idProperty": "email"})
    assert len(sandbox.data("GET", f"{base}/contacts", query={"limit": "1"})["results"]) == 1
    clash = sandbox.refused(409, "POST", f"{base}/contacts", {"properties": {"email": "new@x.test"}})
    assert clash["message"] == f"Contact already exists. Existing ID: {made['id']}" and clash["category"] == "CONFLICT"
    history = next(c for c in sandbox.ledger()["contacts"] if c["id"] == made["id"])["history"]
    assert [(h["name"], h["value"]) for h in history] == [
        ("email", "New@x.test"), ("firstname", "N"), ("firstname", ""), ("phone", "1"), ("phone", "2")]
    assert sandbox.call("DELETE", path).status_code == 204
    assert sandbox.refused(404, "GET", path)["category"] == "OBJECT_NOT_FOUND"


@pytest.mark.parametrize("name, value, code", [
    ("nope", "x", "PROPERTY_DOESNT_EXIST"), ("hs_analytics_first_url", "x", "READ_ONLY_VALUE"),
    ("hs_analytics_source", "x", "READ_ONLY_VALUE"), ("num_associated_deals", "1", "READ_ONLY_VALUE"),
    ("email", "no address", "INVALID_EMAIL"), ("lifecyclestage", "Lead", "INVALID_OPTION"),
])
def test_PROP_04_one_refused_value_fails_the_whole_update(sandbox, name, value, code):
    path = "/crm/v3/objects/contacts/37765128953"
    refused = sandbox.refused(400, "PATCH", path, {"properties": {"firstname": "Changed", name: value}})
    assert refused["category"] == "VALIDATION_ERROR"
    reasons = json.loads(refused["message"].removeprefix("Property values were not valid: "))
    assert [(reason["name"], reason["error"]) for reason in reasons] == [(name, code)]
    assert sandbox.data("GET", path)["properties"]["firstname"] == "Ada"


def test_the_stage_of_a_life_only_moves_forward(sandbox):
    path = "/crm/v3/objects/contacts/37765128953"
    for stage, expected in [("lead", "lead"), ("customer", "customer"), ("lead", "customer")]:
        sandbox.data("PATCH", path, {"properties": {"lifecyclestage": stage}})
        assert sandbox.data("GET", path, query={"properties": "lifecyclestage"})["properties"]["lifecyclestage"] == expected


def test_RES_08_a_merged_id_finds_the_survivor(sandbox):
    other = sandbox.data("POST", "/crm/v3/objects/contacts", {"properties": {"email": "b@x.test", "phone": "5"}})["id"]
    merged = sandbox.data("POST", "/crm/v3/objects/contacts/merge",
                          {"primaryObjectId": "37765128953", "objectIdToMerge": other})
    assert merged["id"] not in (other, "37765128953")
    assert merged["properties"]["hs_merged_object_ids"] == f"37765128953;{other}"
    for old in (other, "37765128953"):
        found = sandbox.data("GET", f"/crm/v3/objects/contacts/{old}", query={"properties": "email,phone"})
        assert found["id"] == merged["id"] and found["properties"]["phone"] == "5"
    deals = sandbox.data("POST", "/crm/v4/associations/contacts/deals/batch/read", {"inputs": [{"id": other}]})
    assert [to["toObjectId"] for to in deals["results"][0]["to"]] == ["9001"]
    kept = sandbox.control("POST", "hubspot/contacts", {"properties": {"email": "c@x.test"}})["id"]
    again = sandbox.control("POST", "hubspot/merge", {"primary": kept, "merged": merged["id"], "new_id": False})
    assert again["id"] == kept


def test_a_contact_is_erased(sandbox):
    body = {"objectId": "a@x.test", "idProperty": "email"}
    assert sandbox.call("POST", "/crm/v3/objects/contacts/gdpr-delete", body).status_code == 204
    sandbox.refused(404, "GET", "/crm/v3/objects/contacts/37765128953")


def test_batches_of_contacts(sandbox):
    write = lambda verb, inputs, **more: sandbox.call("POST", f"/crm/v3/objects/contacts/batch/{verb}", {"inputs": inputs} | more)
    made = write("create", [{"properties": {"email": f"n{i}@x.test"}} for i in range(3)])
    assert made.status_code == 201
    ids = [row["id"] for row in made.json()["results"]]
    read = write("read", [{"id": i} for i in ids + ["1"]], properties=["email"], propertiesWithHistory=[])
    assert read.status_code == 207 and len(read.json()["results"]) == 3 and read.json()["errors"][0]["context"]["ids"] == ["1"]
    by_email = write("read", [{"id": "n1@x.test"}], properties=["email"], propertiesWithHistory=[], idProperty="email")
    assert by_email.json()["results"][0]["id"] == ids[1]
    updated = write("update", [{"id": i, "properties": {"phone": "1"}} for i in ids])
    assert updated.status_code == 200 and len(updated.json()["results"]) == 3
    silent = write("update", [{"id": "n1@x.test", "idProperty": "email", "properties": {"phone": "9"}}])
    assert silent.status_code == 200 and silent.json()["results"] == []
    assert sandbox.call("POST", "/crm/v3/objects/contacts/batch/archive", {"inputs": [{"id": ids[0]}]}).status_code == 204


def test_upsert_with_trace_ids_writes_what_it_can(sandbox):
    def upsert(inputs):
        return sandbox.call("POST", "/crm/v3/objects/contacts/batch/upsert", {"inputs": inputs})

    def one(email, **properties):
        return {"idProperty": "email", "id": email, "properties": {"email": email} | properties}

    mixed = [one("a@x.test", phone="1"), one("new@x.test", nope="1"), one("other@x.test")]
    refused = upsert(mixed)
    assert refused.status_code == 400 and "nope" in refused.json()["message"]
    assert sandbox.data("GET", "/crm/v3/objects/contacts/37765128953", query={"properties": "phone"})["properties"]["phone"] is None
    partly = upsert([row | {"objectWriteTraceId": f"t-{n}"} for n, row in enumerate(mixed)])
    assert partly.status_code == 207 and partly.json()["numErrors"] == 1
    assert partly.json()["errors"][0]["context"]["objectWriteTraceId"] == ["t-1"]
    assert [(row["objectWriteTraceId"], row["new"]) for row in partly.json()["results"]] == [("t-0", False), ("t-2", True)]
    assert upsert([one(f"m{i}@x.test") for i in range(101)]).status_code == 400


def test_a_batch_without_its_wrapper_is_complete_and_empty_and_noted(sandbox):
    answer = sandbox.call("POST", "/crm/v3/objects/contacts/batch/upsert", [{"id": "x"}], valid=False)
    assert answer.status_code == 200 and answer.json()["results"] == []
    assert "inputs" in sandbox.ledger()["violations"][0]["detail"]


def test_search(sandbox):
    def search(**body):
        return sandbox.data("POST", "/crm/v3/objects/contacts/search", body)

    def where(name, operator, **more):
        return {"filterGroups": [{"filters": [{"propertyName": name, "operator": operator} | more]}]}

    for number in range(5):
        sandbox.data("POST", "/crm/v3/objects/contacts", {"properties": {"email": f"s{number}@x.test", "company": "Acme Ltd"}})
    found = search(**where("email", "EQ", value="S3@x.test"), properties=["email"], limit=10, after="0")
    assert found["total"] == 1 and found["results"][0]["properties"]["email"] == "s3@x.test"
    page = search(**where("company", "CONTAINS_TOKEN", value="acme"), limit=2, sorts=["-email"])
    assert page["total"] == 5 and page["paging"]["next"]["after"] == "2"
    assert [row["properties"]["email"] for row in page["results"]] == ["s4@x.test", "s3@x.test"]
    assert search(**where("email", "IN", values=["S1@x.test"]))["total"] == 0, "values of IN must be in lower case"
    assert search(**where("email", "IN", values=["s1@x.test", "s2@x.test"]))["total"] == 2
    assert search(**where("company", "NOT_HAS_PROPERTY"))["total"] == 1
    assert search(query="s4@")["total"] == 1
    sandbox.refused(400, "POST", "/crm/v3/objects/contacts/search", {"limit": 201})
    sandbox.refused(400, "POST", "/crm/v3/objects/contacts/search", {"limit": 100, "after": "9950"})
    assert sandbox.data("POST", "/crm/v3/objects/deals/search", where("dealstage", "EQ", value="appointmentscheduled"))["total"] == 1


def test_search_lags_behind(sandbox):
    sandbox.control("POST", "search-lag", {"ms": 3_600_000})
    sandbox.data("POST", "/crm/v3/objects/contacts", {"properties": {"email": "late@x.test"}})
    body = {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "EQ", "value": "late@x.test"}]}]}
    assert sandbox.data("POST", "/crm/v3/objects/contacts/search", body)["total"] == 0
    sandbox.refused(409, "POST", "/crm/v3/objects/contacts", {"properties": {"email": "late@x.test"}})
    sandbox.control("POST", "search-lag", {"ms": 0})
    assert sandbox.data("POST", "/crm/v3/objects/contacts/search", body)["total"] == 1


def test_RULE_05_a_deal_moves(sandbox):
    path = "/crm/v3/objects/deals/9001"
    sandbox.data("PATCH", path, {"properties": {"dealstage": "qualifiedtobuy"}})
    deal = sandbox.data("GET", path, query={"properties": "dealstage,hs_is_closed", "associations": "contacts"})
    assert deal["properties"]["dealstage"] == "qualifiedtobuy" and deal["properties"]["hs_is_closed"] == "false"
    assert deal["associations"]["contacts"]["results"] == [{"id": "37765128953", "type": "deal_to_contact"}]
    moves = sandbox.ledger()["deals"][0]["moves"]
    assert [(m["from"], m["to"], m["source"]) for m in moves] == [("appointmentscheduled", "qualifiedtobuy", "INTEGRATION")]
    for values in ({"dealstage": "QualifiedToBuy"}, {"pipeline": "nope"}, {"hs_is_closed": "true"}):
        sandbox.refused(400, "PATCH", path, {"properties": values})
    made = sandbox.data("POST", "/crm/v3/objects/deals", {
        "properties": {"dealname": "D", "dealstage": "closedwon"},
        "associations": [{"to": {"id": "37765128953"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 3}]}]})
    assert made["properties"]["hs_is_closed_won"] == "true" and made["properties"]["pipeline"] == "default"
    read = sandbox.call("POST", "/crm/v3/objects/deals/batch/read", {
        "inputs": [{"id": "9001"}, {"id": made["id"]}], "properties": ["amount"], "propertiesWithHistory": []})
    assert [row["properties"]["amount"] for row in read.json()["results"]] == ["5000.00", None]
    both = sandbox.data("POST", "/crm/v3/objects/deals/batch/update", {
        "inputs": [{"id": i, "properties": {"amount": "7"}} for i in ("9001", made["id"])]})
    assert len(both["results"]) == 2


@pytest.mark.parametrize("base", ["/crm/v3/pipelines", "/crm/pipelines/2026-09"])
def test_pipelines(sandbox, base):
    (pipeline,) = sandbox.data("GET", f"{base}/deals")["results"]
    assert [s["id"] for s in pipeline["stages"]] == [
        "appointmentscheduled", "qualifiedtobuy", "presentationscheduled", "decisionmakerboughtin", "contractsent",
        "closedwon", "closedlost"]
    assert sandbox.data("GET", f"{base}/deals/default")["id"] == "default"
    sandbox.control("POST", "hubspot/stages", {"id": "demo", "label": "Demo", "display_order": 0})
    assert len(sandbox.data("GET", f"{base}/deals/default/stages")["results"]) == 8
    assert sandbox.data("GET", f"{base}/deals/default/stages/demo")["label"] == "Demo"
    sandbox.control("DELETE", "hubspot/stages/demo")
    sandbox.refused(404, "GET", f"{base}/deals/default/stages/demo")
    sandbox.control("POST", "hubspot/pipelines", {"id": "renewals", "stages": [{"id": "due", "label": "Due"}]})
    assert len(sandbox.data("GET", f"{base}/deals")["results"]) == 2
    sandbox.control("DELETE", "hubspot/pipelines/renewals")
    sandbox.refused(404, "GET", f"{base}/deals/renewals")


def test_owners(sandbox):
    owners = sandbox.data("GET", "/crm/v3/owners/")["results"]
    assert sandbox.data("GET", "/crm/owners/2026-09", query={"email": owners[1]["email"]})["results"] == owners[1:]
    assert sandbox.data("GET", f"/crm/v3/owners/{owners[0]['id']}") == owners[0]
    sandbox.refused(404, "GET", "/crm/v3/owners/1")


def test_associations(sandbox):
    (deal,) = sandbox.control("POST", "hubspot/deals", [{"id": "9100", "properties": {"dealname": "E"}}])
    put = "/crm/v4/objects/deals/9100/associations/default/contacts/37765128953"
    assert sandbox.data("PUT", put)["results"][0]["associationSpec"]["associationTypeId"] == 3
    read = lambda *ids: sandbox.call("POST", "/crm/v4/associations/contacts/deals/batch/read", {"inputs": [{"id": i} for i in ids]})
    found = read("37765128953")
    assert found.status_code == 200
    assert [to["toObjectId"] for to in found.json()["results"][0]["to"]] == ["9001", "9100"]
    assert found.json()["results"][0]["to"][0]["associationTypes"] == [{"category": "HUBSPOT_DEFINED", "typeId": 4}]
    lonely = sandbox.control("POST", "hubspot/contacts", {"properties": {"email": "l@x.test"}})["id"]
    partly = read("37765128953", lonely)
    assert partly.status_code == 207 and partly.json()["errors"][0]["context"]["fromObjectId"] == [lonely]
    sandbox.control("POST", "hubspot/associations", {
        "from": "contacts", "from_id": "37765128953", "to": "deals", "to_id": "9100", "label": "Primary"})
    labels = read("37765128953").json()["results"][0]["to"][1]["associationTypes"]
    assert {"category": "USER_DEFINED", "typeId": 28, "label": "Primary"} in labels
    listed = sandbox.data("GET", "/crm/v4/objects/contacts/37765128953/associations/deals")
    assert len(listed["results"]) == 2
    assert sandbox.data("GET", "/crm/v4/associations/contacts/deals/labels")["results"][0]["typeId"] == 4
    assert sandbox.call("DELETE", "/crm/v4/objects/contacts/37765128953/associations/deals/9100").status_code == 204
    made = sandbox.call("POST", "/crm/v4/associations/contacts/deals/batch/create", {"inputs": [
        {"from": {"id": lonely}, "to": {"id": deal["id"]}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 4}]},
        {"from": {"id": "1"}, "to": {"id": deal["id"]}, "types": []}]})
    assert made.status_code == 207 and len(made.json()["results"]) == 1
    again = sandbox.data("POST", "/crm/v4/associations/contacts/deals/batch/associate/default",
                         {"inputs": [{"from": {"id": lonely}, "to": {"id": "9001"}}]})
    assert len(again["results"]) == 2
    sandbox.refused(404, "PUT", "/crm/v4/objects/deals/1/associations/default/contacts/37765128953")


def test_a_note(sandbox):
    note = sandbox.data("POST", "/crm/v3/objects/notes", {
        "properties": {"hs_note_body": "<p>clicked</p>", "hs_timestamp": "2025-10-24T10:00:00.000Z"},
        "associations": [{"to": {"id": "37765128953"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}]}]})
    assert sandbox.data("GET", f"/crm/v3/objects/notes/{note['id']}", query={"properties": "hs_note_body"})["properties"]["hs_note_body"]
    (kept,) = sandbox.ledger()["notes"]
    assert kept["associations"] == {"contacts": ["37765128953"]}
    sandbox.refused(400, "POST", "/crm/v3/objects/notes", {"properties": {"hs_note_body": "x"}})
    sandbox.refused(400, "POST", "/crm/v3/objects/notes", {
        "properties": {"hs_timestamp": "1761300000123"},
        "associations": [{"to": {"id": "1"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}]}]})




@pytest.mark.parametrize("base", ["/crm/v3/properties", "/crm/properties/2026-09"])
def test_HCON_06_properties(sandbox, base):
    def new(name, **more):
        return {"groupName": "contactinformation", "name": name, "label": "Last UTM source", "type": "string", "fieldType": "text"} | more

    first = sandbox.data("GET", f"{base}/contacts/hs_analytics_first_url")
    assert first["hubspotDefined"] and first["modificationMetadata"]["readOnlyValue"]
    made = sandbox.data("POST", f"{base}/contacts", new("elido_last_utm_source"))
    assert not made["hubspotDefined"] and not made["modificationMetadata"]["readOnlyValue"]
    assert sandbox.refused(409, "POST", f"{base}/contacts", new("elido_last_utm_source"))["category"] == "CONFLICT"
    sandbox.refused(400, "POST", f"{base}/contacts", new("Bad Name"))
    sandbox.refused(400, "POST", f"{base}/contacts", new("x", groupName="nope"))
    sandbox.refused(404, "GET", f"{base}/contacts/nope")
    batch = sandbox.call("POST", f"{base}/contacts/batch/create", {"inputs": [new("a1"), new("elido_last_utm_source")]})
    assert batch.status_code == 207 and batch.json()["errors"][0]["context"]["name"] == ["elido_last_utm_source"]
    assert sandbox.call("POST", f"{base}/contacts/batch/create", {"inputs": [new("a2")]}).status_code == 201
    read = sandbox.call("POST", f"{base}/contacts/batch/read", {"archived": False, "inputs": [{"name": "a2"}, {"name": "a9"}]})
    assert read.status_code == 207 and len(read.json()["results"]) == 1
    assert sandbox.data("PATCH", f"{base}/contacts/a1", {"label": "Other"})["label"] == "Other"
    assert sandbox.call("DELETE", f"{base}/contacts/a1").status_code == 204
    sandbox.refused(400, "DELETE", f"{base}/contacts/email")
    names = [p["name"] for p in sandbox.data("GET", f"{base}/contacts")["results"]]
    assert "elido_last_utm_source" in names and "a1" not in names
    assert sandbox.data("GET", f"{base}/contacts/groups")["results"]
    assert sandbox.ledger()["properties"]["contacts"] == ["elido_last_utm_source", "a2"]
    sandbox.data("PATCH", "/crm/v3/objects/contacts/37765128953", {"properties": {"elido_last_utm_source": "webinar"}})


@pytest.mark.parametrize("type, values", [
    ("deals", {"dealname": "D", "dealstage": "contractsent"}), ("companies", {"name": "Acme", "domain": "acme.test"}),
    ("notes", {"hs_note_body": "n", "hs_timestamp": "2025-10-24T10:00:00.000Z"}),
])
def test_every_type_of_record_is_served_alike(sandbox, type, values):
    base, body = f"/crm/v3/objects/{type}", {"properties": values}
    one = sandbox.data("POST", base, body)["id"]
    made = sandbox.call("POST", f"{base}/batch/create", {"inputs": [body, body]})
    assert made.status_code == 201
    ids = [one] + [row["id"] for row in made.json()["results"]]
    assert len(set(ids)) == 3
    name, value = next(iter(values.items()))
    assert sandbox.data("PATCH", f"{base}/{one}", {"properties": {name: value + "!"}})["properties"][name] == value + "!"
    assert sandbox.data("GET", f"{base}/{one}", query={"properties": name})["properties"][name] == value + "!"
    assert ids[0] in [row["id"] for row in sandbox.data("GET", base, query={"limit": "100"})["results"]]
    updated = sandbox.data("POST", f"{base}/batch/update", {"inputs": [{"id": i, "properties": {name: "x"}} for i in ids]})
    assert [row["properties"][name] for row in updated["results"]] == ["x", "x", "x"]
    upserted = sandbox.data("POST", f"{base}/batch/upsert", {"inputs": [
        {"id": one, "idProperty": "hs_object_id", "properties": {name: "y"}}]})
    assert upserted["results"][0]["new"] is False
    found = sandbox.data("POST", f"{base}/search", {"filterGroups": [{"filters": [
        {"propertyName": "hs_object_id", "operator": "IN", "values": ids}]}], "sorts": ["hs_object_id"]})
    assert [row["id"] for row in found["results"]] == ids
    assert sandbox.call("POST", f"{base}/batch/archive", {"inputs": [{"id": ids[1]}]}).status_code == 204
    assert sandbox.call("DELETE", f"{base}/{ids[2]}").status_code == 204
    read = sandbox.call("POST", f"{base}/batch/read", {
        "inputs": [{"id": i} for i in ids], "properties": [name], "propertiesWithHistory": [name]})
    assert read.status_code == 207 and [row["id"] for row in read.json()["results"]] == [one]
    assert len(read.json()["results"][0]["propertiesWithHistory"][name]) == 4
    sandbox.refused(404, "PATCH", f"{base}/{ids[1]}", body)
    sandbox.refused(404, "DELETE", f"{base}/{ids[1]}")
    sandbox.refused(404, "POST", f"{base}/merge", {"primaryObjectId": one, "objectIdToMerge": ids[1]})


CREATE = {"properties": {"firstname": "x"}}
INPUTS = {"inputs": [{"id": "1", "properties": {}}]}
READ = {"inputs": [{"id": "1"}], "properties": [], "propertiesWithHistory": []}
PROPERTY = {"name": "x", "label": "x", "groupName": "contactinformation", "type": "string", "fieldType": "text"}
LINK = {"from": {"id": "1"}, "to": {"id": "2"}}
EVENT = {"eventTemplateId": "1", "tokens": {}}
APP_EVENT = {"eventTypeName": "x", "id": "1", "properties": {}}


@pytest.mark.parametrize("method, path, body", [
    ("GET", "/crm/v3/objects/contacts", None), ("POST", "/crm/v3/objects/contacts", CREATE),
    ("GET", "/crm/v3/objects/contacts/1", None), ("PATCH", "/crm/v3/objects/contacts/1", CREATE),
    ("DELETE", "/crm/v3/objects/contacts/1", None), ("POST", "/crm/v3/objects/contacts/search", {}),
    ("POST", "/crm/v3/objects/contacts/merge", {"primaryObjectId": "1", "objectIdToMerge": "2"}),
    ("POST", "/crm/v3/objects/contacts/gdpr-delete", {"objectId": "1"}),
    ("POST", "/crm/v3/objects/contacts/batch/read", READ), ("POST", "/crm/v3/objects/contacts/batch/update", INPUTS),
    ("POST", "/crm/v3/objects/contacts/batch/create", {"inputs": [CREATE]}),
    ("POST", "/crm/v3/objects/contacts/batch/upsert", INPUTS),
    ("POST", "/crm/v3/objects/contacts/batch/archive", {"inputs": [{"id": "1"}]}),
    ("GET", "/crm/v3/objects/deals/1", None), ("PATCH", "/crm/v3/objects/deals/1", CREATE),
    ("POST", "/crm/v3/objects/deals/batch/read", READ), ("POST", "/crm/v3/objects/notes", CREATE),
    ("GET", "/crm/v3/properties/contacts", None), ("POST", "/crm/v3/properties/contacts", PROPERTY),
    ("GET", "/crm/v3/properties/contacts/email", None), ("PATCH", "/crm/v3/properties/contacts/x", {"label": "y"}),
    ("DELETE", "/crm/v3/properties/contacts/x", None), ("GET", "/crm/v3/properties/contacts/groups", None),
    ("POST", "/crm/v3/properties/contacts/batch/create", {"inputs": [PROPERTY]}),
    ("POST", "/crm/v3/properties/contacts/batch/read", {"inputs": [{"name": "x"}], "archived": False}),
    ("GET", "/crm/v3/pipelines/deals", None), ("GET", "/crm/v3/pipelines/deals/default", None),
    ("GET", "/crm/v3/pipelines/deals/default/stages", None), ("GET", "/crm/v3/pipelines/deals/default/stages/x", None),
    ("GET", "/crm/v3/owners/", None), ("GET", "/crm/v3/owners/1", None),
    ("POST", "/crm/v4/associations/contacts/deals/batch/read", {"inputs": [{"id": "1"}]}),
    ("POST", "/crm/v4/associations/contacts/deals/batch/create", {"inputs": [LINK | {"types": []}]}),
    ("POST", "/crm/v4/associations/contacts/deals/batch/associate/default", {"inputs": [LINK]}),
    ("GET", "/crm/v4/associations/contacts/deals/labels", None),
    ("GET", "/crm/v4/objects/contacts/1/associations/deals", None),
    ("PUT", "/crm/v4/objects/deals/1/associations/default/contacts/1", None),
    ("DELETE", "/crm/v4/objects/contacts/1/associations/deals/1", None),
    ("POST", "/integrators/timeline/v3/events", EVENT), ("GET", "/integrators/timeline/v3/events/1/1", None),
    ("POST", "/integrators/timeline/v3/events/batch/create", {"inputs": [EVENT]}),
    ("GET", "/integrators/timeline/v3/54321/event-templates", None),
    ("POST", "/integrators/timeline/2026-03/events", APP_EVENT),
    ("POST", "/integrators/timeline/2026-03/events/batch", {"inputs": [APP_EVENT]}),
    ("POST", "/integrators/timeline/2026-03/types/projects", {"developerSymbol": "x", "projectName": "y"}),
    ("POST", "/events/v3/send", {"eventName": "x"}), ("POST", "/events/v3/send/batch", {"inputs": [{"eventName": "x"}]}),
])
def test_every_call_needs_a_live_token_with_its_scope(sandbox, method, path, body):
    sandbox.control("POST", "hubspot/tokens", {"token": "bare", "kind": "oauth", "scopes": ["oauth"]})
    sandbox.control("POST", "hubspot/tokens", {"token": "old", "kind": "oauth", "expires_in": 0})
    assert sandbox.refused(401, method, path, body, headers={})["category"] == "INVALID_AUTHENTICATION"
    assert sandbox.refused(401, method, path, body, token="nope")["category"] == "INVALID_AUTHENTICATION"
    if "event-templates" not in path:
        assert sandbox.refused(401, method, path, body, token="old")["category"] == "EXPIRED_AUTHENTICATION"
    refused = sandbox.refused(403, method, path, body, token="bare")
    assert refused["category"] == "MISSING_SCOPES" and refused["errors"][0]["context"]["requiredGranularScopes"]
