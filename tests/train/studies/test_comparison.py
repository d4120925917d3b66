"""Arms of a study: their names, the settings that validation chooses, and the table."""

from __future__ import annotations

import csv

import pytest

from tests.train.studies.rows import CLEAN, arm, row
from train.errors import UserError
from train.studies import tables
from train.studies.comparison import AT_END, against_clean, name_of, problems

pytest.importorskip("scipy")


def only(rows: list[dict]) -> list:
    (arms,) = problems(rows).values()
    return arms


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({}, "clean"),
        ({"lr": 0.5, "split": 3}, "clean"),
        ({"dropout": 0.2}, "dropout"),
        ({"mix": "embed", "strength": 2.0}, "embed"),
        ({"mix": "embed", "strength": "balanced", "gradient_share": 0.1}, "embed, balanced"),
        ({"mix": "feature", "mixed_margins": (1.0, 0.5)}, "feature, mixed margins 1 to 0.5"),
        (
            {"control": "unmixed", "mixed_loss": "ms", "mixed_loss_options": {"beta": 4.0}},
            "mixed loss ms, (beta 4), unmixed",
        ),
    ],
)
def test_names(changed, name):
    assert name_of(arm([1.0], **changed)[0]) == name


def test_validation_chooses_not_the_test():
    rows = [*arm([60.0, 62.0]), *arm([70.0, 70.0], 40.0, lr=0.1), *arm([63.0, 64.0], mix="embed", strength=2.0)]
    clean, embed = against_clean(only(rows), AT_END)
    assert (clean.name, clean.mean, clean.tried, clean.chosen) == ("clean", 61.0, 2, {"lr": 1e-3})
    assert (embed.mean, embed.difference.mean, embed.chosen) == (63.5, 2.5, {"lr": 1e-3, "strength": 2.0})


def test_only_pairs_are_compared():
    rows = [*arm([60.0, 62.0, 64.0]), *arm([61.0, 63.0], mix="embed")]
    embed = against_clean(only(rows), AT_END)[1]
    assert (embed.difference.mean, embed.difference.pairs) == (1.0, 2)


def test_a_setting_that_ran_once_is_not_chosen_for_its_luck():
    rows = [*arm([60.0, 60.0]), *arm([61.0, 61.0], mix="embed"), *arm([90.0], 90.0, mix="embed", strength=2.0)]
    assert against_clean(only(rows), AT_END)[1].chosen == {"lr": 1e-3}


def test_p_is_corrected_within_the_problem():
    rows = [*arm([60.0, 60.0, 60.1]), *arm([61.0, 61.1, 61.0], mix="embed"), *arm([60.0, 60.1, 60.0], dropout=0.5)]
    _, *others = against_clean(only(rows), AT_END)
    smallest = min(others, key=lambda one: one.difference.p)
    assert smallest.corrected == pytest.approx(2 * smallest.difference.p)


def test_losses_and_numbers_of_classes_are_problems_of_their_own():
    rows = [*arm([1.0]), *arm([2.0], loss="contrastive"), *arm([3.0], classes=30)]
    assert len(problems(rows)) == 3


def test_files(tmp_path, capsys):
    rows = [*arm([60.0, 62.0])]
    for w in (0.5, 1.0):
        rows += arm([61.0 + w, 63.1 + w], mix="embed", strength=w)
    tables.write([*rows, {**CLEAN.plain(), "error": "no"}], tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert "## toys.npz, head, ms, all classes, 600 steps" in text
    assert "| clean | 61.0 ± 1.4 |" in text
    assert "+1.55" in text
    with open(tmp_path / "tables.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["arm"] for line in lines] == ["clean", "embed"] * 2
    assert (tmp_path / "strength.svg").read_text().startswith("<?xml")
    assert "2 pairs" in text


def test_nothing_to_compare_with(tmp_path):
    with pytest.raises(UserError, match="there is no clean run"):
        tables.write([row(CLEAN.__class__(mix="embed"), 1.0)], tmp_path)
