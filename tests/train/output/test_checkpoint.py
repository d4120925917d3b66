"""A checkpoint holds the network of its run."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from metrix_ext.retrieval import recall_at_k
from tests.train.runs import run_here

pytest.importorskip("matplotlib")

from train.interrupt import Interrupt


def test_a_checkpoint_gives_back_the_recall_of_its_run(torchvision, archive, tmp_path, capsys):
    given = ("--dataset", "npz", "--data", archive, "--epochs", 2, "--batch-size", 20)
    assert run_here(capsys, *given, "--device", "cpu", "--out", tmp_path) == (0, "")
    from train import checkpoints
    from train.data import loaders, splits
    from train.evaluation import embed
    from train.model import network
    from train.processes import Processes

    stored = checkpoints.load(tmp_path / "checkpoint.pt")
    args = argparse.Namespace(**stored["config"])
    model = network.build(args.arch, args.weights, args.embedding_size, args.pool)
    model.load_state_dict(stored["model"])
    half = splits.load(args.dataset, args.data, args.image_size, args.split_seed).test
    loader = loaders.evaluation_loader(half, args, Processes())
    embeddings, labels = embed(model, loader, torch.device("cpu"), "none", Interrupt())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert recall_at_k(embeddings, labels, k=1)[1] == pytest.approx(summary["recall_at"]["1"], abs=0.03)
