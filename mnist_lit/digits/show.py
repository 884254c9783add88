"""Readings as lines for the terminal, as JSON and as CSV."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from mnist_lit.digits.read import Reading

SHADES = " ░▒▓█"


def line(reading: Reading, width: int) -> str:
    """Such as `three.png  3  99.8%   5  0.1%   8  0.1%`; `width` is that of the first column."""
    place = f"{reading.place} of {reading.places}  " if reading.places > 1 else ""
    return f"{reading.file:<{width}}  {place}" + "   ".join(f"{digit} {share:6.1%}" for digit, share in reading.top)


def drawn(pixels: np.ndarray) -> str:
    """28 × 28 as 28 lines in a frame, two characters a pixel, so that it looks square."""
    shades = np.array(list(SHADES))[np.minimum(pixels.astype(int) * len(SHADES) // 256, len(SHADES) - 1)]
    rows = ["│" + "".join(shade * 2 for shade in row) + "│" for row in shades]
    edge = "─" * (2 * pixels.shape[1])
    return "\n".join([f"┌{edge}┐", *rows, f"└{edge}┘"])


def as_json(readings: Iterable[Reading]) -> str:
    return json.dumps([_record(reading) for reading in readings], indent=2, ensure_ascii=False)


def _record(reading: Reading) -> dict[str, Any]:
    if reading.digit is None:
        return {"file": reading.file, "error": reading.error}
    (prediction, probability), *_ = reading.top
    record: dict[str, Any] = {"file": reading.file, "prediction": prediction, "probability": probability}
    record["top"] = [{"digit": digit, "probability": share} for digit, share in reading.top]
    if reading.places > 1:
        record["box"] = list(reading.digit.box)
    return record


def as_csv(readings: Iterable[Reading]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    ranks = ("prediction", "probability", "second", "second_probability", "third", "third_probability")
    writer.writerow(["file", "place", *ranks, "error"])
    for reading in readings:
        answers = [value for pair in reading.top for value in pair] if reading.digit else [""] * len(ranks)
        writer.writerow([reading.file, reading.place, *answers, reading.error or ""])
    return stream.getvalue()
