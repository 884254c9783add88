"""Text on the terminal: log lines, tables as text, amounts."""

import io
import logging
import sys
import textwrap

import rich
from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

WIDTH = 80  # columns of the narrowest terminal


class ConsoleHandler(logging.Handler):
    """Prints log lines through rich, so that they do not tear a progress bar. It does not wrap lines, so that a path or
    a command can be copied."""

    def __init__(self, stream: None = None) -> None:  # Hydra's default handler passes one
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        print_line(self.format(record))


def print_line(text: str) -> None:
    """Print the text as it is, beside a progress bar if there is one."""
    console = rich.get_console()
    if console.is_jupyter:  # rich would make a block of HTML of each line
        print(text)
        return
    console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)


def render_text(content: RenderableType, width: int | None = None) -> str:
    """A table or a box as lines of text, which fit the terminal if there is no `width`."""
    console = Console(file=io.StringIO(), force_jupyter=False, width=width or min(100, rich.get_console().width))
    console.print(content)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def wrap_text(text: str, label: str = "") -> str:
    """Lines that fit the narrowest terminal, 80 columns, behind the label. No word breaks, so that a path can be
    copied."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def progress_bar() -> Progress:
    """A bar on standard error. It disappears when it is done, and is shown on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    both = sys.stdout.isatty()  # text for a pipe must not be printed on the bar's console
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=both)


def warning_box(title: str, text: str) -> str:
    return render_text(Panel(Text(text), title=title, box=box.HEAVY, padding=(0, 1)))


def plural(amount: int, noun: str) -> str:
    """`1 job`, `2 jobs`, `1,000 jobs`."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")
