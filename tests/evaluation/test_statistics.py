"""Confidence intervals and tests of significance, against published numbers; the confusion matrix."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mnist_lit.evaluation.statistics import (
    confusion_matrix,
    draw_confusion_matrix,
    format_class_table,
    format_confusion_matrix,
    mcnemar_p,
    wilson_interval,
)

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
LABELS, PREDICTIONS = np.arange(30, dtype=np.uint8) % 10, np.array([*range(10), *range(10), *[7] * 10], dtype=np.uint8)


def test_wilson_interval_matches_a_worked_example() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662."""
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_interval_equals_that_of_scipy() -> None:
    from scipy.stats import binomtest

    for correct, n in ((0, 10), (9_871, 10_000), (10, 10)):
        expected = binomtest(correct, n).proportion_ci(method="wilson")
        assert wilson_interval(correct / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(5, 5) == 1
    assert mcnemar_p(0, 6) == pytest.approx(2 * 0.5**6)
    assert mcnemar_p(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)


def test_rows_are_the_true_classes_and_columns_the_predictions() -> None:
    counts = confusion_matrix(np.array([3, 3, 9], dtype=np.uint8), np.array([3, 5, 9], dtype=np.uint8))
    assert (counts[3, 3], counts[3, 5], counts[9, 9], counts.sum()) == (1, 1, 1, 3)


def test_text_shows_digits_as_numbers() -> None:
    counts = confusion_matrix(LABELS, PREDICTIONS)
    head, *rows = format_confusion_matrix(counts).splitlines()
    assert head.split() == ["truth", "\\", "answer", *"0123456789"]
    assert rows[7].split() == ["7", *"·······3··"]
    assert len(head) < 80
    assert format_class_table(counts).splitlines()[8].split() == ["7", "3", "100.00%", "25.00%", "40.00%"]


def test_text_shows_the_names_of_other_classes_and_fits_80_columns() -> None:
    counts = confusion_matrix(LABELS, PREDICTIONS)
    head, *rows = format_confusion_matrix(counts, FASHION).splitlines()
    assert head.split()[3:] == ["T-sh…", "Trou…", "Pull…", "Dress", "Coat", "Sand…", "Shirt", "Snea…", "Bag", "Ankl…"]
    assert [row[:14].strip() for row in rows] == list(FASHION)
    assert len(head) < 80
    header, *lines = format_class_table(counts, FASHION).splitlines()
    assert header.split()[0] == "class"
    assert [line[: len("T-shirt/top")].strip() for line in lines] == list(FASHION)
    assert len({len(line) for line in (header, *lines)}) == 1


def test_an_eleventh_column_counts_images_without_an_answer() -> None:
    counts = np.zeros((10, 11), dtype=int)
    counts[3, 10] = 4
    head, *rows = format_confusion_matrix(counts).splitlines()
    assert head.split()[-1] == "none"
    assert rows[3].split()[-1] == "4"


def test_the_drawing_rotates_long_names() -> None:
    for classes, rotation in ((tuple("0123456789"), 0), (FASHION, 90)):
        axes = Figure().add_subplot()
        draw_confusion_matrix(axes, confusion_matrix(LABELS, PREDICTIONS), classes)
        assert [label.get_text() for label in axes.get_xticklabels()] == list(classes)
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {rotation}


@pytest.mark.parametrize("names", [["$", "$$", "$$$"], ["$0-$10", "$10-$20", "a_b^c"], ["x" * 200, "b", "c"]])
def test_every_class_name_can_be_drawn(names: list[str]) -> None:
    classes = [*names, *"3456789"]
    axes = Figure(figsize=(2, 2)).add_subplot()
    draw_confusion_matrix(axes, np.eye(10, dtype=int), classes)
    axes.figure.canvas.draw()  # type: ignore[attr-defined]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == classes
        assert not any(label.get_parse_math() for label in labels)
