"""The recipes: what the paper trained with, and what learns from random weights on a CPU."""

from __future__ import annotations

from typing import Any

# The paper's recipe for photographs, which starts from ImageNet weights, with the choices of the released
# proxy-anchor code: batch-norm statistics frozen, only the head and the proxies in the first epoch.
FINE_TUNING: dict[str, Any] = {
    "epochs": 100,
    "lr": 1e-4,
    "lr_step": 10,
    "warmup_epochs": 1,
    "freeze_bn": True,
    "proxy_lr_factor": 100.0,
}
# From random weights all similarities start near 0.98, as the features are positive, and have to spread
# before classes part. Tried with the multi-similarity loss and 256 channels, Recall@1: after 100 batches 14
# at 1e-3 and 31 at 3e-3; after 300 batches 66 at 3e-3, 65 with batch norm after the last feature map (34 with
# its average pool alone), 61 with 4 images of 25 classes instead of 5 of 20.
# The proxies need no larger steps than the rest then: a factor of 100 is 0.3 for AdamW, and they jump about.
FROM_SCRATCH: dict[str, Any] = {
    "epochs": 16,
    "lr": 3e-3,
    "lr_step": 4,
    "warmup_epochs": 0,
    "freeze_bn": False,
    "proxy_lr_factor": 1.0,
}
# Table 5, section B.1, and the K of Tables 2 and 4. Batches are of 100 everywhere.
OF_DATA_SET: dict[str, dict[str, Any]] = {
    "cub200": {"images_per_class": 0, "lr": 1e-4, "k": (1, 2, 4, 8)},
    "cars196": {"images_per_class": 0, "lr": 1e-4, "k": (1, 2, 4, 8)},
    "sop": {"images_per_class": 5, "lr": 3e-5, "lr_gamma": 0.25, "k": (1, 10, 100, 1000)},
    "inshop": {"images_per_class": 5, "lr": 1e-4, "lr_gamma": 0.25, "k": (1, 10, 20, 30, 40, 50)},
}
OTHERWISE: dict[str, Any] = {"images_per_class": 5, "k": (1, 2, 4, 8)}
# By loss where the data set has none; 0.5 for the losses that the paper does not name.
LR_GAMMA = {"contrastive": 0.1}


def recipe(dataset: str, loss: str, pretrained: bool) -> dict[str, Any]:
    """What a run takes for each of these options that is left open."""
    return {
        **OTHERWISE,
        "lr_gamma": LR_GAMMA.get(loss, 0.5),
        **(FINE_TUNING if pretrained else FROM_SCRATCH),
        **OF_DATA_SET.get(dataset, {}),
    }
