"""What a TOML file of a study lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.errors import UserError
from train.studies import grid


def settings(tmp_path: Path, text: str) -> list[grid.Setting]:
    path = tmp_path / "g.toml"
    path.write_text(text)
    return grid.read(path)


def test_blocks_are_products_over_the_defaults(tmp_path):
    found = settings(
        tmp_path,
        """
        [defaults]
        data = "x.npz"
        lr = [0.1, 0.2]
        [[arms]]
        [[arms]]
        mix = ["embed", "feature"]
        lr = 0.3
        pairs = "pos-neg"
        """,
    )
    assert [(s.mix, s.lr, s.pairs) for s in found] == [
        ("none", 0.1, ("pos-neg", "anc-neg")),
        ("none", 0.2, ("pos-neg", "anc-neg")),
        ("embed", 0.3, ("pos-neg",)),
        ("feature", 0.3, ("pos-neg",)),
    ]


def test_lists_that_are_values(tmp_path):
    (one,) = settings(tmp_path, "[[arms]]\nmix = 'embed'\nmixed_margins = [1.0, 0.5]\n")
    assert one.mixed_margins == (1.0, 0.5)
    two = settings(tmp_path, "[[arms]]\nmix = 'embed'\nmixed_margins = [[1.0, 0.5], [1.0, 0.0]]\n")
    assert [s.mixed_margins for s in two] == [(1.0, 0.5), (1.0, 0.0)]


def test_seed_by_seed_and_each_once(tmp_path):
    found = settings(tmp_path, "[defaults]\nseed = [0, 1]\n[[arms]]\nlr = [0.1, 0.2]\n[[arms]]\nlr = 0.1\n")
    assert [(s.seed, s.lr) for s in found] == [(0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2)]


def test_the_key_knows_everything_but_the_folder():
    one = grid.Setting(data="a/x.npz")
    assert one.key == grid.Setting(data="b/x.npz").key
    assert len({one.key, grid.Setting(data="a/y.npz").key, grid.Setting(data="a/x.npz", lr=0.5).key}) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[arms]]\nstrenght = 1.0\n", "there is no setting strenght, perhaps strength"),
        ("[[arms]]\nmix = 'input'\n", "mix is 'input', expected 'none' or 'embed' or 'feature'"),
        ("[[arms]]\nmix = 'embed'\ncontrol = 'unmixed'\n", "a run without mixing, but mix is 'embed'"),
        ("[[arm]]\n", "expected \\[defaults\\] and some \\[\\[arms\\]\\]"),
        ("[defaults]\nlr = 1\n", "expected \\[defaults\\] and some"),
        ("[[arms]\n", "cannot be read as a TOML file of settings"),
    ],
)
def test_refused(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        settings(tmp_path, text)
