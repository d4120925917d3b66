"""Which drawings are kept, and which classes."""

from __future__ import annotations

from collections import Counter

import numpy as np

from train.datasets.drawings import ALIKE, LEAST, MOST, SIDE, Drawing, apart, by_class, choose, unlike


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def of(name: str, *seeds: int) -> list[Drawing]:
    return [Drawing(name, f"source{seed}", noise(seed)) for seed in seeds]


def names(drawings: list[Drawing]) -> list[str]:
    return [drawing.source for drawing in drawings]


def test_equal_and_nearly_equal_drawings_of_a_class_count_once():
    first, other = of("a", 1, 2)
    faint = np.clip(noise(1).astype(int) + np.random.default_rng(3).integers(-20, 21, (SIDE, SIDE, 3)), 0, 255)
    copies = [Drawing("a", "copy", noise(1)), Drawing("a", "faint", faint.astype(np.uint8))]
    assert names(unlike([first, *copies, other])) == ["source1", "source2"]
    assert names(unlike([copies[1], first, other])) == ["faint", "source2"]


def test_contrast_and_brightness_make_no_other_drawing():
    dim = (noise(1) // 2 + 60).astype(np.uint8)
    assert names(unlike([*of("a", 1), Drawing("a", "dim", dim)])) == ["source1"]


def test_drawings_that_differ_enough_are_kept():
    mixed = (0.5 * noise(1) + 0.5 * noise(2)).astype(np.uint8)  # correlation .7 with either
    assert ALIKE > 0.75
    assert len(unlike([*of("a", 1, 2), Drawing("a", "mixed", mixed)])) == 3


def test_of_classes_that_share_a_drawing_the_larger_stays():
    classes = {"a": of("a", 1, 2), "b": of("b", 2, 3, 4), "c": of("c", 5)}
    assert list(apart(classes)) == ["b", "c"]


def test_a_class_is_no_rival_once_it_is_dropped():
    classes = {"a": of("a", 1, 2, 3), "b": of("b", 3, 4), "c": of("c", 4)}
    assert list(apart(classes)) == ["a", "c"]


def test_of_synonyms_the_larger_stays():
    classes = {"gear": of("gear", 1), "cog": of("cog", 2, 3), "star": of("star", 4)}
    assert list(apart(classes, [("gear", "cog"), ("star", "unknown")])) == ["cog", "star"]


def test_classes_have_the_right_number_of_drawings():
    drawings = [
        *of("few", *range(LEAST - 1)),
        *of("enough", *range(100, 100 + LEAST)),
        *of("many", *range(200, 200 + MOST + 3)),
        *[Drawing("copied", str(i), noise(300)) for i in range(LEAST)],
    ]
    skipped: Counter[str] = Counter()
    chosen = choose(drawings, [], skipped)
    assert {name: len(some) for name, some in chosen.items()} == {"enough": LEAST, "many": MOST}
    assert +skipped == {
        "drawings like another one of their class": LEAST - 1,
        f"classes with fewer than {LEAST} drawings": 2,
        f"drawings beyond {MOST} of a class": 3,
    }


def test_the_choice_neither_depends_on_the_order_nor_favours_a_source():
    drawings = [drawing for name in "abcdefgh" for drawing in of(name, *range(12))]
    found, again = ({name: names(some) for name, some in by_class(d).items()} for d in (drawings, drawings[::-1]))
    assert again == found
    assert len({sources[0] for sources in found.values()}) > 2
