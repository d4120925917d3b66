"""The main job: its data, its sampler, its command line, and whole runs in a short form."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
pytest.importorskip("matplotlib")

from train import data, files, glyphs, options, recipe  # noqa: E402
from train.errors import Interrupted, UserError  # noqa: E402
from train.interrupt import Interrupt  # noqa: E402
from train.report import RunFolder  # noqa: E402
from train.sampler import BalancedBatches  # noqa: E402


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache of glyphs for all tests and the runs they start."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("METRIX_CACHE")
    os.environ["METRIX_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["METRIX_CACHE"]
    else:
        os.environ["METRIX_CACHE"] = before


@pytest.fixture
def few_glyphs(monkeypatch, tmp_path):
    """The same recipe on a few characters: quick to build, with a cache of its own."""
    monkeypatch.setenv("METRIX_CACHE", str(tmp_path / "cache"))
    everything = glyphs.candidates
    monkeypatch.setattr(glyphs, "candidates", lambda fonts: everything(fonts)[20:60])


# Glyphs


def test_glyphs_have_enough_distinct_images_in_both_halves(cache):
    halves = data.load("glyphs", None, 32, split_seed=0)
    for half in (halves.train, halves.test):
        counts = np.bincount(half.labels)
        assert len(counts) >= 200
        assert counts.min() >= 5
    assert not set(halves.train.names) & set(halves.test.names)
    x, _ = glyphs.load(32)
    assert x.dtype == np.uint8
    assert x.shape[1:] == (32, 32)
    assert len(np.unique(x.reshape(len(x), -1), axis=0)) == len(x)
    ink = 255 - x.reshape(len(x), -1).astype(int)
    assert ink.max(1).min() > 100  # nothing blank


def test_look_alikes_of_glyphs_are_one_class(cache):
    _, code_points = glyphs.load(32)
    kept = {chr(c) for c in code_points}
    # Greek, Cyrillic and Latin letters of one shape, small and capital letters of one shape, dashes, bars.
    for alike in ("A\u0391\u0410", "oO\u043e\u041e", "cC", "xX\u0445", "vV", "-\u2212\u2013", "Il|"):
        assert len(kept & set(alike)) <= 1, alike
    for different in ("ABQRW", "agk", "2345", "→←", "♠♣"):
        assert kept >= set(different)


def test_a_mirrored_glyph_is_another_class(cache):
    _, code_points = glyphs.load(32)
    assert {ord("b"), ord("d")} <= set(code_points.tolist())


def test_missing_glyphs_are_not_drawn(cache):
    """A typeface that lacks a character would draw the same box for all of them."""
    fonts = glyphs.typefaces(64)
    missing = [sum(c not in covered for c in (0x2660, 0x0416, 0x10D0)) for _, covered in fonts]
    assert sum(missing) > 0
    _, code_points = glyphs.load(32)
    counts = Counter(code_points.tolist())
    for c in (0x2660, 0x0416, 0x10D0):
        assert counts[c] == sum(c in covered for _, covered in fonts)


def test_glyphs_follow_from_the_seed(few_glyphs):
    first, again, other = glyphs.build(32, 0), glyphs.build(32, 0), glyphs.build(32, 1)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], other[1])
    assert not np.array_equal(first[0], other[0])


def test_the_cache_is_read_and_a_damaged_one_built_anew(few_glyphs, monkeypatch, capsys):
    x, y = glyphs.load(24)
    path = glyphs.cache_path(24, 0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]

    build, builds = glyphs.build, []
    monkeypatch.setattr(glyphs, "build", lambda *a: builds.append(a) or build(*a))
    assert np.array_equal(glyphs.load(24)[0], x)
    assert builds == []

    whole = path.read_bytes()
    damages = (b"", b"not an archive", whole[: len(whole) // 2], whole[:200] + bytes(100) + whole[300:])
    for number, damage in enumerate(damages, start=1):
        path.write_bytes(damage)
        assert np.array_equal(glyphs.load(24)[0], x)
        assert len(builds) == number
        assert path.read_bytes() == whole
        assert "anew" in capsys.readouterr().err
    assert np.array_equal(glyphs.load(24)[1], y)


def test_a_cache_that_cannot_be_written_is_no_obstacle(few_glyphs, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METRIX_CACHE", str(tmp_path / "file" / "below"))
    x, y = glyphs.load(24)
    assert len(x) == len(y) > 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "not cached" in error


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def fail_half_way():
        with files.replacing(target) as file:
            file.write(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


# Data sets


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """12 classes of 6 images, 20 x 24, each class with its own colours."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(100, 112), 6)
    colours = rng.integers(0, 256, (12, 3))[y - 100]
    x = np.clip(colours[:, None, None] + rng.normal(0, 20, (72, 20, 24, 3)), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("npz") / "set.npz"
    np.savez(path, x=x, y=y)
    return path


@pytest.fixture(scope="module")
def folder(archive, tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    with np.load(archive) as stored:
        for i, (image, label) in enumerate(zip(stored["x"], stored["y"], strict=True)):
            (root / f"class{label}" / "deeper").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / f"class{label}" / "deeper" / f"{i}.png")
    (root / "class100" / "notes.txt").write_text("no image")
    (root / "readme.md").write_text("no class")
    (root / "empty").mkdir()
    return root


def images_by_class(half: data.ImageSet) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for i in range(len(half)):
        found.setdefault(half.names[half.labels[i]], []).append(half.picture(i).tobytes())
    return found


def test_npz_and_folder_hold_the_same_halves(archive, folder):
    from_npz = data.load("npz", str(archive), 32, split_seed=3)
    from_folder = data.load("folder", str(folder), 32, split_seed=3)
    for one, other in ((from_npz.train, from_folder.train), (from_npz.test, from_folder.test)):
        assert len(one) == 36
        assert sorted(set(one.labels.tolist())) == list(range(6))
        expected = {f"class{name}": sorted(images) for name, images in images_by_class(one).items()}
        assert expected == {name: sorted(images) for name, images in images_by_class(other).items()}
    assert not set(from_npz.train.names) & set(from_npz.test.names)
    assert from_npz.train.names != data.load("npz", str(archive), 32, split_seed=4).train.names


def test_grey_arrays_become_rgb(tmp_path):
    x = np.arange(8 * 16 * 16, dtype=np.uint8).reshape(8, 16, 16)
    np.savez(tmp_path / "grey.npz", x=x, y=np.arange(8) // 2)
    half = data.load("npz", str(tmp_path / "grey.npz"), 32, split_seed=0).train
    picture = np.asarray(half.picture(1))
    assert picture.shape == (16, 16, 3)
    assert any(np.array_equal(picture[..., 2], image) for image in x)


def arrays(**given):
    return {"x": np.zeros((8, 4, 4), np.uint8), "y": np.arange(8) // 2, **given}


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (arrays(x=np.zeros((8, 4, 4), np.float32)), "x in .* is float32"),
        (arrays(x=np.zeros((8, 3, 4, 4), np.uint8)), "x in .* is uint8 .8, 3, 4, 4."),
        (arrays(y=np.zeros(7, int)), "y in .* is int64 .7.; expected integers .8."),
        (arrays(y=np.zeros(8)), "y in .* is float64"),
        (arrays(y=np.zeros(8, int)), "1 classes"),
        (arrays(y=np.arange(8)), "no class of 2 images"),
        ({"x": np.zeros((8, 4, 4), np.uint8)}, "lacks the array x or y"),
        (arrays(y=np.array([None] * 8)), "cannot be read"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, stored, words):
    np.savez(tmp_path / "bad.npz", **stored)
    with pytest.raises(UserError, match=words):
        data.load("npz", str(tmp_path / "bad.npz"), 32, split_seed=0)


def test_a_damaged_image_is_named(folder, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((folder / "class100" / "deeper" / "0.png").read_bytes()[:300])
    half = data.ImageSet(data.Collection([broken], np.array([0]), ["only"]), np.array([0]))
    with pytest.raises(UserError, match=r"broken\.png cannot be read"):
        half[0]


def test_loaders_and_the_command_line_name_the_same_data_sets():
    for name in data.LOADERS:
        assert options.parse(["--dataset", name]).dataset == name


# Sampler


def test_batches_are_balanced_and_classes_come_equally_often():
    labels = np.repeat(np.arange(10), 7)
    sampler = BalancedBatches(labels, batch_size=20, images_per_class=4, seed=0)
    seen: Counter[int] = Counter()
    for epoch in range(4):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 3
        for batch in batches:
            assert len(set(batch)) == 20
            assert sorted(Counter(labels[batch].tolist()).values()) == [4] * 5
        seen.update(labels[[i for batch in batches[:2] for i in batch]].tolist())
    assert set(seen.values()) == {4 * 4}


def test_batches_follow_from_seed_and_epoch():
    labels = np.repeat(np.arange(10), 7)

    def batches(seed, epoch):
        sampler = BalancedBatches(labels, 20, 4, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(0, 1) == batches(0, 1)
    assert batches(0, 1) != batches(0, 2)
    assert batches(0, 1) != batches(1, 1)


def test_small_classes_repeat_images():
    sampler = BalancedBatches(np.array([0, 1, 1, 1]), 6, 3, seed=0)
    (batch,) = sampler
    assert Counter(batch)[0] == 3
    assert sorted(i for i in batch if i) == [1, 2, 3]


@pytest.mark.parametrize(("batch", "per_class"), [(10, 3), (30, 5)])
def test_impossible_batches_are_refused(batch, per_class):
    with pytest.raises(ValueError, match="batch"):
        BalancedBatches(np.repeat(np.arange(5), 7), batch, per_class, seed=0)


# Recipe and options


def resolved(*arguments, device="cpu"):
    args = options.parse(list(arguments))
    options.resolve(args, device)
    return args


def test_defaults_by_data_set_and_machine():
    plain = resolved()
    assert (plain.arch, plain.weights, plain.image_size, plain.freeze_bn) == ("small", "none", 32, False)
    photographs = resolved("--dataset", "folder")
    assert (photographs.arch, photographs.weights, photographs.image_size) == ("resnet50", "imagenet", 224)
    assert (photographs.lr, photographs.epochs, photographs.freeze_bn) == (1e-4, 100, True)
    on_gpu = resolved(device="cuda")
    assert (on_gpu.arch, on_gpu.weights, on_gpu.embedding_size) == ("resnet50", "none", 512)
    assert resolved("--loss", "contrastive").lr_gamma == 0.1
    own = resolved("--lr", "0.5", "--epochs", "3", "--no-freeze-bn", "--dataset", "folder")
    assert (own.lr, own.epochs, own.freeze_bn) == (0.5, 3, False)


def test_mixing_options():
    args = resolved(
        "--mix", "feature,embed", "--pairs", "pos-neg,neg-neg", "--strength", "pos-neg=0.2,neg-neg=0.1",
        "--lam", "0.3", "--alpha", "1.5", "--hard-negatives", "4", "--renormalize",
    )  # fmt: skip
    assert args.mix == ("feature", "embed")
    assert options.mixing_options(args) == {
        "pairs": ("pos-neg", "neg-neg"),
        "strength": {"pos-neg": 0.2, "neg-neg": 0.1},
        "lam": 0.3,
        "alpha": 1.5,
        "hard_negatives": 4,
        "renormalize": True,
    }
    assert options.mixing_options(resolved("--loss", "pa", "--mix", "feature"))["pairs"] == ("pos-neg",)
    assert "pairs" not in options.mixing_options(resolved("--loss", "pa", "--mix", "embed"))


def test_learning_rate_steps():
    rates = [recipe.learning_rate(epoch, 1.0, 2, 0.5) for epoch in range(5)]
    assert rates == [1, 1, 0.5, 0.5, 0.25]
    assert recipe.learning_rate(50, 1.0, 0, 0.5) == 1


def tiny_model():
    model = torch.nn.Module()
    model.backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    model.head = torch.nn.Linear(4, 2)
    return model


def test_warmup_trains_the_head_and_the_proxies_only():
    model, criterion = tiny_model(), torch.nn.Linear(2, 2)
    optimizer = recipe.make_optimizer(model, criterion, lr=0.1, weight_decay=0.0, proxy_lr_factor=50)
    recipe.set_learning_rate(optimizer, 0.01)
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == {
        "backbone": 0.01,
        "head": 0.01,
        "proxies": 0.5,
    }
    recipe.prepare_epoch(model, 0, warmup_epochs=1, freeze_bn=False)
    assert {p.requires_grad for p in model.backbone.parameters()} == {False}
    assert {p.requires_grad for p in model.head.parameters()} == {True}
    recipe.prepare_epoch(model, 1, warmup_epochs=1, freeze_bn=False)
    assert {p.requires_grad for p in model.backbone.parameters()} == {True}


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_batch_norm_keeps_its_statistics(freeze):
    model = tiny_model()
    recipe.prepare_epoch(model, 0, warmup_epochs=0, freeze_bn=freeze)
    model.backbone(torch.randn(2, 3, 8, 8) + 5)
    assert bool((model.backbone[1].running_mean == 0).all()) == freeze


def test_a_signal_is_met_at_the_next_check():
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        interrupt.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM") as stopped:
            interrupt.check()
    assert stopped.value.status == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_new_run_leaves_no_summary_of_the_one_before(tmp_path):
    first = RunFolder(str(tmp_path))
    first.add_epoch({"epoch": 1})
    first.finish({"recall_at": {}})
    again = RunFolder(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
    again.add_epoch({"epoch": 1})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'


# Whole runs


def start(*arguments, **environment):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train" / "run.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def finish(process, timeout=120):
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()  # or it would go on beside the tests that follow
        process.communicate()
        raise
    return process.returncode, out, err


def run_here(capsys, *arguments):
    """The exit status and the lines on stderr, without the cost of a new process."""
    import run

    threads = torch.get_num_threads()
    try:
        status = run.main([str(a) for a in arguments])
    finally:
        torch.set_num_threads(threads)
    return status, capsys.readouterr().err


SHORT = ("--threads", 1, "--batch-size", 40, "--device", "cpu")


@pytest.fixture
def torchvision():
    return pytest.importorskip("torchvision")


def test_a_short_run_learns_and_writes_everything(torchvision, cache, tmp_path):
    status, _, err = finish(start("--loss", "ms", "--mix", "embed", "--epochs", 1, "--out", tmp_path, *SHORT))
    assert (status, err) == (0, "")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["recall_at"]) == {"1", "2", "4", "8"}
    assert summary["recall_at"]["1"] > summary["recall_at_start"]["1"] + 0.05
    assert 0.05 < summary["recall_at_1_raw_pixels"] < 0.3
    assert summary["config"]["loss"] == "ms"
    assert summary["config"]["lr"] == 3e-3
    assert summary["dataset"]["test_classes"] >= 200
    assert summary["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]

    epochs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1]
    assert epochs[-1]["recall_at"] == summary["recall_at"]
    for epoch in epochs:
        assert epoch["loss"] == pytest.approx(epoch["clean"] + epoch["mixed"])
        assert epoch["mixed"] > 0

    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert stored["epoch"] == 1
    assert stored["config"] == summary["config"]
    assert sum(v.numel() for k, v in stored["model"].items() if "linear.weight" in k) == 128 * 128
    assert len(stored["optimizer"]["state"]) > 0
    for name in ("retrieval.png", "curves.png"):
        with Image.open(tmp_path / name) as picture:
            assert len(picture.convert("RGB").getcolors(maxcolors=10**6) or []) > 50


def test_a_checkpoint_gives_back_the_recall_of_its_run(torchvision, archive, tmp_path, capsys):
    given = ("--dataset", "npz", "--data", archive, "--epochs", 2, "--batch-size", 20)
    assert run_here(capsys, *given, "--device", "cpu", "--out", tmp_path) == (0, "")
    import argparse

    import checkpoint
    import loaders
    import model as models
    from evaluate import embed

    from metrix_ext.retrieval import recall_at_k

    stored = checkpoint.load(tmp_path / "checkpoint.pt")
    args = argparse.Namespace(**stored["config"])
    model = models.build(args.arch, args.weights, args.embedding_size, args.pool)
    model.load_state_dict(stored["model"])
    half = data.load(args.dataset, args.data, args.image_size, args.split_seed).test
    embeddings, labels = embed(model, loaders.evaluation_loader(half, args), torch.device("cpu"), False, Interrupt())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert recall_at_k(embeddings, labels, k=1)[1] == pytest.approx(summary["recall_at"]["1"], abs=0.03)


def test_equal_seeds_give_equal_figures(torchvision, archive, tmp_path, capsys):
    def figures(name, seed):
        status, err = run_here(
            capsys, "--dataset", "npz", "--data", archive, "--mix", "feature", "--epochs", 1,
            "--batch-size", 20, "--device", "cpu", "--threads", 1, "--seed", seed, "--out", tmp_path / name,
        )  # fmt: skip
        assert (status, err) == (0, "")
        (line,) = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return {k: v for k, v in json.loads(line).items() if k != "seconds"}

    first = figures("first", 5)
    assert figures("again", 5) == first
    assert figures("other", 6)["loss"] != first["loss"]


def test_a_folder_with_workers(torchvision, folder, tmp_path, capsys):
    status, err = run_here(
        capsys, "--dataset", "folder", "--data", folder, "--arch", "small", "--epochs", 1, "--batch-size", 20,
        "--device", "cpu", "--workers", 1, "--k", "1,3", "--out", tmp_path,
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert set(json.loads((tmp_path / "summary.json").read_text())["recall_at"]) == {"1", "3"}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_ends_a_run_with_one_line(torchvision, folder, tmp_path, capsys, workers):
    import shutil

    shutil.copytree(folder, tmp_path / "set")
    for image in (tmp_path / "set").rglob("*.png"):
        image.write_bytes(image.read_bytes()[:300])
    status, err = run_here(
        capsys, "--dataset", "folder", "--data", tmp_path / "set", "--arch", "small", "--batch-size", 20,
        "--device", "cpu", "--workers", workers, "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 2
    assert err.count("\n") == 1
    assert ".png cannot be read as an image" in err
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--loss", "triplet"], "invalid choice: 'triplet'"),
        (["--mix", "feature,manifold"], "'feature,manifold' is not of none, input, feature, embed"),
        (["--mix", "none,embed"], "is not of"),
        (["--pairs", "pos"], "'pos' is not of pos-neg"),
        (["--strength", "pos-neg"], "'pos-neg' is not a number"),
        (["--strength", "pos=1"], "'pos' is not of"),
        (["--lam", "1.5"], "not between 0 and 1"),
        (["--alpha", "0"], "0 is not positive"),
        (["--alpha", "nan"], "not a finite number"),
        (["--k", "0"], "0 is below 1"),
        (["--epochs", "many"], "'many' is not an integer"),
        (["--lr", "-1"], "not a finite number"),
        (["--loss-option", "margin"], "'margin' is not NAME=VALUE"),
        (["--no-such-flag"], "unrecognized arguments"),
    ],
)
def test_bad_arguments(capsys, arguments, words):
    check_refused(*run_here(capsys, *arguments), words)


def check_refused(status, err, words):
    assert status == 2
    assert err.count("\n") == 1, err
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "npz"], "--data is missing"),
        (["--dataset", "npz", "--data", "nowhere.npz"], "nowhere.npz does not exist"),
        (["--dataset", "npz", "--data", ROOT / "train" / "run.py"], "cannot be read as an .npz file"),
        (["--dataset", "folder", "--data", ROOT / "train" / "run.py", "--weights", "none"], "is no folder"),
        (["--dataset", "folder", "--data", ROOT / "tests", "--weights", "none"], "no folder with images"),
        (["--data", "somewhere"], "glyphs needs none"),
        (["--device", "abacus"], "--device abacus cannot be used"),
        (["--batch-size", "99"], "no multiple of --images-per-class 5"),
        (["--batch-size", "5000"], "change --batch-size"),
        (["--batch-size", "100000", "--images-per-class", "0"], "more than the"),
        (["--weights", "imagenet", "--arch", "small"], "no pretrained weights"),
        (["--weights", "nowhere.pt", "--arch", "resnet18"], "nowhere.pt"),
        (["--loss-option", "depth=3"], "does not take these options"),
        (["--loss", "proxynca", "--mix", "feature"], "only mix='embed'"),
        (["--out", "/dev/null/below"], "/dev/null/below cannot be written"),
    ],
)
def test_what_does_not_go_together(torchvision, cache, capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    check_refused(*run_here(capsys, "--device", "cpu", *arguments), words)
    assert not list(tmp_path.rglob("summary.json"))


def test_a_broken_torchvision_is_one_line(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    status, _, err = finish(start(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)])))
    check_refused(status, err, "torchvision cannot be imported (RuntimeError: operator torchvision::nms")


def test_a_loss_that_is_no_number_ends_the_run(torchvision, archive, tmp_path, capsys):
    status, err = run_here(
        capsys, "--dataset", "npz", "--data", archive, "--batch-size", 20, "--lr", 1e30,
        "--clip-grad-value", 0, "--epochs", 30, "--device", "cpu", "--out", tmp_path,
    )  # fmt: skip
    assert status == 1
    assert err.count("\n") == 1
    assert "try a lower --lr" in err
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_leaves_a_checkpoint(torchvision, archive, tmp_path, number):
    process = start("--dataset", "npz", "--data", archive, "--epochs", 10000, "--batch-size", 20, "--out", tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.time() + 300  # the first start of torch on a busy machine
    while not (metrics.exists() and metrics.read_text().count("\n") >= 1):
        assert process.poll() is None, process.communicate()
        if time.time() > deadline:
            process.kill()
            pytest.fail("no epoch was finished")
        time.sleep(0.05)
    process.send_signal(number)
    status, _, err = finish(process, timeout=30)
    assert status == 128 + number
    assert err.count("\n") == 1
    assert not (tmp_path / "summary.json").exists()
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    measured = len(metrics.read_text().splitlines())
    assert measured >= 1
    # The signal may come after an epoch was trained and before it was measured.
    assert stored["epoch"] in (measured, measured + 1)


LOSSES_AND_MIXES = [
    *((loss, "embed") for loss in options.LOSSES),
    *(("ms", mix) for mix in ("input", "feature", "input,feature,embed")),
    ("pa", "feature"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "mix"), LOSSES_AND_MIXES)
def test_every_loss_and_every_mix_learns(torchvision, cache, tmp_path, loss, mix):
    # Proxies take a few epochs to spread, and ProxyNCA has no scale: its exponents stay within -1 and 1.
    epochs = {"pa": 8, "proxynca++": 8, "proxynca": 12}.get(loss, 3)
    status, _, err = finish(
        start("--loss", loss, "--mix", mix, "--epochs", epochs, "--out", tmp_path, *SHORT), timeout=1800
    )
    assert (status, err) == (0, "")
    summary = json.loads((tmp_path / "summary.json").read_text())
    # A draw of 2,470 queries is uncertain by 0.004.
    assert summary["recall_at"]["1"] > summary["recall_at_start"]["1"] + 0.05
