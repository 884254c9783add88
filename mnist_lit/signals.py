"""Ctrl-C and SIGTERM, from the program's first line on. Imports no torch."""

import os
import signal
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


def stop_now(signum: int, frame: FrameType | None) -> None:
    """A handler for the parts of a program that have nothing to save."""
    os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
    raise RunInterrupted(signum)


def stop_on_signals() -> None:
    for signum in STOPPING:
        signal.signal(signum, stop_now)
