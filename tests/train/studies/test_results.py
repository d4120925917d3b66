"""The runs of a study: done once, on any number of workers, and whatever stops them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from train.commands import main
from train.errors import UserError
from train.studies import results

GRID = """
[defaults]
data = "toys.npz"
trained = "scratch"
batch_size = 4
images_per_class = 2
embedding_size = 4
steps = 2
[[arms]]
seed = [0, 1]
[[arms]]
mix = "embed"
seed = 0
"""


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "toys.npz", x=generator.integers(0, 256, (36, 32, 32, 3), np.uint8), y=np.arange(36) // 3)
    (tmp_path / "g.toml").write_text(GRID)
    return tmp_path


def study(folder, *arguments: str) -> int:
    return main("study", [str(folder / "g.toml"), "--data", str(folder), "--out", str(folder / "out"), *arguments])


def test_runs_are_done_once(folder, capfd):
    assert study(folder, "--workers", "2") == 0
    assert "3 settings, 0 of them done" in capfd.readouterr().out
    path = folder / "out" / results.RESULTS
    lines = path.read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == 3
    path.write_text(
        "\n".join(lines[:1]) + "\n" + lines[1][:40]
    )  # the second was being written when the machine went off
    assert study(folder, "--workers", "1") == 0
    assert "3 settings, 1 of them done" in capfd.readouterr().out
    again = {row["key"]: row["curve"] for row in results.rows([folder / "out"])}
    assert again == {row["key"]: row["curve"] for row in map(json.loads, lines)}


def test_parts_together_are_the_whole(folder, capfd):
    for i in (1, 2):
        assert study(folder, "--workers", "1", "--part", f"{i}/2") == 0
    assert "2 settings" in capfd.readouterr().out
    assert len(results.rows([folder / "out"])) == 3


def test_a_setting_that_cannot_run_does_not_end_the_others(folder, capfd):
    with open(folder / "g.toml", "a") as file:
        file.write("[[arms]]\nclasses = 30\n")
    assert study(folder, "--workers", "1") == 0
    assert "failed: train.errors.UserError: classes is 30" in capfd.readouterr().out
    assert [row["error"] for row in results.rows([folder / "out"]) if "error" in row]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "x"], "give the TOML file of a study"),
        (["g.toml"], "--out is missing"),
        (["--report", "nowhere", "--out", "x"], "nowhere holds no results.jsonl"),
        (["g.toml", "--out", "x", "--part", "3/2"], "'3/2' is not one part of several"),
    ],
)
def test_refused(folder, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(folder)
    assert main("study", arguments) == 2
    assert said in capsys.readouterr().err


def test_data_that_is_not_there(folder, capsys):
    (folder / "toys.npz").unlink()
    assert study(folder) == 2
    assert "toys.npz does not exist: --data says" in capsys.readouterr().err


def test_no_results(tmp_path):
    with pytest.raises(UserError, match="give the --out of a study"):
        results.rows([tmp_path])
