"""One run: load, build, train and evaluate, save."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from metrix_ext.retrieval import recall_at_k

from . import options
from .data import loaders, splits
from .data.registry import DATA_SETS
from .data.splits import Halves
from .errors import Diverged, Interrupted, UserError, one_line
from .evaluation import embed, pixel_recall
from .interrupt import Interrupt
from .model import network
from .output import checkpoint
from .output.pictures import draw_curves, draw_retrieval
from .output.report import CHECKPOINT, CURVES, RETRIEVAL, RunFolder, per_cent, versions
from .training import recipe
from .training.criterion import make_loss, with_mixup
from .training.learner import Learner
from .training.loop import train_epoch


@dataclass
class Experiment:
    """What a run works with: all of it stays, but the learner learns and the folder fills."""

    args: argparse.Namespace
    device: torch.device
    halves: Halves
    train_loader: DataLoader
    test_loader: DataLoader
    learner: Learner
    out: RunFolder
    config: dict[str, Any]


@dataclass
class Evaluation:
    embeddings: Tensor  # [n, d], of the unseen classes
    recall: dict[str, float]  # Recall@K by K, from 0 to 1


def run(args: argparse.Namespace) -> None:
    began = time.time()
    device = prepare(args)
    out = RunFolder(args.out, args.overwrite)
    args.out = str(out.path)
    halves = splits.load(
        args.dataset, args.data, args.image_size, args.split_seed,
        skip_damaged=args.skip_damaged, workers=args.workers,
    )  # fmt: skip
    experiment = build(args, device, halves, out)
    baseline = pixel_recall(halves.test) if DATA_SETS[args.dataset].pixel_baseline else None
    introduce(experiment, baseline)
    with Interrupt() as interrupt:
        first, last = train(experiment, interrupt)
    save(experiment, baseline, first, last, began)


def prepare(args: argparse.Namespace) -> torch.device:
    device = pick_device(args)
    options.resolve(args, device.type)
    seed_everything(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    return device


def build(args: argparse.Namespace, device: torch.device, halves: Halves, out: RunFolder) -> Experiment:
    train_loader = loaders.training_loader(halves.train, args)
    test_loader = loaders.evaluation_loader(halves.test, args)
    learner = make_learner(args, device, num_classes=len(halves.train.names))
    config = json.loads(json.dumps(vars(args)))  # as the summary gives it back: lists, no tuples
    out.start()
    return Experiment(args, device, halves, train_loader, test_loader, learner, out, config)


def make_learner(args: argparse.Namespace, device: torch.device, num_classes: int) -> Learner:
    model = network.build(args.arch, args.weights, args.embedding_size, args.pool)
    model = model.to(device, memory_format=torch.channels_last)
    loss = make_loss(args.loss, dict(args.loss_option), num_classes, args.embedding_size).to(device)
    criterion = with_mixup(loss, args.mix, options.mixing_options(args)) if args.mix else loss
    optimizer = recipe.make_optimizer(model, criterion, args.lr, args.weight_decay, args.proxy_lr_factor)
    return Learner(model, loss, criterion, optimizer)


def introduce(experiment: Experiment, baseline: float | None) -> None:
    parameters = f"{experiment.learner.parameters():,} parameters"
    print(f"{experiment.args.arch}, {parameters}, on {experiment.device}; {experiment.halves}")
    if skipped := experiment.halves.skipped():
        print(skipped)
    if warning := experiment.halves.warning():
        print(f"run.py: warning: {warning}", file=sys.stderr)
    if baseline is not None:
        print(f"raw pixels          R@1 {100 * baseline:.1f}")


def train(experiment: Experiment, interrupt: Interrupt) -> tuple[Evaluation, Evaluation]:
    """What the untrained network finds, and the trained one; a signal leaves a checkpoint behind."""
    learner = experiment.learner
    try:
        first = last = evaluate(experiment, interrupt)
        print(f"untrained           {per_cent(first.recall)}", flush=True)
        while learner.epoch < experiment.args.epochs:
            last = add_epoch(experiment, interrupt)
            save_checkpoint(experiment)
    except Interrupted as stopped:
        save_checkpoint(experiment)
        written = f"{stopped}; {experiment.out / CHECKPOINT} is written"
        raise Interrupted(written, stopped.signal_number) from None
    return first, last


def add_epoch(experiment: Experiment, interrupt: Interrupt) -> Evaluation:
    """Trains for one epoch, evaluates, reports."""
    began = time.time()
    lr, means = learn(experiment, interrupt)
    found = evaluate(experiment, interrupt)
    epoch, seconds = experiment.learner.epoch, round(time.time() - began, 2)
    experiment.out.add_epoch({"epoch": epoch, **means, "lr": lr, "recall_at": found.recall, "seconds": seconds})
    print(f"epoch {epoch:3} {means['loss']:9.4f} {per_cent(found.recall)}  {seconds:.0f} s", flush=True)
    return found


def learn(experiment: Experiment, interrupt: Interrupt) -> tuple[float, dict[str, float]]:
    """One epoch of training: its learning rate, and the means of its losses."""
    args, learner = experiment.args, experiment.learner
    lr = recipe.learning_rate(learner.epoch, args.lr, args.lr_step, args.lr_gamma)
    recipe.set_learning_rate(learner.optimizer, lr)
    recipe.prepare_epoch(learner.model, learner.epoch, args.warmup_epochs, args.freeze_bn)
    loaders.set_epoch(experiment.train_loader, learner.epoch)
    means = train_epoch(
        learner, experiment.train_loader, args.mix,
        device=experiment.device, amp=args.amp, clip_grad_value=args.clip_grad_value,
        interrupt=interrupt, title=f"epoch {learner.epoch + 1}/{args.epochs}",
    )  # fmt: skip
    learner.epoch += 1
    return lr, means


def evaluate(experiment: Experiment, interrupt: Interrupt) -> Evaluation:
    args, learner = experiment.args, experiment.learner
    embeddings, labels = embed(learner.model, experiment.test_loader, experiment.device, args.amp, interrupt)
    if not bool(embeddings.isfinite().all()):
        raise Diverged(f"the embeddings are not finite after epoch {learner.epoch}: try a lower --lr")
    return Evaluation(embeddings, {str(k): v for k, v in recall_at_k(embeddings, labels, k=args.k).items()})


def save_checkpoint(experiment: Experiment) -> None:
    checkpoint.save(experiment.out / CHECKPOINT, experiment.learner, experiment.config)


def save(experiment: Experiment, baseline: float | None, first: Evaluation, last: Evaluation, began: float) -> None:
    args, out = experiment.args, experiment.out
    save_checkpoint(experiment)
    title = f"{args.loss}, mix {','.join(args.mix) or 'none'}: unseen classes, {per_cent(last.recall)}"
    draw_retrieval(out / RETRIEVAL, experiment.halves.test, last.embeddings, title, args.seed)
    draw_curves(out / CURVES, out.epochs, first.recall, baseline)
    out.finish(
        {
            "recall_at": last.recall,
            "recall_at_start": first.recall,
            "recall_at_1_raw_pixels": baseline,
            "config": experiment.config,
            "dataset": experiment.halves.description,
            "parameters": experiment.learner.parameters(),
            "versions": versions(),
            "threads": torch.get_num_threads(),
            "seconds": round(time.time() - began, 1),
        }
    )
    print(f"{out.path}: {per_cent(last.recall)} in {time.time() - began:.0f} s")


def pick_device(args: argparse.Namespace) -> torch.device:
    if args.device is None:
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(args.device)
        torch.ones(1, device=device).item()  # of a meta tensor there is no value
    except Exception as error:  # a backend that is not there raises RuntimeError, AssertionError, ImportError, ...
        reason = one_line(error).partition(". ")[0]
        raise UserError(f"--device {args.device} cannot be used ({reason}): try --device cpu") from None
    return device


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
