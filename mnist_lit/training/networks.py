"""From a name in a config or a checkpoint to a network's class, and to nothing else. Imports no torch of its own."""

import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from mnist_lit.errors import UserError

if TYPE_CHECKING:
    import torch

    from mnist_lit.models import DigitClassifier

BASE = "mnist_lit.models.base.DigitClassifier"


def network_class(target: str, options: Mapping[str, Any]) -> "type[DigitClassifier]":
    """The class that `target` names, such as `mnist_lit.models.MLP`.

    Raises:
        UserError: if it is not a network derived from DigitClassifier, or does not take these options.
    """
    module_name, _, name = target.rpartition(".")
    no_networks_there = module_name.partition(".")[0] in ("", *sys.stdlib_module_names)  # so it is not even imported
    try:
        found = None if no_networks_there else getattr(importlib.import_module(module_name), name)
    except Exception as error:  # whatever the module does when it is imported
        raise UserError(f"model._target_={target}: {error}. Is its folder on PYTHONPATH?") from error
    if not (inspect.isclass(found) and BASE in (f"{base.__module__}.{base.__qualname__}" for base in found.__mro__)):
        raise UserError(f"model._target_={target}: should be a class derived from mnist_lit.models.DigitClassifier")
    takes = _keywords(found)
    if unknown := [option for option in options if option not in takes]:
        advice = "" if "output" in takes else "; to take what every network takes, its constructor needs **kwargs"
        raise UserError(f"model.{unknown[0]}: there is no such option; {target} takes {', '.join(takes)}{advice}")
    missing = [name for name, needed in takes.items() if needed and name not in options]
    if missing:
        raise UserError(f"model.{missing[0]}: is missing; {target} needs it")
    return cast("type[DigitClassifier]", found)


def check_network(target: str, options: Mapping[str, Any]) -> None:
    """Make the network and let it look at two pictures of noise.

    Raises:
        UserError: if it cannot be made with these options, does not answer with ten scores a picture, or answers
            otherwise than its layers do by themselves.
    """
    network = network_class(target, options)
    import torch  # not for a class that is refused

    given = ", ".join(f"model.{name}={value}" for name, value in options.items())
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model = network(**options).eval()
            pictures = torch.rand(2, 1, 28, 28)
            scores = model(pictures)
            shape = tuple(scores.shape)
    except Exception as error:  # whatever the class does
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{given}: {target} cannot be used: {type(error).__name__}: {reason}") from error
    if not isinstance(getattr(model, "network", None), torch.nn.Module):
        raise UserError(f"model._target_={target}: should set self.network, whose layers are shown and counted")
    if shape != (2, 10):
        raise UserError(f"{given}: {target} answers two pictures with {list(shape)} where [2, 10] is needed")
    if not _is_its_layers(model, pictures, scores):
        raise UserError(
            f"model._target_={target}: its forward answers otherwise than self.network does, which predict, export and "
            "the dashboards use; put all of it into self.network"
        )


def _is_its_layers(model: "DigitClassifier", pictures: "torch.Tensor", scores: "torch.Tensor") -> bool:
    import torch

    from mnist_lit.models import DigitClassifier

    try:
        with torch.no_grad():
            return torch.equal(DigitClassifier.forward(model, pictures), scores)
    except Exception:  # layers that need what forward does before them
        return False


def _keywords(network: type) -> dict[str, bool]:
    """Argument → whether it must be given; through `**kwargs`, those of the base classes too."""
    found: dict[str, bool] = {}
    for base in network.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        found = {p.name: p.default is p.empty for p in named} | found
        if len(named) == len(parameters):
            break
    return found
