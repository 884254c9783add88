"""Compares programs on a noisy machine. The programs take turns, and the result is the ratio within a round."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

Seconds = dict[str, list[float]]  # program → its seconds in each round


@dataclass(frozen=True)
class Row:
    """One line of the table. `measured` and `goal` are in `unit`. With `at_most`, the goal is a maximum."""

    what: str
    measured: float
    goal: float | None = None
    at_most: bool = True
    unit: str = "×"
    detail: str = ""
    reason: str = ""  # explains why the goal is not met

    @property
    def is_met(self) -> bool:
        return self.goal is None or (self.measured <= self.goal if self.at_most else self.measured >= self.goal)

    def format_cells(self) -> list[str]:
        sign = "≤" if self.at_most else "≥"
        goal = "–" if self.goal is None else f"{sign} {self.goal:.3g} {self.unit}"
        verdict = "–" if self.goal is None else "met" if self.is_met else "**not met**"
        reason = "" if self.is_met else self.reason
        notes = "; ".join(filter(None, (self.detail, reason)))
        return [self.what, goal, f"{self.measured:.4g} {self.unit}", verdict, notes]


def take_turns(programs: dict[str, Callable[[], float]], rounds: int) -> Seconds:
    """Return the seconds of each program in each round. Every second round uses the reverse order."""
    seconds: Seconds = {name: [] for name in programs}
    for number in range(rounds):
        for name in list(programs)[:: -1 if number % 2 else 1]:
            seconds[name].append(programs[name]())
    return seconds


def compute_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Return the median of the ratios of all rounds. Slow drift and short bursts of other work have little effect."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def compare(
    what: str,
    numerator: list[float],
    denominator: list[float],
    goal: float | None = None,
    *,
    at_most: bool = True,
    unit: str = "×",
    seconds: Seconds | None = None,
    reason: str = "",
) -> Row:
    """Return the row for the ratio. The row also shows the medians of the programs in `seconds`."""
    ratios = sorted(a / b for a, b in zip(numerator, denominator, strict=True))
    detail = f"rounds {ratios[0]:.2f} to {ratios[-1]:.2f}"
    if seconds:
        detail += f"; {format_medians(seconds)}"
    return Row(what, statistics.median(ratios), goal, at_most, unit, detail, reason)


def format_medians(seconds: Seconds) -> str:
    return ", ".join(f"{name} {statistics.median(values):.2f} s" for name, values in seconds.items())
