"""The prepared digit looks like MNIST's digits, for every style of picture."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image
from scipy import ndimage

from mnist_lit.digits import digit_finder
from mnist_lit.digits.picture_file import BadPicture
from mnist_lit.digits.preparation import prepare_digits, prepare_many, prepare_one
from tests.digits.hard_pictures import PAGES
from tests.digits.pen_strokes import write_digit
from tests.digits.picture_styles import (
    PAPER,
    PEN,
    STYLES,
    colorize,
    draw_digit,
    draw_grid,
    draw_strokes,
    encode,
    photograph,
)
from tests.selection import slow_except

EMPTY = np.zeros((400, 400), np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("style", list(STYLES))
def test_every_style_becomes_a_digit_in_mnists_style(style: str) -> None:
    pixels = prepare_one(STYLES[style](3, rng(1))).pixels
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    along = np.arange(28) + 0.5
    center = [float((pixels.sum(axis) * along).sum() / pixels.sum()) for axis in (0, 1)]
    assert pixels.shape == (28, 28)
    assert pixels.dtype == np.uint8
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert pixels.max() > 200
    assert np.allclose(center, 14.5, atol=0.6), "the center of mass is not in the middle"


@pytest.mark.parametrize("style", ["chalk", "photo", "yellow", "cmyk", "blurred", "dim", "salt and pepper"])
@pytest.mark.parametrize("digit", [2, 8])
def test_color_light_and_paper_do_not_matter(style: str, digit: int) -> None:
    """The same strokes in black on white give the same picture, except for the pen's width."""
    plain = prepare_one(encode(colorize(draw_digit(digit, rng(5), 500, 9)))).pixels
    styled = prepare_one(STYLES[style](digit, rng(5))).pixels
    shifted = [
        np.corrcoef(np.roll(styled, (y, x), (0, 1)).ravel(), plain.ravel())[0, 1]
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    ]
    assert max(shifted) > 0.75


def test_dark_on_light_and_light_on_dark_give_the_same_digit() -> None:
    ink = draw_digit(4, rng(), 300, 12)
    dark, light = (prepare_one(encode(pixels)).pixels.astype(int) for pixels in (colorize(ink), 255 - colorize(ink)))
    assert np.abs(dark - light).mean() < 3


@pytest.mark.parametrize("width", [1, 3, 40])
def test_strokes_get_mnists_width(width: int) -> None:
    """The width is the area of the ink divided by the length of the strokes, which is the same for all three pens."""
    strokes = [stroke * 240 + 80 for stroke in write_digit(2, rng())]
    pixels = prepare_one(encode(colorize(draw_strokes(strokes, 400, width)))).pixels
    length = sum(np.linalg.norm(np.diff(stroke, axis=0), axis=1).sum() for stroke in strokes)
    tall = max(np.ptp(np.concatenate(strokes), axis=0)) + width
    assert 1.5 < pixels.sum() / 255 / (length * 20 / tall) < 4.2


@pytest.mark.mnist
def test_mnists_own_pictures_hardly_change(mnist_root: str) -> None:
    from mnist_lit.data.datasets import load_idx
    from mnist_lit.data.files import FileSet

    images = load_idx(FileSet(root=mnist_root), 5000, 0).val.images[:100, 0].numpy()
    correlations = []
    for image in images:
        (digit,) = prepare_digits(Image.fromarray(image).convert("RGB"))
        correlations.append(np.corrcoef(digit.pixels.ravel(), image.ravel())[0, 1])
    assert np.median(correlations) > 0.95


@pytest.mark.parametrize(
    "paper",
    [
        lambda: encode(colorize(EMPTY)),
        lambda: encode(colorize(EMPTY, (0, 0, 0))),
        lambda: encode(np.zeros((50, 50, 4))),
        lambda: photograph(colorize(EMPTY, PAPER), rng()),
        lambda: encode(colorize(EMPTY, (128, 128, 128)) + rng().normal(0, 30, (400, 400, 1))),
        lambda: photograph(colorize(draw_grid(400, rng(), rows_only=True), PAPER), rng()),
        lambda: photograph(colorize(draw_grid(400, rng(3), dark=0.6), PAPER), rng()),
    ],
    ids=["white", "black", "transparent", "photo", "noise", "ruled", "squared"],
)
def test_blank_paper_is_reported_as_blank(paper: Callable[[], bytes]) -> None:
    with pytest.raises(BadPicture, match="blank"):
        prepare_one(paper())


@pytest.mark.parametrize("kind", slow_except(PAGES, *(set(PAGES) - {"large page"})))
def test_each_digit_of_a_page_is_found_in_its_line(kind: str) -> None:
    for seed in range(3):
        picture, rows = PAGES[kind](rng(seed))
        lines = Counter(digit.line for digit in prepare_many(picture))
        assert [lines[line] for line in sorted(lines)] == [len(row) for row in rows]


@pytest.mark.parametrize("size", slow_except([1, 3, 6], 3))
def test_ten_thousand_dots_take_bounded_time(size: int) -> None:
    pixels = np.full((1600, 1600, 3), 255, np.uint8)
    for x, y in rng().integers(0, 1590, (10_000, 2)):
        pixels[y : y + size, x : x + size] = 0
    content, started = encode(pixels), time.process_time()
    with suppress(BadPicture):
        prepare_many(content)
    assert time.process_time() - started < 3


def photograph_digits(digits: list[int], seed: int) -> tuple[bytes, list[float]]:
    """A photo of digits side by side, and the x coordinate of the middle of each."""
    random, left, strokes, middles = rng(seed), 40.0, [], []
    for digit in digits:
        lines = [line * 120 for line in write_digit(digit, random)]
        points = np.concatenate(lines)
        strokes += [line - points.min(0) + [left, 150] for line in lines]
        middles.append(left + np.ptp(points[:, 0]) / 2)
        left += np.ptp(points[:, 0]) + random.uniform(30, 70)
    side = int(max(left + 30, 400))
    ink = np.maximum(draw_strokes(strokes, side, 10), draw_grid(side, random))
    return photograph(colorize(ink, PAPER, PEN), random), middles


@pytest.mark.parametrize("digits", [[7, 1], [4, 0, 5], [5, 3, 8, 2, 9]])
def test_several_digits_are_reported_and_found_from_left_to_right(digits: list[int]) -> None:
    picture, middles = photograph_digits(digits, seed=len(digits))
    with pytest.raises(BadPicture, match=f"holds {len(digits)} digits"):
        prepare_one(picture)
    boxes = [digit.box for digit in prepare_many(picture)]
    assert [(left + right) / 2 for left, _, right, _ in boxes] == pytest.approx(middles, abs=12)


@pytest.mark.parametrize("slant", [-0.15, 0, 0.15])
def test_several_lines_are_read_in_order(slant: float) -> None:
    random, strokes, corners = rng(4), [], []
    for top in (180, 360):
        for left in (60, 180, 300, 420):
            lines = [line * 100 for line in write_digit(3, random)]
            corner = np.concatenate(lines).min(0)
            strokes += [line - corner + [left + 0.1 * top, top + slant * left] for line in lines]
            corners.append((left + 0.1 * top, top + slant * left))
    boxes = [digit.box for digit in prepare_many(encode(colorize(draw_strokes(strokes, 640, 9))))]
    assert [(left, top) for left, top, _, _ in boxes] == [pytest.approx(place, abs=12) for place in corners]


@pytest.mark.parametrize(
    ("side", "size", "format", "margin"),
    [
        (1600, 100, "PNG", 8),  # cropped and prepared again
        # These two are decoded at a half and a quarter of the size, and shrunk to about 200 pixels. The box has a
        # margin of two of these pixels, and shrinking blurs the edges.
        (2000, 300, "JPEG", 20),
        (3500, 900, "JPEG", 35),
    ],
)
def test_boxes_are_in_pixels_of_the_file(side: int, size: int, format: str, margin: int) -> None:
    pixels = np.full((side, side), 255, np.uint8)
    pixels[800 : 800 + size, 700 : 700 + size] -= (draw_digit(3, rng(), size, size // 12) * 255).astype(np.uint8)
    rows, columns = np.flatnonzero((pixels < 128).any(1)), np.flatnonzero((pixels < 128).any(0))
    (digit,) = prepare_many(encode(colorize(1 - pixels / 255.0), format))
    assert digit.box == pytest.approx((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), abs=margin)


def test_strokes_that_do_not_touch_are_joined_to_one_digit() -> None:
    for seed in range(10):
        prepare_one(STYLES["broken"](5, rng(seed)))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    seed=some.integers(0, 2**32 - 1),
    short=some.integers(5, 300),
    ratio=some.floats(1, 20),
    kind=some.sampled_from(["noise", "dots", "bars"]),
    sideways=some.booleans(),
)
@pytest.mark.filterwarnings("error")
def test_any_size_and_content_is_read_or_reported_as_blank(
    seed: int, short: int, ratio: float, kind: str, sideways: bool
) -> None:
    long, random = min(int(short * ratio), 2500), rng(seed)
    pixels = random.integers(0, 256, (long, short, 3))
    if kind == "dots":
        pixels = np.where(random.random((long, short, 1)) < 0.1, 0, np.full(3, 255))
    if kind == "bars":
        pixels = np.where((np.arange(short) % 7 == 3)[:, None], 0, np.full((long, short, 3), 255))
    with suppress(BadPicture):
        for digit in prepare_many(encode(pixels.swapaxes(0, 1) if sideways else pixels)):
            assert digit.pixels.shape == (28, 28)


@pytest.mark.parametrize("seed", range(4))
def test_thin_lines_are_found_as_row_by_row(seed: int) -> None:
    """The direct method: for each slope and row, all pixels near the row. On a dense pattern it takes half a minute."""
    generator = np.random.default_rng(seed)
    mask = generator.random((80, 90)) < 0.3
    mask[40 : 42 + seed, :] = True
    mask[np.arange(90) * seed // 30 + 10, np.arange(90)] = True
    width = mask.shape[1]
    thickest, on_line = max(2, round(0.025 * width)), np.zeros_like(mask)
    y, x = np.nonzero(mask)
    for slope in np.linspace(-digit_finder.STEEPEST, digit_finder.STEEPEST, 41):
        rows = np.rint(y - slope * x).astype(int)
        rows -= rows.min()
        for row in np.flatnonzero(np.bincount(rows) > 0.7 * width):
            near = np.abs(rows - row) <= thickest // 2 + 1
            on_line[y[near], x[near]] = True
    found, _ = digit_finder._find_lines(mask)
    thin = on_line & ~ndimage.binary_opening(mask, np.ones((2 * thickest, 1)))
    assert np.array_equal(found, thin)


def test_a_dense_pattern_is_read_in_a_moment() -> None:
    """As a keypad or bricks. The limit is far above the time that it takes: it took half a minute."""
    picture = np.full((560, 560), 255, np.uint8)
    for top in range(1, 540, 22):
        for left in range(0, 560, 22):
            picture[top : top + 20, left : left + 20] = 0
    started = time.process_time()
    with suppress(BadPicture):
        prepare_many(Image.fromarray(picture))
    assert time.process_time() - started < 10
