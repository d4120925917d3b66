"""One run of a study: some hundred steps, and Recall@1 of three sets of classes along the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import metrix_ext as mx
from metrix_ext.retrieval import recall_at_k

from ..data import augment
from ..data.sampler import BalancedBatches
from ..data.sources import npz
from ..data.statistics import IMAGENET
from ..model.backbones import small
from ..randomness import seed_step, seeds
from . import criterion, prefix
from .classes import Parts, parts
from .setting import Setting

LOOKS = 10  # evaluations of a run, evenly spaced
CHUNK = 500  # examples that are embedded at a time
SMALL = 32  # pixels of the images that are learnt from scratch


@dataclass
class Examples:
    """What the network is given: a function from numbers of images to its input, in training and in evaluation."""

    labels: np.ndarray
    training: Callable[[np.ndarray, list[int]], Tensor]
    evaluation: Callable[[np.ndarray], Tensor]


def examples_of(setting: Setting, cache: Path) -> Examples:
    images = npz.load(setting.data, 0)
    if setting.trained == "scratch":
        return _pixels(np.asarray(images.images), images.labels)
    paths = prefix.maps(Path(setting.data), setting.trained, setting.image_size, cache, setting.flips)
    views = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]

    def view(index: np.ndarray, of_images: list[int]) -> Tensor:
        """Each image as it is or mirrored, by its seed."""
        chosen = [views[seed % len(views)][i] for i, seed in zip(index, of_images, strict=True)]
        return torch.from_numpy(np.stack(chosen)).float()

    return Examples(images.labels, view, lambda index: torch.from_numpy(views[0][index]).float())


def _pixels(images: np.ndarray, labels: np.ndarray) -> Examples:
    whole = torch.from_numpy(prefix.rgb(images)).permute(0, 3, 1, 2)
    size = (SMALL, SMALL)
    shrunk = torch.cat([nn.functional.interpolate(part.float(), size, mode="area") for part in whole.split(CHUNK)])

    def augmented(index: np.ndarray, of_images: list[int]) -> Tensor:
        return IMAGENET.to_input(augment.random_affine(shrunk[index], of_images), torch.device("cpu"))

    return Examples(labels, augmented, lambda index: IMAGENET.to_input(shrunk[index], torch.device("cpu")))


def model_of(setting: Setting) -> tuple[nn.Module, nn.Module]:
    """What learns, up to the last feature map, and the head."""
    if setting.trained == "scratch":
        backbone = small.backbone("none")
        body, channels = backbone.module, backbone.channels
    else:
        body, channels = prefix.rest(setting.trained, setting.image_size)
    if setting.dropout:
        body = nn.Sequential(body, nn.Dropout2d(setting.dropout))
    return body, mx.heads.PoolingHead(channels, setting.embedding_size, "avg")


def run(setting: Setting, cache: Path) -> dict[str, Any]:
    """The figures of a run, recalls in percent, and "curve": what was measured at each look.

    test: of the last step; test_at_best: of the step that is best on validation classes, as early stopping would have
    it; gap: of seen and validation classes at the end.
    """
    began = time.perf_counter()
    examples = examples_of(setting, cache)
    of = parts(examples.labels, setting.split, setting.classes)
    curve = list(_train(setting, examples, of))
    best = max(curve, key=lambda look: look["validation"])
    last = curve[-1]
    return {
        "test": last["test"], "validation": last["validation"], "seen": last["seen"],
        "best_step": best["step"], "best_validation": best["validation"], "test_at_best": best["test"],
        "start": curve[0]["test"], "gap": last["seen"] - last["validation"],
        "share": last.get("share"), "cosine": last.get("cosine"),
        "seconds": round(time.perf_counter() - began, 1), "curve": curve,
    }  # fmt: skip


def _train(setting: Setting, examples: Examples, of: Parts) -> Iterator[dict[str, float]]:
    labels = np.unique(examples.labels[of.seen], return_inverse=True)[1]
    seed_step(setting.seed, setting.split)
    body, head = model_of(setting)
    clean, whole = criterion.of_setting(setting, int(labels.max()) + 1)
    learnt = [*body.parameters(), *head.parameters()]
    proxies = {id(p): p for p in [*clean.parameters(), *whole.parameters()]}
    groups = [{"params": learnt}, {"params": list(proxies.values()), "lr": 100 * setting.lr}]
    optimizer = torch.optim.AdamW(groups if proxies else groups[:1], lr=setting.lr, weight_decay=setting.weight_decay)
    batches = BalancedBatches(labels, setting.batch_size, setting.images_per_class, setting.seed)
    yield _look(0, body, head, examples, of)
    for step, batch in enumerate(_endless(batches), start=1):
        seed_step(setting.seed, setting.split, step)
        _set_training(body, setting)
        images = examples.training(of.seen[batch], seeds(len(batch), setting.seed, setting.split, step, 1))
        maps = body(images)
        embeddings, targets = head(maps), torch.from_numpy(labels[batch])
        minimised = whole if step > setting.mix_from * setting.steps else clean
        arguments = {"source": maps, "encode": head} if _mixes_maps(minimised) else {}
        look_now = step * LOOKS // setting.steps > (step - 1) * LOOKS // setting.steps
        told = _gradients(minimised, embeddings, targets, arguments) if look_now and minimised is not clean else {}
        optimizer.zero_grad()
        minimised(embeddings, targets, **arguments).backward()
        nn.utils.clip_grad_value_(learnt, 10.0)
        optimizer.step()
        if look_now:
            yield {**_look(step, body, head, examples, of), **told}
        if step == setting.steps:
            return


def _endless(batches: BalancedBatches) -> Iterator[list[int]]:
    epoch = 0
    while True:
        yield from batches.of_epoch(epoch)
        epoch += 1


def _set_training(body: nn.Module, setting: Setting) -> None:
    """Batch norm learns from random weights only; dropout drops."""
    body.train(setting.trained == "scratch")
    for module in body.modules():
        if isinstance(module, nn.Dropout2d):
            module.train()


def _mixes_maps(minimised: nn.Module) -> bool:
    return isinstance(minimised, mx.Metrix) and minimised.mix == ("feature",)


def _gradients(minimised: nn.Module, embeddings: Tensor, labels: Tensor, arguments: dict[str, Any]) -> dict[str, float]:
    """At the embeddings: the norm of the second term's gradient in that of the clean one's, without its strength, and
    the cosine of the two."""
    z = embeddings.detach().requires_grad_()
    state = torch.get_rng_state()
    if isinstance(minimised, criterion.Unmixed):
        clean, second = minimised.terms(z, labels)
    else:
        clean, second = minimised.loss(z, labels), minimised.mixed_loss(z, labels, minimised.pairs[0], **arguments)
    first, other = (torch.autograd.grad(loss, z, materialize_grads=True)[0].flatten() for loss in (clean, second))
    torch.set_rng_state(state)
    cosine = nn.functional.cosine_similarity(first, other, dim=0)
    return {"share": float(other.norm() / first.norm().clamp_min(1e-12)), "cosine": float(cosine)}


@torch.inference_mode()
def _look(step: int, body: nn.Module, head: nn.Module, examples: Examples, of: Parts) -> dict[str, float]:
    body.eval()
    found: dict[str, float] = {"step": step}
    for name, index in of._asdict().items():
        pieces = np.array_split(index, -(-len(index) // CHUNK))
        embeddings = torch.cat([head(body(examples.evaluation(piece))) for piece in pieces])
        recall = recall_at_k(embeddings, torch.from_numpy(examples.labels[index]), k=1)[1]
        found[name] = round(100 * recall, 3)
    return found
