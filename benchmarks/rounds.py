"""Measuring side by side on a noisy machine: opponents take turns, and what counts is the ratio within a round."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table. `measured` and `goal` are in `unit`; a goal is `at_most` or at least."""

    what: str
    measured: float
    goal: float | None
    at_most: bool
    unit: str = "×"
    detail: str = ""
    reason: str = ""  # why, where the goal is not met

    @property
    def met(self) -> bool:
        return self.goal is None or (self.measured <= self.goal if self.at_most else self.measured >= self.goal)

    def cells(self) -> list[str]:
        sign = "≤" if self.at_most else "≥"
        goal = "–" if self.goal is None else f"{sign} {self.goal:.3g} {self.unit}"
        verdict = "–" if self.goal is None else "met" if self.met else "**not met**"
        reason = "" if self.met else self.reason
        return [
            self.what,
            goal,
            f"{self.measured:.4g} {self.unit}",
            verdict,
            "; ".join(filter(None, (self.detail, reason))),
        ]


def take_turns(opponents: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each opponent in each round; the order turns round with every round."""
    seconds: dict[str, list[float]] = {name: [] for name in opponents}
    for number in range(rounds):
        for name in list(opponents)[:: -1 if number % 2 else 1]:
            seconds[name].append(opponents[name]())
    return seconds


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median over the rounds of the ratio within a round: slow drift and single bursts of other work fall out."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def spread(numerator: list[float], denominator: list[float]) -> str:
    ratios = sorted(a / b for a, b in zip(numerator, denominator, strict=True))
    return f"rounds {ratios[0]:.2f} to {ratios[-1]:.2f}"


def medians(seconds: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {statistics.median(values):.2f} s" for name, values in seconds.items())
