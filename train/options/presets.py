"""The rows of the paper's Tables 2, 3, 4, 6 and 7 as options: --preset table2/cub200/ms+metrix.

Everything that a row does not name is the recipe of its data set.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache

from ..errors import UserError

Options = tuple[str, ...]

DATA_SETS = ("cub200", "cars196", "sop", "inshop")
MAIN_LOSSES = ("contrastive", "ms", "pa")
OTHER_LOSSES = ("lifted", "proxynca", "proxynca++")
MIXES = ("input", "feature", "embed")
# Rows of the tables whose methods the driver does not have.
MISSING = {
    "triplet": "the triplet loss",
    "margin": "the margin loss",
    "softtriple": "SoftTriple",
    "d&c": "divide and conquer",
    "epshn": "EPSHN",
    "contrastive+mochi-neg-neg": "MoCHi",
    "contrastive+mochi-anc-neg": "MoCHi",
    "pa+ps": "proxy synthesis",
}


def options(name: str) -> list[str]:
    """Of a row, as they would stand on a command line; "list" prints all names and ends the program."""
    if name == "list":
        print("\n".join(_presets()))
        raise SystemExit(0)
    if name in _presets():
        return list(_presets()[name])
    method = name.rpartition("/")[2]
    if name.count("/") == 2 and method in MISSING:
        raise UserError(f"--preset {name}: {MISSING[method]} is not among the methods of run.py (--preset list)")
    close = difflib.get_close_matches(name, _presets(), 1)
    raise UserError(
        f"--preset {name}: there is no such row{f', perhaps {close[0]}' if close else ''} (--preset list prints all)"
    )


def names() -> Iterator[str]:
    return iter(_presets())


@cache
def _presets() -> dict[str, Options]:
    return {
        f"{table}/{dataset}/{method}": ("--dataset", dataset, *chosen) for table, dataset, method, chosen in _rows()
    }


def _rows() -> Iterator[tuple[str, str, str, Options]]:
    for dataset in DATA_SETS:
        for loss in (*MAIN_LOSSES, *OTHER_LOSSES):
            for table in ("table2", "table6"):
                yield table, dataset, loss, ("--loss", loss)
        for loss in MAIN_LOSSES:
            mixed = {mix: ("--loss", loss, "--mix", mix) for mix in MIXES}
            for table in ("table2", "table6"):
                yield table, dataset, f"{loss}+metrix", mixed["feature"]
            for mix in MIXES:
                yield "table6", dataset, f"{loss}+metrix-{mix}", mixed[mix]
            if loss != "ms":
                yield "table3", dataset, loss, ("--loss", loss)
                yield "table3", dataset, f"{loss}+metrix-embed", mixed["embed"]
    for table, dataset, size in (("table4", "cars196", "512"), ("table7", "cub200", "128")):
        for line, chosen in _ablations():
            yield table, dataset, line, ("--loss", "contrastive", "--embedding-size", size, *chosen)


def _ablations() -> Iterator[tuple[str, Options]]:
    """The lines of Tables 4 and 7, which have the same."""
    yield "baseline", ()
    for mix, counts in (("input", (1, 2, 3)), ("feature", (20, 40, "all")), ("embed", (20, 40, "all"))):
        for k in counts:
            yield f"{mix}-k{k}", ("--mix", mix, "--hard-negatives", str(k))
    for mix in MIXES:
        k = "3" if mix == "input" else "all"
        yield f"{mix}-pos-pos", ("--mix", mix, "--pairs", "pos-pos", "--hard-negatives", "all")
        for pairs in ("pos-neg", "anc-neg"):
            yield f"{mix}-{pairs}", ("--mix", mix, "--pairs", pairs, "--hard-negatives", k)
    for mixes, counts in (
        (("input", "feature"), (1, "all")),
        (("input", "embed"), (3, "all")),
        (("feature", "embed"), ("all", "all")),
        (MIXES, (1, "all", "all")),
    ):
        negatives = ",".join(f"{mix}={k}" for mix, k in zip(mixes, counts, strict=True))
        yield "+".join(mixes), ("--mix", ",".join(mixes), "--hard-negatives", negatives)
