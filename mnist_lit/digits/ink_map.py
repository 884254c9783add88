"""A picture → how much ink is at each place, for any colors, light and paper."""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

LARGEST = 224  # pixels of the longer side of an ink map
WINDOW = 0.4  # part of the shorter side: what is wider than this in every direction is light, not ink
LEAST_SHEET = 0.2  # part of the picture: a smaller rectangle is no sheet of paper
LOCAL_WINDOW = 0.15  # as WINDOW, if there are several digits or a hard shadow
LIT = 0.07  # part of the ink's contrast: a place that is brighter than the fitted paper by more is lit
LEAST_LIT = 0.05  # part of the picture: if more is lit, there is a hard shadow
FAINTEST_IN_SHADOW = 0.25  # beside a hard shadow, a contrast below it is no ink
NOISE_FACTOR = 8.0  # ink is darker than the paper by at least this many standard deviations of the noise


class Medium(NamedTuple):
    """`tones` is the brightness of the gray levels 0 to 255. A contrast below `faintest` is no ink."""

    tones: np.ndarray
    faintest: float


GRAYS = np.arange(256, dtype=np.float32)
CAMERA = Medium(np.log(GRAYS + 64), 0.08)  # logarithmic: a shadow darkens paper and ink by the same amount
SCREEN = Medium(GRAYS / 160, 0.03)  # linear: a pixel that is half covered by ink is half ink


def compute_ink(picture: Image.Image, largest: int = LARGEST, several: bool = False) -> tuple[np.ndarray, int] | None:
    """RGB picture → (ink, factor), or None if the picture is blank.

    `ink` [h, w] float32 is 0 for paper and about 1 for a stroke. One pixel of it stands for `factor` × `factor` pixels
    of the picture, at most `largest` on the longer side. The color of the paper is the color of the border. Ink is what
    differs from it along one direction in color space, the direction in which the picture differs most. So dark on
    light, light on dark and red on green give the same ink. If a sheet of paper lies on a table or in a frame, the
    sheet itself would count as ink, so only the inside of the sheet is used. With `several` digits, the paper is
    estimated at each place, from a small window.
    """
    pixels = np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))
    factor, medium = -(-max(picture.size) // largest), SCREEN if _is_screen_drawing(pixels) else CAMERA
    ink = _compute_pooled_ink(pixels, factor, medium, several)
    return None if ink is None else (ink, factor)


def _compute_pooled_ink(
    pixels: np.ndarray, factor: int, medium: Medium, several: bool, inside: bool = False
) -> np.ndarray | None:
    """Pixels [3, h, w] → ink [h // factor, w // factor], or None. `inside` a sheet, no other sheet is looked for."""
    colors = medium.tones[pixels if factor == 1 else _pool(pixels, factor, np.add) // factor**2]
    paper = fit_paper(colors)
    direction = _find_ink_direction(colors - paper, medium)
    if direction is None:
        return None
    if factor > 1 and medium is SCREEN:  # the mean would make the thinnest lines faint
        low, high = (_pool(pixels, factor, extreme) for extreme in (np.minimum, np.maximum))
        colors = medium.tones[np.where(direction[:, None, None] > 0, high, low)]
    ink = np.tensordot(direction, colors - paper, 1)
    if not inside and (sheet := _find_sheet(ink, medium.faintest)) is not None:
        found = _compute_pooled_ink(_extend_sheet(pixels, sheet, factor), factor, medium, several, inside=True)
        if found is not None:
            return found
    # The median of the absolute difference of two normal variables is 1 / 1.05 of their standard deviation.
    faintest, noise = medium.faintest, float(np.median(np.abs(np.diff(ink, axis=1)))) * 1.05
    if medium is CAMERA and _has_hard_shadow(ink):
        ink = np.tensordot(direction, colors, 1)  # the fitted paper has a slope at each side of the shadow's edge
        ink, faintest = np.maximum(ink - estimate_local_paper(ink, 1), 0), FAINTEST_IN_SHADOW
    elif several:
        ink = np.maximum(ink - estimate_local_paper(ink), 0)
    else:
        ink = np.maximum(ink, 0)
        ink = ink - estimate_uneven_light(ink) if medium is CAMERA else ink
    return _remove_noise(ink, noise, faintest)


def _find_sheet(ink: np.ndarray, faintest: float) -> np.ndarray | None:
    """The inside [h, w] of a large rectangle of ink. It is the paper, and the ground or frame around it is not."""
    strong = float(np.percentile(ink, 100 - 50 * LEAST_SHEET))
    if strong < max(2 * faintest, 0.4 * float(ink.max())):
        return None
    labels, _ = ndimage.label(ink > 0.6 * strong)
    areas = np.bincount(labels.ravel())[1:]
    if not len(areas) or areas.max() < LEAST_SHEET * ink.size:
        return None
    largest = labels == areas.argmax() + 1
    sheet = ndimage.binary_fill_holes(largest)
    if largest.sum() < 0.6 * sheet.sum() or rectangularity(sheet) < 0.85:
        return None
    margin = max(2, round(0.015 * max(ink.shape)))
    return ndimage.binary_erosion(sheet, np.ones((3, 3)), margin)


def rectangularity(mask: np.ndarray) -> float:
    """The area of a shape, as a part of the smallest rectangle around it. A circle has 0.79."""
    y, x = np.nonzero(mask & ~ndimage.binary_erosion(mask))
    angles = np.radians(np.arange(-20, 21, 2))[:, None]
    across, down = x * np.cos(angles) + y * np.sin(angles), y * np.cos(angles) - x * np.sin(angles)
    return float(mask.sum() / ((np.ptp(across, axis=1) + 1) * (np.ptp(down, axis=1) + 1)).min())


def _extend_sheet(pixels: np.ndarray, sheet: np.ndarray, factor: int) -> np.ndarray:
    """Pixels [3, h, w], cut to whole blocks. Those outside of the sheet have the color of the nearest one inside."""
    if not sheet.any():
        return pixels
    full = sheet.repeat(factor, 0).repeat(factor, 1)
    y, x = ndimage.distance_transform_edt(~full, return_distances=False, return_indices=True)
    return np.ascontiguousarray(pixels[:, y, x])


def fit_paper(colors: np.ndarray) -> np.ndarray:
    """The paper's color at each pixel, [3, h, w]. It is a second-order surface, so a gradient of light is no ink. It is
    fitted to the border and to every pixel that looks like the border (iteratively reweighted least squares)."""
    _, height, width = colors.shape
    rows, columns = (np.linspace(0, size - 1, 32).round().astype(int) for size in (height, width))
    values = colors[:, rows[:, None], columns].reshape(3, -1).T.astype(np.float64)
    grid = np.linspace(-1, 1, 32)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    terms, border = _quadratic_terms(x, y).reshape(6, -1).T, (np.maximum(np.abs(x), np.abs(y)) == 1).ravel()
    residual = np.linalg.norm(values - np.median(values[border], axis=0), axis=1)
    weights = border / (1 + (residual / 0.1) ** 2)
    for _ in range(5):
        solution = np.linalg.lstsq(terms * weights[:, None], values * weights[:, None], rcond=None)[0]
        residual = np.linalg.norm(values - terms @ solution, axis=1)
        scale = max(0.02, 2 * float(np.median(residual[border])))
        weights = (0.1 + border) / (1 + (residual / scale) ** 2) ** 2
    across, down = (np.linspace(-1, 1, size, dtype=np.float32) for size in (width, height))
    surface = _quadratic_terms(*np.broadcast_arrays(across[None, :], down[:, None]))
    return np.tensordot(solution.T.astype(np.float32), surface, 1)


def _has_hard_shadow(ink: np.ndarray) -> bool:
    """Whether a part of the picture differs from the fitted paper in the direction opposite to ink. A stroke of ink has
    paper on both sides. A shadow with a sharp edge has the shade on one side and a bright part on the other."""
    peak = float(ndimage.uniform_filter(ink, 3).max())
    return float((ink < -LIT * peak).mean()) > LEAST_LIT


def estimate_uneven_light(ink: np.ndarray) -> np.ndarray:
    """Shadows and stains: what is left of the ink without everything narrower than the window. Computed on a small
    copy of the picture."""
    height, width = ink.shape
    zoom = 48 / max(height, width)
    size = (max(8, round(width * zoom)), max(8, round(height * zoom)))
    coarse = Image.fromarray(np.clip(ink * 100, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    reach = round(WINDOW * min(size) / 2)
    light = _open(np.asarray(coarse), reach, 1)  # one pixel wider: the small copy has blurred the edges
    if not light.any():
        return np.zeros((1, 1), np.float32)
    return np.asarray(Image.fromarray(light).resize((width, height), Image.Resampling.BILINEAR), np.float32) / 100


def estimate_local_paper(ink: np.ndarray, margin: int = 0) -> np.ndarray:
    """The ink's value [h, w] where there is only paper. Several digits are small, so a small window has paper in it.
    With a `margin` shadows reach a little farther than they do, so that their blurred edges are no ink."""
    height, width = ink.shape
    coarse, factor = _shrink(ink, 96)
    reach = max(2, round(LOCAL_WINDOW * min(height, width) / factor / 2))
    paper = ndimage.gaussian_filter(_open(coarse, reach, margin), 1)
    return np.asarray(Image.fromarray(paper).resize((width, height), Image.Resampling.BILINEAR))


def _open(values: np.ndarray, reach: int, margin: int) -> np.ndarray:
    """What is left of the values [h, w] without all that is narrower than 2 × `reach` + 1, widened by the `margin`.
    Nothing is known of what is outside of the picture, so it does not count."""
    low, high = (0, 255) if values.dtype == np.uint8 else (-np.inf, np.inf)
    least = ndimage.minimum_filter(values, 2 * reach + 1, mode="constant", cval=high)
    return ndimage.maximum_filter(least, 2 * (reach + margin) + 1, mode="constant", cval=low)


def _shrink(values: np.ndarray, side: int) -> tuple[np.ndarray, int]:
    """Values [h, w] → the means [≤ side, ≤ side] of square blocks, float32, and the side of a block."""
    factor = max(1, max(values.shape) // side)
    rows, columns = (np.arange(0, size, factor) for size in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    sizes = np.outer(np.diff([*rows, values.shape[0]]), np.diff([*columns, values.shape[1]]))
    return (sums / sizes).astype(np.float32), factor


def _find_ink_direction(difference: np.ndarray, medium: Medium) -> np.ndarray | None:
    """The unit vector [3] from the paper's color to the ink's color. None if there is only paper."""
    strength = np.sqrt((difference**2).sum(0))
    if medium is CAMERA:
        strength -= estimate_uneven_light(strength)
    peak = float(ndimage.uniform_filter(strength, 3).max())
    if peak < medium.faintest:
        return None
    strongest = np.where(strength > 0.8 * peak, strength, 0)
    direction = (difference * strongest).sum((1, 2))
    return direction / max(float(np.linalg.norm(direction)), 1e-9)


def _remove_noise(ink: np.ndarray, noise: float, faintest: float) -> np.ndarray | None:
    """Ink scaled so that a typical stroke is 1. None if no ink exceeds the noise, whose standard deviation is given."""
    smooth = ndimage.uniform_filter(ink, 3)
    peak = float(smooth.max())
    if noise > 0.08 * peak:
        ink, noise = smooth, noise / 3
    if peak < max(faintest, NOISE_FACTOR * noise):
        return None
    typical = float(np.percentile(ink[ink > 0.5 * peak], 60))
    return np.clip((ink - noise) / (typical - noise), 0, 1.5).astype(np.float32)


def _pool(pixels: np.ndarray, factor: int, combine: np.ufunc) -> np.ndarray:
    """[3, h, w] uint8 → [3, h // factor, w // factor]: the sum (np.add), minimum or maximum of each block of pixels."""
    height, width = (size // factor * factor for size in pixels.shape[1:])
    bands = pixels[:, :height, :width].reshape(3, height // factor, factor, width)
    rows = combine.reduce(bands, axis=2, dtype=np.uint16)
    return np.asarray(combine.reduce([rows[:, :, start::factor] for start in range(factor)]))


def _is_screen_drawing(pixels: np.ndarray) -> bool:
    """True for a drawing made on a screen: most pixels equal their neighbors. A camera picture has noise."""
    sample = pixels[1, ::4]
    return float((sample[:, 1:] == sample[:, :-1]).mean()) > 0.5


def _quadratic_terms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
