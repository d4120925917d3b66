"""report.html: everything is in it, nothing is loaded, names are text."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from train.options.paper import Row
from train.output import html
from train.output.grid import Neighbour, Query
from train.output.lines import series
from train.output.report import write_report
from train.output.similarities import BINS, Similarities

EPOCHS = [
    {"epoch": 0, "recall_at": {"1": 0.25, "2": 0.5}},
    {"epoch": 1, "loss": 2.0, "clean": 1.5, "mixed": 0.5, "lr": 1e-4, "recall_at": {"1": 0.5, "2": 0.75}},
    {"epoch": 2, "loss": 1.0, "clean": 0.75, "mixed": 0.25, "lr": 5e-5, "recall_at": {"1": 0.625, "2": 0.875}},
]
NASTY = "<script>alert(1)</script> & \"quoted\" 'x' \x1b[31m \udcff $\\frac{"


class Page(HTMLParser):
    """Tags with their attributes, tables as lists of cells, and the text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.tables, self.words, self.open = [], [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self.open and self.open[-1] != "style":
            self.words.append(data)


def written(folder, **changed):
    image = Image.new("RGB", (200, 100), (10, 200, 30))
    neighbours = [Neighbour(image, "right.png", 0.91, True), Neighbour(image, "wrong.png", -0.25, False)]
    given = {
        "configuration": {"loss": "ms", "mix": ["feature", "embed"], "lr": 1e-4, "amp": None, "in": {"torch": "2"}},
        "epochs": EPOCHS,
        "grid": [Query(image, "query.png", neighbours)],
        "similarities": Similarities(np.arange(BINS), np.ones(BINS, np.int64)),
    }
    path = write_report(folder, **(given | changed))
    assert path == folder / "report.html"
    page = Page(path.read_text())
    assert page.open == []
    return page


def pictures(page):
    """Every image, decoded if it is a photograph."""
    for attributes in (attributes for tag, attributes in page.tags if tag == "img"):
        kind, data = re.fullmatch(r"data:image/([a-z+]+);base64,(.+)", attributes["src"]).groups()
        data = base64.b64decode(data, validate=True)
        yield attributes["alt"], data.decode() if kind == "svg+xml" else Image.open(io.BytesIO(data))


def test_the_page_loads_nothing(tmp_path):
    page = written(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert not {"script", "link", "iframe", "object", "video"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not {"href", "srcset", "background"} & set(attributes)
        assert "src" not in attributes or (tag == "img" and attributes["src"].startswith("data:image/"))
    assert "url(" not in html.STYLE and "@import" not in html.STYLE
    policy = next(attributes for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy["content"].startswith("default-src 'none'")


def test_recall_before_and_after_and_that_of_the_paper(tmp_path):
    assert written(tmp_path).tables[0] == [
        ["", "Recall@1", "Recall@2"],
        ["untrained", "25", "50"],
        ["epoch 2, the last", "62.5", "87.5"],
    ]
    row = Row("Table 2, CUB200, MS + Metrix", {1: 71.4, "4": 86.8})
    assert written(tmp_path, paper_row=row).tables[0] == [
        ["", "Recall@1", "Recall@2", "Recall@4"],
        ["untrained", "25", "50", ""],
        ["epoch 2, the last", "62.5", "87.5", ""],
        ["Table 2, CUB200, MS + Metrix", "71.4", "", "86.8"],
        ["last epoch less that", "-8.9", "", ""],
    ]


def test_the_best_epoch_is_labelled_as_what_it_is(tmp_path):
    lines = [*EPOCHS, {**EPOCHS[2], "epoch": 3}, {"epoch": 4, "recall_at": {"1": 0.5, "2": 0.9}}]  # 2 is as good as 3
    assert written(tmp_path, epochs=lines).tables[0][2:] == [
        ["epoch 2, the best, chosen by these very images", "62.5", "87.5"],
        ["epoch 4, the last", "50", "90"],
    ]


def test_an_epoch_chosen_on_validation_classes_comes_before_one_chosen_on_the_test(tmp_path):
    validation = {"1": 0.6, "2": 0.9}, {"1": 0.4, "2": 0.9}
    lines = [line | {"validation_recall_at": found} for line, found in zip(EPOCHS[1:], validation, strict=True)]
    assert written(tmp_path, epochs=[*lines, {"epoch": 3, "recall_at": {"1": 0.5, "2": 0.9}}]).tables[0][1:] == [
        ["epoch 1, the best on validation classes", "50", "75"],
        ["epoch 2, the best, chosen by these very images", "62.5", "87.5"],
        ["epoch 3, the last", "50", "90"],
    ]
    words = written_in_curves(written(tmp_path, epochs=lines))
    assert {"Recall@1", "Recall@2", "validation Recall@1", "validation Recall@2"} <= set(words)


def test_options_and_epochs_are_listed(tmp_path):
    _, epochs, options = written(tmp_path).tables
    assert epochs[0] == ["epoch", "recall_at.1", "recall_at.2", "loss", "clean", "mixed", "lr"]
    assert epochs[1] == ["0", "0.25", "0.5", "", "", "", ""]
    assert epochs[3] == ["2", "0.625", "0.875", "1", "0.75", "0.25", "5e-05"]
    expected = [["loss", "ms"], ["mix", "feature, embed"], ["lr", "0.0001"], ["amp", ""], ["in.torch", "2"]]
    assert options == [["option", "value"], *expected]


def test_neighbours_are_marked_right_or_wrong(tmp_path):
    page = written(tmp_path)
    figures = [(attributes["class"], attributes["title"]) for tag, attributes in page.tags if tag == "figure"]
    assert figures == [("query", "query.png"), ("right", "right.png"), ("wrong", "wrong.png")]
    marks = "".join(page.words)
    assert marks.index("✓0.91") < marks.index("✗-0.25")
    photographs = {alt: picture for alt, picture in pictures(page) if not isinstance(picture, str)}
    assert list(photographs) == ["query query.png", "right: right.png", "wrong: wrong.png"]
    for picture in photographs.values():
        assert picture.size == (160, 80) and np.allclose(picture.getpixel((9, 9)), (10, 200, 30), atol=6)


def written_in_curves(page):
    """Titles, labels and numbers of the ticks."""
    drawings = dict(pictures(page))
    return re.findall(r"<!-- (.+?) -->", drawings["Loss, learning rate and Recall@K by epoch"])


@pytest.mark.parametrize("rates", [(1e-4, 5e-5, 2.5e-5), (1e-4, 1e-5, 1e-6), (3e-5, 3e-5, 3e-5)])
def test_learning_rates_can_be_read_from_their_axis(rates, tmp_path):
    lines = [{"epoch": epoch, "lr": rate} for epoch, rate in enumerate(rates, 1)]
    ticks = {
        word
        for word in written_in_curves(written(tmp_path, epochs=lines))
        if re.fullmatch(r"[125]e-0[4-6]|0.0001", word)
    }
    assert len(ticks) >= 2 and any(float(tick) <= min(rates) * 2 for tick in ticks)


def test_curves_and_histograms_are_drawings(tmp_path):
    drawings = {alt: picture for alt, picture in pictures(written(tmp_path)) if isinstance(picture, str)}
    assert list(drawings) == [
        "Loss, learning rate and Recall@K by epoch",
        "Histograms of the cosine of positive and of negative pairs",
    ]
    words = written_in_curves(written(tmp_path))
    assert {"training loss", "clean", "mixed", "learning rate", "unseen classes", "Recall@1", "Recall@2"} <= set(words)
    assert not [word for word in words if "mathdefault" in word]


def test_a_value_is_drawn_where_a_line_has_it():
    assert series(EPOCHS, "loss") == ([1, 2], [2.0, 1.0])
    assert series(EPOCHS, "recall_at.1") == ([0, 1, 2], [0.25, 0.5, 0.625])
    assert series(EPOCHS, "nothing") == ([], [])


def test_a_run_without_epochs_or_positive_pairs_has_a_page(tmp_path):
    none = Similarities(np.zeros(BINS, np.int64), np.ones(BINS, np.int64))
    page = written(tmp_path, epochs=[], grid=[], similarities=none)
    assert "No epoch has been finished." in page.words
    assert "0 positive pairs; 200 negative pairs, mean 0.00." in page.words
    below = np.ones(BINS, np.int64)
    below[BINS // 2 - 1] += 1  # a mean just below 0
    words = written(tmp_path, similarities=Similarities(none.positive, below)).words
    assert "0 positive pairs; 201 negative pairs, mean 0.00." in words
    untrained = written(tmp_path, epochs=EPOCHS[:1]).tables[0]
    assert [row[0] for row in untrained] == ["", "untrained"]


def test_names_are_text_whatever_stands_in_them(tmp_path):
    image = Image.new("L", (8, 8))
    folder = tmp_path / "<b>run"
    folder.mkdir()
    page = written(
        folder,
        configuration={NASTY: NASTY},
        grid=[Query(image, NASTY, [Neighbour(image, NASTY, 0.5, True)])],
        paper_row=Row(NASTY, {"1": 50.0}),
    )
    assert "script" not in {tag for tag, _ in page.tags}
    plain = html.drawable(NASTY)
    assert plain.startswith("<script>") and page.tables[-1][1] == [plain, plain] and page.tables[0][3][0] == plain
    assert [attributes["title"] for tag, attributes in page.tags if tag == "figure"] == [plain, plain]
    assert "Run <b>run" in page.words
