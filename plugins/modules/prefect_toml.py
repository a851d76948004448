#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_toml
short_description: Write prefect.toml once the installed Prefect has accepted it
version_added: 0.1.0
description:
  - Writes settings as C(prefect.toml), in one step and with a diff.
  - Before the file is replaced, the settings are checked against the settings model of the installed Prefect, because Prefect itself ignores
    keys that it does not know, without a word. A key that does not exist, a value of a wrong type and one out of range are errors.
author: selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.files
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  path:
    description: The file. Its folder must exist.
    type: path
    required: true
  settings:
    description: The settings, by the keys of C(prefect.toml). Nothing secret belongs here, it would be shown in the diff.
    type: dict
    required: true
  python:
    description:
      - Interpreter of the environment that Prefect is installed in. Left out, the settings are not checked.
      - In check mode it may be missing, as on a host that nothing was installed on so far; the settings are not checked then either.
    type: path
  always_check:
    description: Whether to check the settings also when the file holds them already, as before another Prefect is to read them.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Configure the server
  selfhost.prefect.prefect_toml:
    path: /etc/prefect/server/prefect.toml
    python: /opt/prefect/current/bin/python
    settings:
      server:
        api:
          host: 127.0.0.1
          port: 4200
    owner: root
    group: prefect
    mode: "0640"

- name: Only ask whether the installed Prefect takes the settings
  selfhost.prefect.prefect_toml:
    path: /etc/prefect/server/prefect.toml
    python: /opt/prefect/current/bin/python
    settings: "{{ settings }}"
  check_mode: true
  changed_when: false
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
up_to_date:
  description: Whether the file held these settings before, with these attributes.
  returned: success
  type: bool
checked:
  description: Whether the settings were checked by the installed Prefect, which happens when the file is going to change, or with O(always_check).
  returned: success
  type: bool
faults:
  description: What is wrong with the settings, a sentence each.
  returned: when the settings were refused
  type: list
  elements: str
"""

import json
import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils import _toml

HEADER = "# Ansible managed\n\n"
# Run by the interpreter of the installed Prefect: reads the settings as JSON, prints the faults as JSON.
CHECK = r"""
import difflib, importlib.util, json, re, sys, typing
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined, to_jsonable_python
from prefect.settings.models.root import Settings

# A URL may stand there as long as its password does not.
PUBLIC_URL = re.compile(r"[^:]*://([^:@]*(:[$][{]\w+[}])?@)?[^@]*")

def parts(annotation):
    yield annotation
    for part in typing.get_args(annotation):
        yield from parts(part)

def table(field):
    return next((part for part in parts(field.annotation) if isinstance(part, type) and issubclass(part, BaseModel)), None)

def keys(model, path=""):
    for name, field in model.model_fields.items():
        yield path + name
        if table(field):
            yield from keys(table(field), path + name + ".")

def check(model, settings, path=""):
    for name, value in settings.items():
        key, field = path + name, model.model_fields.get(name)
        if field is None:
            yield from check_unknown(key)
        elif table(field) and isinstance(value, dict):
            yield from check(table(field), value, key + ".")
        elif table(field):
            yield f"{key} is a table of settings, not {json.dumps(value)}"
        elif SecretStr in parts(field.annotation) and not (name == "connection_url" and PUBLIC_URL.fullmatch(str(value))):
            yield f"{key} is a secret, which does not belong here: give it by the environment variable PREFECT_{key.upper().replace('.', '_')}"
        else:
            try:
                TypeAdapter(typing.Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation).validate_python(value)
            except ValidationError as error:
                yield f"{key} is {json.dumps(value)}: {error.errors()[0]['msg']}{remedy(field)}"
            except Exception as error:
                # A validator of Prefect's own that does not expect such a value.
                yield f"{key} is {json.dumps(value)}, which Prefect cannot read ({error}){remedy(field)}"

def remedy(field):
    return "" if field.default in (None, PydanticUndefined) else f"; write such as {json.dumps(to_jsonable_python(field.default))}, its default"

def check_unknown(key):
    # The tables of integrations (prefect-redis' is [redis]) are their own models'.
    first = key.partition(".")[0]
    if first == key and importlib.util.find_spec("prefect_" + key):
        return
    known = list(keys(Settings))
    near = [k for k in known if k.endswith("." + key.rpartition(".")[2])] + difflib.get_close_matches(key, known, 1, 0.5)
    nor = f", and no prefect-{key} is installed that could have it" if first == key else ""
    yield f"{key} is no setting of this Prefect{nor}" + (f"; did you mean {near[0]}?" if near else "")

settings = json.load(sys.stdin)
faults = list(check(Settings, settings))
if not faults:
    try:
        Settings(**{name: value for name, value in settings.items() if name in Settings.model_fields})
    except ValidationError as error:
        faults = [".".join(map(str, wrong["loc"])) + ": " + wrong["msg"] for wrong in error.errors()]
json.dump(faults, sys.stdout)
"""


def faults(module: AnsibleModule) -> list[str]:
    """What the installed Prefect has against the settings."""
    with tempfile.TemporaryDirectory() as folder:
        # Only the settings speak: no file of the working directory, no profile, no variable of the environment.
        command = ["/usr/bin/env", "-i", f"PREFECT_HOME={folder}", "PREFECT_SERVER_DATABASE_PASSWORD=unknown", module.params["python"], "-c", CHECK]
        code, output, error = module.run_command(command, data=json.dumps(module.params["settings"]), cwd=folder)
    if code:
        last_words = "\n".join(error.strip().splitlines()[-5:])
        module.fail_json(msg=f"{module.params['python']} could not check the settings; {module.params['path']} is untouched. It says:\n{last_words}")
    found: list[str] = json.loads(output)
    return found


def read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def run(module: AnsibleModule) -> dict[str, Any]:
    path, python = module.params["path"], module.params["python"]
    before, after = read(path), HEADER + _toml.dumps(module.params["settings"])
    changed = before != after

    checked = (changed or module.params["always_check"]) and bool(python) and not (module.check_mode and not os.path.exists(python))
    if checked and (wrong := faults(module)):
        # It is the module of a role, whose variable this is.
        words = [f"{path} was not written, for its settings (prefect_server_settings) are wrong:", *(f"- {fault}" for fault in wrong)]
        module.fail_json(msg="\n".join(words), faults=wrong)

    if changed and not module.check_mode:
        if not os.path.isdir(os.path.dirname(path)):
            module.fail_json(msg=f"{path} was not written, for its folder does not exist: make it first.")
        handle, temporary = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(after)
        module.atomic_move(temporary, path)
    if os.path.exists(path):
        changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params), changed)
    return {
        "changed": changed,
        "path": path,
        "up_to_date": not changed,
        "checked": checked,
        "diff": {"before": before or "", "after": after, "before_header": path, "after_header": path},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "settings": {"type": "dict", "required": True},
            "python": {"type": "path"},
            "always_check": {"type": "bool", "default": False},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except _toml.TomlError as error:
        module.fail_json(msg=f"{module.params['path']} was not written: {error}")
    except OSError as error:
        module.fail_json(msg=f"{module.params['path']} could not be written: {error}")


if __name__ == "__main__":
    main()
