"""Predictions and evaluations as lines for the terminal, as JSON and as CSV."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mnist_lit.console import plural
from mnist_lit.digits.picture_predictions import NO_DIGIT, PictureEvaluation, Prediction
from mnist_lit.evaluation.statistics import format_confusion_matrix, wilson_interval

SHADES = " ░▒▓█"
SPACE = 0.6  # part of a digit's height: a narrower gap is no space


def print_predictions(predictions: Iterable[Prediction], width: int, many: bool, show: bool) -> int:
    """Print a line for each picture, or with `many` a line of text for each line of writing; with `show` also the
    pixels that the network sees. Errors go to standard error. Return their number."""
    failed = 0
    picture: list[Prediction] = []
    for prediction in predictions:
        picture.append(prediction)
        if prediction.place < prediction.places:
            continue
        if prediction.digit is None:
            failed += 1
            print(f"error: {prediction.file}: {prediction.error}", file=sys.stderr)
        else:
            lines = format_writing(picture, width) if many else [format_line(prediction, width)]
            print("\n".join([*lines, *(format_pixels(it.digit.pixels) for it in picture if show and it.digit)]))
        picture = []
    return failed


def format_line(prediction: Prediction, width: int) -> str:
    """For example `three.png  3  99.8%   5  0.1%   8  0.1%`. `width` is the width of the first column. A second line
    says what was left out, if that was much."""
    shares = "   ".join(f"{digit} {p:6.1%}" for digit, p in prediction.top)
    text = shares if prediction.is_digit else f"{NO_DIGIT} ({' '.join(shares.split())})"
    line = f"{prediction.file:<{width}}  {text}"
    left_out = prediction.digit.left_out if prediction.digit else ""
    return f"{line}\n{'':<{width}}  left out: {left_out}" if left_out else line


def format_writing(predictions: Sequence[Prediction], width: int) -> list[str]:
    """The digits of one picture as text, a line of text for each line of writing: `page.jpg  0412 89`. What is probably
    no digit is a question mark."""
    lines = []
    for _, members in groupby(predictions, key=lambda prediction: prediction.digit.line if prediction.digit else 0):
        lines.append(f"{predictions[0].file:<{width}}  {_join_digits(list(members))}")
    left_out = dict.fromkeys(it.digit.left_out for it in predictions if it.digit and it.digit.left_out)
    lines += [f"{'':<{width}}  left out: {text}" for text in left_out]
    unsure = sum(not prediction.is_digit for prediction in predictions)
    if unsure:
        lines.append(f"{predictions[0].file:<{width}}  ? is {NO_DIGIT} ({unsure} of {len(predictions)})")
    return lines


def _join_digits(line: Sequence[Prediction]) -> str:
    """A gap that is wide for a digit's height, and much wider than the small gaps of the line, is a space."""
    boxes = np.array([prediction.digit.box for prediction in line if prediction.digit])
    gaps = boxes[1:, 0] - boxes[:-1, 2]
    space = max(
        SPACE * float(np.median(boxes[:, 3] - boxes[:, 1])), 1.7 * float(np.percentile(gaps, 30)) if len(gaps) else 0
    )
    marks = ["?" if prediction.label is None else str(prediction.label) for prediction in line]
    return marks[0] + "".join((" " if gap > space else "") + mark for gap, mark in zip(gaps, marks[1:], strict=True))


def format_pixels(pixels: np.ndarray) -> str:
    """28 × 28 as 28 lines in a frame. A pixel is two characters wide, so that it looks square."""
    shades = np.array(list(SHADES))[np.minimum(pixels.astype(int) * len(SHADES) // 256, len(SHADES) - 1)]
    rows = ["│" + "".join(shade * 2 for shade in row) + "│" for row in shades]
    edge = "─" * (2 * pixels.shape[1])
    return "\n".join([f"┌{edge}┐", *rows, f"└{edge}┘"])


def format_json(predictions: Iterable[Prediction]) -> str:
    """ASCII: a file name survives an output of any encoding."""
    return json.dumps([_to_record(prediction) for prediction in predictions], indent=2)


def _to_record(prediction: Prediction) -> dict[str, Any]:
    if prediction.digit is None:
        return {"file": prediction.file, "error": prediction.error}
    record: dict[str, Any] = {"file": prediction.file, "prediction": prediction.label}
    if not prediction.is_digit:
        record["reason"] = NO_DIGIT
    record["probability"] = prediction.top[0][1]
    record["top"] = [{"digit": digit, "probability": probability} for digit, probability in prediction.top]
    record["box"] = list(prediction.digit.box)
    if prediction.digit.left_out:
        record["left_out"] = prediction.digit.left_out
    return record


def format_csv(predictions: Iterable[Prediction]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    ranks = ("prediction", "probability", "second", "second_probability", "third", "third_probability")
    writer.writerow(["file", "place", *ranks, "error"])
    for prediction in predictions:
        top: list[Any] = [value for pair in prediction.top for value in pair] if prediction.digit else [""] * len(ranks)
        top[0] = "" if prediction.label is None else prediction.label
        reason = "" if prediction.is_digit else prediction.error or NO_DIGIT
        writer.writerow([prediction.file, prediction.place, *top, reason])
    return stream.getvalue()


def format_picture_evaluation(evaluation: PictureEvaluation, folder: Path) -> str:
    total, wrong = len(evaluation.labels), evaluation.wrong
    accuracy = 1 - len(wrong) / total
    low, high = wilson_interval(accuracy, total)
    lines = [
        f"{folder}: {plural(total, 'picture')}",
        f"accuracy   {accuracy:.2%}  (95 % interval {low:.2%} to {high:.2%})",
        "",
        format_confusion_matrix(evaluation.confusion),
    ]
    for prediction, label in wrong:
        reason = f"not read: {prediction.error}"
        if prediction.digit:
            reason = "predicted {} ({:.1%})".format(*prediction.top[0]) if prediction.is_digit else NO_DIGIT
        lines.append(f"wrong: {prediction.file}: label {label}, {reason}")
    lines += [f"not read, does not count: {skipped.file}: {skipped.error}" for skipped in evaluation.skipped]
    return "\n".join(lines)
