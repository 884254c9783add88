"""A picture → how much ink there is at each place, whatever the colours, the light and the paper."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

LARGEST = 224  # pixels of the longer side that the work is done on
WINDOW = 0.4  # part of the picture's shorter side: what is wider than that in every direction is light, not ink
NOISE_FACTOR = 8.0  # ink stands out from the noise by so many standard deviations


class Source(NamedTuple):
    """`tones` are the brightness of grey levels 0 to 255, `faintest` the contrast below which nothing is drawn."""

    tones: np.ndarray
    faintest: float


GREYS = np.arange(256, dtype=np.float32)
CAMERA = Source(np.log(GREYS + 64), 0.08)  # so that a shadow takes as much off the paper as off the ink
SCREEN = Source(GREYS / 160, 0.03)  # so that a pixel half covered by ink is half ink


def ink_of(picture: Image.Image) -> tuple[np.ndarray, int] | None:
    """RGB picture → ink [h, w] float32, 0 for paper and about 1 for a stroke, and how many of the picture's pixels
    each of its own stands for along either axis; None if nothing is drawn there.

    The colour of the paper is that of the border; ink is what differs from it in the direction in which the picture
    differs most, so that dark on light, light on dark and red on green are the same.
    """
    pixels = np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))
    factor, source = -(-max(picture.size) // LARGEST), SCREEN if _clean(pixels) else CAMERA
    colours = source.tones[pixels if factor == 1 else _pooled(pixels, factor, np.add) // factor**2]
    background = paper(colours)
    direction = _direction(colours - background, source.faintest)
    if direction is None:
        return None
    if factor > 1 and source is SCREEN:  # then the thinnest line keeps its full darkness
        low, high = (_pooled(pixels, factor, extreme) for extreme in (np.minimum, np.maximum))
        colours = source.tones[np.where(direction[:, None, None] > 0, high, low)]
    ink = np.tensordot(direction, colours - background, 1)
    noise = float(np.median(np.abs(np.diff(ink, axis=1)))) * 1.05  # of a difference of two, and a median of |x|
    ink = np.maximum(ink, 0)
    strokes = _without_noise(ink - uneven_light(ink), noise, source.faintest)
    return None if strokes is None else (strokes, factor)


def paper(colours: np.ndarray) -> np.ndarray:
    """The background's colour at each pixel, [3, h, w]: a surface of second order through the border and whatever is
    like it, so that a gradient of light is no ink."""
    _, height, width = colours.shape
    rows, columns = (np.linspace(0, size - 1, 32).round().astype(int) for size in (height, width))
    values = colours[:, rows[:, None], columns].reshape(3, -1).T.astype(np.float64)
    grid = np.linspace(-1, 1, 32)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    terms, border = _terms(x, y).reshape(6, -1).T, (np.maximum(np.abs(x), np.abs(y)) == 1).ravel()
    residual = np.linalg.norm(values - np.median(values[border], axis=0), axis=1)
    weights = border / (1 + (residual / 0.1) ** 2)
    for _ in range(5):
        solution = np.linalg.lstsq(terms * weights[:, None], values * weights[:, None], rcond=None)[0]
        residual = np.linalg.norm(values - terms @ solution, axis=1)
        scale = max(0.02, 2 * float(np.median(residual[border])))
        weights = (0.1 + border) / (1 + (residual / scale) ** 2) ** 2
    across, down = (np.linspace(-1, 1, size, dtype=np.float32) for size in (width, height))
    surface = _terms(*np.broadcast_arrays(across[None, :], down[:, None]))
    return np.tensordot(solution.T.astype(np.float32), surface, 1)


def uneven_light(ink: np.ndarray) -> np.ndarray:
    """What is left of the ink when all that is narrower than the window is taken away: shadows and stains."""
    height, width = ink.shape
    zoom = 48 / max(height, width)
    size = (max(8, round(width * zoom)), max(8, round(height * zoom)))
    coarse = Image.fromarray(np.clip(ink * 100, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    reach = round(WINDOW * min(size) / 2)
    for _ in range(reach):
        coarse = coarse.filter(ImageFilter.MinFilter(3))
    if coarse.getextrema() == (0, 0):
        return np.zeros((1, 1), np.float32)
    for _ in range(reach + 1):  # one more, for the edge that the small picture has blurred
        coarse = coarse.filter(ImageFilter.MaxFilter(3))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 100


def _direction(difference: np.ndarray, faintest: float) -> np.ndarray | None:
    """The unit vector [3] from the paper's colour to the ink's; None if all is paper."""
    strength = np.sqrt((difference**2).sum(0))
    strength -= uneven_light(strength)
    peak = float(_blurred(strength).max())
    if peak < faintest:
        return None
    strongest = np.where(strength > 0.8 * peak, strength, 0)
    direction = (difference * strongest).sum((1, 2))
    return direction / max(float(np.linalg.norm(direction)), 1e-9)


def _without_noise(ink: np.ndarray, noise: float, faintest: float) -> np.ndarray | None:
    """Ink in units of a typical stroke's; None if none stands out from the noise, of that standard deviation."""
    smooth = _blurred(ink)
    peak = float(smooth.max())
    if noise > 0.08 * peak:
        ink, noise = smooth, noise / 3
    if peak < max(faintest, NOISE_FACTOR * noise):
        return None
    typical = float(np.percentile(ink[ink > 0.5 * peak], 60))
    return np.clip((ink - noise) / (typical - noise), 0, 1.5).astype(np.float32)


def _pooled(pixels: np.ndarray, factor: int, pick: np.ufunc) -> np.ndarray:
    """[3, h, w] uint8 → one value for each `factor` × `factor` pixels: their sum (np.add), least or greatest."""
    height, width = (size // factor * factor for size in pixels.shape[1:])
    bands = pixels[:, :height, :width].reshape(3, height // factor, factor, width)
    rows = pick.reduce(bands, axis=2, dtype=np.uint16)
    return np.asarray(pick.reduce([rows[:, :, start::factor] for start in range(factor)]))


def _clean(pixels: np.ndarray) -> bool:
    """Whether this was drawn on a screen, where most pixels equal their neighbours, and not seen by a camera."""
    sample = pixels[1, ::4]
    return float((sample[:, 1:] == sample[:, :-1]).mean()) > 0.5


def _terms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])


def _blurred(values: np.ndarray) -> np.ndarray:
    """Each pixel's mean with its eight neighbours."""
    for _ in range(2):
        padded = np.pad(values, ((1, 1), (0, 0)), mode="edge")
        values = ((padded[:-2] + padded[1:-1] + padded[2:]) / 3).T
    return values
