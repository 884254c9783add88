"""Cost against work: what happens to the time of a run with more samples, epochs, larger batches, wider layers."""

from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.product import DEFAULTS, run, train_seconds
from benchmarks.rounds import Row, ratio, take_turns

SMALL = [*DEFAULTS, "model=mlp_500", "callbacks=none"]
PLOT = "scaling.svg"


def scaling(rounds: int, quick: bool, folder: Path) -> list[Row]:
    sweeps = {
        "samples": ([12_500, 25_000, 50_000], lambda n: _train_seconds(int(n), "data.batch_size=128")),
        "epochs": ([1, 2, 4, 8, 16], _fit_seconds),
        "batch size": ([16, 64, 256, 1024, 4096], lambda b: _train_seconds(20_000, f"data.batch_size={b}")),
        "width": (
            [64, 256, 1024, 2048],
            lambda w: _train_seconds(20_000, "data.batch_size=128", f"model.hidden=[{w}]"),
        ),
    }
    measured: dict[str, tuple[list[int], list[float]]] = {}
    for name, (points, seconds_of) in sweeps.items():
        points = points[:2] if quick else points
        turns = take_turns({str(x): lambda x=x, f=seconds_of: f(x) for x in points}, rounds)  # type: ignore[misc]
        measured[name] = points, [in_step_with_first(turns, str(points[0]), str(x)) for x in points]
    plot(measured, folder / PLOT)
    return [_linear(name, *measured[name]) for name in ("samples", "epochs")] + [
        _growth(name, *measured[name]) for name in ("batch size", "width")
    ]


def in_step_with_first(turns: dict[str, list[float]], first: str, point: str) -> float:
    """Seconds of a point: its ratio to the first within a round, so that the machine's slow minutes fall out."""
    return median(turns[first]) * ratio(turns[point], turns[first])


def _train_seconds(samples: int, *overrides: str) -> float:
    """One epoch over so many samples, training alone: what is not trained on is validated, and would drown it."""
    result = run(*SMALL, f"data.val_size={60_000 - samples}", "trainer.max_epochs=1", *overrides)
    return train_seconds(result, 1)


def _fit_seconds(epochs: int) -> float:
    return float(run(*SMALL, "data.batch_size=512", f"trainer.max_epochs={epochs}")["fit_seconds"])


def _linear(name: str, points: list[int], seconds: list[float]) -> Row:
    """How far the points lie from a straight line, in per cent of the line; relative residuals are what is fitted."""
    x, y = np.array(points, float), np.array(seconds)
    slope, fixed = np.polyfit(x, y, 1, w=1 / y)
    line = fixed + slope * x
    return Row(
        f"cost linear in {name}, {points[0]:,} to {points[-1]:,}: largest deviation",
        float(100 * np.abs(y / line - 1).max()),
        10,
        at_most=True,
        unit="%",
        detail=_listed(points, seconds),
        reason="the machine's own speed varies by more than that from one minute to the next",
    )


def _growth(name: str, points: list[int], seconds: list[float]) -> Row:
    return Row(
        f"cost of 20,000 samples, {name} {points[0]:,} to {points[-1]:,}: factor",
        seconds[-1] / seconds[0],
        None,
        at_most=True,
        detail=_listed(points, seconds),
    )


def _listed(points: list[int], seconds: list[float]) -> str:
    return ", ".join(f"{x:,}: {s:.2f} s" for x, s in zip(points, seconds, strict=True))


def plot(measured: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    for axes, (name, (points, seconds)) in zip(figure.subplots(2, 2).flat, measured.items(), strict=True):
        axes.loglog(points, seconds, "o-")
        axes.set(xlabel=name, ylabel="seconds", xticks=points, xticklabels=[f"{x:,}" for x in points])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
