"""The leaderboard as one HTML page that needs nothing but itself."""

import io
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from mnist_lit.plots import confusion_matrix, draw_confusion
from mnist_lit.reports.leaderboard import Leaderboard, Row
from mnist_lit.reports.render import RANKING, cells, footnotes, headings, shown
from mnist_lit.reports.runs import Run, UnreadableRun
from mnist_lit.reports.search import history_plot, importance_plot

MOST_CURVES = 10  # rows; more lines than that cannot be told apart
MOST_MATRICES = 6
matplotlib.rcParams |= {"svg.fonttype": "none", "font.family": "sans-serif", "axes.spines.top": False}
matplotlib.rcParams |= {"axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}


def page(board: Leaderboard, searches: Sequence[dict[str, Any]] = ()) -> str:
    templates = Environment(loader=PackageLoader("mnist_lit.reports"), autoescape=True)
    return templates.get_template("page.html").render(
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        ranking=RANKING,
        headings=headings(board),
        rows=[cells(board, rank, row) for rank, row in board.ranked],
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


def label(row: Row, board: Leaderboard) -> str:
    """What tells this row from the others."""
    values = [
        shown(value(row)) if name in row.choices or name == "experiment" else f"{name}={shown(value(row))}"
        for name, value in board.columns.items()
        if value(row) is not None
    ]
    return ", ".join(values) or "all runs"


def accuracy_plot(board: Leaderboard) -> Markup:
    """Each row's test accuracy: a dot a seed, a bar for the 95 % interval, a cross for the article's own loop."""
    rows = board.rows[:40][::-1]
    figure = Figure(figsize=(9, 0.9 + 0.34 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for height, row in enumerate(rows):
        low, high = row.interval
        axes.plot([100 * low, 100 * high], [height, height], color="#9db4d6", linewidth=6, solid_capstyle="round")
        axes.plot(100 * np.array(row.values("test_acc")), [height] * row.n, "o", color="#1f4e9c", markersize=4)
        if row.reference:
            axes.plot(100 * row.reference, height, "x", color="#c0392b", markersize=7, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), [label(row, board) for row in rows])
    axes.set_xlabel("%")
    return _svg(figure)


def curves_plot(rows: Sequence[Row], board: Leaderboard) -> Markup:
    """Validation loss and error over the epochs, one line a run, one colour a row."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss_axes, error_axes = figure.subplots(1, 2)
    for number, row in enumerate(rows):
        for index, run in enumerate(row.runs):
            look = {"marker": ".", "color": f"C{number}", "alpha": 0.8, "linewidth": 1.2}
            epochs, losses = run.curve("val_loss")
            loss_axes.plot(epochs, losses, **look, label=label(row, board) if index == 0 else None)
            epochs, accuracies = run.curve("val_acc")
            error_axes.plot(epochs, [100 * (1 - accuracy) for accuracy in accuracies], **look)
    for axes, title in ((loss_axes, "validation loss"), (error_axes, "validation error, %")):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_yscale("log")
    figure.legend(*loss_axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return _svg(figure)


def confusion_plot(rows: Sequence[Row], board: Leaderboard) -> Markup | None:
    """What was taken for what, in each row's first run that kept its predictions."""
    found = []
    for row in rows:
        try:
            found.append((label(row, board), _confusion(row.runs[0])))
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
