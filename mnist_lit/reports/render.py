"""A leaderboard for the terminal, as Markdown and as CSV."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mnist_lit.reports.compare import Comparison
from mnist_lit.reports.leaderboard import Leaderboard, Row
from mnist_lit.reports.runs import Run
from mnist_lit.words import how_many

RANKING = "Ranked by validation accuracy: the test set chooses nothing."


TOO_MANY = 4  # columns of options: more of them hide the results


def headings(board: Leaderboard, together: bool = False) -> list[str]:
    """`together`: one column for all options."""
    options = ["options"] if together else [*board.columns]
    references = ["published", "reference"] if any(row.published or row.reference for row in board.rows) else []
    return [
        "#", *options, *references,
        "test_acc", "n", "95 % interval", "val_acc", "params", "fit s", "samples/s",
    ]  # fmt: skip


def cells(board: Leaderboard, rank: int, row: Row, together: bool = False) -> list[str]:
    low, high = row.interval
    if together:
        options = ["\n".join(own_options(board, row))]
    else:
        options = [shown(value(row)) for value in board.columns.values()]
    references = []
    if "published" in headings(board):
        references = [row.published or "–", f"{row.reference:.2%}" if row.reference else "–"]
    return [
        str(rank),
        *options,
        *references,
        mean_std(row, "test_acc"),
        str(row.n),
        f"{low:.2%} to {high:.2%}",
        mean_std(row, "val_acc"),
        f"{row.runs[0].result['params']:,}",
        f"{row.mean('fit_seconds'):.1f}",
        f"{row.mean('train_samples_per_second'):,.0f}",
    ]


def own_options(board: Leaderboard, row: Row) -> list[str]:
    """Those that are not the usual ones, or that there are none."""
    own = [
        f"{name}={shown(value(row))}"
        for name, value in board.columns.items()
        if name not in board.usual or value(row) != board.usual[name]
    ]
    return own or ["as most"]


def usually(board: Leaderboard) -> str:
    return f"Most rows have {', '.join(f'{name}={shown(value)}' for name, value in board.usual.items())}."


def mean_std(row: Row, name: str) -> str:
    """Such as `98.71 ± 0.09 %`; of a single run there is no spread to give."""
    std = row.std(name)
    return f"{row.mean(name):.2%}" if std is None else f"{100 * row.mean(name):.2f} ± {100 * std:.2f} %"


def shown(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


DISPENSABLE = ("samples/s", "params", "95 % interval", "fit s")


def terminal(board: Leaderboard, console: Console) -> Table:
    """Where the terminal is too narrow for all of the table, columns are left out rather than folded, and at last each
    row names only those of its options that most rows do not have."""
    apart = [(DISPENSABLE[:spared], False) for spared in range(len(DISPENSABLE) + 1)]
    for without, together in (*apart, (DISPENSABLE, True), ((*DISPENSABLE, "published", "reference"), True)):
        table = _table(board, without, together)
        if console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width:
            break
    return table


def _table(board: Leaderboard, without: Sequence[str], together: bool = False) -> Table:
    hidden = [heading for heading in headings(board, together) if heading in without]
    caption = RANKING + (f" Not shown, for want of room: {', '.join(hidden)}." if hidden else "")
    if together and board.usual:
        caption += f" {usually(board)}"
    table = Table(title=how_many(len(board.rows), "configuration"), caption=caption)
    kept = [heading for heading in headings(board, together) if heading not in hidden]
    for heading in kept:
        left = heading in ("experiment", "published", "options") or heading in board.columns
        folds = heading == "options"
        table.add_column(
            heading,
            justify="left" if left else "right",
            no_wrap=together and not folds,
            overflow="fold" if folds else "ellipsis",
        )
    for rank, row in board.ranked:
        if rank == 1:
            table.add_section()  # another data set
        cell = dict(zip(headings(board, together), cells(board, rank, row, together), strict=True))
        table.add_row(*(cell[heading] for heading in kept))
    return table


def comparison(first: Run, second: Run, difference: Comparison) -> Group:
    options = Table("", "first", "second", title="What differs")
    for name, (one, two) in difference.options.items():
        options.add_row(name, shown(one), shown(two))
    options.add_section()
    for name in ("test_acc", "test_loss", "val_acc", "params", "fit_seconds"):
        options.add_row(name, shown(first.result[name]), shown(second.result[name]))
    spread = "unknown: no configuration here was run with two seeds"
    if difference.seed_std is not None:
        spread = f"{100 * difference.seed_std:.2f} points standard deviation"
    return Group(
        options,
        Text(
            f"test images that only the first got right: {difference.only_first}, only the second: "
            f"{difference.only_second}; McNemar's exact p = {difference.p:.3g}\n"
            f"the seeds' spread: {spread}\n{difference.verdict}"
        ),
    )


def footnotes(board: Leaderboard) -> list[tuple[str, str]]:
    """(title, lines) of what stands below the table: how to repeat the best row, and what is not in it."""
    notes = []
    if board.rows:
        notes.append(("The best row again:", f"  {board.rows[0].command}"))
    if board.unfinished:
        pruned = Counter(run.folder.parent for run in board.unfinished if run.result["status"] == "pruned")
        lines = [
            f"  {run.folder}: {run.result['status']}" + (f" ({run.result['error']})" if run.result.get("error") else "")
            for run in board.unfinished
            if run.result["status"] != "pruned"
        ]
        lines += [f"  {search}: {how_many(trials, 'pruned trial')}" for search, trials in pruned.items()]
        notes.append(("Not finished:", "\n".join(lines)))
    if board.problems:
        notes.append(("Not readable:", "\n".join(f"  {problem}" for problem in board.problems)))
    return notes


def markdown_table(board: Leaderboard) -> str:
    lines = ["| " + " | ".join(headings(board)) + " |", "|" + " --- |" * len(headings(board))]
    for rank, row in board.ranked:
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells(board, rank, row)) + " |")
    return "\n".join(lines) + "\n"


def markdown(board: Leaderboard) -> str:
    lines = [markdown_table(board), RANKING]
    for title, text in footnotes(board):
        lines += ["", title, "", "```", text.replace("\n  ", "\n").strip(), "```"]
    return "\n".join(lines) + "\n"


def as_csv(board: Leaderboard) -> str:
    """Numbers unrounded, for other programs."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    numbers = ("test_acc", "val_acc", "test_loss", "params", "fit_seconds", "train_samples_per_second")
    writer.writerow([*board.columns, "n", *numbers, "test_acc_std", "test_acc_low", "test_acc_high", "command"])
    for row in board.rows:
        options = [value(row) for value in board.columns.values()]
        spread = [row.std("test_acc"), *row.interval, row.command]
        writer.writerow([*options, row.n, *(row.mean(name) for name in numbers), *spread])
    return stream.getvalue()
