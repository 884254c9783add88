"""A picture → how much ink there is at each place, whatever the colours, the light and the paper."""

import numpy as np
from PIL import Image, ImageFilter

DARKEST = 24.0  # brightness is taken as log(value + DARKEST): a shadow then takes as much off paper as off ink
WINDOW = 0.4  # part of the picture's shorter side: what is wider than that in every direction is light, not ink
FAINTEST = 0.06  # contrast below which there is nothing on the paper, in steps of log brightness
NOISE_FACTOR = 5.0  # ink stands out from the noise by so many standard deviations


def ink_of(picture: Image.Image) -> np.ndarray | None:
    """RGB picture → ink [h, w] float32, 0 for paper and about 1 for a stroke; None if nothing is drawn there.

    The colour of the paper is that of the border; ink is what differs from it in the direction in which the picture
    differs most, so that dark on light, light on dark and red on green are the same.
    """
    colours = np.log(np.asarray(picture, np.float32) + DARKEST)
    difference = colours - paper(colours)
    strength = np.sqrt((difference**2).sum(2))
    peak = float(_blurred(strength).max())
    if peak < FAINTEST:
        return None
    strongest = strength > 0.6 * peak
    direction = (difference * (strength * strongest)[..., None]).sum((0, 1))
    direction /= max(float(np.linalg.norm(direction)), 1e-9)
    ink = np.maximum(difference @ direction, 0)
    ink -= uneven_light(ink)
    noise = float(np.median(np.abs(np.diff(ink, axis=1)))) * 1.05  # of a difference of two, and a median of |x|
    if noise > 0.08 * peak:
        ink, noise = _blurred(ink), noise / 3
    smooth = _blurred(ink)
    peak = float(smooth.max())
    if peak < max(FAINTEST, NOISE_FACTOR * noise):
        return None
    typical = float(np.percentile(ink[ink > 0.5 * peak], 60))
    return np.clip((ink - noise) / (typical - noise), 0, 1.5).astype(np.float32)


def paper(colours: np.ndarray) -> np.ndarray:
    """The background's colour at each pixel, [h, w, 3]: a surface of second order through the border and whatever is
    like it, so that a gradient of light is no ink."""
    height, width, _ = colours.shape
    step = max(1, min(height, width) // 24)
    small = colours[step // 2 :: step, step // 2 :: step]
    y, x = np.meshgrid(np.linspace(-1, 1, small.shape[0]), np.linspace(-1, 1, small.shape[1]), indexing="ij")
    near_border = np.maximum(np.abs(x), np.abs(y)) > 0.85
    values, terms = small.reshape(-1, 3), _terms(x.ravel(), y.ravel())
    middle = np.median(values[near_border.ravel()], axis=0)
    residual = np.sqrt(((values - middle) ** 2).sum(1))
    weights = near_border.ravel() / (1 + (residual / 0.1) ** 2) ** 2
    for _ in range(4):
        fitted = terms @ np.linalg.lstsq(terms * weights[:, None], values * weights[:, None], rcond=None)[0]
        residual = np.sqrt(((values - fitted) ** 2).sum(1))
        scale = max(0.02, 2 * float(np.median(residual[near_border.ravel()])))
        weights = (0.1 + near_border.ravel()) / (1 + (residual / scale) ** 2) ** 2
    solution = np.linalg.lstsq(terms * weights[:, None], values * weights[:, None], rcond=None)[0]
    y, x = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in (height, width)), indexing="ij")
    return (_terms(x.ravel(), y.ravel()) @ solution.astype(np.float32)).reshape(colours.shape)


def uneven_light(ink: np.ndarray) -> np.ndarray:
    """What is left of the ink when all that is narrower than the window is taken away: shadows and stains."""
    height, width = ink.shape
    zoom = 64 / max(height, width)
    size = (max(8, round(width * zoom)), max(8, round(height * zoom)))
    coarse = Image.fromarray(np.clip(ink * 100, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    reach = round(WINDOW * min(size) / 2)
    for _ in range(reach):
        coarse = coarse.filter(ImageFilter.MinFilter(3))
    for _ in range(reach + 1):  # one more, for the edge that the small picture has blurred
        coarse = coarse.filter(ImageFilter.MaxFilter(3))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 100


def _terms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _blurred(values: np.ndarray) -> np.ndarray:
    """Each pixel's mean with its eight neighbours."""
    for _ in range(2):
        padded = np.pad(values, ((1, 1), (0, 0)), mode="edge")
        values = ((padded[:-2] + padded[1:-1] + padded[2:]) / 3).T
    return values
