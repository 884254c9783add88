"""A search in the report: how it went, and which options mattered. Reads study.json; needs no Optuna."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

STUDY = "study.json"


def find_searches(folder: Path) -> list[dict[str, Any]]:
    """What was kept of each search below the folder; what cannot be read is left out."""
    found = []
    for path in sorted(folder.rglob(STUDY)):
        try:
            search = json.loads(path.read_text())
            _ = [search[key] for key in ("objectives", "directions", "importances", "trials")]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append(search | {"name": str(path.parent)})
    return found


def history_plot(search: dict[str, Any]) -> Figure:
    """Each objective over the trials: a dot a complete trial, a line the best so far, a cross a pruned one's last
    value, a red line one that failed."""
    objectives = search["objectives"]
    figure = Figure(figsize=(9, 3.0 * len(objectives)), layout="constrained")
    for index, axes in enumerate(figure.subplots(len(objectives), 1, squeeze=False)[:, 0]):
        better = max if search["directions"][index] == "maximize" else min
        complete = [trial for trial in search["trials"] if trial["state"] == "complete"]
        numbers, values = [t["number"] for t in complete], [t["values"][index] for t in complete]
        best_so_far = [better(values[: count + 1]) for count in range(len(values))]
        axes.plot(numbers, values, "o", color="#1f4e9c", markersize=4, label="complete")
        axes.step(numbers, best_so_far, where="post", color="#9db4d6", linewidth=2, label="best so far", zorder=0)
        stopped = [(t["number"], list(t["curve"].values())[-1]) for t in search["trials"] if _stopped(t)]
        if stopped and len(objectives) == 1:
            axes.plot(*zip(*stopped, strict=True), "x", color="#888", markersize=5, label="pruned")
        for trial in search["trials"]:
            if trial["state"] == "fail":
                axes.axvline(trial["number"], color="#c0392b", alpha=0.25, linewidth=2)
        axes.set_xlabel("trial")
        axes.set_ylabel(objectives[index])
        axes.legend(fontsize=8)
    return figure


def importance_plot(search: dict[str, Any]) -> Figure | None:
    """Of each objective the options' shares in how the values differ (fANOVA)."""
    weights = {objective: shares for objective, shares in search["importances"].items() if shares}
    if not weights:
        return None
    names = list(dict.fromkeys(name for shares in weights.values() for name in shares))[::-1]
    figure = Figure(figsize=(9, 0.9 + 0.34 * len(names) * len(weights)), layout="constrained")
    columns = figure.subplots(1, len(weights), squeeze=False)[0]
    for axes, (objective, shares) in zip(columns, weights.items(), strict=True):
        axes.barh(names, [100 * shares.get(name, 0) for name in names], color="#1f4e9c")
        axes.set_xlabel(f"% of {objective}'s differences")
    return figure


def _stopped(trial: dict[str, Any]) -> bool:
    return trial["state"] == "pruned" and bool(trial["curve"])
