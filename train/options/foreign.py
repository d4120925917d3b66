"""Options of the released Metrix and proxy-anchor codes by their own names, with what they are called here."""

from __future__ import annotations

import sys
from collections.abc import Callable

LOSSES = {  # in lower case
    "contrastive": "contrastive",
    "ms": "ms",
    "multisimilarity": "ms",
    "proxyanchor": "pa",
    "proxy_anchor": "pa",
    "proxy_nca": "proxynca",
}
DATA_SETS = {"cub": "cub200", "cars": "cars196", "sop": "sop", "inshop": "inshop"}
Meaning = Callable[[str], list[str]]


def _renamed(name: str) -> Meaning:
    return lambda value: [name, value]


def _switch(name: str) -> Meaning:
    return lambda value: [f"--{name}" if value not in ("0", "false", "False") else f"--no-{name}"]


def _mode(value: str) -> list[str]:
    return ["--mix", "none" if value == "baseline" else value]


def _nothing(_: str) -> list[str]:
    return []


FLAGS: dict[str, Meaning] = {
    "--mode": _mode,
    "--data_root": _renamed("--data"),
    "--save_root": _renamed("--out"),
    "--LOG_DIR": _renamed("--out"),
    "--model": _renamed("--arch"),
    "--batch_size": _renamed("--batch-size"),
    "--num_workers": _renamed("--workers"),
    "--embedding_size": _renamed("--embedding-size"),
    "--bn_freeze": _switch("freeze-bn"),
    "--bn-freeze": _switch("freeze-bn"),
    "--l2_norm": _switch("normalize"),
    "--l2-norm": _switch("normalize"),
    "--num_epochs": _renamed("--epochs"),
    "--gpu_id": lambda value: ["--device", "cpu" if value == "-1" else f"cuda:{value}"],
    "--gpu-id": lambda value: ["--device", "cpu" if value == "-1" else f"cuda:{value}"],
    "--warm": _renamed("--warmup-epochs"),
    "--lr_decay_step": _renamed("--lr-step"),
    "--lr-decay-step": _renamed("--lr-step"),
    "--lr_decay_gamma": _renamed("--lr-gamma"),
    "--lr-decay-gamma": _renamed("--lr-gamma"),
    "--weight_decay": _renamed("--weight-decay"),
    "--images_per_class": _renamed("--images-per-class"),
    "--IPC": _renamed("--images-per-class"),
    "--save_model": _nothing,  # every run leaves a checkpoint
    "--remark": _nothing,
    "--mrg": lambda value: ["--loss-option", f"margin={value}"],
}
VALUES = {"--loss": LOSSES, "--dataset": DATA_SETS}


def translate(arguments: list[str]) -> list[str]:
    """The same with the names of run.py; each name that had to be looked up is told on stderr."""
    found: list[str] = []
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag in FLAGS:
            if not equals:
                # --save_model may stand alone
                value = rest.pop(0) if rest and not rest[0].startswith("--") else "1"
            found += _told(f"{flag} {value}", FLAGS[flag](value))
        elif flag in VALUES and (value or rest):
            value = value if equals else rest.pop(0)
            found += _value(flag, value)
        else:
            found.append(flag + equals + value)
    return found


def _value(flag: str, value: str) -> list[str]:
    meant = VALUES[flag].get(value.lower(), value)
    return [flag, value] if meant == value else _told(f"{flag} {value}", [flag, meant])


def _told(given: str, meant: list[str]) -> list[str]:
    print(f"run.py: {given} is {' '.join(meant) or 'left out'} here", file=sys.stderr)
    return meant
