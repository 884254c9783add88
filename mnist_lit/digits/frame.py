"""One digit's ink → 28 × 28 as MNIST draws it: stroke width, size, antialiasing, centre of mass."""

import math

import numpy as np
from PIL import Image

from mnist_lit.digits.regions import distance_to

SIDE, BOX = 28, 20  # pixels of MNIST's pictures, and of the longest side of the digits in them
FINE = 4  # the work is done on a grid so many times finer
MARGIN = 5 * FINE  # strokes may grow
REACH = 5 * FINE
THINNEST, THICKEST = 2.1, 3.5  # pixels; MNIST's own strokes, but for about a tenth at either end
BLOT = 8.5  # pixels wide


def framed(ink: np.ndarray) -> np.ndarray | None:
    """Ink [h, w] float in 0 (none) to 1, cut out with some margin → [28, 28] uint8, 0 is background; None for a blot,
    which is no stroke of a pen."""
    fine = _fine(ink)
    inside = distance_to(~fine, REACH) - 0.5
    width = 4 * float(inside[fine].mean()) / FINE  # across a band the distance to its edge averages a quarter of it
    if width > BLOT:
        return None
    if width < THINNEST:
        coverage = np.clip((THINNEST - width) / 2 * FINE + 1 - distance_to(fine, REACH), 0, 1)
    else:
        thinner = min((width - THICKEST) / 2, 0.3 * width) if width > THICKEST else 0.0
        coverage = np.clip(inside + 0.5 - thinner * FINE, 0, 1)
    return _centred(_fitted(coverage))


def _fine(ink: np.ndarray) -> np.ndarray:
    """The digit alone, in black and white, 80 pixels long and with a margin."""
    cut = _cropped(ink, ink > 0.4)
    height, width = cut.shape
    zoom = BOX * FINE / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    padded = np.pad(cut, 1)  # so that the interpolation meets background at the edge
    grown = (round(size[0] * (width + 2) / width), round(size[1] * (height + 2) / height))
    fine = Image.fromarray(padded.astype(np.float32)).resize(grown, Image.Resampling.BICUBIC)
    mask = np.asarray(fine) > 0.5 * min(1, zoom)  # a line that shrinks to less than a pixel is grey, but still a line
    return np.pad(mask if mask.any() else np.ones_like(mask), MARGIN)


def _fitted(coverage: np.ndarray) -> np.ndarray:
    """Cropped and shrunk until the longest side has 20 pixels."""
    cut = _cropped(coverage, coverage > 0.5)
    height, width = cut.shape
    zoom = BOX / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    return np.asarray(Image.fromarray(cut.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _centred(digit: np.ndarray) -> np.ndarray:
    """In 28 × 28 with the centre of mass in the middle, as far as the digit stays inside. MNIST rounds upwards: its
    centres lie between 14 and 15."""
    picture = np.zeros((SIDE, SIDE), np.float32)
    places = []
    for axis, size in enumerate(digit.shape):
        mass = digit.sum(1 - axis)
        centre = float((mass * (np.arange(size) + 0.5)).sum() / mass.sum())
        places.append(slice(start := int(np.clip(math.ceil(SIDE / 2 - centre), 0, SIDE - size)), start + size))
    picture[places[0], places[1]] = digit
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _cropped(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
