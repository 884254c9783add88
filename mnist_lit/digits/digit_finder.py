"""Finds the digits in an ink map: removes printed lines, frames and dirt, joins broken strokes, separates neighbors."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mnist_lit.digits.ink_map import rectangularity

FAINT, STRONG = 0.25, 0.6  # a stroke is a connected region of ink above FAINT, with some ink above STRONG
STEEPEST = 0.14  # slope of a printed line in a tilted picture: 8 degrees
SPECK = 0.015  # a region smaller than this part of the largest region is dirt
FLAT = 2.2  # width / height: no digit is this flat, but the rest of a removed line can be
SAME_LINE = 0.3  # two digits are on one line if they share this part of the smaller height
SMALL = 0.45  # a piece lower than this part of a digit's height is a part of a digit, or dirt
SMALLEST = 0.33  # several digits may be smaller than the usual height by this factor
LEAST_HEIGHT = 6  # pixels of the ink map: smaller pieces are dirt, or rests of printed lines
MOST_PIECES = 500  # a picture with more regions is text or dirt; the largest ones are kept
MOST_ROUNDS = 8  # of joining
MUCH = 0.15  # part of the largest digit's ink: a person is told if more is left out
EIGHT_NEIGHBORS = np.ones((3, 3), bool)


@dataclass(frozen=True)
class DigitInk:
    """The ink of one digit [h, w], without its neighbors, its box (left, top, right, bottom) in the ink map, and the
    number of its line. `left_out` says what else is in the picture, if that is much."""

    ink: np.ndarray
    box: tuple[int, int, int, int]
    line: int
    left_out: str


@dataclass(frozen=True)
class Pieces:
    """Regions of ink, or joined regions: bounding boxes and areas in pixels, each [n]. `labels` [h, w] is 1 + the
    number of the piece, 0 for paper."""

    labels: np.ndarray
    left: np.ndarray
    top: np.ndarray
    right: np.ndarray
    bottom: np.ndarray
    area: np.ndarray

    def __len__(self) -> int:
        return len(self.area)

    @property
    def height(self) -> np.ndarray:
        return self.bottom - self.top

    @property
    def width(self) -> np.ndarray:
        return self.right - self.left

    def keep(self, chosen: np.ndarray) -> "Pieces":
        """Only the pieces of a mask [n]."""
        return self.group(np.where(chosen, np.cumsum(chosen), 0))

    def group(self, numbers: np.ndarray) -> "Pieces":
        """Pieces with the same number 1, 2, … become one piece; those with the number 0 are dropped."""
        labels = np.concatenate([[0], numbers])[self.labels]
        return measure_pieces(labels)


def measure_pieces(labels: np.ndarray) -> Pieces:
    boxes = ndimage.find_objects(labels)
    left, top, right, bottom = np.array([(x.start, y.start, x.stop, y.stop) for y, x in boxes], int).reshape(-1, 4).T
    return Pieces(labels, left, top, right, bottom, np.bincount(labels.ravel(), minlength=1)[1:])


def find_digits(ink: np.ndarray, several: bool = False) -> list[DigitInk]:
    """The digits in `ink` [h, w] in reading order. The list is empty if there is none.

    With `several`, pieces that overlap like two strokes of a digit stay apart, and what touches the picture's edge can
    be a digit."""
    labels, _ = ndimage.label(remove_lines(ink > FAINT), EIGHT_NEIGHBORS)
    strokes = _select_strokes(ink, labels)
    inside = _drop_edges(strokes, several)
    joined = _join_strokes(_drop_specks(_drop_frames(inside)), several)
    pieces = _drop_small_pieces(joined, several)
    steps = {"what touches the picture's edge": (strokes, inside), "smaller shapes": (joined, pieces)}
    left_out = " and ".join(what for what, step in steps.items() if _is_much(*step, pieces))
    return [
        _cut_out(ink, pieces, number, line, left_out)
        for line, numbers in enumerate(_find_lines_of_writing(pieces))
        for number in numbers
    ]


def _is_much(before: Pieces, after: Pieces, digits: Pieces) -> bool:
    """Whether a step has dropped much ink."""
    dropped = (before.labels > 0) & (after.labels == 0)
    return bool(dropped.sum() > MUCH * digits.area.max(initial=0))


def remove_lines(mask: np.ndarray) -> np.ndarray:
    """Remove thin straight lines that cross the whole picture, unless almost nothing else is left."""
    (across, rows), (down, columns) = _find_lines(mask), _find_lines(mask.T)
    rest = mask & ~(across | down.T)
    if max(rows, columns) > 1:  # no digit has two parallel strokes as long as the picture
        return rest
    boxes = ndimage.find_objects(ndimage.label(rest, EIGHT_NEIGHBORS)[0])
    tallest = max((rows.stop - rows.start for rows, _ in boxes), default=0)
    return rest if tallest > 0.12 * len(mask) else mask


def _find_lines(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The pixels of thin lines from the left edge to the right edge, and the number of lines. Pixels where a stroke
    crosses a line are left out."""
    width = mask.shape[1]
    thickest = max(2, round(0.025 * width))
    on_line = np.zeros_like(mask)
    if not (mask[:, :thickest].any() and mask[:, -thickest:].any()):
        return on_line, 0
    y, x = np.nonzero(mask)
    for slope in np.linspace(-STEEPEST, STEEPEST, 41):
        rows = np.rint(y - slope * x).astype(int)
        rows -= rows.min()
        lines = np.bincount(rows) > 0.7 * width
        if lines.any():
            near = ndimage.binary_dilation(lines, iterations=thickest // 2 + 1)[rows]
            on_line[y[near], x[near]] = True
    if not on_line.any():
        return on_line, 0
    thin = on_line & ~ndimage.binary_opening(mask, np.ones((2 * thickest, 1)))  # what is taller than that is a stroke
    middle = thin[:, width // 2 - width // 16 : width // 2 + width // 16].any(1)
    return thin, int((np.diff(middle.astype(np.int8)) == 1).sum())


def _select_strokes(ink: np.ndarray, labels: np.ndarray) -> Pieces:
    """The regions that have strong ink."""
    areas = np.bincount(labels.ravel())[1:]
    if not len(areas):
        return measure_pieces(labels)
    strong = ndimage.maximum(ink, labels, np.arange(1, len(areas) + 1)) > STRONG
    chosen = strong & (areas >= 3)
    chosen[np.argsort(-areas * chosen, kind="stable")[MOST_PIECES:]] = False
    return measure_pieces(labels).keep(chosen)


def _drop_edges(pieces: Pieces, several: bool) -> Pieces:
    """Drop the pieces that touch the picture's edge, if a digit stands inside the picture. A piece around all others
    is a digit: the ring of a dotted 0. With `several`, pieces are digits if they are as large as those inside."""
    height, width = pieces.labels.shape
    inside = (pieces.left > 0) & (pieces.top > 0) & (pieces.right < width) & (pieces.bottom < height)
    if not inside.any():
        return pieces
    tallest, largest = pieces.height[inside].max(), pieces.area[inside].max()
    if not several and (tallest < 0.12 * height or largest <= 0.03 * pieces.area.max()):
        return pieces
    labels = pieces.labels
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    contact = np.bincount(border, minlength=len(pieces) + 1)[1:] / np.maximum(pieces.height, pieces.width)
    if several:
        usual = _usual_height(pieces, inside)
        alike = (pieces.height > 0.5 * usual) & (np.maximum(pieces.height, pieces.width) < 1.7 * usual)
        return pieces.keep(inside | (alike & (contact < 0.8)))
    around = (pieces.left <= pieces.left[inside].min()) & (pieces.right >= pieces.right[inside].max())
    around &= (pieces.top <= pieces.top[inside].min()) & (pieces.bottom >= pieces.bottom[inside].max())
    return pieces.keep(inside | (around & (contact < 0.5)))


def _drop_frames(pieces: Pieces) -> Pieces:
    """Drop printed boxes around other pieces, and straight lines that are longer than digits."""
    keep = np.ones(len(pieces), bool)
    boxes = ndimage.find_objects(pieces.labels)
    longest = np.maximum(pieces.height, pieces.width)
    for number in np.argsort(-longest)[:20]:
        rows, columns = boxes[number]
        within = (pieces.left > columns.start) & (pieces.right < columns.stop)
        within &= (pieces.top > rows.start) & (pieces.bottom < rows.stop)
        others = keep & (np.arange(len(pieces)) != number)
        own = pieces.labels[boxes[number]] == number + 1
        if (pieces.height[within & keep] > 0.2 * pieces.height[number]).any():
            keep[number] = rectangularity(ndimage.binary_fill_holes(own)) < 0.88
        elif others.any() and longest[number] > 1.6 * _usual_height(pieces, others):
            keep[number] = not _is_straight(own)
    return pieces if keep.all() else pieces.keep(keep)


def _is_straight(mask: np.ndarray) -> bool:
    """True for a straight line. Its pixels vary along one direction only."""
    y, x = np.nonzero(mask)
    low, high = np.linalg.eigvalsh(np.cov(np.stack([x, y])))
    return bool(low < 0.0025 * high)


def _drop_specks(pieces: Pieces) -> Pieces:
    return pieces.keep(pieces.area >= max(3, SPECK * pieces.area.max(initial=0)))


def _usual_height(pieces: Pieces, chosen: np.ndarray | None = None) -> float:
    """Half of the ink is in pieces of at least this height."""
    heights, areas = pieces.height, pieces.area
    if chosen is not None:
        heights, areas = heights[chosen], areas[chosen]
    if not len(heights):
        return 0.0
    order = np.argsort(heights)
    half = np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2)
    return float(heights[order][half])


def _join_strokes(pieces: Pieces, several: bool) -> Pieces:
    """Join pieces that are strokes of one digit, until no two of them are."""
    pairs, gaps = _find_neighbors(pieces.labels)
    for _ in range(MOST_ROUNDS):
        joined = _belong_together(pieces, pairs, gaps, several)
        if not joined.any():
            break
        links = coo_matrix((np.ones(joined.sum()), pairs[:, joined]), (len(pieces), len(pieces)))
        numbers = connected_components(links, directed=False)[1]
        pieces, pairs = pieces.group(numbers + 1), numbers[pairs]
        pairs, gaps = pairs[:, pairs[0] != pairs[1]], gaps[pairs[0] != pairs[1]]
    return pieces


def _find_neighbors(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs [2, n] of pieces with nothing between them, and the gap [n] of each pair in pixels."""
    if not labels.any():
        return np.zeros((2, 0), int), np.zeros(0)
    distance, (y, x) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner, count = labels[y, x].astype(np.int64), int(labels.max()) + 1
    codes, gaps = [], []
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        edge = owner[one] != owner[other]
        low, high = np.minimum(owner[one][edge], owner[other][edge]), np.maximum(owner[one][edge], owner[other][edge])
        codes.append(low * count + high)
        gaps.append(distance[one][edge] + distance[other][edge])
    code, gap = np.concatenate(codes), np.concatenate(gaps)
    if not len(code):
        return np.zeros((2, 0), int), np.zeros(0)
    order = np.lexsort((gap, code))
    code, first = np.unique(code[order], return_index=True)
    return np.stack([code // count, code % count]) - 1, gap[order][first]


def _belong_together(pieces: Pieces, pairs: np.ndarray, gaps: np.ndarray, several: bool) -> np.ndarray:
    """True [n] where two pieces are strokes of one digit: one is above the other, or one is small and right beside the
    other."""
    (one, other), usual = pairs, _usual_height(pieces)
    beside = np.maximum(pieces.left[one], pieces.left[other]) - np.minimum(pieces.right[one], pieces.right[other])
    above = np.maximum(pieces.top[one], pieces.top[other]) - np.minimum(pieces.bottom[one], pieces.bottom[other])
    overlap = -beside / np.minimum(pieces.width[one], pieces.width[other])
    low = np.minimum(pieces.height[one], pieces.height[other])
    small = low < (SMALLEST if several else SMALL) * usual
    close = (above < 0.15 * usual) & (beside < np.where(small, 0.25, 0.06) * usual)
    stacked = (overlap > 0.35) & (above < 0.35 * usual)
    if not several:
        return stacked | ((overlap <= 0.35) & close)
    nearest = np.full(len(pieces), 1e9)
    np.minimum.at(nearest, pairs.ravel(), np.tile(gaps, 2))
    part = np.where(pieces.height[one] < pieces.height[other], one, other)  # a part of a digit belongs to the nearest
    broken = (overlap > 0.35) & (above < -0.3 * low) & (gaps < 0.08 * usual)
    return np.where(small, (gaps <= nearest[part]) & (stacked | close), broken)


def _drop_small_pieces(pieces: Pieces, several: bool) -> Pieces:
    """Keep the pieces that are upright and large enough to be digits."""
    upright = (pieces.width < FLAT * pieces.height) & (pieces.height >= LEAST_HEIGHT)
    size = np.maximum(pieces.height, pieces.width / 2)
    if several:
        return pieces.keep(upright & (size >= SMALLEST * _usual_height(pieces)))
    return pieces.keep(upright & (size >= SMALL * np.maximum(pieces.height, pieces.width).max(initial=0)))


def _find_lines_of_writing(pieces: Pieces) -> list[list[int]]:
    """The numbers of the pieces line by line, from left to right. Each digit is compared with the last one of a line,
    so a line may slant."""
    lines: list[list[int]] = []
    for number in np.argsort(pieces.left + pieces.right, kind="stable").tolist():
        last = [line[-1] for line in lines]
        shared = np.minimum(pieces.bottom[last], pieces.bottom[number]) - np.maximum(
            pieces.top[last], pieces.top[number]
        )
        shared = shared / np.minimum(pieces.height[last], pieces.height[number])  # as a part of the smaller height
        if len(last) and shared.max() > SAME_LINE:
            lines[int(shared.argmax())].append(number)
        else:
            lines.append([number])
    return sorted(lines, key=lambda line: float((pieces.top[line] + pieces.bottom[line]).mean()))


def _cut_out(ink: np.ndarray, pieces: Pieces, number: int, line: int, left_out: str) -> DigitInk:
    """The piece's own ink. One pixel around it is kept for the soft edges of the strokes."""
    height, width = ink.shape
    top, left = max(0, int(pieces.top[number]) - 2), max(0, int(pieces.left[number]) - 2)
    bottom, right = min(height, int(pieces.bottom[number]) + 2), min(width, int(pieces.right[number]) + 2)
    soft = ndimage.binary_dilation(pieces.labels[top:bottom, left:right] == number + 1, EIGHT_NEIGHBORS)
    return DigitInk(ink[top:bottom, left:right] * soft, (left, top, right, bottom), line, left_out)
