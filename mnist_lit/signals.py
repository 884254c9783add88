"""Ctrl-C and SIGTERM, from the program's first line on. Imports no torch."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], None]


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


def on_signals(handler: Handler) -> None:
    for signum in STOPPING:
        signal.signal(signum, handler)


def cleaning_up() -> AbstractContextManager[None]:
    """Within it `stop` takes the place of `stop_dead`."""
    return in_place_of(stop_dead, stop)


@contextmanager
def in_place_of(before: Handler, within: Handler) -> Iterator[None]:
    """Within it another handler is there, if `before` was; a program's own handlers stay."""
    if before not in (signal.getsignal(signum) for signum in STOPPING):
        yield
        return
    on_signals(within)
    try:
        yield
    finally:
        on_signals(before)


def _say(signum: int) -> None:
    os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
