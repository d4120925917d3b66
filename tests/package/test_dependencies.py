"""Every dependency has a lower bound, and what is installed here meets it; the audit looks at them regularly."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")
requirements = pytest.importorskip("packaging.requirements")

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED = [
    *PROJECT["build-system"]["requires"],
    *PROJECT["project"]["dependencies"],
    *chain(*PROJECT["project"]["optional-dependencies"].values()),
]


@pytest.mark.parametrize("wanted", sorted(set(WANTED)))
def test_every_dependency_has_a_lower_bound_that_is_met(wanted: str) -> None:
    requirement = requirements.Requirement(wanted)
    assert {bound.operator for bound in requirement.specifier} & {">=", "==", "~="}, wanted
    try:
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        pytest.skip(f"{requirement.name} is not installed")


def test_the_audit_is_scheduled() -> None:
    text = (ROOT / ".github" / "workflows" / "audit.yml").read_text()
    assert re.search(r"schedule:\n\s+- cron: \"[\d*/, -]+\"", text)
    assert "pip-audit" in text
