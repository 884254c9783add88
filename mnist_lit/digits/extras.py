"""Packages that only some commands need, asked for when they are."""

import importlib
from types import ModuleType

from mnist_lit.errors import UserError


def needs(module: str, extra: str) -> ModuleType:
    """The module. Raises UserError, saying what to install, where it is not there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install -e '.[{extra}]'") from error
