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


def stop(signum: int, frame: FrameType | None) -> None:
    """A handler: whatever is being done is cleaned up after."""
    _say(signum)
    raise RunInterrupted(signum)


def stop_dead(signum: int, frame: FrameType | None) -> None:
    """A handler for imports: an exception in the middle of a C++ library's own start makes it abort."""
    _say(signum)
    os._exit(128 + signum)


def on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for signum in STOPPING:
        signal.signal(signum, handler)


@contextmanager
def importing() -> Iterator[None]:
    """Within it signals stop the program dead, if it is one that signals stop."""
    before = {signum: signal.getsignal(signum) for signum in STOPPING}
    if stop in before.values():
        on_signals(stop_dead)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _say(signum: int) -> None:
    os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
