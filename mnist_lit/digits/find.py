"""Ink → the digits in it: paper's lines and specks left out, broken strokes joined, digits side by side told apart."""

from dataclasses import dataclass

import numpy as np

from mnist_lit.digits.regions import label_regions

FAINT, STRONG = 0.4, 0.7  # ink; a stroke is what is connected, more than faint, and strong somewhere
STEEPEST = 0.14  # slope of a printed line in a picture not held straight, 8 degrees
SPECK = 0.015  # part of the largest region's area; what is smaller is dirt
FLAT = 2.2  # width over height; no digit lies like that, but what is left of a line does
SAME_LINE = 0.3  # of two digits' heights must be beside each other
SMALL = 0.45  # part of the tallest digit's height; what is smaller is a piece of a digit, or nothing


@dataclass
class Piece:
    """A region, or several that belong together: its labels, its box and its area in pixels."""

    labels: list[int]
    left: int
    top: int
    right: int
    bottom: int
    area: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def joined(self, other: "Piece") -> "Piece":
        return Piece(
            self.labels + other.labels,
            min(self.left, other.left), min(self.top, other.top),
            max(self.right, other.right), max(self.bottom, other.bottom),
            self.area + other.area,
        )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """One digit: its ink alone [h, w], cut out, and the box (left, top, right, bottom) that it was cut from."""

    ink: np.ndarray
    box: tuple[int, int, int, int]


def find_digits(ink: np.ndarray) -> list[Found]:
    """The digits in `ink` [h, w] in the order of reading; an empty list if there is none."""
    mask = without_lines(ink > FAINT)
    labels, number = label_regions(mask)
    if not number:
        return []
    pieces = _digits(_strokes(ink, labels, number), ink.shape)
    return [_cut(ink, labels, piece) for piece in _in_order_of_reading(pieces)]


def _in_order_of_reading(pieces: list[Piece]) -> list[Piece]:
    """Line by line, each from left to right. A line goes on with what stands beside its last digit, so it may slant."""
    lines: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.left + piece.right):
        beside = [line for line in lines if _beside(line[-1], piece) > SAME_LINE]
        if beside:
            max(beside, key=lambda line: _beside(line[-1], piece)).append(piece)
        else:
            lines.append([piece])
    lines.sort(key=lambda line: sum(piece.top + piece.bottom for piece in line) / len(line))
    return [piece for line in lines for piece in line]


def _beside(one: Piece, other: Piece) -> float:
    """How much of the smaller one's height both share."""
    return (min(one.bottom, other.bottom) - max(one.top, other.top)) / min(one.height, other.height)


def without_lines(mask: np.ndarray) -> np.ndarray:
    """The mask without thin straight lines from one edge of the picture to the other, where something else is left."""
    (across, rows), (down, columns) = _lines(mask), _lines(mask.T)
    rest = mask & ~(across | down.T)
    if max(rows, columns) > 1:  # no digit has two parallel strokes as long as the picture
        return rest
    labels, number = label_regions(rest)
    heights = [piece.height for piece in _pieces(labels, number)]
    return rest if heights and max(heights) > 0.12 * len(mask) else mask


def _lines(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The pixels of thin lines that run from left to right, but not where a stroke crosses them, and how many lines."""
    width = mask.shape[1]
    thickest = max(2, round(0.025 * width))
    found = np.zeros_like(mask)
    if not (mask[:, :thickest].any() and mask[:, -thickest:].any()):
        return found, 0
    y, x = np.nonzero(mask)
    for slope in np.linspace(-STEEPEST, STEEPEST, 41):
        rows = np.rint(y - slope * x).astype(int)
        rows -= rows.min()
        counts = np.bincount(rows)
        for row in np.flatnonzero(counts > 0.7 * width):
            near = np.abs(rows - row) <= thickest // 2 + 1
            found[y[near], x[near]] = True
    if not found.any():
        return found, 0
    thick = mask.copy()
    for _ in range(thickest * 2 - 1):  # what goes on so far upwards or downwards is no thin line
        thick[:-1] &= thick[1:]
    tall = thick.copy()
    for _ in range(thickest * 2 - 1):
        tall[1:] |= tall[:-1]
    thin = found & ~tall
    middle = thin[:, width // 2 - width // 16 : width // 2 + width // 16].any(1)
    return thin, int((np.diff(middle.astype(np.int8)) == 1).sum())


def _strokes(ink: np.ndarray, labels: np.ndarray, number: int) -> list[Piece]:
    """The regions that are strong somewhere and no specks."""
    strongest = np.zeros(number + 1, np.float32)
    np.maximum.at(strongest, labels.ravel(), ink.ravel())
    pieces = [piece for piece in _pieces(labels, number) if strongest[piece.labels[0]] > STRONG]
    largest = max((piece.area for piece in pieces), default=0)
    return [piece for piece in pieces if piece.area >= max(3, SPECK * largest)]


def _pieces(labels: np.ndarray, number: int) -> list[Piece]:
    """The largest fifty regions."""
    areas = np.bincount(labels.ravel(), minlength=number + 1)
    areas[0] = 0
    pieces = []
    for label in np.argsort(-areas)[:50]:
        if areas[label]:
            y, x = np.nonzero(labels == label)
            pieces.append(Piece([int(label)], x.min(), y.min(), x.max() + 1, y.max() + 1, int(areas[label])))
    return pieces


def _digits(pieces: list[Piece], shape: tuple[int, ...]) -> list[Piece]:
    pieces = _without_edges(pieces, shape)
    joined = True
    while joined:
        joined = False
        tallest = max((piece.height for piece in pieces), default=0)
        for one in pieces:
            other = next((it for it in pieces if it is not one and _belong_together(one, it, tallest)), None)
            if other:
                pieces = [piece for piece in pieces if piece is not one and piece is not other] + [one.joined(other)]
                joined = True
                break
    size = max((max(piece.height, piece.width) for piece in pieces), default=0)
    upright = [piece for piece in pieces if piece.width < FLAT * piece.height]
    return [piece for piece in upright if max(piece.height, piece.width / 2) >= SMALL * size]


def _without_edges(pieces: list[Piece], shape: tuple[int, ...]) -> list[Piece]:
    """Without what hangs in from outside the picture, if a digit stands within it."""

    def inside(piece: Piece) -> bool:
        return piece.left > 0 and piece.top > 0 and piece.right < shape[1] and piece.bottom < shape[0]

    within = [piece for piece in pieces if inside(piece)]
    tall = max((piece.height for piece in within), default=0)
    biggest = max((piece.area for piece in pieces), default=0)
    return within if tall >= 0.12 * shape[0] and max(piece.area for piece in within) > 0.1 * biggest else pieces


def _belong_together(one: Piece, other: Piece, tallest: int) -> bool:
    """Whether two pieces are strokes of one digit: one above the other, or one a small piece right beside it."""
    beside = max(one.left, other.left) - min(one.right, other.right)  # the gap; below 0 is overlap
    above = max(one.top, other.top) - min(one.bottom, other.bottom)
    overlap = -beside / max(1, min(one.width, other.width))
    if overlap > 0.35:
        return above < 0.35 * tallest
    small = min(one.height, other.height) < SMALL * tallest
    return above < 0.15 * tallest and beside < (0.25 if small else 0.06) * tallest


def _cut(ink: np.ndarray, labels: np.ndarray, piece: Piece) -> Found:
    """The piece's own ink, with a pixel's margin for the soft edges of its strokes."""
    top, left = max(0, piece.top - 2), max(0, piece.left - 2)
    bottom, right = piece.bottom + 2, piece.right + 2
    own = np.isin(labels[top:bottom, left:right], piece.labels)
    near = own.copy()
    near[1:] |= own[:-1]
    near[:-1] |= own[1:]
    near[:, 1:] |= near[:, :-1].copy()
    near[:, :-1] |= near[:, 1:].copy()
    height, width = ink.shape
    return Found(ink[top:bottom, left:right] * near, (left, top, min(right, width), min(bottom, height)))
