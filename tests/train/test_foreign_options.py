"""Options by the names of the released Metrix and proxy-anchor codes."""

from __future__ import annotations

import pytest

from tests.train.runs import ROOT
from train import options
from train.options import foreign


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--mode feature", {"mix": ("feature",)}),
        ("--mode=baseline", {"mix": ()}),
        ("--loss MultiSimilarity", {"loss": "ms"}),
        ("--loss Proxy_Anchor --warm 5", {"loss": "pa", "warmup_epochs": 5}),
        ("--dataset cub --data_root somewhere", {"dataset": "cub200", "data": "somewhere"}),
        ("--bn_freeze 1", {"freeze_bn": True}),
        ("--bn-freeze 0", {"freeze_bn": False}),
        ("--gpu-id -1", {"device": "cpu"}),
        ("--gpu_id 2", {"device": "cuda:2"}),
        ("--save_model --num_epochs 3", {"epochs": 3}),
        ("--mrg 0.1", {"loss_option": [("margin", 0.1)]}),
        ("--l2_norm 1 --IPC 4", {"images_per_class": 4, "normalize": True}),
        ("--l2-norm 0", {"normalize": False}),
    ],
)
def test_what_they_are_here(given, meant, capsys):
    args = options.parse(given.split())
    assert {name: getattr(args, name) for name in meant} == meant
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("run.py: --") and line.endswith(" here") for line in lines)


def test_own_names_are_left_alone(capsys):
    assert options.parse(["--loss", "ms", "--mix=embed", "--dataset", "npz"]).mix == ("embed",)
    assert capsys.readouterr().err == ""


def test_the_page_lists_all_of_them():
    text = (ROOT / "docs" / "from-metrix.md").read_text()
    missing = [flag for flag in (*foreign.FLAGS, *foreign.VALUES) if f"`{flag}" not in text]
    assert missing == []
