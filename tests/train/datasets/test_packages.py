"""Packages: what is fetched, what is read, what is refused."""

from __future__ import annotations

import os

import pytest

from tests.train.datasets.packed import pack
from train.datasets.packages import Package, fetch, opened, permissive
from train.errors import UserError

ONE = Package("@art/one", "1.2.3")


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Puts a program of that name, this script, before all others; it runs in the folder of the packages."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))

    return install


def test_only_what_is_missing_is_fetched(tmp_path, npm):
    npm('echo "$@" >> calls')
    folder = tmp_path / "packages"
    folder.mkdir()
    pack(folder, ONE, {})
    fetch([ONE, Package("plain", "4.0.0"), Package("@art/two", "5.0.0")], folder)
    assert (folder / "calls").read_text() == "pack --silent plain@4.0.0 @art/two@5.0.0\n"


def test_without_npm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"npm is missing: install it, or put art-one-1.2.3.tgz into "):
        fetch([ONE], tmp_path / "packages")


def test_a_package_that_npm_does_not_find(tmp_path, npm):
    npm("echo 'code E404\nnot found' >&2; exit 1")
    with pytest.raises(UserError, match=r"npm pack @art/one@1.2.3 fails: code E404 not found"):
        fetch([ONE], tmp_path / "packages")


def test_what_is_in_a_package(tmp_path):
    pack(tmp_path, ONE, {"a.json": {"b": 1}, "c/d.bin": b"\0\1"})
    with opened(ONE, tmp_path) as archive:
        assert archive.json("a.json") == {"b": 1}
        assert archive.read("c/d.bin") == b"\0\1"
        assert "a.json" in archive and "b.json" not in archive


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_damaged_packages_are_named(tmp_path, content):
    (tmp_path / ONE.file_name).write_bytes(content)
    with pytest.raises(UserError, match=r"art-one-1.2.3.tgz cannot be read as a package of npm .*: repair or remove"):
        opened(ONE, tmp_path).__enter__()


def test_a_file_that_a_package_lacks(tmp_path):
    pack(tmp_path, ONE, {})
    lacks = pytest.raises(UserError, match=r"art-one-1.2.3.tgz cannot be read .*a.json.* not found")
    with lacks, opened(ONE, tmp_path) as archive:
        archive.json("a.json")


@pytest.mark.parametrize("licence", ["GPL-3.0", "CC-BY-NC-4.0", ""])
def test_licences_that_restrict_use_are_refused(licence):
    with pytest.raises(UserError, match=rf"@art/one@1.2.3 has the licence {licence}, expected one of Apache-2.0, "):
        permissive(licence, ONE)
    assert permissive("MIT", ONE) == "MIT"
