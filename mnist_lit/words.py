"""What is said: amounts, and on what terminal."""

import io
import sys


def how_many(amount: int, noun: str) -> str:
    """Such as `1 job`, `2 jobs`, `1,000 jobs`."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def spare_the_terminal() -> None:
    """Characters that its encoding does not have become question marks, where they would end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
