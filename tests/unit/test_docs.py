# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What README.md and the guides name is there: variables, files, headings, playbooks, make targets, units, scenarios."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("build", ".git", ".venv"))
VARIABLE = r"(?<![\w/])(?:prefect|nginx_proxy)_\w+"


def code_of(page: Path) -> str:
    """What stands in code blocks and between backticks."""
    text = page.read_text()
    return "\n".join(
        [*re.findall(r"```\w*\n(.*?)```", text, re.DOTALL), *re.findall(r"(?<!`)`([^`\n]+)`", text), *re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)]
    )


def options() -> dict[str, dict[str, Any]]:
    specs = [yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"] for path in ROOT.glob("roles/*/meta/argument_specs.yml")]
    return {name: option for spec in specs for name, option in spec.items()}


def mappings(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        yield data
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else []:
        yield from mappings(value)


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request):
    return request.param


def test_variables_are_there(page):
    # A role takes its defaults, a playbook what it says; roles and modules are named after their files.
    sources = [*ROOT.glob("roles/*/meta/argument_specs.yml"), *ROOT.glob("roles/*/defaults/main.yml"), *ROOT.glob("playbooks/*.yml")]
    known = {name for path in sources for name in re.findall(VARIABLE, path.read_text())}
    known |= {path.stem for path in [*ROOT.glob("roles/*"), *ROOT.glob("plugins/*/*.py")]}
    assert sorted(set(re.findall(VARIABLE, page.read_text())) - known) == []


def test_examples_are_what_the_specs_take(page):
    known, faults = options(), []
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        for mapping in mappings(yaml.safe_load(block)):
            given = {name: value for name, value in mapping.items() if name in known}
            faults += ArgumentSpecValidator({name: known[name] for name in given}).validate(given).error_messages
    assert faults == []


def test_files_are_there(page):
    paths = re.findall(rf"(?<![\w/.@-])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*\w", code_of(page))
    assert sorted({path for path in paths if not list(ROOT.glob(path))}) == []


def test_links_lead_somewhere(page):
    broken = []
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        file = (page.parent / target).resolve() if target else page
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if anchor and file.is_file() else []
        if not file.exists() or (anchor and anchor not in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]):
            broken.append(f"{target}#{anchor}" if anchor else target)
    assert broken == []


def test_commands_are_there(page):
    text = code_of(page)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert sorted(set(re.findall(r"\bmake ([a-z-]+)", text)) - targets) == []
    known = {path.stem for folder in ("playbooks", "roles", "plugins/modules", "plugins/filter") for path in (ROOT / folder).iterdir()}
    assert sorted(set(re.findall(r"(?<!group/)selfhost\.prefect\.(\w+)", text)) - known) == []
    units = {path.name.removesuffix(".service.j2") for path in ROOT.glob("roles/*/templates/*.service.j2")}
    assert sorted(set(re.findall(r"\bprefect-[a-z]+(?=@|\.service)", text)) - units) == []


def test_every_scenario_is_described():
    scenarios = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")} - {"default"}
    described = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/testing.md").read_text(), re.MULTILINE)
    assert sorted(scenarios - set(described)) == []


def test_every_guide_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [path.name for path in PAGES if path.parent.name == "docs" and f"(docs/{path.name})" not in readme] == []


def test_the_first_screen_of_the_readme_fits_a_terminal():
    first = (ROOT / "README.md").read_text().partition("\n## ")[0].splitlines()
    assert len(first) < 40
    assert max(map(len, first)) <= 80
    assert {"    make demo", "    ansible-playbook -i inventory.yml selfhost.prefect.site"} <= set(first)
