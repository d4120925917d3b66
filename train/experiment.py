"""One run from the data set to the summary."""

from __future__ import annotations

import argparse
import json
import random
import time

import numpy as np
import torch
from torch import Tensor

from metrix_ext.retrieval import recall_at_k

from . import checkpoint, data, loaders, options, recipe
from . import model as models
from .criterion import make_loss, with_mixup
from .errors import Diverged, Interrupted, UserError
from .evaluate import embed, pixel_recall
from .interrupt import Interrupt
from .loop import train_epoch
from .pictures import draw_curves, draw_retrieval
from .report import CHECKPOINT, CURVES, RETRIEVAL, RunFolder, per_cent, versions

HALVES = ("train", "test")


def run(args: argparse.Namespace) -> None:
    began = time.time()
    device = pick_device(args)
    options.resolve(args, device.type)
    seed_everything(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)

    halves = data.load(args.dataset, args.data, args.image_size, args.split_seed)
    train_loader = loaders.training_loader(halves.train, args)
    test_loader = loaders.evaluation_loader(halves.test, args)
    model = models.build(args.arch, args.weights, args.embedding_size, args.pool)
    model = model.to(device, memory_format=torch.channels_last)
    loss = make_loss(args.loss, dict(args.loss_option), len(halves.train.names), args.embedding_size)
    loss = loss.to(device)
    criterion = with_mixup(loss, args.mix, options.mixing_options(args)) if args.mix else loss
    optimizer = recipe.make_optimizer(model, criterion, args.lr, args.weight_decay, args.proxy_lr_factor)
    out = RunFolder(args.out)

    config = json.loads(json.dumps(vars(args)))  # as the summary gives it back: lists, no tuples
    baseline = pixel_recall(halves.test) if args.dataset == "glyphs" else None
    parameters = sum(p.numel() for module in (model, criterion) for p in module.parameters())
    print(f"{args.arch}, {parameters:,} parameters, on {device}; {describe(halves.description)}")
    if baseline is not None:
        print(f"raw pixels          R@1 {100 * baseline:.1f}")

    with Interrupt() as interrupt:

        def evaluate(epoch: int) -> tuple[Tensor, dict[str, float]]:
            embeddings, labels = embed(model, test_loader, device, args.amp, interrupt)
            if not bool(embeddings.isfinite().all()):
                raise Diverged(f"the embeddings are not finite after epoch {epoch}: try a lower --lr")
            return embeddings, {str(k): v for k, v in recall_at_k(embeddings, labels, k=args.k).items()}

        epoch = 0
        try:
            embeddings, start = evaluate(0)
            recall = start
            print(f"untrained           {per_cent(start)}", flush=True)
            while epoch < args.epochs:
                epoch_began = time.time()
                lr = recipe.learning_rate(epoch, args.lr, args.lr_step, args.lr_gamma)
                recipe.set_learning_rate(optimizer, lr)
                recipe.prepare_epoch(model, epoch, args.warmup_epochs, args.freeze_bn)
                loaders.set_epoch(train_loader, epoch)
                means = train_epoch(
                    model, loss, criterion, args.mix, train_loader, optimizer,
                    device=device, amp=args.amp, clip_grad_value=args.clip_grad_value,
                    interrupt=interrupt, title=f"epoch {epoch + 1}/{args.epochs}",
                )  # fmt: skip
                epoch += 1
                embeddings, recall = evaluate(epoch)
                seconds = round(time.time() - epoch_began, 2)
                out.add_epoch({"epoch": epoch, **means, "lr": lr, "recall_at": recall, "seconds": seconds})
                print(f"epoch {epoch:3} {means['loss']:9.4f} {per_cent(recall)}  {seconds:.0f} s", flush=True)
                checkpoint.save(out / CHECKPOINT, model, criterion, optimizer, epoch, config)
        except Interrupted as stopped:
            checkpoint.save(out / CHECKPOINT, model, criterion, optimizer, epoch, config)
            raise Interrupted(f"{stopped}; {out / CHECKPOINT} is written", stopped.signal_number) from None

    checkpoint.save(out / CHECKPOINT, model, criterion, optimizer, epoch, config)
    title = f"{args.loss}, mix {','.join(args.mix) or 'none'}: unseen classes, {per_cent(recall)}"
    draw_retrieval(out / RETRIEVAL, halves.test, embeddings, title, args.seed)
    draw_curves(out / CURVES, out.epochs, start, baseline)
    out.finish(
        {
            "recall_at": recall,
            "recall_at_start": start,
            "recall_at_1_raw_pixels": baseline,
            "config": config,
            "dataset": halves.description,
            "parameters": parameters,
            "versions": versions(),
            "threads": torch.get_num_threads(),
            "seconds": round(time.time() - began, 1),
        }
    )
    print(f"{out.path}: {per_cent(recall)} in {time.time() - began:.0f} s")


def pick_device(args: argparse.Namespace) -> torch.device:
    if args.device is None:
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(args.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--device {args.device} cannot be used ({reason}): try --device cpu") from None
    return device


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def describe(description: dict[str, object]) -> str:
    seen, unseen = (f"{description[f'{h}_images']} images of {description[f'{h}_classes']}" for h in HALVES)
    return f"{seen} seen and {unseen} unseen classes"
