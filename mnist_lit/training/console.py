"""What a run prints: the same lines to the terminal and to train.log. Imports no torch."""

import io
import logging

import rich
from rich.console import Console, RenderableType


class ConsoleHandler(logging.Handler):
    """Prints through rich's console, so that a line does not tear a progress bar, and breaks no line of its own accord,
    so that a path or a command can be copied."""

    def __init__(self, stream: None = None) -> None:  # Hydra's default handler is given one
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        rich.get_console().print(self.format(record), soft_wrap=True, markup=False, highlight=False)


def rendered(content: RenderableType) -> str:
    """A table or box as lines of text, for a log message."""
    console = Console(file=io.StringIO(), width=min(100, rich.get_console().width))
    console.print(content)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
