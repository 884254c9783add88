"""Importing torch and Lightning: most of what a short run waits for."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from mnist_lit.signals import in_place_of, stop, stop_dead

# libgomp reads it when torch is imported. A thread that waits for another spins 300,000 times if it is not told
# otherwise: nobody's loss where a run has the cores for itself, but beside other work the core is wanted elsewhere.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@contextmanager
def importing() -> Iterator[None]:
    """Within it garbage is not collected: what is imported stays, and looking through it again and again takes a sixth
    of the time. And signals stop the program dead, where an exception would abort a C++ library."""
    gc.disable()
    try:
        with in_place_of(stop, stop_dead):
            yield
    finally:
        gc.enable()
