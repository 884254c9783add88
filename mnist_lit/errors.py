"""The one error that is meant for the user, errors of the disk, and the check for optional packages."""

import errno
import importlib.util
import os
from traceback import extract_tb

from mnist_lit import CHECKOUT

NO_WRITING = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS)
# What a full, broken, read-only or lost disk answers. The last two are of a network folder whose server went away.
DISK_ERRORS = (*NO_WRITING, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN)
FULL_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"


class UserError(Exception):
    """Something that the user can correct. The message names the option, its value and what is legal."""


def describe_error(error: BaseException) -> str:
    """What a class or a module from outside has raised, in one line. A `sys.exit` says that it is one."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r})"
    if isinstance(error, NotImplementedError) and not str(error) and error.__traceback__:
        return f"{extract_tb(error.__traceback__)[-1].name} is not implemented"
    text = str(error) or "no message"
    return text if isinstance(error, ValueError | UserError) else f"{type(error).__name__}: {text}"


def describe_disk_error(error: BaseException | None) -> str | None:
    """`FILE cannot be written: REASON` if this is an error of the disk, or was caused by one; else None."""
    while error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            what = "cannot be written" if error.errno in NO_WRITING else "cannot be read or written"
            return f"{os.fsdecode(error.filename or 'a file')} {what}: {error.strerror}"
        error = error.__cause__
    return None


def check_installed(package: str, option: str, extra: str = "") -> None:
    """Raises UserError if a package is missing. `extra` is needed if the extra has another name."""
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{option}: {package} is not installed; {install_command(extra or package)}")


def install_command(extra: str) -> str:
    """In a checkout, or beside an installed package."""
    return f"pip install -e '.[{extra}]'" if CHECKOUT else f"pip install 'mnist-lit[{extra}]'"
