"""Fetches the wheels of a pylock.toml, given on standard input, into a folder, and lays them out as a package index in another."""

import concurrent.futures
import hashlib
import pathlib
import sys
import urllib.request

import tomllib

wheelhouse, index = map(pathlib.Path, sys.argv[1:])
wheelhouse.mkdir(exist_ok=True)


def fetch(name, wheel):
    file = wheelhouse / wheel["url"].rpartition("/")[2]
    with urllib.request.urlopen(wheel["url"], timeout=60) as answer:
        data = answer.read()
    assert hashlib.sha256(data).hexdigest() == wheel["hashes"]["sha256"], file
    file.write_bytes(data)
    (index / name).mkdir(parents=True, exist_ok=True)
    (index / name / file.name).symlink_to(file)


wheels = [(package["name"], wheel) for package in tomllib.loads(sys.stdin.read())["packages"] for wheel in package["wheels"]]
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(fetch, *zip(*wheels, strict=True)))
