"""Checks of the arguments that all measures have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from ..batch import checks
from ..terms.checks import check_whole

as_labels = checks.as_labels


def check_ks(k: Any) -> list[int]:
    """One K or several, without repetitions."""
    wanted = "a whole number of at least 1, or several"
    several = isinstance(k, Iterable) and not isinstance(k, str | dict) and not (isinstance(k, Tensor) and k.dim() == 0)
    ks = [
        check_whole("k", one.item() if isinstance(one, Tensor) else one, expected=wanted)
        for one in (k if several else [k])
    ]
    if not ks:
        raise ValueError(f"k: got {k!r}, expected {wanted}")
    return list(dict.fromkeys(ks))


def check_names(names: Any, choices: Sequence[str]) -> list[str]:
    """Some of the choices, without repetitions."""
    wanted = f"expected some of {', '.join(choices)}"
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"names: got {names!r}, {wanted}")
    given = list(dict.fromkeys(names))
    if not given or any(name not in choices for name in given):
        raise ValueError(f"names: got {names!r}, {wanted}")
    return given


def check_sets(embeddings: Tensor, labels: Any, gallery: Tensor | None, gallery_labels: Any) -> tuple[Tensor, Tensor]:
    """The labels [n] of the queries, and those of the candidates: of the gallery, or without one of the queries."""
    check_embeddings("embeddings", embeddings)
    labels = as_labels("labels", labels, embeddings)
    if (gallery is None) != (gallery_labels is None):
        missing = "gallery" if gallery is None else "gallery_labels"
        raise ValueError(f"{missing} is missing: gallery and gallery_labels come together")
    if gallery is None:
        return labels, labels
    check_embeddings("gallery", gallery, like=embeddings)
    return labels, as_labels("gallery_labels", gallery_labels, gallery, "gallery")


def check_embeddings(name: str, x: Tensor, like: Tensor | None = None) -> None:
    """A plain matrix of finite floats, with as many columns as the queries and on their device."""
    checks.check_embeddings(name, x)
    if x.is_meta:
        raise ValueError(f"{name}: is on meta, expected a device with numbers")
    if 0 in x.shape:
        raise ValueError(f"{name}: got {list(x.shape)}, expected [n, d] with n, d of at least 1")
    if like is not None and (x.shape[1] != like.shape[1] or x.device != like.device):
        raise ValueError(
            f"{name}: got {list(x.shape)} on {x.device}, "
            f"expected {like.shape[1]} columns on {like.device}, like the queries"
        )
    if not bool(x.isfinite().all()):
        bad = int((~x.isfinite()).any(1).sum())
        raise ValueError(f"{name}: got NaN or Inf in {bad} of {len(x)} rows, expected finite numbers")
