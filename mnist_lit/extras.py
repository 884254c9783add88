"""Packages that only some commands and options need, asked for when they are. Imports no torch."""

import importlib.util
from types import ModuleType

from mnist_lit.errors import UserError


def needs(module: str, extra: str) -> ModuleType:
    """The module. Raises UserError, saying what to install, where it is not there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(_not_installed(error.name or module, extra)) from error


def check_installed(extra: str, option: str) -> None:
    """Raises UserError if the package that an extra is named after is not there. Does not import it."""
    if importlib.util.find_spec(extra) is None:
        raise UserError(f"{option}: {_not_installed(extra, extra)}")


def _not_installed(package: str, extra: str) -> str:
    return f"{package} is not installed; pip install -e '.[{extra}]'"
