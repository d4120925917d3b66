"""What icons of several families are called: one name for the thing, whatever style or size its file is named after."""

from __future__ import annotations

from collections.abc import Iterable

# Styles in which a family repeats its icons. Words that name things, too, such as line or fill, are left out: a family
# that has them as styles says so itself.
STYLES = frozenset(
    ("duotone", "filled", "linear", "outline", "outlined", "regular", "rounded", "sharp", "solid", "twotone")
)


def thing(icon: str, prefixes: Iterable[str] = (), suffixes: Iterable[str] = ()) -> str:
    """The name of an icon without styles, sizes and running numbers, its words sorted, as in circle-user, user-circle.

    prefixes, suffixes: those that the icon's family says are styles of its own.
    """
    words = icon.split("-")
    for prefix in longest_first(prefixes):
        if len(words) > len(prefix) and words[: len(prefix)] == prefix:
            words = words[len(prefix) :]
            break
    for suffix in longest_first(suffixes):
        if len(words) > len(suffix) and words[-len(suffix) :] == suffix:
            words = words[: -len(suffix)]
            break
    while len(words) > 1 and (words[-1] in STYLES or words[-1].isdecimal()):
        words.pop()
    return "-".join(sorted(words))


def longest_first(affixes: Iterable[str]) -> list[list[str]]:
    return sorted((affix.split("-") for affix in affixes if affix), key=len, reverse=True)
