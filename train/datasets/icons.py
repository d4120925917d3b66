"""Icons by name across icon families: a class is a name, its images are what different families draw for it.

The families are packages of Iconify (https://iconify.design), each a JSON of SVG bodies with a licence of its own.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .drawings import SIDE, Drawing, choose
from .icon_names import thing
from .packages import Package, opened, permissive
from .store import DrawnSet, Source

FAMILIES = 5  # in which a name has to be found
VERSIONS = {
    "akar-icons": "1.2.7",
    "ant-design": "1.2.9",
    "bi": "1.2.7",
    "bx": "1.2.3",
    "bytesize": "1.2.2",
    "carbon": "1.2.29",
    "charm": "1.2.3",
    "clarity": "1.2.4",
    "cuida": "1.2.5",
    "ei": "1.2.2",
    "eos-icons": "1.2.4",
    "ep": "1.2.4",
    "eva": "1.2.3",
    "f7": "1.2.2",
    "fe": "1.2.4",
    "flowbite": "1.2.7",
    "fluent": "1.2.60",
    "fluent-mdl2": "1.2.1",
    "fontisto": "1.2.1",
    "formkit": "1.2.2",
    "garden": "1.2.6",
    "gg": "1.2.2",
    "gravity-ui": "1.2.15",
    "grommet-icons": "1.2.4",
    "heroicons": "1.2.3",
    "hugeicons": "1.2.35",
    "humbleicons": "1.2.20",
    "ic": "1.2.4",
    "icon-park-outline": "1.2.4",
    "iconoir": "1.2.11",
    "icons8": "1.2.1",
    "ion": "1.2.7",
    "ix": "1.2.12",
    "jam": "1.2.3",
    "la": "1.2.1",
    "lineicons": "1.2.6",
    "lsicon": "1.2.5",
    "lucide": "1.2.137",
    "mage": "1.2.4",
    "majesticons": "1.2.5",
    "maki": "1.2.5",
    "material-symbols": "1.2.93",
    "mdi": "1.2.3",
    "meteor-icons": "1.2.8",
    "mi": "1.2.2",
    "mingcute": "1.2.8",
    "mynaui": "1.2.19",
    "nimbus": "1.2.1",
    "octicon": "1.2.36",
    "oi": "1.2.0",
    "ooui": "1.2.24",
    "oui": "1.2.6",
    "pajamas": "1.2.15",
    "ph": "1.2.2",
    "pixelarticons": "1.2.9",
    "prime": "1.2.5",
    "proicons": "1.2.20",
    "qlementine-icons": "1.2.16",
    "quill": "1.2.4",
    "radix-icons": "1.2.6",
    "raphael": "1.2.1",
    "ri": "1.2.10",
    "rivet-icons": "1.2.2",
    "si": "1.2.17",
    "simple-line-icons": "1.2.1",
    "stash": "1.2.4",
    "system-uicons": "1.2.4",
    "tabler": "1.2.41",
    "tdesign": "1.2.19",
    "teenyicons": "1.2.2",
    "uil": "1.2.3",
    "uiw": "1.2.4",
    "vaadin": "1.2.1",
    "weui": "1.2.4",
    "wpf": "1.2.0",
    "zondicons": "1.2.2",
}
PACKAGES = tuple(Package(f"@iconify-json/{family}", version) for family, version in VERSIONS.items())


@dataclass(frozen=True)
class Family:
    """What a package holds: of each thing the SVG of one icon, and pairs of things that are names of one icon."""

    source: Source
    icons: dict[str, str]
    synonyms: list[tuple[str, str]]


def draw(folder: Path) -> DrawnSet:
    """From the packages in the folder."""
    families = [read(package, folder) for package in PACKAGES]
    found = Counter(name for family in families for name in family.icons)
    common = {name for name, n in found.items() if n >= FAMILIES}
    skipped = Counter({f"names in fewer than {FAMILIES} families": len(found) - len(common)})
    drawings = list(painted(families, common, skipped))
    synonyms = [pair for family in families for pair in family.synonyms]
    return DrawnSet(choose(drawings, synonyms, skipped), [family.source for family in families], skipped)


def read(package: Package, folder: Path) -> Family:
    """Of icons of one thing, the one with the shortest name is taken: it is the plainest."""
    with opened(package, folder) as archive:
        family = archive.json("icons.json")
        licence = permissive(archive.json("info.json")["license"]["spdx"], package)
        styles = archive.json("metadata.json") if "metadata.json" in archive else {}

        def name(icon: str) -> str:
            return thing(icon, styles.get("prefixes", ()), styles.get("suffixes", ()))

        icons: dict[str, str] = {}
        for icon in sorted(family["icons"], key=lambda icon: (len(icon), icon)):
            icons.setdefault(name(icon), svg(family["icons"][icon], family))
        pairs = [(name(alias), name(of["parent"])) for alias, of in family.get("aliases", {}).items()]
        return Family(Source(family["prefix"], package, licence), icons, [(a, b) for a, b in pairs if a != b])


def svg(icon: dict[str, Any], family: dict[str, Any]) -> str:
    """Black on nothing. What an icon does not say of its place its family does (https://iconify.design/docs/types)."""
    left, top, width, height = (
        icon.get(key, family.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="black" '
        f'width="{SIDE}" height="{SIDE}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def painted(families: Sequence[Family], names: set[str], skipped: Counter[str]) -> Iterator[Drawing]:
    paint = painter()
    for family in families:
        for name in sorted(names & family.icons.keys()):
            try:
                image = paint(family.icons[name])
            except ValueError:
                skipped["damaged SVGs"] += 1
                continue
            if image.min() == image.max():
                skipped["blank drawings"] += 1
            else:
                yield Drawing(name, family.source.name, image)


def painter() -> Callable[[str], np.ndarray]:
    """An SVG to uint8 [SIDE, SIDE, 3] on white. Text is not painted: it would depend on the fonts of the machine."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise UserError("icons need resvg-py: pip install 'metrix_ext[datasets]'") from None

    def paint(text: str) -> np.ndarray:
        png = bytes(svg_to_bytes(svg_string=text, background="#ffffff", skip_system_fonts=True))
        with Image.open(io.BytesIO(png)) as image:
            return np.asarray(image.convert("RGB"))

    return paint
