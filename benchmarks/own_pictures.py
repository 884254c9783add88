"""How many pictures that people made are read correctly, by style and by person. Part of `benchmarks.own_digits`.

A folder holds the pictures and `labels.tsv`, a table of file, digits and style. `one/PERSON/NAME` is a picture of one
digit. `many/DIGITS_PERSON_NAME` is a picture of several; it counts as right only if every digit is right.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_lit.digits.picture_predictions import predict_pictures
from mnist_lit.digits.trained_network import Network
from mnist_lit.errors import UserError

LABELS = "labels.tsv"


@dataclass(frozen=True)
class LabeledPicture:
    """`digits` are in reading order, without spaces."""

    path: Path
    digits: str
    style: str
    person: str

    @property
    def single(self) -> bool:
        return len(self.digits) == 1


def list_labeled_pictures(folder: Path) -> list[LabeledPicture]:
    """Raises UserError if there are no labels."""
    try:
        with open(folder / LABELS, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    except OSError as error:
        raise UserError(f"--pictures {folder}: there is no {LABELS} with the columns file, digits, style") from error
    pictures = []
    for row in rows:
        path = folder / row["file"]
        person = path.parent.name if row["file"].startswith("one/") else path.stem.split("_")[1]
        pictures.append(LabeledPicture(path, row["digits"].replace(" ", ""), row["style"], person))
    return pictures


def read_all(network: Network, pictures: Sequence[LabeledPicture]) -> list[str]:
    """What is read in each picture: one digit, or with --many all digits."""
    texts = dict.fromkeys((str(picture.path) for picture in pictures), "")
    for many in (False, True):
        files = [str(picture.path) for picture in pictures if picture.single != many]
        for prediction in predict_pictures(network, files, many):
            if prediction.label is not None:
                texts[prediction.file] += str(prediction.label)
    return [texts[str(picture.path)] for picture in pictures]


def read_all_usual(
    network: Network, pictures: Sequence[LabeledPicture], prepare: Callable[[bytes], np.ndarray]
) -> list[str]:
    """The same after the usual preparation, which takes every picture for one digit."""
    return [str(network(prepare(picture.path.read_bytes())[None]).argmax()) for picture in pictures]


def format_counts(pictures: Sequence[LabeledPicture], answers: dict[str, list[str]]) -> list[str]:
    """A table of right / total, by style and by person. `answers`: heading → what was read in each picture."""
    lines = []
    for title, single in (("single digits", True), ("several digits", False)):
        chosen = [number for number, picture in enumerate(pictures) if picture.single == single]
        if not chosen:
            continue
        if not single:  # the usual preparation reads one digit
            answers = {heading: texts for heading, texts in answers.items() if heading != "usual"}
        lines += ["", f"| {title} | " + " | ".join(answers) + " |", "| --- |" + " ---: |" * len(answers)]
        for group in ("style", "person"):
            for name in sorted({getattr(pictures[number], group) for number in chosen}):
                members = [number for number in chosen if getattr(pictures[number], group) == name]
                lines.append(_format_row(f"{group}: {name}", members, pictures, answers))
        lines.append(_format_row("**all**", chosen, pictures, answers))
    return lines


def _format_row(
    name: str, members: list[int], pictures: Sequence[LabeledPicture], answers: dict[str, list[str]]
) -> str:
    right = (sum(texts[number] == pictures[number].digits for number in members) for texts in answers.values())
    return f"| {name} | " + " | ".join(f"{count} / {len(members)}" for count in right) + " |"
