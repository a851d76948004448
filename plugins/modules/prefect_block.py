#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_block
short_description: Manage blocks of a Prefect server
description:
  - Creates, changes or deletes any number of blocks in one call, which reads them all at once and writes only those that differ.
  - What is not given stays as it is on the server.
  - The data is checked against the schema that the server has for the type of the block. Prefect itself stores anything, and fails when a flow loads it.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._prefect
  - selfhost.prefect._resources
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: A secret is shown as C(********), and as C(******** (changed)) where it differs.
  idempotent:
    support: full
options:
  blocks:
    description: The blocks. Those that others refer to come first.
    type: list
    elements: dict
    required: true
    suboptions:
      type:
        description:
          - Slug of the block's type, such as V(secret) or V(slack-webhook), as C(prefect block type ls) lists it.
          - A type of your own, or one of a newer integration than the server knows, has to be registered once with C(prefect block register).
        type: str
        required: true
      name:
        description: Name, of lowercase letters, digits and dashes. Each type has its own names.
        type: str
        required: true
      data:
        description:
          - Values of the fields of the block. A field that is not given keeps its value.
          - "Another block is referred to by its type and name, C({$ref: gcp-credentials/main})."
          - The type says which of the fields are secrets. They are compared like the others, because a self-hosted server gives them to those who have its
            auth string, but they are never shown.
          - What the type does not mark as a secret, such as the C(settings) of V(remote-file-system), is shown, by Prefect as well.
        type: dict
"""

EXAMPLES = r"""
- name: Keep a team's blocks
  selfhost.prefect.prefect_block:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    blocks:
      - type: secret
        name: warehouse-password
        data:
          value: "{{ warehouse_password }}"
      - type: slack-webhook
        name: alerts
        data:
          url: "{{ slack_webhook_url }}"
          notify_type: failure
      - type: gcp-credentials
        name: main
        data:
          service_account_info: "{{ lookup('ansible.builtin.file', 'service-account.json') | from_json }}"
      - type: gcs-bucket
        name: landing
        data:
          bucket: landing.example.com
          gcp_credentials:
            $ref: gcp-credentials/main

- name: Drop one
  selfhost.prefect.prefect_block:
    blocks:
      - type: slack-webhook
        name: alerts
    state: absent
"""

RETURN = r"""
blocks:
  description: The blocks, in the order of the task, as the server has them; as they would be, in check mode; empty after O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Identifier; missing of a block that check mode would create.
      type: str
      returned: when the block exists
    type:
      description: Slug of the type.
      type: str
    name:
      description: Name.
      type: str
    data:
      description: Values of the fields, with C(********) in place of each secret.
      type: dict
  sample:
    - id: 5a7a3a52-6b3c-4f61-9f0c-0f7f2f0f6a11
      type: slack-webhook
      name: alerts
      data:
        url: "********"
        notify_type: failure
"""

import difflib
import re
import typing as t

from ansible_collections.selfhost.prefect.plugins.module_utils._json_schema import find_problem
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import Fields, InvalidError, Kind, manage, same

# Prefect's own mark.
HIDDEN = "********"
CHANGED = f"{HIDDEN} (changed)"


class Blocks(Kind):
    option = "blocks"
    noun = "block"
    keys = ("type", "name")
    options: t.ClassVar = {
        "type": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        # Which of it is secret, the server has to say.
        "data": {"type": "dict", "no_log": True},
    }
    fields: t.ClassVar = {"type": "type", "name": "name", "data": "data"}

    def __init__(self, client: PrefectClient, check_mode: bool = False) -> None:
        super().__init__(client, check_mode)
        # By slug: identifier of the type, newest schema, paths of the secrets in all schemas that are about.
        self.types: dict[str, str] = {}
        self.schemas: dict[str, Fields] = {}
        self.secrets: dict[str, set[str]] = {}
        # Blocks that are referred to, by type/name; None for one that this call creates.
        self.targets: dict[str, str | None] = {}

    def check(self, element: Fields) -> None:
        name = element["name"]
        if not re.fullmatch(r"[a-z0-9-]+", name):
            raise InvalidError("name", f"{name!r} is no name of a block: write lowercase letters, digits and dashes.")
        for field, value in (element["data"] or {}).items():
            if is_reference(value) and (len(value) > 1 or not re.fullmatch(r"[^/]+/[^/]+", str(value["$ref"]))):
                raise InvalidError(f"data.{field}", "it does not name another block: write {$ref: type/name}.")

    def read(self, elements: list[Fields]) -> list[Fields]:
        slugs = sorted({element["type"] for element in elements})
        if not self.types:
            self.read_types(slugs)
            self.reveal(elements)
        names = sorted({element["name"] for element in elements})
        body = {"block_types": {"slug": {"any_": slugs}}, "block_documents": {"name": {"any_": names}}, "include_secrets": True}
        return [self.block_of(document) for document in self.client.filter("block_documents/filter", body)]

    def read_types(self, slugs: list[str]) -> None:
        """Read the types and the newest schema of each."""
        types = self.client.filter("block_types/filter", {"block_types": {"slug": {"any_": slugs}}}, most=len(slugs))
        self.types = {found["slug"]: found["id"] for found in types}
        slug_of = {found["id"]: found["slug"] for found in types}
        schemas = self.client.filter("block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": list(slug_of)}}}) if types else []
        for schema in sorted(schemas, key=lambda schema: str(schema["created"])):
            slug = slug_of[schema["block_type_id"]]
            self.schemas[slug] = schema
            self.secrets.setdefault(slug, set()).update(schema["fields"].get("secret_fields", ()))

    def reveal(self, elements: list[Fields]) -> None:
        """Let Ansible show what is no secret; until now it hides all the data."""
        secret: list[t.Any] = [self.client.auth_string]
        public: list[t.Any] = []
        for element in elements:
            properties = self.schemas.get(element["type"], {"fields": {}})["fields"].get("properties", {})
            for field, value in (element["data"] or {}).items():
                # A field that is not there may be a secret one, misspelt.
                if field in properties:
                    public.append(hide({field: value}, self.secrets[element["type"]], found=secret))
                else:
                    secret.append(value)
        self.module.no_log_values -= set(leaves(public)) - set(leaves(secret))

    def block_of(self, document: Fields) -> Fields:
        """Give a block as the task would write it."""
        slug = document["block_type"]["slug"]
        self.secrets.setdefault(slug, set()).update(document["block_schema"]["fields"].get("secret_fields", ()))
        data = dict(document["data"])
        for field, reference in document["block_document_references"].items():
            target = reference["block_document"]
            key = f"{target['block_type']['slug']}/{target['name']}"
            data[field] = {"$ref": key}
            self.targets[key] = target["id"]
        return {"id": document["id"], "type": slug, "name": document["name"], "data": data}

    def after(self, element: Fields, current: Fields | None) -> Fields:
        given, stored = element["data"] or {}, current["data"] if current else {}
        self.check_data(element["type"], given, stored)
        properties = self.schemas[element["type"]]["fields"].get("properties", {})
        if current is None:
            self.targets.setdefault(self.key(element), None)
        else:
            # A block that was saved without a field has the default.
            given = {field: value for field, value in given.items() if field in stored or value not in ({}, properties[field].get("default"))}
        return {"type": element["type"], "name": element["name"], "data": {**stored, **given}}

    def check_data(self, slug: str, given: Fields, stored: Fields) -> None:
        """Raise InvalidError for data that the type does not take."""
        if slug not in self.schemas:
            raise InvalidError("type", self.unknown_type(slug))
        schema = self.schemas[slug]["fields"]
        references: dict[str, t.Any] = schema.get("block_schema_references", {})
        for field, value in given.items():
            if is_reference(value):
                self.check_reference(field, value["$ref"], references)
        # What is referred to is checked where it is created.
        properties = {field: {} if is_reference(given.get(field)) else part for field, part in schema.get("properties", {}).items()}
        required = [field for field in schema.get("required", ()) if field not in stored]
        if problem := find_problem(given, {**schema, "properties": properties, "required": required, "additionalProperties": False}, "data"):
            path, _colon, fault = problem.partition(": ")
            raise InvalidError(path, f"{fault} in a block of the type {slug!r}.")
        secret: list[t.Any] = []
        hide(given, self.secrets[slug], found=secret)
        if HIDDEN in leaves(secret):
            raise InvalidError("data", f"one of its secrets is {HIDDEN}, by which Prefect shows a hidden one: write the secret itself, or leave it out.")

    def unknown_type(self, slug: str) -> str:
        slugs = sorted(found["slug"] for found in self.client.filter("block_types/filter"))
        near = difflib.get_close_matches(slug, slugs, 3)
        remedy = f"write {' or '.join(near)}" if near else "write one that `prefect block type ls` lists"
        return f"the server has no block type {slug!r}: {remedy}, or register it with `prefect block register`."

    def check_reference(self, field: str, key: str, references: dict[str, t.Any]) -> None:
        """See that the block that is referred to exists, or that this call creates it before."""
        wanted = references.get(field, [])
        slugs = [one["block_type_slug"] for one in (wanted if isinstance(wanted, list) else [wanted])]
        slug, _slash, name = key.partition("/")
        if slug not in slugs:
            raise InvalidError(f"data.{field}", f"{key!r} cannot be referred to here: write {' or '.join(f'{one}/NAME' for one in slugs) or 'a value'}.")
        if key not in self.targets:
            quote = self.client.quote
            found = self.client.get(f"block_types/slug/{quote(slug)}/block_documents/name/{quote(name)}", missing_ok=True)
            if found is not None:
                self.targets[key] = found["id"]
            elif self.check_mode:
                self.module.warn(f"There is no block {key!r} yet. A run of this playbook outside check mode has to create it before.")
            else:
                raise InvalidError(f"data.{field}", f"there is no block {key!r}: create it before, or correct the name.")

    def create(self, after: Fields) -> None:
        slug = after["type"]
        body = {"name": after["name"], "block_type_id": self.types[slug], "block_schema_id": self.schemas[slug]["id"], "data": self.resolve(after["data"])}
        self.targets[self.key(after)] = self.client.post("block_documents/", body)["id"]

    def update(self, current: Fields, fields: Fields) -> None:
        # All of the data: what Prefect merges itself loses the references.
        body = {"block_schema_id": self.schemas[current["type"]]["id"], "data": self.resolve(fields["data"]), "merge_existing_data": False}
        self.client.patch(f"block_documents/{current['id']}", body)

    def resolve(self, data: Fields) -> Fields:
        """Refer to blocks as the API does."""
        return {field: {"$ref": {"block_document_id": self.targets[value["$ref"]]}} if is_reference(value) else value for field, value in data.items()}

    def delete(self, current: Fields) -> None:
        self.client.delete(f"block_documents/{current['id']}")

    def shown(self, fields: Fields, before: Fields | None = None) -> Fields:
        return {**fields, "data": hide(fields["data"], self.secrets[fields["type"]], before["data"] if before else None)}


def is_reference(value: t.Any) -> bool:
    return isinstance(value, dict) and "$ref" in value


def hide(data: Fields, secrets: t.Iterable[str], before: Fields | None = None, found: list[t.Any] | None = None) -> Fields:
    """Put a mark in the place of each secret, and add the secrets to what is found; a path is like url, or headers.* for all that is in headers."""
    for path in secrets:
        data = _hide(data, path.split("."), before, [] if found is None else found)
    return data


def _hide(value: t.Any, path: list[str], before: t.Any, found: list[t.Any]) -> t.Any:
    if isinstance(value, dict) and path:
        there = before if isinstance(before, dict) else {}
        return {key: _hide(part, path[1:], there.get(key), found) if path[0] in ("*", key) else part for key, part in value.items()}
    if value is None:
        return None
    found.append(value)
    return HIDDEN if before is None or same(before, value) else CHANGED


def leaves(value: t.Any) -> t.Iterator[str]:
    """Give the values within, as Ansible looks for them in its output."""
    if isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def main() -> None:
    manage(Blocks)


if __name__ == "__main__":
    main()
