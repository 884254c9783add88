"""The leaderboard as one HTML page that needs nothing but itself."""

import io
import re
from collections.abc import Sequence
from datetime import datetime
from textwrap import shorten
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnist_lit.plots import confusion_matrix, draw_confusion
from mnist_lit.reports.leaderboard import Leaderboard, Row
from mnist_lit.reports.render import (
    RANKING,
    TOO_MANY,
    cells,
    footnotes,
    headings,
    own_options,
    shown,
    usually,
)
from mnist_lit.reports.runs import Run, UnreadableRun
from mnist_lit.reports.search import history_plot, importance_plot
from mnist_lit.words import how_many

MOST_CURVES = 10  # rows; more lines than that cannot be told apart
MOST_MATRICES = 6
matplotlib.rcParams |= {"svg.fonttype": "none", "font.family": "sans-serif", "axes.spines.top": False}
matplotlib.rcParams |= {"axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}


def page(board: Leaderboard, searches: Sequence[dict[str, Any]] = ()) -> str:
    together = len(board.columns) > TOO_MANY
    templates = Environment(loader=PackageLoader("mnist_lit.reports"), autoescape=True)
    return templates.get_template("page.html").render(
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        ranking=RANKING,
        configurations=how_many(len(board.rows), "configuration"),
        usually=usually(board) if together and board.usual else "",
        headings=headings(board, together),
        rows=[cells(board, rank, row, together) for rank, row in board.ranked],
        accuracies=accuracy_plot(board) if board.rows else None,
        curves=curves_plot(board.rows[:MOST_CURVES], board) if board.rows else None,
        matrices=confusion_plot(board.rows[:MOST_MATRICES], board) if board.rows else None,
        footnotes=footnotes(board),
        searches=[search_plots(search) for search in searches],
    )


def search_plots(search: dict[str, Any]) -> dict[str, Any]:
    importance = importance_plot(search)
    return {
        "name": search["name"],
        "history": _svg(history_plot(search)),
        "importance": None if importance is None else _svg(importance),
    }


def labels(board: Leaderboard, length: int) -> list[str]:
    """Of each row its rank and what tells it from the others, in so many characters at most."""
    several = len({row.data for row in board.rows}) > 1
    return [
        shorten(f"{f'{row.data} ' if several else ''}{rank}: {told_apart(board, row)}", length, placeholder=" …")
        for rank, row in board.ranked
    ]


def told_apart(board: Leaderboard, row: Row) -> str:
    if len(board.columns) > TOO_MANY:
        return ", ".join(own_options(board, row))
    values = [
        shown(value(row)) if name in row.choices or name == "experiment" else f"{name}={shown(value(row))}"
        for name, value in board.columns.items()
        if value(row) is not None
    ]
    return ", ".join(values) or "all runs"


def accuracy_plot(board: Leaderboard) -> Markup:
    """Each row's test accuracy: a dot a seed, a bar for the 95 % interval, a cross for the article's own loop."""
    rows, names = board.rows[:40][::-1], labels(board, 48)[:40][::-1]
    figure = Figure(figsize=(9, 0.9 + 0.34 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for height, row in enumerate(rows):
        low, high = row.interval
        axes.plot([100 * low, 100 * high], [height, height], color="#9db4d6", linewidth=6, solid_capstyle="round")
        axes.plot(100 * np.array(row.values("test_acc")), [height] * row.n, "o", color="#1f4e9c", markersize=4)
        if row.reference:
            axes.plot(100 * row.reference, height, "x", color="#c0392b", markersize=7, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), names)
    axes.set_xlabel("%")
    return _svg(figure)


def curves_plot(rows: Sequence[Row], board: Leaderboard) -> Markup:
    """Validation loss and error over the epochs, one line a run, one colour a row."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    (loss_axes, error_axes), names = figure.subplots(1, 2), labels(board, 52)
    for number, row in enumerate(rows):
        for index, run in enumerate(row.runs):
            look = {"marker": ".", "color": f"C{number}", "alpha": 0.8, "linewidth": 1.2}
            epochs, losses = run.curve("val_loss")
            loss_axes.plot(epochs, losses, **look, label=names[number] if index == 0 else None)
            epochs, accuracies = run.curve("val_acc")
            error_axes.plot(epochs, [100 * (1 - accuracy) for accuracy in accuracies], **look)
    for axes, title in ((loss_axes, "validation loss"), (error_axes, "validation error, %")):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_yscale("log")
    figure.legend(*loss_axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return _svg(figure)


def confusion_plot(rows: Sequence[Row], board: Leaderboard) -> Markup | None:
    """What was taken for what, in each row's first run that kept its predictions."""
    found, names = [], labels(board, 34)
    for name, row in zip(names, rows, strict=False):
        try:
            found.append((name, _confusion(row.runs[0])))
        except UnreadableRun:
            continue
    if not found:
        return None
    height = -(-len(found) // 3)
    figure = Figure(figsize=(9, 3.2 * height), layout="constrained")
    for number, (name, matrix) in enumerate(found, 1):
        axes = figure.add_subplot(height, 3, number)
        draw_confusion(axes, matrix, fontsize=5.5)
        axes.set_title(name, fontsize=8)
    return _svg(figure)


def _confusion(run: Run) -> np.ndarray:
    kept = run.predictions()
    return confusion_matrix(kept["label"], kept["prediction"])


def _svg(figure: Figure) -> Markup:
    stream = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None}
    figure.savefig(stream, format="svg", metadata=metadata)
    drawing = stream.getvalue()[stream.getvalue().index("<svg") :]
    return Markup(re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing, count=1))  # scales with the page
