"""Choices, ranges and intervals as Hydra writes them → what Optuna searches, and back. Imports no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.types import HydraContext
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from mnist_lit.errors import UserError


@dataclass(frozen=True)
class Space:
    """`fixed` are the overrides that all trials share; `axes` what is searched: option → distribution."""

    fixed: tuple[str, ...]
    axes: dict[str, BaseDistribution]

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        return [*self.fixed, *(f"{key}={value}" for key, value in params.items())]

    def edges(self) -> Iterator[dict[str, Any]]:
        """Points that touch every choice and both ends of every range: what is legal there is legal within."""
        ends = {key: _ends(axis) for key, axis in self.axes.items()}
        first = {key: values[0] for key, values in ends.items()}
        yield first
        yield from (first | {key: value} for key, values in ends.items() for value in values[1:])

    def every_point(self) -> list[dict[str, Any]]:
        """Raises UserError if an interval makes them infinitely many."""
        values = {key: _all_values(key, axis) for key, axis in self.axes.items()}
        return [dict(zip(values, point, strict=True)) for point in product(*values.values())]

    def described(self) -> dict[str, Any]:
        """To be kept with a study, and compared."""
        fixed = [text for text in self.fixed if not text.startswith("data.fallback_reason=")]  # worded anew each time
        return {"axes": {key: distribution_to_json(axis) for key, axis in self.axes.items()}, "fixed": fixed}


def space_of(context: HydraContext, arguments: Sequence[str]) -> Space:
    """Raises UserError if nothing is to be searched, or something cannot be."""
    parsed = OverridesParser.create(context.config_loader).parse_overrides(list(arguments))
    overrides = {override.get_key_element(): override for override in parsed}
    searched = {key: override for key, override in overrides.items() if override.is_sweep_override()}
    if not searched:
        raise UserError(
            "there is nothing to search: name choices, a range or an interval, such as "
            "'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
        )
    fixed = tuple(str(override.input_line) for key, override in overrides.items() if key not in searched)
    return Space(fixed, {key: _axis(override) for key, override in searched.items()})


def _axis(override: Override) -> BaseDistribution:
    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            return _between(value.start, value.end, None, "log" in value.tags)
        if isinstance(value, RangeSweep):
            values = list(value.range())  # in order, also if Hydra was to shuffle them
            if not values:
                raise UserError(f"{override.input_line}: there is nothing to choose from")
            return _between(values[0], values[-1], value.step, "log" in value.tags)
    except ValueError as error:  # of Optuna: a logarithm of nothing, an end before its start
        raise UserError(f"{override.input_line}: {error}") from error
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _between(low: Any, high: Any, step: Any, log: bool) -> BaseDistribution:
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=1 if step is None or log else step)
    return FloatDistribution(float(low), float(high), log=log, step=None if step is None or log else float(step))


def _ends(axis: BaseDistribution) -> list[Any]:
    if isinstance(axis, CategoricalDistribution):
        return list(axis.choices)
    assert isinstance(axis, IntDistribution | FloatDistribution)
    return [axis.low, axis.high]


def _all_values(key: str, axis: BaseDistribution) -> list[Any]:
    if isinstance(axis, CategoricalDistribution):
        return list(axis.choices)
    if isinstance(axis, IntDistribution):
        return list(range(axis.low, axis.high + 1, axis.step))
    assert isinstance(axis, FloatDistribution)
    if axis.step is None:
        raise UserError(f"sweep.sampler=grid: {key} is an interval and cannot be enumerated; name choices or a range")
    steps = range(round((axis.high - axis.low) / axis.step) + 1)
    return [min(axis.low + number * axis.step, axis.high) for number in steps]  # 0.1 + 2 * 0.1 is more than 0.3
