"""A part of the cases, for processes that share them: METRIX_TEST_PART=1/4 is every fourth from the second on."""

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if part := os.environ.get("METRIX_TEST_PART"):
        first, step = map(int, part.split("/"))
        kept = items[first::step]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept
