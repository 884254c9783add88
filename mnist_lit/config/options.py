"""Options as a flat list, `optimizer.lr` → 0.001, and which of them a result depends on."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from mnist_lit.config.schema import (
    CHANGEABLE,
    MNIST_MODULE,
    NOT_COMPARED,
    DataSection,
    IDXData,
    SklearnDigitsData,
    TrainConfig,
    data_kind,
)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def compared_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run's result depends on, flat; the seed is one of them.

    A callback that is a class of its own counts: weight averaging, for example, changes the weights. Of a data set from
    outside the package, all options of its own count.
    """
    flat = flatten(config)
    own = set[str]()
    if data_kind({"_target_": flat.get("data._target_", MNIST_MODULE)}) == "own":
        shared = {f"data.{name}" for name in DataSection.model_fields}
        own = {name for name in flat if name.startswith("data.")} - shared
    return {name: value for name, value in flat.items() if name in own or is_compared(name)}


def comparable(key: str, value: Any) -> str:
    """The value as a text that is equal for equal values. 0 and 0.0 are equal, but a limit of 1 is one batch, and a
    limit of 1.0 is all of them."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(comparable(key, item) for item in value)}]"
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return repr(float(value) if is_whole and not key.startswith("trainer.limit_") else value)


def is_compared(key: str) -> bool:
    """Whether a run's result depends on this option."""
    return not _is_marked(key, marked_options(NOT_COMPARED))


def is_changeable(key: str) -> bool:
    """Whether `resume=RUN` may change this option or all of this section."""
    return _is_marked(key, marked_options(CHANGEABLE))


@cache
def marked_options(marker: str) -> tuple[str, ...]:
    """The options and sections that carry the marker in the schema."""
    return tuple(dict.fromkeys(_marked(TrainConfig, marker)))


def _marked(section: type[BaseModel], marker: str, prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if marker in field.metadata:
            yield f"{prefix}{name}"
        elif name == "data":
            for kind in (IDXData, SklearnDigitsData):
                yield from _marked(kind, marker, "data.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _marked(field.annotation, marker, f"{prefix}{name}.")


def _is_marked(key: str, marked: tuple[str, ...]) -> bool:
    section, *rest = key.split(".")
    if section == "callbacks" and len(rest) > 1:  # an option of a class of one's own
        return False
    return any(key == option or key.startswith(f"{option}.") for option in marked)
