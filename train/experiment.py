"""One run: load, build, train and evaluate, save; or go on with one."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch

import metrix_ext as mx

from . import checkpoints, options
from .data import loaders, splits
from .data.registry import DATA_SETS
from .data.sampler import Batches
from .data.splits import Halves
from .errors import Diverged, Interrupted, UserError, one_line
from .evaluation import Found, Searched, pixel_recall, search
from .interrupt import Interrupt
from .model import batch_norm, network
from .options import paper
from .output import loggers
from .output.grid import retrieval_grid
from .output.pictures import draw_curves, draw_retrieval
from .output.report import CHECKPOINT, CURVES, REPORT, RETRIEVAL, RunFolder, per_cent, summary_of, write_report
from .output.similarities import pair_similarities
from .processes import Processes, end, local_device, start
from .randomness import seed_step
from .training import optimizers, recipe
from .training.averaging import MovingAverage
from .training.criterion import make_criterion
from .training.learner import Learner
from .training.loop import train_epoch
from .training.miners import make_miner
from .training.step import Settings, Step


@dataclass
class Experiment:
    """What a run works with: all of it stays, but the learner learns and the folder fills."""

    args: argparse.Namespace
    device: torch.device
    processes: Processes
    halves: Halves
    train_loader: loaders.Loader
    batches: Batches  # of train_loader
    test: Searched
    validation: Searched | None
    learner: Learner
    settings: Settings
    out: RunFolder
    config: dict[str, Any]
    loggers: loggers.Loggers
    first: dict[str, float] = field(default_factory=dict)  # Recall@K of the untrained network
    unreported: dict[str, Any] = field(default_factory=dict)  # of an epoch that is trained, but not measured yet


def run(args: argparse.Namespace) -> None:
    began = time.time()
    device, processes = prepare(args)
    out = RunFolder(args.out, args.overwrite, args.resume, processes.rank == 0)
    args.out = str(out.path)
    stored = checkpoints.read(out.path) if args.resume else None
    processes.wait()  # nothing is written before all have read
    if stored is not None:
        options.require_same(stored["config"], options.plain(args), out.path)
    halves = splits.of_options(vars(args), args.workers)
    experiment = build(args, device, processes, halves, out, 0 if stored is None else stored["epoch"])
    baseline = pixel_recall(halves.test) if DATA_SETS[args.dataset].pixel_baseline else None
    introduce(experiment, baseline)
    if stored is not None:
        resume(experiment, stored)
    with Interrupt() as interrupt, experiment.loggers:
        last = train(experiment, interrupt)
    save(experiment, baseline, last, began)
    end(processes)


def prepare(args: argparse.Namespace) -> tuple[torch.device, Processes]:
    device = pick_device(args)
    processes = start(device.type)
    options.resolve(args, device.type, processes.count)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.deterministic:
        torch.use_deterministic_algorithms(True)
    return device, processes


def build(
    args: argparse.Namespace, device: torch.device, processes: Processes, halves: Halves, out: RunFolder, done: int
) -> Experiment:
    """done: epochs that a resumed run has behind it."""
    seed_step(args.seed)
    learner = make_learner(args, device, num_classes=len(halves.train.names))

    def searched(queries: Any, gallery: Any = None) -> Searched:
        return Searched(
            loaders.evaluation_loader(queries, args, processes),
            None if gallery is None else loaders.evaluation_loader(gallery, args, processes),
        )

    train_loader, batches = loaders.training_loader(halves.train, args, processes)
    validation = None if halves.validation is None else searched(halves.validation)
    miner_options = dict(args.miner_option)
    if args.miner_epsilon is not None:
        miner_options["epsilon"] = args.miner_epsilon
    settings = Settings(
        args.mix, make_miner(args.miner, miner_options), args.amp, args.micro_batch,
        args.clip_grad_value, args.clip_grad_norm, processes.are_several,
    )  # fmt: skip
    out.start()
    if processes.rank == 0:
        options.write_config(out.path, args)
    config = options.plain(args)
    names = args.log if processes.rank == 0 else ()
    logged = loggers.open_loggers(
        names, out.path, epochs=args.epochs, configuration=config, done=done, project=args.wandb_project
    )
    return Experiment(
        args, device, processes, halves, train_loader, batches, searched(halves.test, halves.gallery), validation,
        learner, settings, out, config, logged,
    )  # fmt: skip


def make_learner(args: argparse.Namespace, device: torch.device, num_classes: int) -> Learner:
    model = network.build(
        args.arch, args.weights, args.embedding_size, args.pool, args.image_size, args.tokens, args.normalize
    )
    model = model.to(device, memory_format=torch.channels_last)
    if args.sync_bn:
        model = batch_norm.synchronized(model)
    loss, criterion = make_criterion(args, num_classes)
    loss, criterion = loss.to(device), criterion.to(device)
    if args.memory_size:
        # Of several processes it is called with the batch of all, as Step does.
        memory = mx.memory.CrossBatchMemory(
            criterion, args.embedding_size, args.memory_size, args.memory_start, gather=False
        )
        criterion = memory.to(device)
    groups = optimizers.parameter_groups(
        model, criterion, learning_rate=args.lr, head_factor=args.head_lr_factor, proxy_factor=args.proxy_lr_factor,
        weight_decay=args.weight_decay,
    )  # fmt: skip
    optimizer = optimizers.make_optimizer(args.optimizer, groups, momentum=args.momentum)
    average = MovingAverage(model, args.ema) if args.ema else None
    if args.compile:
        model.backbone.compile()
    scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "fp16")
    return Learner(model, loss, criterion, optimizer, scaler, average)


def introduce(experiment: Experiment, baseline: float | None) -> None:
    parameters = f"{experiment.learner.parameters():,} parameters"
    print(f"{experiment.args.arch}, {parameters}, on {experiment.device}; {experiment.halves}")
    if skipped := experiment.halves.skipped():
        print(skipped)
    if experiment.processes.rank == 0 and (warning := experiment.halves.warning()):
        print(f"run.py: warning: {warning}", file=sys.stderr)
    if baseline is not None:
        print(f"raw pixels          R@1 {100 * baseline:.1f}")


def resume(experiment: Experiment, stored: dict[str, Any]) -> None:
    """Where the run was: between two batches of an epoch, or two epochs."""
    experiment.learner.load(stored)
    experiment.first, experiment.unreported = stored["first"], stored["unreported"]
    experiment.out.rewrite_epochs(stored["lines"])
    print(f"goes on after epoch {stored['epoch']}, batch {stored['batch']}", flush=True)


def train(experiment: Experiment, interrupt: Interrupt) -> Found:
    """What the trained network finds; a signal leaves a checkpoint behind."""
    learner, epochs = experiment.learner, experiment.args.epochs
    last = None
    try:
        if not experiment.first:
            last = measure(experiment, experiment.test, interrupt)
            experiment.first = last.recall
        print(f"untrained           {per_cent(experiment.first)}", flush=True)
        if learner.epoch >= epochs:
            save_checkpoint(experiment)
        while learner.epoch < epochs or experiment.unreported:
            last = add_epoch(experiment, interrupt)
            save_checkpoint(experiment)
        return measure(experiment, experiment.test, interrupt) if last is None else last
    except Interrupted as stopped:
        save_checkpoint(experiment)
        written = f"{stopped}; {experiment.out / CHECKPOINT} is written: --resume goes on"
        raise Interrupted(written, stopped.signal_number) from None


def add_epoch(experiment: Experiment, interrupt: Interrupt) -> Found | None:
    """Trains for an epoch, unless that is done, evaluates if it is its turn, reports."""
    args = experiment.args
    began = time.time()
    if not experiment.unreported:
        lr, means = learn(experiment, interrupt)
        experiment.unreported = {"epoch": experiment.learner.epoch, **means, "lr": lr}
    line = dict(experiment.unreported)
    epoch, found = line["epoch"], None
    if epoch % args.eval_every == 0 or epoch == args.epochs:
        found = measure(experiment, experiment.test, interrupt)
        line["recall_at"] = found.recall
        if experiment.validation is not None:
            line["validation_recall_at"] = measure(experiment, experiment.validation, interrupt).recall
    seconds = time.time() - began
    line = line if args.deterministic else {**line, "seconds": round(seconds, 2)}
    experiment.out.add_epoch(line)
    experiment.loggers.epoch(line)
    experiment.unreported = {}
    told = per_cent(found.recall) if found else ""
    print(f"epoch {epoch:3} {line['loss']:9.4f} {told}  {seconds:.0f} s", flush=True)
    return found


def learn(experiment: Experiment, interrupt: Interrupt) -> tuple[float, dict[str, float]]:
    """One epoch of training, or its rest: the learning rate, and the means of the losses."""
    args, learner = experiment.args, experiment.learner
    lr = recipe.learning_rate(args, learner.epoch)
    optimizers.set_learning_rate(learner.optimizer, lr)
    recipe.prepare_epoch(learner.model, learner.epoch, args.warmup_epochs, args.freeze_bn)
    experiment.batches.set_position(learner.epoch, learner.batch)
    step = Step(learner, experiment.settings, with_mixing=learner.epoch >= args.mix_warmup_epochs)
    means = train_epoch(
        learner, step, experiment.train_loader, seed=args.seed, rank=experiment.processes.rank,
        device=experiment.device, interrupt=interrupt, title=f"epoch {learner.epoch + 1}/{args.epochs}",
    )  # fmt: skip
    experiment.processes.copy_buffers(learner.model)
    experiment.processes.copy_buffers(learner.evaluated)  # which is the same where nothing is averaged
    return lr, means


def measure(experiment: Experiment, searched: Searched, interrupt: Interrupt) -> Found:
    args, learner = experiment.args, experiment.learner
    where = experiment.device, args.amp, interrupt, experiment.processes
    found = search(learner.evaluated, searched, args.k, *where)
    if not found.recall:
        raise Diverged(f"the embeddings are not finite after epoch {learner.epoch}: try a lower --lr")
    return found


def save_checkpoint(experiment: Experiment) -> None:
    """Of the run as it is: what it has learnt, and what it has written so far."""
    if experiment.processes.rank > 0:  # they have learnt the same
        return
    state = experiment.learner.state()
    own = {"config": experiment.config, "first": experiment.first, "lines": experiment.out.epochs}
    checkpoints.write(experiment.out.path, {**state, **own, "unreported": experiment.unreported})


def save(experiment: Experiment, baseline: float | None, last: Found, began: float) -> None:
    args, out = experiment.args, experiment.out
    if experiment.processes.rank > 0:
        return
    title = f"{args.loss}, mix {','.join(args.mix) or 'none'}: unseen classes, {per_cent(last.recall)}"
    halves = experiment.halves
    gallery = None if halves.gallery is None or last.gallery is None else (halves.gallery, last.gallery[0])
    grid = retrieval_grid(halves.test, last.embeddings, args.seed, gallery=gallery)
    draw_retrieval(out / RETRIEVAL, grid, title)
    draw_curves(out / CURVES, out.epochs, experiment.first, baseline)
    write_report(
        out.path,
        configuration=experiment.config,
        epochs=[{"epoch": 0, "recall_at": experiment.first}, *out.epochs],
        grid=grid,
        similarities=pair_similarities(last.embeddings, last.labels, args.seed, *(last.gallery or ())),
        paper_row=paper.row_of(experiment.config, options.parse),
    )
    out.finish(
        {
            **summary_of(last.recall, experiment.first, out.epochs),
            **last.others(args.measures),
            "recall_at_1_raw_pixels": baseline,
            "config": experiment.config,
            "dataset": halves.description,
            "parameters": experiment.learner.parameters(),
            "seconds": round(time.time() - began, 1),
        }
    )
    print(f"{out / REPORT}: {per_cent(last.recall)} in {time.time() - began:.0f} s")


def pick_device(args: argparse.Namespace) -> torch.device:
    if args.device is None:
        args.device = local_device() if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(args.device)
        torch.ones(1, device=device).item()  # of a meta tensor there is no value
    except Exception as error:  # a backend that is not there raises RuntimeError, AssertionError, ImportError, ...
        reason = one_line(error).partition(". ")[0]
        raise UserError(f"--device {args.device} cannot be used ({reason}): try --device cpu") from None
    return device
