"""Importing torch and Lightning: most of what a short run waits for."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mnist_lit.signals import in_place_of, stop, stop_dead

# libgomp reads it when torch is imported. A thread that waits for another spins 300,000 times if it is not told
# otherwise: nobody's loss where a run has the cores for itself, but beside other work the core is wanted elsewhere.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@contextmanager
def importing() -> Iterator[None]:
    """Within it garbage is not collected: what is imported stays, and looking through it again and again takes a sixth
    of the time. And signals stop the program dead, where an exception would abort a C++ library. What is freed from
    now on is kept, see `keep_freed_memory`."""
    gc.disable()
    keep_freed_memory()
    try:
        with in_place_of(stop, stop_dead):
            yield
    finally:
        gc.enable()


def keep_freed_memory() -> None:
    """Have glibc keep the memory of a step's tensors for the next step, where it would sometimes, by the luck of what
    lies where, give it back to the system each time and take it again page by page: a fifth of a small network's time
    (`python -m benchmarks tricks`). Whoever sets malloc up through its environment knows better."""
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the largest that it accepts
        mallopt(M_TRIM_THRESHOLD, 2**30)
