"""The messages that docs/troubleshooting.md quotes are those of the sources."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
MESSAGES = re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE)
GAP = "…"


def text_of(node: ast.AST) -> str:
    """A string of a source, with a gap for everything that is formatted into it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(text_of(part) if isinstance(part, ast.Constant) else GAP for part in getattr(node, "values", []))


@functools.cache
def strings_of_python() -> list[str]:
    files = [ROOT / "setup.py", *(ROOT / "metrix_ext").rglob("*.py")]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text())))
    return [text_of(node) for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant)]


def strings_of_native() -> list[str]:
    """All literals of a file with checks of indices: its messages are put together from them."""
    source = (ROOT / "csrc" / "cpu" / "common" / "indices.h").read_text()
    return ["".join(re.findall(r'"((?:[^"\\]|\\.)*)"', source))]


def fragments(message: str) -> list[str]:
    """What lies between the gaps, and between what each native message has in common."""
    return [part.strip() for part in re.split(f"{GAP}|: got |, expected ", message) if part.strip()]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_one_of_the_sources(message: str) -> None:
    pattern = re.compile(".*".join(map(re.escape, message.split(GAP))), re.DOTALL)
    if any(pattern.search(string) for string in strings_of_python()):
        return
    (native,) = strings_of_native()
    missing = [part for part in fragments(message) if part not in native and part != "order"]
    assert not missing, f"no source has {missing} of {message!r}"


def test_the_page_quotes_messages() -> None:
    assert len(MESSAGES) > 30 and len(set(MESSAGES)) == len(MESSAGES)
