# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import itertools
import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.prefect_block import hide, main

SECRET = "admin:not-a-real-password"
SCHEMAS = {
    "webhook": {
        "type": "object",
        "properties": {"url": {"type": "string"}, "kind": {"type": "string", "default": "info"}, "headers": {"type": "object"}, "retry": {"type": "boolean"}},
        "required": ["url"],
        "secret_fields": ["url", "headers.*"],
    },
    "bucket": {
        "type": "object",
        "properties": {"bucket": {"type": "string"}, "credentials": {"allOf": [{"$ref": "#/definitions/Credentials"}]}, "hook": {}},
        "required": ["bucket"],
        "secret_fields": ["credentials.key"],
        "block_schema_references": {"credentials": {"block_type_slug": "credentials"}, "hook": [{"block_type_slug": "webhook"}, {"block_type_slug": "bucket"}]},
        "definitions": {"Credentials": {"type": "object", "required": ["key"]}},
    },
    "credentials": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"], "secret_fields": ["key"]},
}


class Server:
    """The part of the API that keeps blocks."""

    def __init__(self, api: t.Any) -> None:
        self.api = api
        self.documents: list[dict[str, t.Any]] = []
        self.written: list[tuple[str, t.Any]] = []
        self.ids = itertools.count(1)
        routes = api.routes
        routes["POST /api/block_types/filter"] = lambda request: self.page(request, self.types(request["body"]))
        routes["POST /api/block_schemas/filter"] = lambda request: self.page(request, self.schemas(request["body"]))
        routes["POST /api/block_documents/filter"] = self.read
        routes["POST /api/block_documents/"] = self.create

    def page(self, request: t.Any, found: list[t.Any]) -> tuple[int, t.Any]:
        return 200, found[request["body"]["offset"] :]

    def types(self, body: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        slugs = body["block_types"]["slug"]["any_"] if "block_types" in body else list(SCHEMAS)
        return [{"id": f"type-{slug}", "slug": slug} for slug in slugs if slug in SCHEMAS]

    def schemas(self, body: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        types = body["block_schemas"]["block_type_id"]["any_"]
        found = [{"id": f"schema-{slug}", "block_type_id": f"type-{slug}", "created": "1", "fields": fields} for slug, fields in SCHEMAS.items()]
        return [schema for schema in found if schema["block_type_id"] in types]

    def read(self, request: t.Any) -> tuple[int, t.Any]:
        body = request["body"]
        assert body["include_secrets"] is True
        found = [
            document
            for document in self.documents
            if document["block_type"]["slug"] in body["block_types"]["slug"]["any_"] and document["name"] in body["block_documents"]["name"]["any_"]
        ]
        return self.page(request, found)

    def store(self, document: dict[str, t.Any], data: dict[str, t.Any]) -> None:
        data = copy.deepcopy(data)
        references = {field: value["$ref"]["block_document_id"] for field, value in data.items() if isinstance(value, dict) and "$ref" in value}
        document["data"] = {field: value for field, value in data.items() if field not in references}
        targets = {one["id"]: one for one in self.documents}
        document["block_document_references"] = {
            field: {"block_document": {name: targets[identifier][name] for name in ("id", "name", "block_type")}} for field, identifier in references.items()
        }

    def create(self, request: t.Any) -> tuple[int, t.Any]:
        body = request["body"]
        self.written.append(("POST", body))
        slug = body["block_type_id"].removeprefix("type-")
        document = {"id": f"b{next(self.ids)}", "name": body["name"], "block_type": {"slug": slug}, "block_schema": {"fields": SCHEMAS[slug]}}
        self.store(document, body["data"])
        self.documents.append(document)
        path = f"block_documents/{document['id']}"
        self.api.routes[f"GET /api/block_types/slug/{slug}/block_documents/name/{body['name']}"] = (200, document)

        def patch(request: t.Any) -> tuple[int, t.Any]:
            self.written.append(("PATCH", request["body"]))
            assert request["body"]["merge_existing_data"] is False
            self.store(document, request["body"]["data"])
            return 204, ""

        def delete(_request: t.Any) -> tuple[int, t.Any]:
            self.written.append(("DELETE", document["name"]))
            self.documents.remove(document)
            return 204, ""

        self.api.routes[f"PATCH /api/{path}"] = patch
        self.api.routes[f"DELETE /api/{path}"] = delete
        return 201, document


@pytest.fixture
def server(fake_api) -> Server:
    return Server(fake_api)


@pytest.fixture
def run(fake_api, run_module) -> t.Callable[..., dict[str, t.Any]]:
    def call(*blocks: dict[str, t.Any], **arguments: t.Any) -> dict[str, t.Any]:
        result = run_module(main, api_url=fake_api.url, auth_string=SECRET, blocks=list(blocks), **arguments)
        # Neither the connection's secret nor one of a block is anywhere, not even in the arguments that -vvv shows.
        assert "not-a-real" not in result["_output"]
        return result

    return call


HOOK = {"type": "webhook", "name": "alerts", "data": {"url": "https://not-a-real.example.com", "headers": {"token": "not-a-real-token"}, "retry": True}}
KEY = {"type": "credentials", "name": "main", "data": {"key": "not-a-real-key"}}
BUCKET = {"type": "bucket", "name": "landing", "data": {"bucket": "north", "credentials": {"$ref": "credentials/main"}}}


def test_from_nothing_to_nothing(server, run):
    blocks = (HOOK, KEY, BUCKET)
    predicted = run(*blocks, check_mode=True)
    assert (predicted["changed"], server.written) == (True, [])
    done = run(*blocks)
    assert done["diff"] == predicted["diff"]
    assert done["diff"]["after"]["webhook/alerts"]["data"] == {"url": "********", "headers": {"token": "********"}, "retry": True}
    assert done["blocks"][2] == {"id": "b3", "type": "bucket", "name": "landing", "data": {"bucket": "north", "credentials": {"$ref": "credentials/main"}}}
    assert server.written[2][1]["data"] == {"bucket": "north", "credentials": {"$ref": {"block_document_id": "b2"}}}
    # What is no secret is to be seen in the arguments.
    # A newer Ansible shows it only when asked.
    if "invocation" in done:
        assert done["invocation"]["module_args"]["blocks"][2]["data"]["bucket"] == "north"
    again = run(*blocks)
    assert (again["changed"], again["blocks"], len(server.written)) == (False, done["blocks"], 3)
    gone = run(*blocks, state="absent")
    assert (gone["changed"], gone["blocks"], gone["diff"]["after"]) == (True, [], {})
    assert gone["diff"]["before"]["credentials/main"]["data"] == {"key": "********"}
    assert run(*blocks, state="absent")["changed"] is False
    assert server.documents == []


def test_a_changed_secret(server, run):
    run(HOOK, KEY, BUCKET)
    other = {**HOOK, "data": {"headers": {"token": "not-a-real-other", "more": "not-a-real-more"}}}
    predicted = run(other, check_mode=True)
    done = run(other, {**BUCKET, "data": {"bucket": "south"}})
    assert done["diff"]["after"]["webhook/alerts"] == predicted["diff"]["after"]["webhook/alerts"]
    assert done["diff"]["before"]["webhook/alerts"]["data"]["headers"] == {"token": "********"}
    assert done["diff"]["after"]["webhook/alerts"]["data"]["headers"] == {"token": "******** (changed)", "more": "********"}
    # All of the data is sent, with its references.
    assert server.written[-2][1]["data"]["url"] == "https://not-a-real.example.com"
    assert server.written[-1][1]["data"] == {"bucket": "south", "credentials": {"$ref": {"block_document_id": "b2"}}}
    assert run(other)["changed"] is False


def test_defaults_are_no_drift(server, run):
    run(HOOK)
    assert run({**HOOK, "data": {"kind": "info"}})["changed"] is False
    assert run({**HOOK, "data": {"kind": "failure"}})["changed"] is True
    assert run({"type": "webhook", "name": "alerts"})["changed"] is False


REFUSED = [
    ({**HOOK, "name": "A b"}, "name: 'A b' is no name of a block: write lowercase letters, digits and dashes."),
    ({**HOOK, "data": {}}, "data.url: is missing in a block of the type 'webhook'."),
    ({**HOOK, "data": {"url": "x", "retry": "maybe"}}, "data.retry: has to be true or false in a block of the type 'webhook'."),
    (
        {**HOOK, "data": {"url": "********"}},
        "data: one of its secrets is ********, by which Prefect shows a hidden one: write the secret itself, or leave it out.",
    ),
    ({**BUCKET, "data": {"bucket": "north", "credentials": {"$ref": "main"}}}, "data.credentials: it does not name another block: write {$ref: type/name}."),
    (
        {**BUCKET, "data": {"bucket": "north", "credentials": {"$ref": "webhook/x"}}},
        "data.credentials: 'webhook/x' cannot be referred to here: write credentials/NAME.",
    ),
    (
        {**BUCKET, "data": {"bucket": "north", "hook": {"$ref": "credentials/x"}}},
        "data.hook: 'credentials/x' cannot be referred to here: write webhook/NAME or bucket/NAME.",
    ),
    ({**BUCKET, "data": {"bucket": {"$ref": "credentials/x"}}}, "data.bucket: 'credentials/x' cannot be referred to here: write a value."),
    (BUCKET, "data.credentials: there is no block 'credentials/main': create it before, or correct the name."),
    (
        {**HOOK, "type": "webhok"},
        "type: the server has no block type 'webhok': write webhook, or register it with `prefect block register`.",
    ),
    (
        {**HOOK, "type": "xyz"},
        "type: the server has no block type 'xyz': write one that `prefect block type ls` lists, or register it with `prefect block register`.",
    ),
]


@pytest.mark.parametrize(("block", "message"), REFUSED)
def test_refused(server, run, fake_api, block, message):
    fake_api.routes["GET /api/block_types/slug/credentials/block_documents/name/main"] = (404, {"detail": "Block document not found"})
    result = run({"type": "webhook", "name": "fine", "data": {"url": "u1"}}, block)
    assert (result["failed"], result["msg"]) == (True, f"blocks[1].{message}")
    assert server.written == []


def test_a_reference_to_what_a_task_before_would_create(server, run, fake_api):
    fake_api.routes["GET /api/block_types/slug/credentials/block_documents/name/main"] = (404, {"detail": "Block document not found"})
    predicted = run(BUCKET, check_mode=True)
    assert predicted["changed"] is True
    assert "There is no block 'credentials/main' yet." in str(predicted["warnings"])


def test_a_reference_to_what_is_there(server, run):
    run(KEY)
    assert run(BUCKET)["changed"] is True
    assert server.written[-1][1]["data"]["credentials"] == {"$ref": {"block_document_id": "b1"}}
    assert run(BUCKET)["changed"] is False


def test_a_misspelt_field_may_be_a_secret_one(server, run):
    message = "blocks[0].data.ulr: there is no such field, only headers, kind, retry, url in a block of the type 'webhook'."
    assert run({**HOOK, "data": {"url": "not-a-real-url", "ulr": "not-a-real-one"}})["msg"] == message


def test_absent_of_an_unknown_type(server, run):
    assert run({"type": "xyz", "name": "a", "data": {"x": "not-a-real-x"}}, state="absent")["changed"] is False


@pytest.mark.parametrize("answer", [(500, "<html>not-a-real.example.com</html>"), (422, {"exception_detail": [{"loc": ["body", "data"], "msg": "bad"}]})])
def test_a_server_that_fails(server, run, fake_api, answer):
    fake_api.routes["POST /api/block_documents/"] = answer
    result = run(HOOK)
    assert result["failed"] is True
    assert "Not written: webhook/alerts." in result["msg"]


def test_hide():
    data = {"url": "u", "headers": {"a": "1", "b": None}, "list": ["x"], "plain": 1}
    assert hide(data, ["url", "headers.*", "list", "gone.*"]) == {"url": "********", "headers": {"a": "********", "b": None}, "list": "********", "plain": 1}
    # What is not of the shape that the path says is hidden as a whole.
    assert hide({"headers": "text"}, ["headers.*"], {"headers": {"a": "1"}}) == {"headers": "******** (changed)"}
