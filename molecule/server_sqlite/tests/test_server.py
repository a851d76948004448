"""What a user of the server sees, and an operator on its host."""

from __future__ import annotations

import json
import re

import pytest

testinfra_hosts = ["ansible://prefect_server"]


def test_health_needs_no_auth(get):
    assert get("/api/health")[::2] == (200, "true")


@pytest.mark.parametrize("auth", [None, "prefect:wrong", "admin:pass"])
def test_the_api_lets_nobody_in(get, auth):
    assert get("/api/admin/version", auth).status == 401


def test_the_api_lets_the_auth_string_in(get):
    assert get("/api/admin/version", auth=True)[::2] == (200, '"3.8.8"')


@pytest.mark.parametrize(("base", "folder"), [("/", "v1"), ("/v2/", "v2")])
def test_the_ui_is_served_from_a_folder_of_its_own(host, get, base, folder):
    page = get(base)
    assert (page.status, page.url) == (200, f"http://127.0.0.1:4200{base}")
    asset = re.search(rf'src="{base}(assets/[^"]+[.]js)"', page.text)[1]
    assert get(base + asset).status == 200
    assert host.file(f"/var/lib/prefect-server/ui/{folder}/{asset}").is_file


def test_the_ui_finds_the_api_behind_any_name(get):
    assert json.loads(get("/ui-settings").text)["api_url"] == "/api"


def test_listens_on_its_address_only(host):
    listening = host.check_output("cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\" && $2 ~ /:1068$/ {print $2}'")
    assert listening == "0100007F:1068"


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("/etc/prefect", "root:root", 0o755),
        ("/etc/prefect/server", "root:root", 0o755),
        ("/etc/prefect/server/auth_string", "root:root", 0o600),
        ("/etc/prefect/server/secrets.env", "root:root", 0o600),
        ("/etc/prefect/server/prefect.toml", "root:prefect", 0o640),
        ("/etc/systemd/system/prefect-server.service", "root:root", 0o644),
        ("/opt/prefect", "root:root", 0o755),
        ("/var/lib/prefect-server", "prefect:prefect", 0o750),
        ("/var/lib/prefect-server/prefect.db", "prefect:prefect", 0o600),
        ("/var/lib/prefect-server/ui", "prefect:prefect", 0o700),
    ],
)
def test_whose_a_file_is(host, path, owner, mode):
    file = host.file(path)
    assert (f"{file.user}:{file.group}", oct(file.mode)) == (owner, oct(mode))


def test_the_service_cannot_change_what_it_runs(host):
    # uv leaves empty files behind that it locks.
    assert host.check_output("find /opt/prefect -user prefect -o -group prefect -o -perm /022 ! -type l ! -name '*.lock'") == ""


def test_the_secrets_stand_in_two_files_and_nowhere_else(host):
    # The pattern is the password alone, and grep reads it from a file, or its own command line would have it.
    host.run("mkdir --parents --mode=0700 /root/test && cut --delimiter=: --fields=2- /etc/prefect/server/auth_string > /root/test/pattern")
    grep = "grep --fixed-strings --text --file=/root/test/pattern"
    found = host.run(f"{grep} --recursive --files-with-matches --no-messages /etc /opt/prefect/current/ /run /tmp /var").stdout.split()
    assert sorted(found) == ["/etc/prefect/server/auth_string", "/etc/prefect/server/secrets.env"]
    for output in ("cat /proc/[0-9]*/cmdline", "journalctl --no-pager --output=export", "systemctl show prefect-server", "systemctl cat prefect-server"):
        assert host.run(f"{output} 2>/dev/null | {grep} --count").stdout.strip() == "0", output


def test_prefect_toml(host):
    read = "import json, tomllib; print(json.dumps(tomllib.load(open('/etc/prefect/server/prefect.toml', 'rb'))))"
    settings = json.loads(host.check_output(f'python3 -c "{read}"'))
    more = host.ansible.get_variables().get("prefect_server_settings", {"server": {}})
    assert settings == {
        "server": {
            **more["server"],
            "analytics_enabled": False,
            "api": {"host": "127.0.0.1", "port": 4200, "keepalive_timeout": 80},
            "ui": {"api_url": "/api", "static_directory": "/var/lib/prefect-server/ui"},
            "database": {"connection_url": "sqlite+aiosqlite:////var/lib/prefect-server/prefect.db", "migrate_on_start": False},
        }
    }


def test_the_settings_reach_the_server(host, get):
    server = json.loads(get("/api/admin/settings", auth=True).text)["server"]
    more = host.ansible.get_variables().get("prefect_server_settings")
    assert server["services"]["late_runs"]["loop_seconds"] == (7 if more else 5)
    assert server["logging_level"] == ("INFO" if more else "WARNING")
    assert (server["api"]["keepalive_timeout"], server["analytics_enabled"], server["ephemeral"]["enabled"]) == (80, False, False)


def test_the_environment_reaches_the_server(host, pid):
    environment = dict(line.split("=", 1) for line in host.check_output(f"cat /proc/{pid()}/environ").split("\0") if line)
    variables = host.ansible.get_variables()
    wanted = {**variables.get("prefect_server_environment", {}), **variables.get("prefect_server_secrets", {})}
    wanted = {name: {None: "", True: "true"}.get(value, str(value)) for name, value in wanted.items()}
    assert {name: environment.get(name) for name in wanted} == wanted


def test_is_locked_in(host):
    exposure = re.search(
        r"Overall exposure level for prefect-server.service: ([\d.]+)", host.check_output("systemd-analyze security --no-pager prefect-server")
    )
    assert float(exposure[1]) <= 2.0


def test_has_its_limits(host, pid):
    variables = host.ansible.get_variables()
    memory = {"1500M": 1500 << 20, None: 2 << 30}[variables.get("prefect_server_memory_max")]
    assert host.check_output("systemctl show --property MemoryMax --value prefect-server") == str(memory)
    files = variables.get("prefect_server_limit_nofile", 65536)
    assert host.check_output("systemctl show --property LimitNOFILE --value prefect-server") == str(files)
    # A container may be given fewer by its engine.
    most = {process: int(host.check_output(f"awk '/^Max open files/ {{print $4}}' /proc/{process}/limits")) for process in (1, pid())}
    assert most[pid()] == min(files, most[1])


def test_waits_longer_from_one_try_to_the_next(host):
    """Where systemd can."""
    steps = {"RestartSteps=5", "RestartMaxDelayUSec=30s"} if host.system_info.release.startswith("13") else set()
    shown = host.check_output("systemctl show --property RestartUSec,RestartSteps,RestartMaxDelayUSec prefect-server")
    assert set(shown.splitlines()) == {"RestartUSec=2s", *steps}


def test_starts_at_boot(host):
    assert host.service("prefect-server").is_enabled
