"""Whatever the picture looks like, the network sees the digit as MNIST would have drawn it."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image
from scipy import ndimage

from benchmarks.own_strokes import written
from benchmarks.own_styles import PAPER, PEN, STYLES, coloured, drawn, pen, photographed, saved, squared
from mnist_lit.digits.picture import BadPicture
from mnist_lit.digits.prepare import digits_of, prepare_many, prepare_one
from mnist_lit.digits.regions import distance_to, label_regions

EMPTY = np.zeros((400, 400), np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("style", list(STYLES))
def test_every_style_ends_as_mnist_draws(style: str) -> None:
    pixels = prepare_one(STYLES[style](3, rng(1))).pixels
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    along = np.arange(28) + 0.5
    centre = [float((pixels.sum(axis) * along).sum() / pixels.sum()) for axis in (0, 1)]
    assert pixels.shape == (28, 28)
    assert pixels.dtype == np.uint8
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert pixels.max() > 200
    assert np.allclose(centre, 14.5, atol=0.6), "by its centre of mass, as far as the digit stays inside"


@pytest.mark.parametrize("style", ["chalk", "photo", "yellow", "cmyk", "blurred", "dim", "salt and pepper"])
@pytest.mark.parametrize("digit", [2, 8])
def test_colour_light_and_paper_leave_no_trace(style: str, digit: int) -> None:
    """The same strokes in plain black on white give the same picture, but for the pen's width."""
    plain = prepare_one(saved(coloured(pen(digit, rng(5), 500, 9)))).pixels
    styled = prepare_one(STYLES[style](digit, rng(5))).pixels
    shifted = [
        np.corrcoef(np.roll(styled, (y, x), (0, 1)).ravel(), plain.ravel())[0, 1]
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    ]
    assert max(shifted) > 0.75


def test_dark_on_light_and_light_on_dark_are_the_same() -> None:
    ink = pen(4, rng(), 300, 12)
    dark, light = (prepare_one(saved(pixels)).pixels.astype(int) for pixels in (coloured(ink), 255 - coloured(ink)))
    assert np.abs(dark - light).mean() < 3


@pytest.mark.parametrize("width", [1, 3, 40])
def test_strokes_are_brought_to_mnists_width(width: int) -> None:
    """Ink over the length of the pen's way, which is the same for all three pens."""
    strokes = [stroke * 240 + 80 for stroke in written(2, rng())]
    pixels = prepare_one(saved(coloured(drawn(strokes, 400, width)))).pixels
    length = sum(np.linalg.norm(np.diff(stroke, axis=0), axis=1).sum() for stroke in strokes)
    tall = max(np.ptp(np.concatenate(strokes), axis=0)) + width
    assert 1.5 < pixels.sum() / 255 / (length * 20 / tall) < 4.2


@pytest.mark.mnist
def test_mnists_own_pictures_stay_what_they_are(mnist_root: str) -> None:
    from mnist_lit.data.datasets import load_mnist

    images = load_mnist(mnist_root, 5000, 0).val.images[:100, 0].numpy()
    kept = []
    for image in images:
        (digit,) = digits_of(Image.fromarray(image).convert("RGB"))
        kept.append(np.corrcoef(digit.pixels.ravel(), image.ravel())[0, 1])
    assert np.median(kept) > 0.95


@pytest.mark.parametrize(
    "paper",
    [
        lambda: saved(coloured(EMPTY)),
        lambda: saved(coloured(EMPTY, (0, 0, 0))),
        lambda: saved(np.zeros((50, 50, 4))),
        lambda: photographed(coloured(EMPTY, PAPER), rng()),
        lambda: saved(coloured(EMPTY, (128, 128, 128)) + rng().normal(0, 30, (400, 400, 1))),
        lambda: photographed(coloured(squared(400, rng(), rows_only=True), PAPER), rng()),
        lambda: photographed(coloured(squared(400, rng(3), dark=0.6), PAPER), rng()),
    ],
    ids=["white", "black", "transparent", "photo", "noise", "ruled", "squared"],
)
def test_blank_paper_is_said_to_be_blank(paper: Callable[[], bytes]) -> None:
    with pytest.raises(BadPicture, match="blank"):
        prepare_one(paper())


def several(digits: list[int], seed: int) -> tuple[bytes, list[float]]:
    """A photo of digits side by side, and where the middle of each is."""
    random, left, strokes, middles = rng(seed), 40.0, [], []
    for digit in digits:
        lines = [line * 120 for line in written(digit, random)]
        points = np.concatenate(lines)
        strokes += [line - points.min(0) + [left, 150] for line in lines]
        middles.append(left + np.ptp(points[:, 0]) / 2)
        left += np.ptp(points[:, 0]) + random.uniform(30, 70)
    side = int(max(left + 30, 400))
    ink = np.maximum(drawn(strokes, side, 10), squared(side, random))
    return photographed(coloured(ink, PAPER, PEN), random), middles


@pytest.mark.parametrize("digits", [[7, 1], [4, 0, 5], [5, 3, 8, 2, 9]])
def test_several_digits_are_said_and_found_from_left_to_right(digits: list[int]) -> None:
    picture, middles = several(digits, seed=len(digits))
    with pytest.raises(BadPicture, match=f"holds {len(digits)} digits"):
        prepare_one(picture)
    boxes = [digit.box for digit in prepare_many(picture)]
    assert [(left + right) / 2 for left, _, right, _ in boxes] == pytest.approx(middles, abs=12)


@pytest.mark.parametrize("slant", [-0.15, 0, 0.15])
def test_several_lines_are_read_one_after_the_other(slant: float) -> None:
    random, strokes, written_at = rng(4), [], []
    for top in (180, 360):
        for left in (60, 180, 300, 420):
            lines = [line * 100 for line in written(3, random)]
            corner = np.concatenate(lines).min(0)
            strokes += [line - corner + [left + 0.1 * top, top + slant * left] for line in lines]
            written_at.append((left + 0.1 * top, top + slant * left))
    boxes = [digit.box for digit in prepare_many(saved(coloured(drawn(strokes, 640, 9))))]
    assert [(left, top) for left, top, _, _ in boxes] == [pytest.approx(place, abs=12) for place in written_at]


@pytest.mark.parametrize(
    ("side", "size", "format", "margin"),
    [
        (1600, 100, "PNG", 8),  # looked at again from nearby
        (2000, 300, "JPEG", 20),  # decoded at a half and at a quarter, and seen at a side of about 400 pixels, of which
        (3500, 900, "JPEG", 35),  # a box has a margin of two, and of what the reduction blurred
    ],
)
def test_boxes_are_in_the_pictures_own_pixels(side: int, size: int, format: str, margin: int) -> None:
    pixels = np.full((side, side), 255, np.uint8)
    pixels[800 : 800 + size, 700 : 700 + size] -= (pen(3, rng(), size, size // 12) * 255).astype(np.uint8)
    rows, columns = np.flatnonzero((pixels < 128).any(1)), np.flatnonzero((pixels < 128).any(0))
    (found,) = prepare_many(saved(coloured(1 - pixels / 255.0), format))
    assert found.box == pytest.approx((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), abs=margin)


def test_strokes_that_do_not_touch_are_one_digit() -> None:
    for seed in range(10):
        prepare_one(STYLES["broken"](5, rng(seed)))


@settings(max_examples=150, deadline=None)
@given(
    seed=some.integers(0, 2**32 - 1),
    short=some.integers(5, 300),
    ratio=some.floats(1, 20),
    kind=some.sampled_from(["noise", "dots", "bars"]),
    lying=some.booleans(),
)
@pytest.mark.filterwarnings("error")
def test_any_size_and_content_is_read_or_said_to_be_blank(
    seed: int, short: int, ratio: float, kind: str, lying: bool
) -> None:
    long, random = min(int(short * ratio), 2500), rng(seed)
    pixels = random.integers(0, 256, (long, short, 3))
    if kind == "dots":
        pixels = np.where(random.random((long, short, 1)) < 0.1, 0, np.full(3, 255))
    if kind == "bars":
        pixels = np.where((np.arange(short) % 7 == 3)[:, None], 0, np.full((long, short, 3), 255))
    with suppress(BadPicture):
        for digit in prepare_many(saved(pixels.swapaxes(0, 1) if lying else pixels)):
            assert digit.pixels.shape == (28, 28)


@settings(max_examples=30, deadline=None)
@given(some.integers(0, 2**32 - 1), some.floats(0.02, 0.98))
def test_regions_and_distances_are_scipys(seed: int, density: float) -> None:
    mask = rng(seed).random((23, 31)) < density
    labels, number = label_regions(mask)
    theirs, their_number = ndimage.label(mask, np.ones((3, 3)))
    assert number == their_number
    assert len(set(zip(labels.ravel().tolist(), theirs.ravel().tolist(), strict=True))) == number + (not mask.all())
    if mask.any():
        assert np.allclose(distance_to(mask, 9), np.minimum(9, ndimage.distance_transform_edt(~mask)), atol=1e-4)
