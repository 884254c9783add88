"""A composed config → a checked one. Every error names the option, its value and what is legal.

There are three stages, and each reports everything that it finds together: names; types and ranges; classes. The first
two are here and import no torch. The third is class_checks.py.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, TypeVar

from pydantic import ValidationError

from mnist_lit.config.schema import (
    BASES,
    DIGITS_MODULE,
    MD5_PATTERN,
    MNIST_MODULE,
    NAME_PATTERN,
    IDXData,
    Section,
    SweepSection,
    TrainConfig,
    TrainerSection,
    count_batches,
)
from mnist_lit.errors import UserError

AnySection = TypeVar("AnySection", bound=Section)
CLASS_SECTIONS = ("data", "model", "loss", "optimizer", "scheduler")

KNOWN_SIZES = {MNIST_MODULE: (60_000, 10_000), DIGITS_MODULE: (1_437, 360)}  # training with validation, test
# Options with a common meaning, by name: the test, and its words. A range holds for each element of a list.
RANGES = {
    **dict.fromkeys(("lr", "max_lr", "T_max", "total_steps"), (lambda x: x > 0, "greater than 0")),
    **dict.fromkeys(("weight_decay", "lr_decay", "eta_min", "gamma"), (lambda x: x >= 0, "at least 0")),
    **dict.fromkeys(("momentum", "betas", "rho"), (lambda x: 0 <= x < 1, "at least 0 and less than 1")),
    **dict.fromkeys(("dropout", "label_smoothing"), (lambda x: 0 <= x < 1, "at least 0 and less than 1")),
    "alpha": (lambda x: 0 <= x <= 1, "between 0 and 1"),
    "pct_start": (lambda x: 0 < x < 1, "greater than 0 and less than 1"),
    **dict.fromkeys(("div_factor", "final_div_factor", "step_size"), (lambda x: x >= 1, "at least 1")),
}


def parse_config(values: Any, defaults: Mapping[str, Mapping[str, Any]] | None = None) -> TrainConfig:
    """Check names, types and ranges of a resolved config.

    `defaults` holds the YAML file of each section that names a class, see `group_files.read_defaults`. Types are
    compared with it. A config.yaml of a run is checked without it.

    Raises:
        UserError: naming every option that is wrong.
    """
    problems = []
    if isinstance(values, Mapping):
        if defaults is not None and (missing := [*_missing_options(values, defaults)]):
            raise UserError("\n".join(missing))
        problems = [*size_problems(values), *_class_section_problems(values, defaults or {})]
    return _parse(TrainConfig, values, problems)


def parse_sweep(values: Any) -> SweepSection:
    """Check the section `sweep` of a resolved config. Raises UserError as `parse_config` does."""
    return _parse(SweepSection, values, [], "sweep")


def _missing_options(config: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Options that were deleted with `~`. The default of the class or of the schema is not the one in the YAML file."""
    for name in TrainConfig.model_fields:
        if name not in config:
            yield f"{name}: is missing"
    data = config.get("data")
    if isinstance(data, Mapping) and (str(data.get("_target_", MNIST_MODULE)) not in KNOWN_SIZES or data.get("files")):
        for option in ("name", "mean", "std"):
            if option not in data:
                yield f"data.{option}: is missing; its default is MNIST's, so another data set has to give it"
    for section, options in defaults.items():
        values = config.get(section)
        if isinstance(values, Mapping) and values.get("_target_") == options.get("_target_"):
            yield from (f"{section}.{option}: is missing" for option in options if option not in values)


def size_problems(config: Mapping[str, Any], images: tuple[int, int] | None = None) -> Iterator[str]:
    """What does not fit these numbers of images: for training with validation, and for the test. None means the numbers
    that are known without a file: MNIST's or those of scikit-learn's digits."""
    data, trainer = config.get("data"), config.get("trainer")
    if not isinstance(data, Mapping):
        return
    if images is None and not data.get("files"):
        images = KNOWN_SIZES.get(str(data.get("_target_", MNIST_MODULE)))
    val_size, batch_size = data.get("val_size", 0), data.get("batch_size", 1)
    if images is None or not isinstance(val_size, int):
        return
    total, test = images
    train_size = data.get("train_size")
    available = total - val_size
    if val_size > total - 10:
        yield f"data.val_size={val_size}: should be at most {total - 10}"
        return
    if isinstance(train_size, int) and train_size > available:
        yield f"data.train_size={train_size}: should be at most {available}"
        return
    training = train_size if isinstance(train_size, int) else available
    if isinstance(batch_size, int) and batch_size > training:
        yield f"data.batch_size={batch_size}: should be at most {training}, the number of training images"
    elif isinstance(trainer, Mapping) and isinstance(batch_size, int) and batch_size > 0:
        try:
            section = TrainerSection.model_validate(trainer)
        except ValidationError:  # the message about it is on its way
            return
        sizes = {"train": training, "val": val_size, "test": test}
        yield from batch_problems(sizes, batch_size * section.devices, section.limits, section.accumulate_grad_batches)


def count_steps(config: TrainConfig, images: int) -> int:
    """The optimizer steps of an epoch with this number of images for training and validation."""
    training = config.data.train_size or images - config.data.val_size
    batch_size = config.data.batch_size * config.trainer.devices
    batches = count_batches(training, batch_size, config.trainer.limit_train_batches)
    return ceil(batches / config.trainer.accumulate_grad_batches)


def batch_problems(
    sizes: Mapping[str, int], batch_size: int, limits: Mapping[str, int | float], accumulate: int
) -> Iterator[str]:
    """What is wrong with limits and accumulation. `sizes` maps each split to its number of images, `batch_size` counts
    the images of all devices."""
    counts = {split: count_batches(size, batch_size, limits.get(split, 1.0)) for split, size in sizes.items()}
    for split, count in counts.items():
        if count == 0:
            batches = count_batches(sizes[split], batch_size)
            yield (
                f"trainer.limit_{split}_batches={limits[split]}: leaves none of {batches} batches; should be a number "
                f"of batches, or a part of at least {ceil(1000 / batches) / 1000:g}"
            )
    if 0 < counts["train"] < accumulate:
        yield (
            f"trainer.accumulate_grad_batches={accumulate}: should be at most {counts['train']}, the number of batches "
            "of an epoch"
        )


def _parse(section: type[AnySection], values: Any, problems: list[str], *path: str) -> AnySection:
    try:
        parsed = section.model_validate(values)
    except ValidationError as error:
        found = [problem | {"loc": (*path, *problem["loc"])} for problem in error.errors()]
        names = [problem for problem in found if problem["type"] in ("extra_forbidden", "missing")]
        raise UserError("\n".join(_format(names) or dict.fromkeys([*_format(found), *problems]))) from None
    if problems:
        raise UserError("\n".join(problems))
    return parsed


def _class_section_problems(config: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    sections = {name: config.get(name) for name in CLASS_SECTIONS}
    for group in ("callbacks", "logger"):
        entries = config.get(group)
        if isinstance(entries, Mapping):
            sections |= {f"{group}.{name}": entry for name, entry in entries.items() if isinstance(entry, Mapping)}
    for name, section in sections.items():
        if isinstance(section, Mapping):
            if "_target_" not in section and name != "data":
                yield f"{name}._target_: is missing"
            for option, value in section.items():
                key = f"{name}.{option}"
                if option == "_target_":
                    yield from _target_problems(name, value, section)
                yield from _plain_value_problems(key, option, value)
                yield from _range_problems(key, str(option), value)
            yield from _type_problems(name, section, defaults.get(name, {}))


def may_hold_class(target: str) -> bool:
    """False for the standard library, where no class has the right base, and for text that is not MODULE.NAME."""
    module, _, name = target.rpartition(".")
    return name.isidentifier() and module.partition(".")[0] not in ("", *sys.stdlib_module_names)


def _target_problems(section: str, target: Any, options: Mapping[str, Any]) -> Iterator[str]:
    if target is None and section == "scheduler" and len(options) == 1:
        return
    if not (isinstance(target, str) and may_hold_class(target)):
        base = BASES[section.partition(".")[0]]
        yield f"{section}._target_={show(target)}: should be a class derived from {base}"


def _plain_value_problems(key: str, option: Any, value: Any) -> Iterator[str]:
    """Only the top of a section may name code, and only plain numbers are numbers."""
    text = str(option)
    if text.startswith("_") and text not in ("_target_", "_partial_"):
        yield f"{key}: there is no such option; only _target_ names code"
    elif text == "_partial_" and value is not True:
        yield f"{key}={show(value)}: should be true, or left out"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{key}={value}: should be a finite number"
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if name == "_target_":
            yield f"{key}._target_: only a section itself can name a class"
        else:
            yield from _plain_value_problems(f"{key}.{name}", name, item)


def _range_problems(key: str, option: str, value: Any) -> Iterator[str]:
    if option in RANGES:
        is_legal, words = RANGES[option]
        elements = {f"{key}.{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {key: value}
        for name, element in elements.items():
            if _kind(element) == "number" and math.isfinite(element) and not is_legal(element):
                yield f"{name}={element}: should be {words}"


def _type_problems(section: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    if values.get("_target_") != defaults.get("_target_"):  # another class has other options
        return
    owned = IDXData.model_fields if section == "data" else {}  # pydantic checks the types of these
    for option, value in values.items():
        default = None if option in owned else defaults.get(option)
        if default is not None and value is not None:
            yield from _kind_problems(f"{section}.{option}", value, default)


def _kind_problems(key: str, value: Any, default: Any) -> Iterator[str]:
    if _kind(value) != _kind(default):
        yield wrong_kind(key, value, default)
    elif isinstance(default, list) and default and default[0] is not None:
        for index, item in enumerate(value):
            yield from _kind_problems(f"{key}.{index}", item, default[0])


def wrong_kind(key: str, value: Any, default: Any) -> str:
    return f"{key}={show(value)}: should be a {_kind(default)}, such as {show(default)}"


def _kind(value: Any) -> str:
    """The kinds of values that are told apart. Whole and other numbers are one kind."""
    if isinstance(value, bool):
        return "truth value (true or false)"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "mapping" if isinstance(value, Mapping) else "null"


def show(value: Any) -> str:
    """A value as YAML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(show, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {show(part)}" for name, part in value.items()) + "}"
    return "null" if value is None else str(value)


def _format(problems: list[Any]) -> list[str]:
    """pydantic's errors in the words of the command line. If an option accepts several kinds of values, one line has
    all of them."""
    lines: dict[str, str] = {}
    for problem in problems:
        path = [str(part) for part in problem["loc"]]
        named = [part for place, part in enumerate(path) if not _is_union_tag(path, place)]
        option = ".".join(named) or "config"
        given = f"{option}={show(problem['input'])}"
        if problem["type"] == "value_error":
            lines[problem["msg"]] = problem["msg"].removeprefix("Value error, ")
        elif problem["type"] == "extra_forbidden":
            lines[option] = _REASONS.get(option, f"{option}: there is no such option")
        elif problem["type"] == "missing":
            lines[option] = f"{option}: is missing"
        elif path[:1] in (["callbacks"], ["logger"]) and problem["type"] == "model_type":
            lines[option] = f"{given}: is neither a switch of this project nor a mapping with _target_"
        elif problem["type"] in _LEGAL:
            context = problem.get("ctx", {})
            text = _LEGAL.get(context.get("pattern"), _LEGAL[problem["type"]])
            legal = text.format(**context).replace("'", "").removesuffix(".0")
            lines[given] = f"{lines[given]} or {legal}" if given in lines else f"{given}: should be {legal}"
        else:
            lines[given] = f"{given}: {problem['msg']}"
    return [*lines.values()]


def _is_union_tag(path: list[str], place: int) -> bool:
    """pydantic adds the kind of the data after `data`, and the kind of a value at the end."""
    return path[place] in _UNION_TAGS and (path[:place] == ["data"] or 1 < place == len(path) - 1)


_LEGAL = {  # pydantic's types of errors, and the patterns of the schema
    "bool_type": "true or false",
    **dict.fromkeys(("int_type", "int_from_float"), "a whole number"),
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list",
    **dict.fromkeys(("model_type", "dict_type"), "a mapping"),
    "literal_error": "{expected}",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "a text that is not empty",
    "string_pattern_mismatch": "letters, digits, -, _ and .",
    NAME_PATTERN: "1 to 40 letters, digits, -, _ and ., and begin with a letter or a digit",
    MD5_PATTERN: "32 digits, 0 to 9 and a to f",
}
_REASONS = {  # for options that nobody typed
    "experiment": "experiment: became a section of the config; a preset's file begins with # @package _global_",
}
_UNION_TAGS = {"idx", "digits", "own", "int", "literal['auto']", "constrained-int", "float", "function-after", "str"}
