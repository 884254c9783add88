"""A composed config is checked, and what is wrong with it said in the words of the command line."""

from typing import Any, TypeVar

from pydantic import ValidationError

from mnist_lit.config.section import Section
from mnist_lit.config.sweep import SweepSection
from mnist_lit.config.train import TrainConfig
from mnist_lit.errors import UserError

AnySection = TypeVar("AnySection", bound=Section)


def parse_config(values: Any) -> TrainConfig:
    """Check a composed, resolved config.

    Raises:
        UserError: naming every option that is wrong, its value and what is legal.
    """
    return _parse(TrainConfig, values)


def parse_sweep(values: Any) -> SweepSection:
    """Check the section `sweep` of a composed, resolved config.

    Raises:
        UserError: as `parse_config`.
    """
    return _parse(SweepSection, values, "sweep")


def _parse(section: type[AnySection], values: Any, *path: str) -> AnySection:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problems = [problem | {"loc": (*path, *problem["loc"])} for problem in error.errors()]
        raise UserError("\n".join(map(_explain, problems))) from None


def _explain(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    option = ".".join(part for part in path if part not in _UNION_TAGS)
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if problem["type"] == "value_error":
        return message
    if problem["type"] == "extra_forbidden":
        return _HOW_IT_COMES.get(option, f"{option}: there is no such option")
    if problem["type"] == "missing":
        return f"{option}: is missing"
    if problem["type"] == "union_tag_invalid":
        return f"{option}.name={problem['ctx']['tag']}: should be one of {problem['ctx']['expected_tags']}"
    if problem["type"] == "union_tag_not_found":
        return f"{option}: should name its kind, as {option}.name"
    return f"{option}={_shown(problem['input'])}: {message}"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


_HOW_IT_COMES = {  # to options that nobody has typed
    "data.fallback": "data=digits: the presets and lessons are of MNIST alone; "
    "name model, optimizer and the rest instead",
    "experiment": "experiment: became a section of the config; "
    "a preset's file begins with the line # @package _global_",
}
_UNION_TAGS = {
    *("MLP", "CNN", "ConvNet", "FastCNN", "own", "mnist", "digits"),
    *("cross_entropy", "nll", "mse", "l1"),
    *("sgd", "adam", "adamw", "adagrad", "rmsprop"),
    *("none", "step", "cosine", "onecycle"),
    *("int", "literal['auto']", "constrained-int", "float"),
}
