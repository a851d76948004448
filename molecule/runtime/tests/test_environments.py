"""Each environment is the one that was asked for, complete, root's alone, and usable by the service's user."""

from __future__ import annotations

import json
import shlex

import pytest

testinfra_hosts = ["ansible://molecule"]

# The modules whose byte code is not there, or is older than they are. Some files are templates or for other Pythons, and cannot be compiled.
UNCOMPILED = """
import importlib.util, json, pathlib, sys

def is_current(source):
    try:
        header = pathlib.Path(importlib.util.cache_from_source(source)).read_bytes()[:16]
    except FileNotFoundError:
        try:
            compile(source.read_bytes(), source, "exec")
        except SyntaxError:
            return True
        return False
    return [int(source.stat().st_mtime), source.stat().st_size] == [int.from_bytes(header[at:at + 4], "little") for at in (8, 12)]

sources = list(pathlib.Path(sys.prefix).glob("lib/*/site-packages/**/*.py"))
assert len(sources) > 3000
print(json.dumps([str(source) for source in sources if not is_current(source)]))
"""
VERSIONS = "import importlib.metadata, json; print(json.dumps({package.name: package.version for package in importlib.metadata.distributions()}))"


@pytest.fixture
def environments(host):
    return host.ansible.get_variables()["environments"]


def python(host, link, code):
    """What the code prints in an environment, run as the service's user, from where that user may read."""
    return json.loads(host.check_output("cd / && " + shlex.join(["runuser", "-u", "prefect", "--", f"/opt/prefect/{link}/bin/python", "-c", code])))


def test_links_are_switched_to_finished_environments(host, environments):
    for environment in environments:
        target = host.check_output(f"readlink /opt/prefect/{environment['link']}")
        assert target.startswith(f"{environment['version']}-"), "a link's target is a name in its own folder"
        assert host.file(f"/opt/prefect/{target}/.complete").exists


def test_versions_are_those_asked_for(host, environments):
    for environment in environments:
        versions = python(host, environment["link"], VERSIONS)
        assert versions["prefect"] == environment["version"]
        wanted = {"uvloop", "httptools", *environment.get("packages", []), *(f"prefect-{extra}" for extra in environment.get("extras", []))}
        assert wanted <= {name.replace("_", "-") for name in versions}


def test_no_extra_comes_unasked(host, environments):
    for environment in environments:
        extras = {name.removeprefix("prefect-") for name in python(host, environment["link"], VERSIONS) if name.startswith("prefect-")}
        assert extras == set(environment.get("extras", []))


def test_extras_can_be_imported(host, environments):
    for environment in environments:
        names = [f"prefect_{extra}" for extra in environment.get("extras", [])]
        if names:
            assert python(host, environment["link"], f"import json, {', '.join(names)}; print(json.dumps(True))")


def test_everything_is_compiled(host, environments):
    for environment in environments:
        assert python(host, environment["link"], UNCOMPILED) == []


def test_everything_is_root_s_and_closed_to_others(host):
    assert host.file("/opt/prefect/.cache").mode == 0o700
    assert host.check_output(r"find /opt/prefect -path /opt/prefect/.cache -prune -o \( ! -user root -o ! -type l -perm /022 \) -print") == ""


def test_the_service_s_user_cannot_log_in_and_owns_nothing(host):
    user = host.user("prefect")
    assert (user.shell, user.home, user.group) == ("/usr/sbin/nologin", "/nonexistent", "prefect")
    assert user.uid < 1000
    assert host.check_output("find / -xdev -user prefect") == ""
