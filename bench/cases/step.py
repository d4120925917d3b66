"""A training step of ResNet-50: the network, the clean loss, and each mix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

import metrix_ext as mx

from .. import counts
from ..problems.problem import Problem, Step, training_step
from ..report.rows import Row
from ..runner import Runner
from ..timing.isolate import Unavailable

MIXES = ("none", "embed", "feature", "input")


@dataclass(frozen=True)
class TrainingStep(Problem):
    """n images of size x size pixels, k of each class, through ResNet-50 and a pooling head to embeddings of size d.

    The optimiser's step is left out. ``dtype`` other than "float32" is that of autocast; the memory format is
    channels last. The loss is checked against float64, gradients are not: a network in bfloat16 rounds them beyond
    comparison, and those of the mixed losses are checked by the other cases.
    """

    n: int
    k: int
    size: int
    mix: str
    d: int = 512
    dtype: str = "float32"
    pairs: str = "pos-neg"

    peers = ("metrix_ext",)
    exact = ("the reference backend",)

    @property
    def tolerance(self) -> float:  # type: ignore[override]
        return 1e-3 if self.dtype == "float32" else 5e-2

    def columns(self) -> dict[str, object]:
        columns = {name: value for name, value in asdict(self).items() if name not in ("mix", "size", "dtype")}
        return columns | {
            "pairs": "" if self.mix == "none" else self.pairs,
            "detail": f"ResNet-50, {self.size} px, {self.dtype}, mix {self.mix}",
        }

    def tiny(self) -> TrainingStep:
        return replace(self, n=2 * self.k, size=32)

    def counts(self) -> counts.Parts:
        mixing: counts.Parts = {}
        if self.mix == "embed":
            mixing = counts.pair_sums(self.n, self.k, self.d, self.pairs)
        elif self.mix == "feature":
            side = -(-self.size // 32)
            mixing = counts.feature(self.n, self.k, 2048, side**2, self.d, self.pairs, self.dtype)
        elif self.mix == "input":
            # Three hardest negatives of every anchor with its k - 1 positives, through the network.
            mixing = counts.step(3 * self.n * (self.k - 1), self.size, self.dtype, {})
        return counts.step(self.n, self.size, self.dtype, mixing)

    def step(self, peer: str, device: torch.device) -> Step:
        return self._step(device, torch.float32)

    def truth(self, by: str, device: torch.device) -> Sequence[Tensor]:
        with mx.use_backend("reference"):
            step = replace(self, dtype="float32")._step(device, torch.float64)
            step.parts["forward"]()
        return step.result()

    def _step(self, device: torch.device, dtype: torch.dtype) -> Step:
        backbone = _resnet50(self.n)
        head = mx.heads.PoolingHead(2048, self.d, pool="avg+max")
        model = nn.Sequential(backbone, head).to(device, dtype, memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(self.n)
        images = torch.randn(self.n, 3, self.size, self.size, generator=generator).to(device, dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(self.n, device=device) // self.k
        clean = mx.losses.MultiSimilarityLoss()
        criterion = None if self.mix == "none" else mx.Metrix(clean, mix=self.mix, pairs=self.pairs)

        def loss() -> Tensor:
            with torch.autocast(device.type, getattr(torch, self.dtype), enabled=self.dtype != "float32"):
                features = backbone(images)
                embeddings = head(features)
                if criterion is None:
                    return clean(embeddings, labels)
                sources = {"feature": (features, head), "input": (images, model)}
                source, encode = sources.get(self.mix, (None, None))
                return criterion(embeddings, labels, source=source, encode=encode, seed=self.n)

        return training_step(loss, list(model.parameters()), [])


def _resnet50(seed: int) -> nn.Module:
    """Random weights, up to the last feature map."""
    try:
        from torchvision.models import resnet50
    except Exception as error:  # it may be there and not fit this torch
        raise Unavailable(f"torchvision: {type(error).__name__}: {error}") from None
    torch.manual_seed(seed)
    return nn.Sequential(*list(resnet50(weights=None).children())[:-2])


def problems(quick: bool) -> list[TrainingStep]:
    n, k, size = (8, 2, 64) if quick else (20, 5, 96)
    return [TrainingStep(n, k, size, mix) for mix in MIXES]


def run(runner: Runner, quick: bool) -> Iterator[Row]:
    for problem in problems(quick):
        yield from runner.compare("step", problem)
