"""The plots of the HTML page, described with Altair: curves, test accuracies, the trials of a search.

Each plot is a mapping of kind, title, note and spec. report.js draws the specs with Vega-Lite. Into the plots of the
kinds `curves` and `rows` it fills the values of the chosen rows, and it fits their axes to these values.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from mnist_lit.reports.leaderboard import Leaderboard, Row
from mnist_lit.reports.run_reader import Run
from mnist_lit.reports.tables import describe_row, format_option

COLORS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2", "#72b7b2", "#d67195", "#9d755d", "#bab000", "#7f7f7f")
PERCENT = "format(datum.value * 100, '.3~g') + ' %'"
SHAPES = {"complete": "circle", "pruned": "M-1,-1L1,1M-1,1L1,-1"}  # of trials
SHOWN = ("trial", "state", "value", "error")  # of a trial, beside its options
NUMBER = "format(datum.value, '.3~g')"


def read_curves(board: Leaderboard, row: Row, index: int, thin: int) -> list[dict[str, Any]]:
    """The curves of each run of a row: steps and values of training and validation."""
    found = []
    for seed, run in row.seeds.items():
        curves, options = run.metrics(), run.options
        batch = options.get("data.batch_size", 1) * options.get("trainer.devices", 1)
        names = ("train_loss", "train_acc", "val_loss", "val_acc")
        found.append({
            "row": index,
            "label": f"{index + 1}: {describe_row(board, row)}" + (f", seed {seed}" if row.n > 1 else ""),
            "color": COLORS[index % len(COLORS)],
            "loss": describe_loss(run),
            "steps_per_epoch": run.result["global_step"] / max(1, run.result["epochs"]),
            "samples_per_step": batch * options.get("trainer.accumulate_grad_batches", 1),
            "curves": {name: _thin(curves.get(name) or curves.get(f"{name}_epoch", []), thin) for name in names},
        })  # fmt: skip
    return found


def describe_loss(run: Run) -> str:
    """Losses with different descriptions have values that cannot be compared."""
    target = str(run.options.get("loss._target_", "")).rpartition(".")[2]
    options = {name.removeprefix("loss."): value for name, value in run.options.items() if name.startswith("loss.")}
    changed = [f"{name}={format_option(name, value)}" for name, value in options.items() if value and name[0] != "_"]
    return ", ".join([run.choices.get("loss") or target or "loss", *changed])


def _thin(points: Sequence[tuple[int, float]], most: int) -> list[list[float]]:
    """[steps, values] of at most `most` points, the last one included. Values have four digits."""
    kept = [points[i] for i in np.unique(np.linspace(0, len(points) - 1, most).round().astype(int))] if points else []
    return [[step for step, _ in kept], [float(f"{value:.4g}") for _, value in kept]]


def plot_curves(curves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    charts = [_curve_chart("acc", "Error", PERCENT, ".2%")]
    for loss in dict.fromkeys(curve["loss"] for curve in curves):
        charts.append(_curve_chart("loss", f"Loss: {loss}", NUMBER, ".4~g") | {"loss": loss})
    drawn = [curve["curves"] for curve in curves]
    return [
        chart
        for chart in charts
        if any(series[f"{split}_{chart['metric']}"][0] for series in drawn for split in ("train", "val"))
    ]


def _curve_chart(metric: str, title: str, labels: str, value_format: str) -> dict[str, Any]:
    nearest = alt.selection_point(on="pointerover", nearest=True, clear="pointerout", empty=False)
    base = alt.Chart(alt.NamedData("points")).encode(
        x=alt.X(
            "x:Q",
            axis=alt.Axis(labelExpr="format(datum.value, '~s')", grid=False),
            scale=alt.Scale(nice=False, zero=True),
        ),
        y=alt.Y("y:Q", title=None, scale=alt.Scale(type="log", nice=False), axis=_axis(labels)),
        color=alt.Color("color:N", scale=None),
        detail="label:N",
        strokeDash=alt.StrokeDash(
            "split:N", scale=alt.Scale(domain=["validation", "training"], range=[[1, 0], [4, 3]]), legend=None
        ),
        tooltip=[
            alt.Tooltip("label:N", title="run"),
            alt.Tooltip("split:N", title="curve"),
            alt.Tooltip("x:Q", format=",.4~r"),
            alt.Tooltip("value:Q", format=value_format),
        ],
    )
    dots = base.transform_filter("datum.split == 'validation'").mark_point(filled=True, size=28)
    hover = base.mark_point(size=90, filled=True, strokeDash=[1, 0]).encode(
        opacity=alt.condition(nearest, alt.value(1), alt.value(0))
    )
    chart = base.mark_line(strokeWidth=1.6, clip=True) + dots + hover.add_params(nearest)
    return _chart("curves", title, chart.properties(height=260)) | {"metric": metric}


def plot_accuracies(board: Leaderboard, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The test accuracy of each row: a dot for each seed, a bar for the 95 % interval, a cross for the loop of
    the article."""
    if len(rows) < 2:
        return []
    values: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        low, high = row.interval
        known = {
            "index": index,
            "row": f"{index + 1}: {describe_row(board, row)}",
            "color": COLORS[index % len(COLORS)],
        }
        values.append(known | {"low": low, "high": high, "reference": row.reference})
        values += [known | {"seed": seed, "test_acc": run.result["test_acc"]} for seed, run in row.seeds.items()]
    y = alt.Y("row:N", title=None, sort=None, axis=alt.Axis(labelLimit=320, labelExpr="split(datum.label, ', ')"))
    base = alt.Chart(alt.NamedData("rows")).encode(y=y, color=alt.Color("color:N", scale=None))
    interval = (
        base.transform_filter("isValid(datum.low)")
        .mark_bar(height=7, opacity=0.35, clip=True)
        .encode(x=_accuracy("low"), x2="high:Q", tooltip=["row:N", _percent("low"), _percent("high")])
    )
    seeds = (
        base.transform_filter("isValid(datum.test_acc)")
        .mark_point(filled=True, size=40, opacity=1)
        .encode(x=_accuracy("test_acc"), tooltip=["row:N", "seed:Q", _percent("test_acc")])
    )
    layers = [interval, seeds]
    if any(row.reference for row in rows):
        layers.append(
            base.transform_filter("isValid(datum.reference)")
            .mark_point(shape="cross", angle=45, size=70, filled=True, color="#c0392b")
            .encode(x=_accuracy("reference"), color=alt.value("#c0392b"), tooltip=["row:N", _percent("reference")])
        )
    step = 12 + 13 * max(describe_row(board, row).count(", ") + 1 for row in rows)
    chart = alt.LayerChart(layer=layers).properties(height=alt.Step(step))
    note = "A dot is one seed, a bar the 95 % confidence interval"
    note += ", a red cross the article's own training loop." if len(layers) > 2 else "."
    return [_chart("rows", "Test accuracy", chart, note) | {"values": values}]


def plot_search(search: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Each objective against each option, and over the trials; then how much each option matters."""
    if not search:
        return []
    charts = []
    for index, objective in enumerate(search["objectives"]):
        trials = [_describe_trial(trial, index) for trial in search["trials"]]
        options = list(dict.fromkeys(name for trial in search["trials"] for name in trial["params"]))
        for option in (*options, "trial"):
            colors = [name for name in options if name != option and _is_color(trials, name)]
            charts.append(_plot_trials(trials, option, objective, next(iter(colors), None)))
        if shares := search["importances"].get(objective):
            bars = [{"option": name, "share": share} for name, share in shares.items()]
            chart = alt.Chart(alt.InlineData(values=bars)).mark_bar(color=COLORS[0]).encode(
                x=alt.X("share:Q", title=None, axis=_axis(PERCENT)),
                y=alt.Y("option:N", title=None, sort=None, axis=alt.Axis(labelLimit=160)),
                tooltip=["option:N", _percent("share")],
            )  # fmt: skip
            note = "The part of the differences between the trials that each option explains (fANOVA)."
            charts.append(_chart("plot", f"What matters for {objective}", chart.properties(height=alt.Step(26)), note))
    return charts


def _describe_trial(trial: dict[str, Any], index: int) -> dict[str, Any]:
    last = list(trial["curve"].values())[-1:] if index == 0 else []  # only a single objective has curves
    value = trial["values"][index] if trial["values"] else next(iter(last), None)
    state = {"fail": "failed"}.get(trial["state"], trial["state"])
    error = None if value is None else max(1e-4, 1 - value)
    return {"trial": trial["number"], "state": state, "value": value, "error": error} | trial["params"]


def _is_color(trials: list[dict[str, Any]], option: str) -> bool:
    words = {trial[option] for trial in trials if isinstance(trial.get(option), str)}
    return 1 < len(words) <= len(COLORS)


def _plot_trials(trials: list[dict[str, Any]], option: str, objective: str, color: str | None) -> dict[str, Any]:
    """A dot for each complete trial, a cross for each pruned one. The note names the failed ones."""
    shown = [trial for trial in trials if trial["value"] is not None]
    states = list(dict.fromkeys(trial["state"] for trial in shown))
    legend = alt.Legend(title=None, orient="top")
    chart = alt.Chart(alt.InlineData(values=shown)).mark_point(size=60, strokeWidth=1.8, opacity=1).encode(
        x=_option_axis([trial[option] for trial in shown if option in trial], option),
        y=_objective_axis([trial["value"] for trial in shown], objective),
        color=alt.Color(f"{_escape(color)}:N", scale=alt.Scale(range=COLORS), legend=legend)
        if color
        else alt.value(COLORS[0]),
        shape=alt.Shape(
            "state:N",
            scale=alt.Scale(domain=states, range=[SHAPES.get(state, "square") for state in states]),
            legend=legend,
        ),
        tooltip=[
            "trial:Q", "state:N",
            *(alt.Tooltip(f"{_escape(name)}:N", title=name) for name in trials[0] if name not in SHOWN),
            alt.Tooltip("value:Q", title=objective, format=".2%" if objective == "val_acc" else ".4~g"),
        ],
    )  # fmt: skip
    note = "The cross of a pruned trial is the last value before it was stopped. " if "pruned" in states else ""
    if failed := [str(trial["trial"]) for trial in trials if trial["state"] == "failed"]:
        note += f"Failed, so without a value: trial {', '.join(failed)}."
    return _chart("plot", f"{objective} against {option}", chart.properties(height=240), note.strip())


def _option_axis(values: Sequence[Any], option: str) -> alt.X:
    if not all(isinstance(value, int | float) for value in values):
        return alt.X(f"{_escape(option)}:N", title=None, axis=alt.Axis(labelAngle=0, labelOverlap="greedy"))
    axis = alt.Axis(labelExpr=NUMBER, labelOverlap="greedy", grid=False)
    scale = alt.Scale(nice=False, padding=12)
    if option == "trial":
        axis.tickMinStep = 1
    if option != "trial" and min(values, default=0) > 0 and max(values) > 20 * min(values):
        scale.type = "log"
        axis.values = [10.0**power for power in range(-12, 13) if min(values) / 2 < 10.0**power < 2 * max(values)]
    else:
        scale.zero = False
    return alt.X(f"{_escape(option)}:Q", title=None, axis=axis, scale=scale)


def _objective_axis(values: Sequence[float], objective: str) -> alt.Y:
    """Accuracies have a logarithmic axis of the error: 99 % and 98 % are as far from each other as 90 % and 80 %."""
    if objective != "val_acc":
        return alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=_axis(NUMBER))
    ticks = [digit * 10.0**power for power in range(-4, 0) for digit in (1, 2, 5)]
    least, most = max(1e-4, 1 - max(values, default=1)), max(2e-4, 1 - min(values, default=0))
    axis = _axis("format((1 - datum.value) * 100, '.4~g') + ' %'")
    axis.values = [tick for tick in ticks if least / 1.6 < tick < most * 1.6]
    scale = alt.Scale(type="log", reverse=True, nice=False, domain=[least / 1.2, most * 1.2])
    return alt.Y("error:Q", title=None, axis=axis, scale=scale)


def _escape(name: str) -> str:
    """Without the backslash, Vega-Lite reads `a.b` as the field `b` of the object `a`."""
    return name.replace(".", "\\.")


def _accuracy(name: str) -> alt.X:
    return alt.X(f"{name}:Q", title=None, scale=alt.Scale(zero=False), axis=_axis(PERCENT))


def _percent(name: str) -> alt.Tooltip:
    return alt.Tooltip(f"{name}:Q", format=".2%")


def _axis(labels: str) -> alt.Axis:
    return alt.Axis(labelExpr=labels, labelOverlap="greedy", labelSeparation=8, tickCount=5)


def _chart(kind: str, title: str, chart: alt.Chart | alt.LayerChart, note: str = "") -> dict[str, Any]:
    spec = chart.properties(width="container", autosize=alt.AutoSizeParams(type="fit-x", contains="padding")).to_dict()
    return {"kind": kind, "title": title, "note": note, "spec": spec}
