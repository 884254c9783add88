"""The leaderboards as one HTML page with interactive plots. It loads no other file.

The scripts that draw the plots (Vega, Vega-Lite, Vega-Embed) come from vl-convert. templates/report.js connects the
plots with the tables.
"""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import vl_convert
from jinja2 import Environment, PackageLoader
from PIL import Image

from mnist_lit.config.schema import DataSection, IDXData, SklearnDigitsData
from mnist_lit.console import plural
from mnist_lit.data.files import FileSet, count_images, recorded_root
from mnist_lit.data.idx import read_idx_file
from mnist_lit.evaluation.statistics import confusion_matrix
from mnist_lit.reports.leaderboard import Leaderboard, Row
from mnist_lit.reports.plots import COLORS, plot_accuracies, plot_curves, plot_search, read_curves
from mnist_lit.reports.run_reader import Run, UnreadableRun
from mnist_lit.reports.tables import (
    MOST_COLUMNS,
    describe_row,
    describe_usual_options,
    explain_order,
    format_mean_std,
    format_option,
    format_row,
    list_footnotes,
)
from mnist_lit.run_folder import CONFIG, read_config

MOST_CURVES = len(COLORS)  # rows whose curves are drawn before the reader chooses
MOST_POINTS = 60_000  # of all curves together; more make the page larger than 3 MB
MOST_MISTAKES = 12  # of a row


def render_page(boards: Sequence[Leaderboard], problems: Sequence[str], page: Path, top: int) -> str:
    """`page` is the path that the page will have: its links to the runs' folders are relative."""
    lines = 4 * sum(row.n for board in boards for row in board.rows[:top])
    thin = max(2, MOST_POINTS // max(1, lines))
    sections = [render_board(board, f"g{number}", page, top, thin) for number, board in enumerate(boards, 1)]
    templates = Environment(loader=PackageLoader("mnist_lit.reports"), autoescape=True, trim_blocks=True)
    return templates.get_template("report.html").render(
        time=datetime.now().strftime("%Y-%m-%d %H:%M"),
        choice=explain_order(boards),
        sections=sections,
        problems=problems,
        plots={section["id"]: {"charts": section["charts"], "curves": section["curves"]} for section in sections},
        library=vl_convert.javascript_bundle(),  # type: ignore[call-arg]  # its type stub lacks the default
        script=(files("mnist_lit.reports") / "templates" / "report.js").read_text(encoding="utf-8"),
    )


def render_board(board: Leaderboard, name: str, page: Path, top: int, thin: int) -> dict[str, Any]:
    """What the template shows of a leaderboard. `thin` is the largest number of points in a curve."""
    merged = len(board.columns) > MOST_COLUMNS
    rows, shared = board.rows[:top], _shared_options(board)
    curves = [curve for index, row in enumerate(rows) for curve in read_curves(board, row, index, thin)]
    return {
        "id": name,
        "title": board.title,
        "lesson": board.lesson,
        "order": board.order,
        "summary": plural(len(board.rows), "configuration"),
        "more": len(board.rows) - len(rows),
        "usual": describe_usual_options(board) if merged else "",
        "cells": [format_row(board, rank, row, merged) for rank, row in enumerate(rows, 1)],
        "names": {board.headings[option]: option for option in board.columns},
        "rows": [describe_details(board, row, index, page, shared) for index, row in enumerate(rows)],
        "shared": _format_options(shared),
        "notes": [note for note in list_footnotes(board) if note[0] == "Not finished:"],
        "curves": curves,
        "charts": [*plot_search(board.search), *plot_curves(curves), *plot_accuracies(board, rows)],
    }


def describe_details(board: Leaderboard, row: Row, index: int, page: Path, shared: Mapping[str, Any]) -> dict[str, Any]:
    run = next(iter(row.seeds.values()))  # of several runs of one seed, the last one counts
    versions = ", ".join(f"{name} {version}" for name, version in (run.result.get("versions") or {}).items())
    known = [versions, run.result.get("device"), run.result.get("git_commit"), run.result.get("started")]
    return {
        "label": describe_row(board, row),
        "filter": " ".join(
            f"{board.headings[name]}={format_option(name, value(row))}".replace(" ", "")
            for name, value in board.columns.items()
        ),
        "color": COLORS[index % len(COLORS)],
        "drawn": index < MOST_CURVES,
        "test_acc": format_mean_std(row, "test_acc"),
        "together": f"{row.together:.2%}" if row.together is not None else "",
        "command": row.command,
        "options": _format_options({name: value for name, value in run.options.items() if name not in shared}),
        "versions": "; ".join(str(text) for text in known if text),
        "runs": [
            {
                "seed": seed,
                "folder": str(one.folder),
                "href": link_to(one.folder, page),
                "config": CONFIG,
                "val_acc": f"{one.result['val_acc']:.2%}",
                "test_acc": f"{one.result['test_acc']:.2%}",
            }
            for seed, one in row.seeds.items()
        ],
        "limited": ", ".join(f"{name}={value}" for name, value in run.limited.items()),
    } | read_mistakes(run)


def link_to(folder: Path, page: Path) -> str:
    """Relative, so that the page and the runs can be moved together."""
    try:
        return quote(Path(os.path.relpath(folder, page.parent)).as_posix())
    except ValueError:  # Windows: they are on different drives
        return folder.absolute().as_uri()


def read_mistakes(run: Run) -> dict[str, Any]:
    """The confusion matrix, and the wrong predictions with the highest confidence. `sprite` holds their images in one
    row, as a data URI; None if the test images are not on this machine."""
    try:
        found = run.read_predictions()
    except UnreadableRun:
        return {}
    label, prediction, confidence = found["label"], found["prediction"], found["confidence"]
    wrong = np.flatnonzero(label != prediction)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_MISTAKES]
    matrix = confusion_matrix(label, prediction)
    images, labels = read_test_images(run.folder)
    known = len(worst) > 0 and np.array_equal(labels[: len(label)], label)
    return {
        "classes": run.classes,
        "matrix": matrix.tolist(),
        "most_wrong": max(1, int((matrix - np.diag(matrix.diagonal())).max())),
        "wrong": f"{len(wrong):,} of {len(label):,}",
        "sprite": _to_data_uri(np.hstack([images[i] for i in worst])) if known else None,
        "mistakes": [
            f"{run.classes[label[i]]} read as {run.classes[prediction[i]]} ({100 * confidence[i]:.0f} %)" for i in worst
        ],
    }


NO_IMAGES = np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64)
# Options that do not change the test images.
NOT_OF_THE_TEST = {"batch_size", "train_size", "label_noise", "augment", "mean", "std"}
_test_images: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # section `data` of the config → images and labels


def read_test_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Test images [n, 28, 28] uint8 and labels [n] of the run's data set; none if they are not on this machine."""
    with suppress(Exception):  # a data set from outside the package can raise anything
        data = read_config(folder).data
        key = repr(data.model_dump(by_alias=True, exclude=NOT_OF_THE_TEST))
        if key not in _test_images:
            _test_images[key] = NO_IMAGES  # if it fails, it is not tried again
            _test_images[key] = _read_idx(data.options) if isinstance(data, IDXData) else _load(data)
        return _test_images[key]
    return NO_IMAGES


def _read_idx(options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Downloads nothing. Imports no torch, so that the report of many runs is quick."""
    files = FileSet.from_options({**options, "root": recorded_root(options)})
    count_images(files)  # raises UserError
    images = read_idx_file(files.file("test_images"), is_images=True)
    return images, read_idx_file(files.file("test_labels"), is_images=False)


def _load(data: DataSection) -> tuple[np.ndarray, np.ndarray]:
    """Without prepare_data, which downloads what is missing. The embedded digits need no Lightning."""
    if isinstance(data, SklearnDigitsData):
        from mnist_lit.data.datasets import load_digits

        splits = load_digits(data.val_size, data.split_seed)
    else:
        from mnist_lit.build import build

        splits = build(data, "data").load()
    test = splits.test
    return test.images.squeeze(1).numpy(), test.labels.numpy()


def _to_data_uri(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(255 - pixels).save(stream, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _shared_options(board: Leaderboard) -> dict[str, Any]:
    """The options that have the same value in all rows."""
    options = [row.options for row in board.rows]
    first = options[0] if options else {}
    return {name: value for name, value in first.items() if all(name in it and it[name] == value for it in options)}


def _format_options(options: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {'null' if value is None else value}" for name, value in options.items())
