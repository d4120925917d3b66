"""Small networks, and the gradients of a step in one piece and in micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

import metrix_ext as mx

CHANNELS, DIM, CLASSES = 6, 5, 4
Run = Callable[[nn.Module, nn.Module, nn.Module], Tensor]  # from criterion, backbone and head to the loss


def backbone() -> nn.Module:
    """Images [n, 3, 8, 8] to feature maps [n, 6, 3, 3], with batch norm whose statistics are not those of the images.

    tanh has no kink that two orders of adding could end on different sides of.
    """
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), nn.BatchNorm2d(CHANNELS), nn.Tanh(), nn.AvgPool2d(2)).double()
    with torch.no_grad():
        for buffer in (layers[1].running_mean, layers[1].running_var):
            buffer.add_(torch.rand(CHANNELS))
    return layers.eval()


def head(pool: str = "avg+max") -> nn.Module:
    torch.manual_seed(1)
    return mx.heads.PoolingHead(CHANNELS, DIM, pool).double()


def loss(name: str) -> nn.Module:
    torch.manual_seed(2)
    made = {
        "ms": lambda: mx.losses.MultiSimilarityLoss(beta=2.0, gamma=10.0, margin=0.5),
        "pa": lambda: mx.losses.ProxyAnchorLoss(CLASSES, DIM, beta=4.0, gamma=4.0),
        "contrastive": lambda: mx.losses.ContrastiveLoss(margin=0.2),
    }
    return made[name]().double()


def criterion(name: str, mix: str | tuple[str, ...]) -> nn.Module:
    """The loss, or with mixup around it."""
    return mx.Metrix(loss(name), mix=mix, pairs="pos-neg") if mix != "none" else loss(name)


def batch(n: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(n, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.randint(CLASSES, (n,), generator=generator)


def in_one_piece(mix: str | tuple[str, ...], images: Tensor, labels: Tensor) -> Run:
    """The step that is written without micro-batches."""

    def run(criterion: nn.Module, backbone: nn.Module, head: nn.Module) -> Tensor:
        features = backbone(images)
        sources = {"feature": features, "input": images}
        encoders = {"feature": head, "input": nn.Sequential(backbone, head)}
        used = [kind for kind in sources if kind in (mix if isinstance(mix, tuple) else (mix,))]
        given = {"source": {k: sources[k] for k in used}, "encode": {k: encoders[k] for k in used}} if used else {}
        value = criterion(head(features), labels, **given)
        value.backward()
        return value.detach()

    return run


def in_micro_batches(images: Tensor, labels: Tensor, micro_batch: int, **options: object) -> Run:
    def run(criterion: nn.Module, backbone: nn.Module, head: nn.Module) -> Tensor:
        return mx.GradCache(criterion, backbone, head, micro_batch, **options)(images, labels)

    return run


def loss_and_gradients(run: Run, *modules: nn.Module) -> list[Tensor]:
    """Of copies of the modules: the loss, and .grad of all their parameters."""
    torch.manual_seed(4)
    copies = [deepcopy(module) for module in modules]
    value = run(*copies)
    return [value, *gradients_of(copies)]


def gradients_of(modules: Iterable[nn.Module]) -> list[Tensor]:
    gradients = [parameter.grad for module in modules for parameter in module.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return gradients
