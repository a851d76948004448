# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each role's defaults/main.yml and meta/argument_specs.yml say the same: names, types and values."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.selfhost.prefect.plugins.module_utils._database import planned_connections

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").glob("*") if path.is_dir())
TYPES = {"str": str, "path": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict, "raw": object}
SECRET = re.compile(r"_(password|passphrase|auth_string|secret|token|private_key)$")


def load(path: Path) -> dict[str, Any]:
    return (DataLoader().load_from_file(str(path), trusted_as_template=True) or {}) if path.exists() else {}


def entry_points_of(role: Path) -> dict[str, dict[str, Any]]:
    path = role / "meta/argument_specs.yml"
    assert path.exists(), f"roles/{role.name} has no meta/argument_specs.yml"
    return load(path)["argument_specs"]


def options_of(role: Path) -> dict[str, dict[str, Any]]:
    return entry_points_of(role)["main"].get("options", {})


def templated_defaults(role: Path) -> dict[str, Any]:
    """The defaults as Ansible sees them when no inventory, fact or play sets anything."""
    defaults = load(role / "defaults/main.yml")
    templar = Templar(DataLoader(), variables={**defaults, **load(role / "vars/main.yml")})
    values, broken = {}, []
    for name, value in defaults.items():
        try:
            values[name] = templar.template(value)
        except AnsibleError as error:
            broken.append(f"{name}: {error}")
    assert not broken, f"defaults of {role.name} that need something from outside: {'; '.join(broken)}"
    return values


def fault_of_value(value: Any, option: dict[str, Any]) -> str | None:
    """Why this value is none of the option's type, or None."""
    kind = option.get("type", "str")
    if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind in ("int", "float")):
        return f"{value!r} is no {kind}"
    if kind == "list" and "elements" in option:
        faults = [fault_of_value(element, {**option, "type": option["elements"]}) for element in value]
        return next(filter(None, faults), None)
    if "choices" in option and kind != "list" and value not in option["choices"]:
        return f"{value!r} is none of the choices {option['choices']}"
    return None


def every_option(options: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, option in options.items():
        found += [(name, option), *((f"{name}.{inner}", suboption) for inner, suboption in every_option(option.get("options", {})))]
    return found


def test_there_are_roles():
    assert ROLES, "no role was tested: roles/ is empty"


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request):
    return request.param


def test_options_with_a_default_are_the_defaults(role):
    with_default = {name for name, option in options_of(role).items() if "default" in option}
    defaults = set(load(role / "defaults/main.yml"))
    assert sorted(with_default - defaults) == [], "have a default in the specs and none in defaults/main.yml"
    assert sorted(defaults - with_default) == [], "stand in defaults/main.yml and have no option with a default in the specs"


def test_default_values_and_types_agree(role):
    values = templated_defaults(role)
    faults = []
    for entry_point, spec in entry_points_of(role).items():
        for name, option in spec.get("options", {}).items():
            if "default" not in option:
                continue
            if name not in values:
                faults.append(f"{entry_point}: {name} has a default in the specs and none in defaults/main.yml")
            # As JSON, because to Python True equals 1 and 1 equals 1.0.
            elif json.dumps(values[name], sort_keys=True) != json.dumps(option["default"], sort_keys=True):
                faults.append(f"{entry_point}: {name} is {values[name]!r} in defaults/main.yml and {option['default']!r} in the specs")
            elif fault := fault_of_value(values[name], option):
                faults.append(f"{entry_point}: {name}: {fault}")
    assert not faults, "\n".join(faults)


def test_every_entry_point_has_its_tasks(role):
    entry_points = entry_points_of(role)
    assert "main" in entry_points
    missing = [name for name in entry_points if not (role / f"tasks/{name}.yml").exists()]
    assert missing == [], f"entry points of {role.name} without a file in tasks/"


def test_every_option_is_typed_and_described(role):
    faults = []
    for entry_point, spec in entry_points_of(role).items():
        faults += [f"{entry_point}: no {key}" for key in ("short_description", "description") if not spec.get(key)]
        for name, option in every_option(spec.get("options", {})):
            faults += [f"{entry_point}: {name} has no {key}" for key in ("type", "description") if not option.get(key)]
            if option.get("type") == "list" and "elements" not in option:
                faults.append(f"{entry_point}: {name} is a list of nobody knows what: say elements")
            if SECRET.search(name) and not option.get("no_log"):
                faults.append(f"{entry_point}: {name} is a secret: say no_log: true")
    assert not faults, "\n".join(faults)


def test_public_variables_carry_the_name_of_the_role(role):
    names = {name for spec in entry_points_of(role).values() for name in spec.get("options", {})} | set(load(role / "defaults/main.yml"))
    assert [name for name in sorted(names) if not name.startswith(f"{role.name}_")] == []
    internals = load(role / "vars/main.yml")
    assert [name for name in sorted(internals) if not name.startswith(f"__{role.name}_")] == []


def test_cloud_sql_is_asked_for_as_many_connections_as_prefect_opens():
    """The API and the background services, as the rollout runs them."""
    assert templated_defaults(ROLES[0].parent / "cloudsql")["cloudsql_connections"] == planned_connections({}, 2)
