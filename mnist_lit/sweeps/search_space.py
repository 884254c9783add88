"""What a search may choose: Hydra's choices, ranges and intervals, as Optuna's distributions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.types import HydraContext
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from mnist_lit.errors import UserError
from mnist_lit.sweeps.grid_jobs import fixed_text, list_values

Axis = CategoricalDistribution | IntDistribution | FloatDistribution


@dataclass(frozen=True)
class SearchSpace:
    """`fixed`: the overrides of all trials. `axes`: each searched option and its distribution. `texts`: each searched
    option and its text on the command line. `configs`: the config of each edge when the search begins."""

    fixed: tuple[str, ...]
    axes: dict[str, Axis]
    texts: dict[str, str]
    configs: Sequence[dict[str, Any]] = ()

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        return [*self.fixed, *(f"{key}={value}" for key, value in params.items())]

    def edges(self) -> Iterator[dict[str, Any]]:
        """Points with every choice and both ends of every range. If these are valid, all points between are valid."""
        ends = {key: _list_ends(axis) for key, axis in self.axes.items()}
        first = {key: values[0] for key, values in ends.items()}
        yield first
        yield from (first | {key: value} for key, values in ends.items() for value in values[1:])

    def every_point(self) -> list[dict[str, Any]]:
        """Raises UserError if an interval makes the number of points infinite."""
        values = {key: _list_values(key, axis) for key, axis in self.axes.items()}
        return [dict(zip(values, point, strict=True)) for point in product(*values.values())]

    def description(self) -> dict[str, Any]:
        """A record to compare spaces. Without the reason of the fallback, because its wording changes."""
        fixed = [text for text in self.fixed if not text.startswith("data.fallback_reason=")]
        axes = {key: distribution_to_json(axis) for key, axis in self.axes.items()}
        return {"axes": axes, "fixed": fixed, "configs": list(self.configs)}

    def add_hint(self, error: str) -> str:
        """The error with a hint, if an interval gave a float to an option that must be a whole number."""
        key = next((key for key in self.axes if error.startswith(f"{key.lstrip('+')}=")), "")
        axis = self.axes.get(key)
        is_interval = isinstance(axis, FloatDistribution) and axis.step is None
        return f"{error}; write int({self.texts[key]})" if is_interval and re.search("integer|whole", error) else error


def parse_space(context: HydraContext, arguments: Sequence[str]) -> SearchSpace:
    """Raises UserError if there is nothing to search, or if Optuna cannot search it."""
    parsed = OverridesParser.create(context.config_loader).parse_overrides(list(arguments))
    overrides = {override.get_key_element(): override for override in parsed}
    searched = {key: override for key, override in overrides.items() if not fixed_text(override)}
    if not searched:
        raise UserError(
            "there is nothing to search: name choices, a range or an interval, such as "
            "'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
        )
    fixed = tuple(filter(None, map(fixed_text, overrides.values())))
    texts = {key: str(override.input_line).partition("=")[2] for key, override in searched.items()}
    return SearchSpace(fixed, {key: _to_distribution(override) for key, override in searched.items()}, texts)


def _to_distribution(override: Override) -> Axis:
    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            return _to_numbers(value.start, value.end, None, "log" in value.tags)
        if isinstance(value, RangeSweep):
            values = list(value.range())  # in order, even if Hydra shall shuffle them
            if not values:
                raise UserError(f"{override.input_line}: there are no values to choose from")
            if "log" in value.tags and value.step != 1:
                raise UserError(
                    f"{override.input_line}: a logarithmic range has no step; leave it out, or list the values"
                )
            return _to_numbers(values[0], values[-1], value.step, "log" in value.tags)
    except ValueError as error:  # from Optuna: the logarithm of 0, or an end before its start
        raise UserError(f"{override.input_line}: {error}") from error
    return CategoricalDistribution(list_values(override))


def _to_numbers(low: Any, high: Any, step: Any, log: bool) -> Axis:
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=1 if step is None or log else step)
    return FloatDistribution(float(low), float(high), log=log, step=None if step is None or log else float(step))


def _list_ends(axis: Axis) -> list[Any]:
    return list(axis.choices) if isinstance(axis, CategoricalDistribution) else [axis.low, axis.high]


def _list_values(key: str, axis: Axis) -> list[Any]:
    if isinstance(axis, CategoricalDistribution):
        return list(axis.choices)
    if isinstance(axis, IntDistribution):
        return list(range(axis.low, axis.high + 1, axis.step))
    if axis.step is None:
        raise UserError(f"sweep.sampler=grid: {key} is an interval and cannot be listed; name choices or a range")
    steps = range(round((axis.high - axis.low) / axis.step) + 1)
    return [min(axis.low + number * axis.step, axis.high) for number in steps]  # 0.1 + 2 * 0.1 is more than 0.3
