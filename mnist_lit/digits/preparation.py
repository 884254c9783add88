"""A picture of any kind → its digits as 28 × 28 in MNIST's style: stroke width, size, antialiasing, center of mass.

Every way of predicting uses this."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_lit.digits.digit_finder import FAINT, DigitInk, find_digits
from mnist_lit.digits.ink_map import LARGEST, compute_ink
from mnist_lit.digits.picture_file import CLEAR, ENOUGH, BadPicture, read_picture

SEVERAL_LARGEST = (560, 1792)  # pixels of the longer side if there are several digits; the second if they are small
SMALL_HEIGHT = 24  # pixels
TOO_SMALL = 56  # pixels: a single digit smaller than this is cropped from the picture and prepared again
SIDE, BOX = 28, 20  # pixels: MNIST's pictures, and the longest side of the digits in them
FINE = 4  # strokes are made thicker and thinner on a grid that is finer by this factor
MARGIN = 5 * FINE  # room for strokes that become thicker
THINNEST, THICKEST = 2.1, 3.5  # pixels: the stroke widths of MNIST, without the thinnest and thickest tenth
FAINTEST_STROKE = 0.5  # a part of a stroke may be fainter by this factor
WIDE, CUTS = 0.9, 6  # two digits that touch are wider than this part of their height; ways to cut them
BLOT = 8.5  # pixels: anything wider is no pen stroke
PREPARATION = (
    "upright; gray along the color in which ink differs from the paper at the border; uneven light, printed lines, "
    "noise and specks removed; the digit cropped, strokes made 2.1 to 3.5 pixels wide, longest side 20 pixels with "
    "antialiasing, centered by mass in 28 x 28, ink 255 on 0; done by mnist_lit.digits.preparation"
)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Digit:
    """`pixels` [28, 28] uint8 is what the network sees, 0 is background. `box` is (left, top, right, bottom) in the
    upright picture's pixels. `line` is the number of its line of writing. `ink` [h, w] is what `pixels` are made of.
    `left_out` says what else is in the picture, if that is much."""

    pixels: np.ndarray
    box: Box
    line: int
    ink: np.ndarray
    left_out: str


def prepare_one(source: Path | bytes | Image.Image) -> Digit:
    """The only digit of a picture.

    Raises:
        BadPicture: if the picture cannot be read, is blank, or holds several digits.
    """
    digits = _prepare(source, several=False)
    if len(digits) > 1:
        raise BadPicture(f"holds {len(digits)} digits; mnist-lit predict --many reads them all")
    return digits[0]


def prepare_many(source: Path | bytes | Image.Image) -> list[Digit]:
    """Every digit of a picture, line by line.

    Raises:
        BadPicture: if the picture cannot be read or is blank.
    """
    return _prepare(source, several=True)


def _prepare(source: Path | bytes | Image.Image, several: bool) -> list[Digit]:
    picture, scale = read_picture(source, CLEAR if several else ENOUGH)
    digits = prepare_digits(picture, several)
    if not digits:
        raise BadPicture("is blank: there is no digit in it")
    return [replace(digit, box=_scale(digit.box, scale)) for digit in digits]


def prepare_digits(picture: Image.Image, several: bool = False) -> list[Digit]:
    """The digits of an upright RGB picture. If they are small, more pixels of the picture are used."""
    for largest in SEVERAL_LARGEST if several else ():
        found, scale = _find(picture, largest, several)
        if len(found) == 1:
            break  # strokes of a single digit are joined more freely
        heights = [digit.box[3] - digit.box[1] for digit in found]
        enough = largest >= min(SEVERAL_LARGEST[-1], max(picture.size))
        if not found or enough or np.median(heights) >= SMALL_HEIGHT:
            return _draw(found, scale)
    found, scale = _find(picture, LARGEST, several=False)
    if len(found) == 1 and scale > 1:
        left, top, right, bottom = found[0].box
        if (side := max(right - left, bottom - top)) < TOO_SMALL:  # it is cropped from the picture
            around = _clip(_scale((left - side, top - side, right + side, bottom + side), scale), picture)
            closer = _draw(*_find(picture.crop(around), LARGEST, several=False))
            left_out = found[0].left_out
            return [replace(digit, box=_move(digit.box, *around[:2]), left_out=left_out) for digit in closer]
    return _draw(found, scale)


def _find(picture: Image.Image, largest: int, several: bool) -> tuple[list[DigitInk], float]:
    """The ink of each digit, and the side of one of its pixels in pixels of the picture."""
    side = max(picture.size)
    zoom = min(max(side, largest // 2), 8 * largest) / side
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    sized = picture if zoom == 1 else picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    inked = compute_ink(sized, largest, several)
    if inked is None:
        return [], 1.0
    ink, factor = inked
    return find_digits(ink, several), factor / zoom


def _draw(found: list[DigitInk], scale: float) -> list[Digit]:
    """The digits in MNIST's frames. Blots are left out."""
    digits = []
    for digit in found:
        if (pixels := to_mnist_frame(digit.ink)) is not None:
            digits.append(Digit(pixels, _scale(digit.box, scale), digit.line, digit.ink, digit.left_out))
    return digits


def cut_in_two(digit: Digit) -> list[tuple[Digit, Digit]]:
    """Ways to cut a wide digit into a left and a right half, those that cut the least ink. It may be two digits that
    touch."""
    height, width = digit.ink.shape
    if width < WIDE * height:
        return []
    columns = np.arange(round(0.25 * width), round(0.75 * width))
    crossed = ndimage.uniform_filter1d(digit.ink.sum(0), 3)[columns]
    left, _, right, _ = digit.box
    ways = []
    for column in columns[np.argsort(crossed, kind="stable")[:CUTS]].tolist():
        middle = left + round((right - left) * column / width)
        halves = []
        for ink, edges in ((digit.ink[:, :column], (left, middle)), (digit.ink[:, column:], (middle, right))):
            whole = _keep_largest_piece(ink)
            pixels = to_mnist_frame(whole) if whole.any() else None
            if pixels is not None:
                halves.append(
                    replace(digit, pixels=pixels, box=(edges[0], digit.box[1], edges[1], digit.box[3]), ink=whole)
                )
        if len(halves) == 2:
            ways.append((halves[0], halves[1]))
    return ways


def _keep_largest_piece(ink: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(ink > FAINT, np.ones((3, 3)))
    if count < 2:
        return ink * (ink > 0 if count else 0)
    return ink * (labels == np.bincount(labels.ravel())[1:].argmax() + 1)


def _scale(box: Box, scale: float) -> Box:
    left, top, right, bottom = (round(edge * scale) for edge in box)
    return left, top, right, bottom


def _move(box: Box, right: int, down: int) -> Box:
    return box[0] + right, box[1] + down, box[2] + right, box[3] + down


def _clip(box: Box, picture: Image.Image) -> Box:
    left, top, right, bottom = box
    return max(0, left), max(0, top), min(picture.width, right), min(picture.height, bottom)


def to_mnist_frame(ink: np.ndarray) -> np.ndarray | None:
    """Ink [h, w], float from 0 (none) to 1 → [28, 28] uint8, 0 is background. None for a blot."""
    mask = _fine_mask(_even_out(ink))
    inside = ndimage.distance_transform_edt(mask) - 0.5  # to the nearest edge of the stroke
    width = 4 * float(inside[mask].mean()) / FINE  # the mean distance to the edge of a band is a quarter of its width
    if width > BLOT:
        return None
    if width < THINNEST:
        thicker = (THINNEST - width) / 2
        coverage = np.clip(thicker * FINE + 1 - ndimage.distance_transform_edt(~mask), 0, 1)
    else:
        thinner = min((width - THICKEST) / 2, 0.3 * width) if width > THICKEST else 0.0
        coverage = np.clip(inside + 0.5 - thinner * FINE, 0, 1)
    return _center(_shrink(coverage))


def _even_out(ink: np.ndarray) -> np.ndarray:
    """Makes the faint parts of a stroke as strong as its other parts."""
    strongest = ndimage.maximum_filter(ink, max(3, round(0.2 * max(ink.shape))))
    return ink / np.clip(strongest, FAINTEST_STROKE, 1)


def _fine_mask(ink: np.ndarray) -> np.ndarray:
    """The digit as True and False, 80 pixels long, with a margin."""
    digit = _crop(ink, ink > FAINT)
    height, width = digit.shape
    zoom = BOX * FINE / max(height, width)
    padded = np.pad(digit, 1)  # the interpolation needs background around the digit
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    size = (round(size[0] * (width + 2) / width), round(size[1] * (height + 2) / height))
    fine = Image.fromarray(padded.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    mask = np.asarray(fine) > 0.5 * min(1, zoom)  # a line that shrinks below one pixel turns gray, but is still a line
    return np.pad(mask if mask.any() else np.ones_like(mask), MARGIN)


def _shrink(coverage: np.ndarray) -> np.ndarray:
    """Crop, and shrink until the longest side has 20 pixels."""
    digit = _crop(coverage, coverage > 0.5)
    height, width = digit.shape
    zoom = BOX / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    return np.asarray(Image.fromarray(digit.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _center(digit: np.ndarray) -> np.ndarray:
    """Put the center of mass in the middle of 28 × 28, as far as the digit fits. MNIST rounds up: its centers lie
    between 14 and 15."""
    picture = np.zeros((SIDE, SIDE), np.float32)
    places = []
    for size, center in zip(digit.shape, ndimage.center_of_mass(digit), strict=True):
        start = int(np.clip(math.ceil(SIDE / 2 - (center + 0.5)), 0, SIDE - size))
        places.append(slice(start, start + size))
    picture[tuple(places)] = digit
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _crop(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The bounding box of the mask."""
    return values[ndimage.find_objects(mask.astype(np.uint8))[0]]
