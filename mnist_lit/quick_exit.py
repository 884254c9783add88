"""The quick way out: with torch and Lightning loaded, Python takes a second to take itself apart. Imports no torch."""

import atexit
import os
import sys

_done = False


def done() -> None:
    """All work is done: when the program ends, it ends at once, with 0."""
    global _done
    _done = True


def _leave() -> None:
    if _done:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:  # whoever read it has gone; Python says so in its own way
            return
        os._exit(0)


atexit.register(_leave)  # what libraries register comes later, and so is run before it
