"""`mnist-lit COMMAND`: everything that is done with finished runs, with the data, and with this installation."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mnist_lit.data import files
from mnist_lit.errors import UserError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="MNIST's four files.")
app.add_typer(data_app, name="data")

Root = Annotated[Path, typer.Option(envvar="MNIST_LIT_DATA", help="Folder that holds MNIST/raw.")]
Mirrors = Annotated[str | None, typer.Option(envvar="MNIST_LIT_MIRRORS", help="URLs, comma-separated.")]


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint in one.")],
) -> None:
    """The official test set again, with the run's best checkpoint."""
    from mnist_lit.training.evaluate import evaluate_run

    outcome = evaluate_run(run)
    typer.echo(f"{outcome.checkpoint}")
    typer.echo(f"{outcome.data}: {outcome.samples:,} test images")
    typer.echo(f"test_acc   {outcome.test_acc:.2%}")
    typer.echo(f"test_loss  {outcome.test_loss:.4f}")


@data_app.command()
def fetch(root: Root = Path("data"), mirrors: Mirrors = None) -> None:
    """Download what is missing or damaged, and verify all of it."""
    files.ensure_mnist(root, mirrors.split(",") if mirrors else None)
    typer.echo(f"{files.raw_folder(root)}: all four files are there and right")


@data_app.command()
def verify(root: Root = Path("data")) -> None:
    """Check the four files; exit code 1 if one cannot be trained on."""
    faults = files.faults(root)
    for file in files.FILES:
        typer.echo(f"{files.raw_folder(root) / file.name}: {faults.get(file.name, 'right')}")
    if faults:
        raise UserError("mend them with: mnist-lit data fetch")


@app.command()
def doctor(root: Root = Path("data")) -> None:
    """Versions, devices, data: what is there, what is wrong, and what to do about it."""
    from mnist_lit.training.doctor import examine

    table = Table("", "what", "found", "what to do", box=None, pad_edge=False)
    findings = examine(root)
    for finding in findings:
        table.add_row("ok" if finding.remedy is None else "!!", finding.what, finding.found, finding.remedy or "")
    Console().print(table)
    if any(finding.remedy for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")
