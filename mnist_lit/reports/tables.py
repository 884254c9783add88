"""Leaderboards for the terminal, as Markdown and as CSV; a comparison for the terminal."""

import csv
import io
from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mnist_lit.config.options import comparable
from mnist_lit.console import plural, print_line
from mnist_lit.reports.comparison import Comparison
from mnist_lit.reports.leaderboard import BEST_FIRST, Leaderboard, Row
from mnist_lit.reports.run_reader import RESULTS

CHOICE = "The rows are in the order of their validation accuracy, because the test set must not choose a network."
# The columns that a narrow terminal hides, in this order.
OPTIONAL = ("folder", "samples/s", "params", "95 % interval", "fit s", "tags")
REFERENCES = ("published", "reference")
MOST_COLUMNS = 4  # of options; the HTML page merges more of them into one column
MOST_UNFINISHED = 10  # in the list below a table
MOST_RUNS = 4  # side by side in a comparison


def format_row(board: Leaderboard, rank: int, row: Row, merged: bool = False) -> dict[str, str]:
    """Heading → cell. With `merged`, one column lists the row's unusual options."""
    low, high = row.interval
    cells = {"#": str(rank)}
    if board.search:
        cells["trial"] = str(row.runs[0].number)
    if merged:
        cells["options"] = ", ".join(list_unusual_options(board, row))
    else:
        cells |= {board.headings[name]: format_option(name, value(row)) for name, value in board.columns.items()}
    if any(other.published or other.reference for other in board.rows):
        cells |= {
            "published": str(row.published or "–"),
            "reference": f"{row.reference:.2%}" if row.reference else "–",
        }
    if any(other.tags for other in board.rows):
        cells["tags"] = ", ".join(row.tags) or "–"
    return cells | {
        "test_acc": format_mean_std(row, "test_acc"),
        "n": str(row.n),
        "95 % interval": f"{low:.2%} to {high:.2%}",
        "val_acc": format_mean_std(row, "val_acc"),
        "params": f"{row.runs[0].result['params']:,}",
        "fit s": f"{row.mean('fit_seconds'):.1f}",
        "samples/s": f"{row.mean('train_samples_per_second'):,.0f}",
    }


def list_unusual_options(board: Leaderboard, row: Row) -> list[str]:
    """The row's options that differ from those of most rows."""
    unusual = [
        f"{board.headings[name]}={format_option(name, value(row))}"
        for name, value in board.columns.items()
        if name not in board.usual or comparable(name, value(row)) != comparable(name, board.usual[name])
    ]
    return unusual or ["as most rows"]


def describe_usual_options(board: Leaderboard) -> str:
    usual = ", ".join(f"{board.headings[name]}={format_option(name, value)}" for name, value in board.usual.items())
    return f"Most rows have {usual}." if usual else ""


def describe_row(board: Leaderboard, row: Row) -> str:
    """What distinguishes the row: `cnn, adam, lr=0.01`."""
    if len(board.columns) > MOST_COLUMNS:
        return ", ".join(list_unusual_options(board, row))
    values = {name: value(row) for name, value in board.columns.items() if value(row) is not None}
    return ", ".join(
        ("" if name in row.choices else f"{board.headings[name]}=") + format_option(name, value)
        for name, value in values.items()
    )


def format_option(name: str, value: Any) -> str:
    """The value of an option as text. Of a class path it shows the class name only."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).rpartition(".")[2] if name.endswith("_target_") else str(value)


def format_mean_std(row: Row, metric: str) -> str:
    """For example `98.71 ± 0.09 %`. A single run has no standard deviation."""
    std = row.std(metric)
    return f"{row.mean(metric):.2%}" if std is None else f"{100 * row.mean(metric):.2f} ± {100 * std:.2f} %"


def explain_order(boards: Sequence[Leaderboard]) -> str:
    """Why the rows are in this order; empty if the user has chosen another one."""
    return CHOICE if all(board.order == BEST_FIRST for board in boards) else ""


def print_boards(boards: Sequence[Leaderboard], problems: Sequence[str], top: int) -> None:
    console = Console()
    if reason := explain_order(boards):
        console.print(reason, end="\n\n")
    for board in boards:
        console.print(build_table(board, console, top) if board.rows else Text(f"{board.title}: no completed runs"))
        for title, text in list_footnotes(board):
            print_line(f"{title}\n{text}")
        console.print()
    if problems:
        print_line("\n  ".join(["Not readable:", *problems]))


def build_table(board: Leaderboard, console: Console, top: int | None = None) -> Table:
    """A table that fits the terminal. In a narrow one it hides columns; in a very narrow one it also merges all options
    into one column."""
    layouts = [(OPTIONAL[:hidden], False) for hidden in range(1, len(OPTIONAL) + 1)]
    for hidden, merged in ((), False), *layouts, (OPTIONAL, True), ((*OPTIONAL, *REFERENCES), True):
        table = _build_table(board, top, hidden, merged)
        if console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width:
            break
    return table


def _build_table(board: Leaderboard, top: int | None, hidden: Collection[str], merged: bool) -> Table:
    rows = [
        format_row(board, rank, row, merged) | {"folder": row.runs[-1].folder.name}
        for rank, row in enumerate(board.rows[:top], 1)
    ]
    headings = [heading for heading in rows[0] if heading not in hidden]
    caption = [f"{plural(len(board.rows), 'configuration')}, {board.order}."]
    if more := len(board.rows) - len(rows):
        caption.append(f"{plural(more, 'more row')} with --top {len(board.rows)}.")
    if missing := [heading for heading in rows[0] if heading in hidden and heading != "folder"]:
        caption.append(f"Not shown in a narrow terminal: {', '.join(missing)}.")
    if merged:
        caption.append(describe_usual_options(board))
    title = Text(board.title, "table.title") if board.title else None
    table = Table(title=title, caption=Text(" ".join(caption), "table.caption"))
    for heading in headings:
        left = heading in ("experiment", "published", "options", "tags", "folder") or heading in board.headings.values()
        wraps = heading == "options"
        table.add_column(
            heading,
            justify="left" if left else "right",
            no_wrap=merged and not wraps,
            overflow="fold" if wraps else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(row[heading]) for heading in headings))
    return table


def list_footnotes(board: Leaderboard) -> list[tuple[str, str]]:
    """(title, lines) below the table: a lesson's point, how to repeat the first row, and the runs that have no row."""
    notes = [("Its point:", f"  {board.lesson['point']}")] if board.lesson else []
    if board.rows:
        first = board.rows[0]
        notes.append(("To repeat the first row:", f"  {first.command}"))
        if first.together is not None:
            together = f"  {first.together:.2%} of the test images are right by the mean of their probabilities"
            notes.append((f"The {first.n} networks of the first row together:", together))
    pruned = [run for run in board.unfinished if run.result["status"] == "pruned"]
    others = [
        f"  {run.folder}: {run.result['status']}" + (f" ({run.result['error']})" if run.result.get("error") else "")
        for run in board.unfinished
        if run.result["status"] != "pruned"
    ]
    lines = others[:MOST_UNFINISHED]
    if len(others) > MOST_UNFINISHED:
        lines.append(f"  and {plural(len(others) - MOST_UNFINISHED, 'other run')}")
    if pruned:
        lines.append(f"  {board.sweep or pruned[0].folder.parent}: {plural(len(pruned), 'pruned trial')}")
    if lines:
        notes.append(("Not finished:", "\n".join(lines)))
    return notes


def format_markdown_table(board: Leaderboard, top: int | None = None) -> str:
    rows = [format_row(board, rank, row) for rank, row in enumerate(board.rows[:top], 1)]
    if not rows:
        return "No completed runs.\n"
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row.values()) + " |" for row in rows]
    if more := len(board.rows) - len(rows):
        lines += ["", f"{plural(more, 'more row')} with --top {len(board.rows)}."]
    return "\n".join(lines) + "\n"


def format_markdown(boards: Sequence[Leaderboard], problems: Sequence[str] = (), top: int | None = None) -> str:
    lines = [reason, ""] if (reason := explain_order(boards)) else []
    for board in boards:
        lines += [f"## {board.title}", "", format_markdown_table(board, top)]
        for title, text in list_footnotes(board):
            lines += [title, "", "```", text.replace("\n  ", "\n").strip(), "```", ""]
    if problems:
        lines += ["Not readable:", "", "```", *problems, "```"]
    return "\n".join(lines).strip() + "\n"


def format_csv(boards: Sequence[Leaderboard]) -> str:
    """One row for each configuration. Numbers are not rounded, for other programs."""
    columns = {name: value for board in boards for name, value in board.columns.items()}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    spread = ("test_acc_std", "test_acc_low", "test_acc_high")
    writer.writerow(["group", "data", *columns, "tags", "limited", "n", *RESULTS, *spread, "folder", "command"])
    for board in boards:
        for row in board.rows:
            limited = " ".join(f"{name}={value}" for name, value in row.runs[0].limited.items())
            writer.writerow([
                board.title, row.data, *(value(row) for value in columns.values()), " ".join(row.tags), limited,
                row.n, *(row.mean(name) for name in RESULTS), row.std("test_acc"), *row.interval,
                ";".join(str(run.folder) for run in row.seeds.values()), row.command,
            ])  # fmt: skip
    return stream.getvalue()


def build_comparison(comparison: Comparison) -> Group:
    """Tables of at most MOST_RUNS runs side by side, then each pair of runs."""
    runs = comparison.runs
    lines = [f"run {number}: {run.folder}" for number, run in enumerate(runs, 1)]
    tables = []
    for start in range(0, len(runs), MOST_RUNS):
        numbers = range(start, min(start + MOST_RUNS, len(runs)))
        table = Table("", *(f"run {number + 1}" for number in numbers), title="What differs")
        for name, values in comparison.options.items():
            table.add_row(name, *(Text(format_option(name, values[number])) for number in numbers))
        table.add_section()
        for name in RESULTS[:-1]:
            table.add_row(name, *(format_option(name, runs[number].result[name]) for number in numbers))
        tables.append(table)
    variation = "unknown, because no configuration here has runs with two seeds"
    if comparison.seed_std is not None:
        variation = f"standard deviation {100 * comparison.seed_std:.2f} percentage points"
    pairs = [
        f"Test images that only run {pair.first + 1} classified correctly: {pair.only_first}, only run "
        f"{pair.second + 1}: {pair.only_second}. McNemar's exact {format_p(pair.p)}.\n{comparison.verdict(pair)}"
        for pair in comparison.pairs
    ]
    if len(pairs) > 1:
        pairs.insert(
            0,
            f"Run {comparison.pairs[0].first + 1} has the best validation accuracy, so it is compared with each other "
            f"run. The p-values are adjusted for {len(pairs)} comparisons (Holm).",
        )
    text = "\n\n".join(["\n".join(lines), *pairs, f"Test accuracy over the seeds: {variation}."])
    return Group(*tables, Text(text))


def format_p(p: float) -> str:
    return "p < 1e-300" if p < 1e-300 else f"p = {p:.3g}"
