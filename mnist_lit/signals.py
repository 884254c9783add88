"""Ctrl-C and SIGTERM, from the program's first line on. Imports no torch."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


class RunInterrupted(SystemExit):
    """Stopped by a signal; left alone, it ends the program with 130 or 143 and no traceback. Not an Exception, so that
    no one carries on."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return signal.Signals(self.signum).name


def stop_dead(signum: int, frame: FrameType | None) -> None:
    """The handler while nothing has been begun. An exception could come up in a place that swallows it (OmegaConf has
    such), or abort a C++ library that is just being imported."""
    _say(signum)
    os._exit(128 + signum)


def stop(signum: int, frame: FrameType | None) -> None:
    """The handler while there is something to clean up after."""
    _say(signum)
    raise RunInterrupted(signum)


def on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for signum in STOPPING:
        signal.signal(signum, handler)


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Within it `stop` takes the place of `stop_dead`; in a program that has its own handlers those stay."""
    if stop_dead not in (signal.getsignal(signum) for signum in STOPPING):
        yield
        return
    on_signals(stop)
    try:
        yield
    finally:
        on_signals(stop_dead)


@contextmanager
def importing() -> Iterator[None]:
    """Within it `stop_dead` takes the place of `stop`, for the sake of C++ libraries."""
    if stop not in (signal.getsignal(signum) for signum in STOPPING):
        yield
        return
    on_signals(stop_dead)
    try:
        yield
    finally:
        on_signals(stop)


def _say(signum: int) -> None:
    os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
