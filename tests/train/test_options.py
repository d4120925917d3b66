"""The command line: defaults, what Metrix gets, and what is refused."""

from __future__ import annotations

import pytest

from tests.train.runs import ROOT, check_refused, run_here

pytest.importorskip("matplotlib")

from train import options
from train.errors import UserError


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


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "for several processes: start them by torchrun"),
        (("--freeze-bn",), "goes with --no-freeze-bn"),
        (("--dataset", "folder"), "goes with --no-freeze-bn"),  # as by default
        (("--mix", "embed,input"), "does not go with --mix input"),
        (("--micro-batch", "8"), "does not go with --micro-batch"),
    ],
)
def test_what_does_not_go_with_synchronised_batch_norm(more, words):
    with pytest.raises(UserError, match=f"--sync-bn .*{words}"):
        resolved("--sync-bn", *more, device="cuda")


def test_synchronised_batch_norm_is_for_gpus():
    args = options.parse(["--sync-bn"])
    options.resolve(args, "cuda", processes=2)
    assert args.sync_bn
    with pytest.raises(UserError, match="--sync-bn needs GPUs"):
        options.resolve(args, "cpu", processes=2)


def test_mixing_options():
    args = resolved(
        "--mix", "feature,embed", "--pairs", "pos-neg,neg-neg", "--strength", "pos-neg=0.2,neg-neg=0.1",
        "--lam", "0.3", "--alpha", "1.5", "--hard-negatives", "4", "--renormalize", "--mixed-margins", "1,-0.5",
    )  # fmt: skip
    assert args.mix == ("feature", "embed")
    assert options.mixing_options(args) == {
        "pairs": ("pos-neg", "neg-neg"),
        "strength": {"pos-neg": 0.2, "neg-neg": 0.1},
        "lam": 0.3,
        "alpha": 1.5,
        "hard_negatives": 4,
        "renormalize": True,
        "mixed_margins": (1.0, -0.5),
        "gradient_share": 0.5,
    }
    assert options.mixing_options(resolved("--loss", "pa", "--mix", "feature"))["pairs"] == ("pos-neg",)
    assert "pairs" not in options.mixing_options(resolved("--loss", "pa", "--mix", "embed"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--loss", "triplet"], "invalid choice: 'triplet'"),
        (["--mix", "feature,manifold"], "'feature,manifold' is not of none, input, feature, embed"),
        (["--mix", "none,embed"], "is not of"),
        (["--pairs", "pos"], "'pos' is not of pos-neg"),
        (["--strength", "pos-neg"], "'pos-neg' is not a number"),
        (["--strength", "pos=1"], "'pos' is not of"),
        (["--mixed-margins", "1"], "'1' is not two numbers such as 1,0.5"),
        (["--mixed-margins", "1,inf"], "inf is not a finite number"),
        (["--mixed-loss-option", "beta=4"], "--mixed-loss-option goes with --mixed-loss"),
        (["--mix", "embed", "--mixed-loss", "pa"], "with these options: mixed_loss: got ProxyAnchorLoss"),
        (["--mix", "embed", "--loss", "nca", "--mixed-margins", "1,0"], "mixed_margins: got (1.0, 0.0), expected None"),
        (["--lam", "1.5"], "not between 0 and 1"),
        (["--alpha", "0"], "0 is not positive"),
        (["--alpha", "nan"], "not a finite number"),
        (["--alpha", "1e308"], "1e308 is above 1e6"),
        (["--k", "0"], "0 is below 1"),
        (["--epochs", "many"], "'many' is not an integer"),
        (["--lr", "-1"], "not a finite number"),
        (["--loss-option", "margin"], "'margin' is not NAME=VALUE"),
        (["--no-such-flag"], "unrecognized arguments"),
    ],
)
def test_bad_arguments(capsys, arguments, words):
    check_refused(*run_here(capsys, *arguments), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "4294967296"], "4294967296 is above 4294967295: numpy's generators take seeds of 32 bits"),
        (["--split-seed", "4294967296"], "seeds of 32 bits"),
        (["--embedding-size", "1000000000000"], "1000000000000 is above 65536: a head to longer ones"),
        (["--threads", "1000000000"], "16 for each core"),
        (["--workers", "100000"], "16 for each core"),
        (["--image-size", "1000000"], "1000000 is above 4096: a batch of larger images"),
        (["--image-size", "512"], "glyphs have up to 256 pixels"),
        (["--batch-size", "1000000000000"], "is above 1048576: a batch is in memory"),
        (["--images-per-class", "1000000000000"], "is above 1024: a batch is in memory"),
        (["--device", "meta"], "--device meta cannot be used"),
    ],
)
def test_sizes_that_no_machine_has_are_refused_with_a_reason(capsys, arguments, words):
    check_refused(*run_here(capsys, *arguments), words)


def test_the_largest_seed_is_taken():
    from train.randomness import seed_step

    seed_step(resolved("--seed", str(2**32 - 1)).seed)


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
        (["--weights", "/dev/null", "--arch", "resnet18"], "/dev/null cannot be read as a state dict"),
        (["--weights", "/", "--arch", "resnet18"], "it is no regular file"),
        (["--dataset", "npz", "--data", "/dev/zero"], "it is no regular file"),
        (["--dataset", "npz", "--data", "n" * 5000], "cannot be read (File name too long)"),
        (["--loss-option", "depth=3"], "does not take these options"),
        (["--loss", "proxynca", "--mix", "feature"], "only mix='embed'"),
        (["--out", "/dev/null/below"], "/dev/null/below cannot be written"),
    ],
)
def test_what_does_not_go_together(torchvision, cache, capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    check_refused(*run_here(capsys, "--device", "cpu", *arguments), words)
    assert not list(tmp_path.rglob("summary.json"))
