"""Preparation: someone's picture → its digits as MNIST would have drawn them. The same for every way of predicting."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_lit.digits.find import find_digits
from mnist_lit.digits.frame import framed
from mnist_lit.digits.ink import LARGEST, ink_of
from mnist_lit.digits.picture import BadPicture, read_picture

LEAST, MOST = 112, 8 * LARGEST  # pixels of the longer side; smaller pictures are enlarged, larger ones reduced
TOO_SMALL = 56  # pixels; smaller digits are looked at again, from nearby
PREPARATION = (
    "upright; grey along the colour in which ink differs from the border's paper; uneven light, printed lines, noise "
    "and specks removed; the digit cropped, strokes brought to 2.1 to 3.5 pixels, longest side 20 pixels with "
    "antialiasing, centred by mass in 28 x 28, ink 255 on 0; by mnist_lit.digits.prepare, in numpy and Pillow alone"
)


@dataclass(frozen=True)
class Digit:
    """`pixels` [28, 28] uint8 is what the network sees, 0 for background; `box` is (left, top, right, bottom) in the
    upright picture's pixels."""

    pixels: np.ndarray
    box: tuple[int, int, int, int]


def prepare_one(source: Path | bytes) -> Digit:
    """The one digit of a picture.

    Raises:
        BadPicture: if it cannot be read, is blank, or holds several digits.
    """
    digits = prepare_many(source)
    if len(digits) > 1:
        raise BadPicture(f"holds {len(digits)} digits; read them all with --many")
    return digits[0]


def prepare_many(source: Path | bytes) -> list[Digit]:
    """Every digit of a picture, line by line.

    Raises:
        BadPicture: if it cannot be read, or is blank.
    """
    picture, scale = read_picture(source)
    digits = digits_of(picture)
    if not digits:
        raise BadPicture("is blank: there is no digit in it")
    return [Digit(digit.pixels, _scaled(digit.box, scale)) for digit in digits]


def digits_of(picture: Image.Image, nearby: bool = False) -> list[Digit]:
    """The digits of an upright RGB picture; one that is small in it is looked at again, `nearby`."""
    zoom = _zoom(max(picture.size))
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    seen = ink_of(picture if zoom == 1 else picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    if seen is None:
        return []
    ink, factor = seen
    scale = factor / zoom
    found = find_digits(ink)
    if len(found) == 1 and scale > 1 and not nearby:
        left, top, right, bottom = found[0].box
        if (side := max(right - left, bottom - top)) < TOO_SMALL:
            around = _within(_scaled((left - side, top - side, right + side, bottom + side), scale), picture)
            closer = digits_of(picture.crop(around), nearby=True)
            return [Digit(digit.pixels, _moved(digit.box, *around[:2])) for digit in closer]
    drawn = ((framed(one.ink), _scaled(one.box, scale)) for one in found)
    return [Digit(pixels, box) for pixels, box in drawn if pixels is not None]


def _zoom(side: int) -> float:
    if side > MOST:
        return MOST / side
    return LEAST / side if side < LEAST else 1.0


def _scaled(box: tuple[int, int, int, int], scale: float) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(edge * scale) for edge in box)
    return left, top, right, bottom


def _moved(box: tuple[int, int, int, int], right: int, down: int) -> tuple[int, int, int, int]:
    return box[0] + right, box[1] + down, box[2] + right, box[3] + down


def _within(box: tuple[int, int, int, int], picture: Image.Image) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    return max(0, left), max(0, top), min(picture.width, right), min(picture.height, bottom)
