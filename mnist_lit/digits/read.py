"""Pictures → what a network reads in them: many at a time, and a line for each one that cannot be read."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_lit.digits.networks import Network
from mnist_lit.digits.picture import BadPicture
from mnist_lit.digits.prepare import Digit, prepare_many, prepare_one

AT_ONCE = 64  # pictures
STDIN = "-"
NO_PICTURES = "there are no pictures in this folder"
SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2", ".ico"}


@dataclass(frozen=True)
class Reading:
    """What was read in a file: one digit, with `probabilities` [10], or `error`. Of several digits in a picture this is
    number `place` of `places`, from the left."""

    file: str
    digit: Digit | None = None
    probabilities: np.ndarray | None = None
    error: str | None = None
    place: int = 1
    places: int = 1

    @property
    def top(self) -> list[tuple[int, float]]:
        """The three likeliest digits and their probabilities."""
        assert self.probabilities is not None
        best = np.argsort(-self.probabilities, kind="stable")[:3]
        return [(int(digit), float(self.probabilities[digit])) for digit in best]


def pictures_in(sources: Iterable[str]) -> list[str]:
    """Files as they are named, and for a folder the pictures in it, ordered by name; or the folder if it has none."""
    files = []
    for source in sources:
        if source != STDIN and Path(source).is_dir():
            files += [str(path) for path in sorted(Path(source).rglob("*")) if path.suffix.lower() in SUFFIXES] or [
                source
            ]
        else:
            files.append(source)
    return files


def read_pictures(network: Network, files: Sequence[str], many: bool = False) -> Iterator[Reading]:
    """One reading a file, or with `many` one for each digit in it; in the files' order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), AT_ONCE):
            prepared = pool.map(lambda file: _prepared(file, many), files[start : start + AT_ONCE])
            readings = [reading for found in prepared for reading in found]
            yield from _answered(network, readings)


def _prepared(file: str, many: bool) -> list[Reading]:
    if file != STDIN and Path(file).is_dir():
        return [Reading(file, error=NO_PICTURES)]
    try:
        source = sys.stdin.buffer.read() if file == STDIN else Path(file)
        digits = prepare_many(source) if many else [prepare_one(source)]
    except BadPicture as error:
        return [Reading(file, error=str(error))]
    return [Reading(file, digit, place=place, places=len(digits)) for place, digit in enumerate(digits, 1)]


def _answered(network: Network, readings: list[Reading]) -> Iterator[Reading]:
    digits = [reading.digit.pixels for reading in readings if reading.digit]
    answers = iter(network(np.stack(digits)) if digits else ())
    for reading in readings:
        if reading.digit is None:
            yield reading
        else:
            yield Reading(reading.file, reading.digit, next(answers), None, reading.place, reading.places)
