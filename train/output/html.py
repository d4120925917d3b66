"""Pieces of a page that needs nothing but itself: text is escaped, images stand in it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure
from PIL import Image

from .pictures import drawable

# Nothing is loaded from anywhere, and no script runs, whatever a name of a file or class contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1f2328; background: #fff; max-width: 1120px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; color: #59636e; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid #d1d9e0; vertical-align: top; }
td { overflow-wrap: anywhere; } td + td.number, th.number { text-align: right; }
img { max-width: 100%; height: auto; } summary { cursor: pointer; }
.grid { display: grid; gap: .5rem; overflow-x: auto; }
.row { display: flex; gap: .4rem; } .row figure:first-child { margin-right: .8rem; }
figure { margin: 0; flex: 0 0 6.2rem; font-size: .75rem; text-align: center; }
figure div { position: relative; border: 4px solid #8c959f; aspect-ratio: 1; display: flex; background: #f6f8fa; }
figure img { width: 100%; height: 100%; object-fit: contain; }
figure b { position: absolute; top: 0; left: 0; padding: 0 .25rem; color: #fff; }
.right div { border-color: #1a7f37; } .right b { background: #1a7f37; }
.wrong div { border-color: #cf222e; border-style: dashed; } .wrong b { background: #cf222e; }
"""
THUMBNAIL = 160  # pixels of the longer side


def page(title: str, sections: Iterable[str]) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{text(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{text(title)}</h1>\n" + "\n".join(sections) + "\n</body>\n</html>\n"
    )


def section(heading: str, *content: str) -> str:
    return f"<section>\n<h2>{text(heading)}</h2>\n" + "\n".join(content) + "\n</section>"


def paragraph(words: str) -> str:
    return f"<p>{text(words)}</p>"


def details(summary: str, content: str) -> str:
    """Folded until it is clicked."""
    return f"<details><summary>{text(summary)}</summary>\n{content}\n</details>"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Numbers stand at the right."""
    body = list(rows)
    numbers = [bool(body) and all(isinstance(row[i], int | float | None) for row in body) for i in range(len(head))]
    lines = [cells("th", head, numbers), *(cells("td", row, numbers) for row in body)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def cells(tag: str, values: Sequence[object], numbers: Sequence[bool]) -> str:
    classes = [' class="number"' if number else "" for number in numbers]
    found = [f"<{tag}{kind}>{text(shown(value))}</{tag}>" for value, kind in zip(values, classes, strict=True)]
    return f"<tr>{''.join(found)}</tr>"


def shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def picture(image: Image.Image, alternative: str) -> str:
    """A thumbnail."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=88)
    return embedded("image/jpeg", file.getvalue(), alternative)


def drawing(figure: Figure, alternative: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return embedded("image/svg+xml", file.getvalue(), alternative)


def embedded(kind: str, data: bytes, alternative: str) -> str:
    return f'<img src="data:{kind};base64,{base64.b64encode(data).decode()}" alt="{text(alternative)}">'


def text(words: str) -> str:
    return html.escape(drawable(words))
