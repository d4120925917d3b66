"""Runs on small trees of real images in the layouts of the paper's data sets, as its presets have them."""

from __future__ import annotations

import json

import pytest

from tests.train import data_sets
from tests.train.runs import check_refused, run_here

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

from train import options
from train.options import presets

SMALL = (
    "--any-count", "--arch", "small", "--weights", "none", "--image-size", 32, "--batch-size", 20, "--epochs", 1,
    "--embedding-size", 16, "--device", "cpu", "--workers", 0, "--threads", 1, "--warmup-epochs", 0,
)  # fmt: skip


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A tree of each data set, made when it is first asked for."""
    made = {}

    def tree(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            data_sets.MAKERS[name](made[name])
        return made[name]

    return tree


def names():
    return list(presets._presets())


def run_preset(name, trees, tmp_path, capsys, *more):
    dataset = name.split("/")[1]
    given = ("--preset", name, "--data", trees(dataset), *SMALL, "--out", tmp_path, *more)
    assert run_here(capsys, *given)[0] == 0
    return json.loads((tmp_path / "summary.json").read_text())


@pytest.mark.parametrize("name", names())
def test_every_preset_resolves(name):
    args = options.parse(["--preset", name, "--data", "somewhere"])
    options.resolve(args, "cpu")
    table, dataset, method = name.split("/")
    assert args.dataset == dataset
    assert bool(args.mix) == ("metrix" in method or (table in ("table4", "table7") and method != "baseline"))
    assert (args.arch, args.weights, args.epochs, args.batch_size) == ("resnet50", "imagenet", 100, 100)


@pytest.mark.parametrize("dataset", ["cub200", "cars196", "sop", "inshop"])
def test_each_data_set_trains_and_is_searched(trees, tmp_path, capsys, dataset):
    summary = run_preset(f"table2/{dataset}/ms+metrix", trees, tmp_path, capsys)
    ks = {"sop": ["1", "10", "100", "1000"], "inshop": ["1", "10", "20", "30", "40", "50"]}
    assert list(summary["recall_at"]) == ks.get(dataset, ["1", "2", "4", "8"])
    assert summary["dataset"]["split"] == ("listed" if dataset in ("sop", "inshop") else "order")
    assert ("gallery_images" in summary["dataset"]) == (dataset == "inshop")
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_preset_trains(trees, tmp_path, capsys, name):
    more = ("--embedding-size", 16)
    assert run_preset(name, trees, tmp_path, capsys, *more)["config"]["epochs"] == 1


def test_another_count_is_refused(trees, tmp_path, capsys):
    status, err = run_here(capsys, "--dataset", "cub200", "--data", trees("cub200"), "--out", tmp_path)
    check_refused(status, err, "or go on with --any-count")


def test_unknown_presets_are_refused(capsys):
    check_refused(*run_here(capsys, "--preset", "table2/cub200/ms+metrics"), "perhaps table2/cub200/ms+metrix")
    check_refused(*run_here(capsys, "--preset", "table2/cub200/triplet"), "is not among the methods of run.py")


def test_presets_are_listed(capsys):
    with pytest.raises(SystemExit) as ended:
        run_here(capsys, "--preset", "list")
    assert ended.value.code == 0
    assert "table7/cub200/input+feature" in capsys.readouterr().out.splitlines()
