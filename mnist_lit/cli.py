"""`mnist-lit COMMAND`: everything that is done with finished runs, with the data, and with this installation."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from mnist_lit import quick_exit
from mnist_lit.digits import commands
from mnist_lit.errors import UserError
from mnist_lit.importing import importing
from mnist_lit.words import how_many, spare_the_terminal

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="MNIST's four files.")
app.add_typer(data_app, name="data")
app.command()(commands.predict)
app.command()(commands.export)
app.command()(commands.demo)

Root = Annotated[Path, typer.Option(envvar="MNIST_LIT_DATA", help="Folder that holds MNIST/raw.")]
Mirrors = Annotated[str | None, typer.Option(envvar="MNIST_LIT_MIRRORS", help="URLs, comma-separated.")]


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint in one.")],
    pictures: Annotated[Path | None, typer.Option(help="A folder of your own, labelled by name or by folder.")] = None,
) -> None:
    """The official test set again, with the run's best checkpoint; or pictures of your own."""
    if pictures is not None:
        from mnist_lit.digits.labelled import evaluate_pictures, told
        from mnist_lit.digits.networks import open_network

        typer.echo(told(evaluate_pictures(open_network(run), pictures), pictures))
        return
    from mnist_lit.reports.confusion import matrix, per_class

    with importing():
        from mnist_lit.training.evaluate import evaluate_run

    outcome = evaluate_run(run)
    unfinished = "" if outcome.status == "completed" else f", of a run that is {outcome.status}"
    typer.echo(f"{outcome.checkpoint}{unfinished}")
    typer.echo(f"{outcome.data}: {outcome.samples:,} test images")
    typer.echo(f"test_acc   {outcome.test_acc:.2%}")
    typer.echo(f"test_loss  {outcome.test_loss:.4f}")
    typer.echo(f"\n{per_class(outcome.confusion)}\n\n{matrix(outcome.confusion)}\n")
    before, after = outcome.ece
    temperature = f"temperature {outcome.temperature:.2f}, fitted on validation"
    typer.echo(f"calibration error  {before:.4f}; {after:.4f} at {temperature}")
    typer.echo(
        f"latency            {outcome.milliseconds:.2f} ms for one image, {outcome.images_per_second:,.0f} a second"
    )


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Every run below it is read.")] = Path("outputs"),
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print it as CSV, numbers unrounded.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write one page with plots, readable without a network.")] = None,
) -> None:
    """One leaderboard of many runs: mean ± standard deviation over the seeds."""
    from mnist_lit.reports import render
    from mnist_lit.reports.leaderboard import leaderboard
    from mnist_lit.reports.runs import find_runs

    board = leaderboard(*find_runs(folder))
    if not (board.rows or board.unfinished or board.problems):
        raise UserError(f"there are no runs below {folder}")
    if html:
        from mnist_lit.reports.page import page
        from mnist_lit.reports.search import find_searches

        content = page(board, find_searches(folder))
        try:
            html.write_text(content)
        except OSError as error:
            raise UserError(f"--html {html}: cannot be written: {error.strerror or error}") from error
        typer.echo(f"{html}: {how_many(len(board.rows), 'configuration')}", err=True)
    if markdown:
        typer.echo(render.markdown(board))
    elif csv:
        typer.echo(render.as_csv(board), nl=False)
    else:
        console = Console()
        console.print(render.terminal(board, console) if board.rows else "no completed runs")
        for title, text in render.footnotes(board):
            typer.echo(f"\n{title}\n{text}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A run's folder.")],
    second: Annotated[Path, typer.Argument(help="Another's.")],
) -> None:
    """What differs between two runs, and whether it is more than chance."""
    from mnist_lit.reports import render
    from mnist_lit.reports.compare import compare as compare_runs
    from mnist_lit.reports.runs import UnreadableRun, find_runs, read_run

    try:
        one, two = read_run(first), read_run(second)
    except UnreadableRun as error:
        raise UserError(str(error)) from error
    others = [run for parent in {first.parent, second.parent} for run in find_runs(parent)[0]]
    Console().print(render.comparison(one, two, compare_runs(one, two, others)))


@data_app.command()
def fetch(root: Root = Path("data"), mirrors: Mirrors = None) -> None:
    """Download what is missing or damaged, and verify all of it."""
    from mnist_lit.data import files

    files.ensure_mnist(root, mirrors.split(",") if mirrors else None)
    typer.echo(f"{files.raw_folder(root)}: all four files are there and right")


@data_app.command()
def verify(root: Root = Path("data")) -> None:
    """Check the four files; exit code 1 if one cannot be trained on."""
    from mnist_lit.data import files

    faults = files.faults(root)
    for file in files.FILES:
        typer.echo(f"{files.raw_folder(root) / file.name}: {faults.get(file.name, 'right')}")
    if faults:
        raise UserError("mend them with: mnist-lit data fetch")


@app.command()
def doctor(root: Root = Path("data")) -> None:
    """Versions, devices, data: what is there, what is wrong, and what to do about it."""
    from mnist_lit.training.doctor import examine

    table = Table("", "what", Column("found", overflow="fold"), "what to do", box=None, pad_edge=False)
    findings = examine(root)
    for finding in findings:
        table.add_row("ok" if finding.remedy is None else "!!", finding.what, finding.found, finding.remedy or "")
    Console().print(table)
    if any(finding.remedy for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    spare_the_terminal()
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")
    except SystemExit as end:
        if not end.code:
            quick_exit.done()
        raise
