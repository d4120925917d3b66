"""The network: backbone, head, and how it is run."""

from __future__ import annotations

import argparse

from ..values import between

embedding_size = between(1, 2**16, "a head to longer ones takes gigabytes")


def add(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--arch", metavar="NAME",
        help="small (a ResNet for small images on a CPU), any classification model of torchvision, timm:NAME, "
        "efficientnet-lite0 or -lite2 (default: resnet50 on a GPU and for photographs in files, else small)",
    )  # fmt: skip
    g.add_argument(
        "--weights", metavar="none|imagenet|NAME|PATH",
        help="first weights of the backbone: random, trained on ImageNet, those of a name such as IMAGENET1K_V2, or a "
        "state dict (default: imagenet for photographs, else none)",
    )  # fmt: skip
    g.add_argument("--embedding-size", type=embedding_size, metavar="D", help="default: 128 for small, else 512")
    g.add_argument("--pool", choices=("avg", "max", "avg+max"), default="avg+max", help="default: avg+max")
    g.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction, default=True,
        help="embeddings and proxies have unit norm; without, the loss compares them by their inner products, and "
        "only retrieval by the cosine (default: they have)",
    )  # fmt: skip
    g.add_argument(
        "--tokens", choices=("map", "class"), default="map",
        help="of a transformer: its patches as a feature map, or its class token alone (default: map)",
    )  # fmt: skip
    g.add_argument(
        "--freeze-bn", action=argparse.BooleanOptionalAction,
        help="keep the batch-norm statistics of the first weights (default: with pretrained weights)",
    )  # fmt: skip
    g.add_argument(
        "--sync-bn", action="store_true",
        help="of several processes on GPUs: batch norm by the statistics of the whole batch, not of each one's share",
    )  # fmt: skip
    g.add_argument(
        "--amp", nargs="?", const="bf16", default="none", choices=("none", "bf16", "fp16"),
        help="run the network in bfloat16 or float16, the loss in float32 (default: none)",
    )  # fmt: skip
    g.add_argument("--compile", action="store_true", help="the backbone by torch.compile")
