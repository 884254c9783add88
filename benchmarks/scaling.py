"""Measures how the time of a run grows with the samples, the epochs, the batch size and the layer width."""

from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.measurement import Row, Seconds, compute_ratio, take_turns
from benchmarks.runner import DEFAULTS, compute_train_seconds, run_training

SMALL = [*DEFAULTS, "model=mlp_500", "callbacks=none"]
PLOT = "scaling.svg"


def measure_scaling(rounds: int, quick: bool, folder: Path) -> list[Row]:
    """Time as a function of samples, epochs, batch size and layer width."""
    sweeps = {
        "samples": ([12_500, 25_000, 50_000], lambda n: measure_train_seconds(int(n), "data.batch_size=128")),
        "epochs": ([1, 2, 4, 8, 16], measure_fit_seconds),
        "batch size": ([16, 64, 256, 1024, 4096], lambda b: measure_train_seconds(20_000, f"data.batch_size={b}")),
        "width": (
            [64, 256, 1024, 2048],
            lambda w: measure_train_seconds(20_000, "data.batch_size=128", f"model.hidden=[{w}]"),
        ),
    }
    measured: dict[str, tuple[list[int], list[float]]] = {}
    for name, (points, seconds_of) in sweeps.items():
        points = points[:2] if quick else points
        turns = take_turns({str(x): lambda x=x, f=seconds_of: f(x) for x in points}, rounds)  # type: ignore[misc]
        measured[name] = points, [estimate_seconds(turns, str(points[0]), str(x)) for x in points]
    plot(measured, folder / PLOT)
    return [build_linear_row(name, *measured[name]) for name in ("samples", "epochs")] + [
        build_growth_row(name, *measured[name]) for name in ("batch size", "width")
    ]


def estimate_seconds(turns: Seconds, first: str, point: str) -> float:
    """Return the seconds of a point, from its ratio to the first point in a round. Slow minutes have little effect."""
    return median(turns[first]) * compute_ratio(turns[point], turns[first])


def measure_train_seconds(samples: int, *overrides: str) -> float:
    """Return the training seconds of one epoch. All other samples are for validation, whose time must not count."""
    result = run_training(*SMALL, f"data.val_size={60_000 - samples}", "trainer.max_epochs=1", *overrides)
    return compute_train_seconds(result)


def measure_fit_seconds(epochs: int) -> float:
    return float(run_training(*SMALL, "data.batch_size=512", f"trainer.max_epochs={epochs}")["fit_seconds"])


def build_linear_row(name: str, points: list[int], seconds: list[float]) -> Row:
    """Return the largest deviation from a straight line, in percent. The fit minimizes relative residuals."""
    x, y = np.array(points, float), np.array(seconds)
    slope, fixed = np.polyfit(x, y, 1, w=1 / y)
    line = fixed + slope * x
    return Row(
        f"time as a function of {name}, {points[0]:,} to {points[-1]:,}: largest deviation from a straight line",
        float(100 * np.abs(y / line - 1).max()),
        10,
        unit="%",
        detail=format_points(points, seconds),
        reason="the speed of the machine itself changes by more than this from minute to minute",
    )


def build_growth_row(name: str, points: list[int], seconds: list[float]) -> Row:
    what = f"time for 20,000 samples, {name} {points[0]:,} to {points[-1]:,}: last time / first time"
    return Row(what, seconds[-1] / seconds[0], detail=format_points(points, seconds))


def format_points(points: list[int], seconds: list[float]) -> str:
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
