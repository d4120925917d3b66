"""Which row of the paper a run is compared with."""

from __future__ import annotations

import pytest

from train import options
from train.options import paper, presets


def row(*arguments: str) -> paper.Row | None:
    args = options.parse(list(arguments))
    options.resolve(args, "cuda")
    return paper.row_of(options.plain(args), options.parse)


@pytest.mark.parametrize(
    ("arguments", "title", "recall_at"),
    [
        ("--dataset cub200 --loss ms --mix feature", "Table 2, ms+metrix", {"1": 71.4, "2": 80.6, "4": 86.8}),
        ("--dataset sop --loss pa", "Table 2, pa", {"1": 79.1, "10": 90.8, "100": 96.2}),
        ("--dataset inshop --loss ms --mix input", "Table 6, ms+metrix-input", {"1": 91.8, "10": 98.0, "20": 98.9}),
        ("--preset table3/cars196/contrastive+metrix-embed", "Table 6, contrastive+metrix-embed", {"1": 83.9}),
        ("--preset table7/cub200/feature-kall", "Table 7, feature-kall", {"1": 64.5, "8": 90.6}),
        ("--preset table4/cars196/input+feature", "Table 4, input+feature", {"1": 83.7, "2": 94.2}),
        ("--dataset cub200 --loss ms --lr 1e-3 --epochs 3", "Table 2, ms", {"1": 67.8}),  # the method, not the recipe
    ],
)
def test_rows(arguments, title, recall_at):
    found = row(*arguments.split())
    assert found.title == f"the paper, {title}"
    assert recall_at.items() <= found.recall_at.items()


@pytest.mark.parametrize(
    "arguments",
    [
        "--loss ms --arch resnet50",  # characters
        "--dataset cub200 --loss ms --arch resnet18",
        "--dataset cub200 --loss ms --embedding-size 64",
        "--dataset cub200 --loss ms --mix feature --strength 2",
        "--dataset cub200 --loss ms --mix feature --mixed-margins 1,0.5",
        "--dataset cub200 --loss ms --loss-option margin=0.5",
        "--dataset cub200 --loss nca",
    ],
)
def test_other_methods_have_none(arguments):
    assert row(*arguments.split()) is None


def test_every_preset_has_its_figures():
    """But the second name of a row that has two."""
    assert {name for name in presets.names() if not name.endswith("+metrix-feature")} == set(paper._figures())
