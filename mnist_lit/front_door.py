"""Round Hydra: what it would do before it asks us anything, and how the program ends. Imports no torch.

Hydra instantiates its callbacks, launchers and log handlers by name before the run's config can be checked, and prints
tracebacks of its own for some mistakes on the command line. Both are caught here.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

from hydra.errors import CompactHydraException
from omegaconf.errors import OmegaConfBaseException

from mnist_lit.misspelt import no_such_option
from mnist_lit.words import spare_the_terminal

TRACEBACKS_WANTED = os.environ.get("HYDRA_FULL_ERROR") == "1"
NAMES_CODE = re.compile(r"^[+~]*hydra(=|[./](callbacks|job_logging|hydra_logging)|[./@].*_target_)")


def enter(main: Callable[[], object]) -> None:
    """Run a `hydra.main` function; whatever goes wrong ends the program with one clear message and its exit code."""
    spare_the_terminal()
    for argument in sys.argv[1:]:
        if NAMES_CODE.search(argument):
            sys.exit(f"error: {argument}: the code that Hydra runs is fixed, and cannot be named on the command line")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra hand its exceptions on instead of printing them
    try:
        main()
    except CompactHydraException as error:
        if misspelt := no_such_option(error):
            sys.exit(f"error: {misspelt}")
        cause = f"\n{error.__cause__}" if isinstance(error.__cause__, OmegaConfBaseException) else ""
        sys.exit(f"{error}{cause}{_extra(str(error))}")
    except Exception as error:
        if TRACEBACKS_WANTED:
            raise
        if own_part := _from_job_on(error.__traceback__):
            traceback.print_exception(type(error), error, own_part)
            sys.exit(1)
        sys.exit(f"error: {error}\ngiven: {' '.join(sys.argv[1:])}")


def _extra(message: str) -> str:
    """What to install, where Hydra does not find a launcher that only a plugin has."""
    missing = re.search(r"Could not (?:find|load) 'hydra/launcher/(joblib|ray|submitit)", message)
    return f"\nNot installed: pip install -e '.[{missing[1]}]'" if missing else ""


def _from_job_on(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that is ours, if a run had begun: then it is a fault in a network or in this project."""
    while trace and trace.tb_frame.f_globals.get("__name__") != "mnist_lit.training.job":
        trace = trace.tb_next
    return trace
