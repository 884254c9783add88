"""`mnist-lit predict`, `export` and `demo`: what can be done with a finished run and pictures of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from mnist_lit.errors import UserError

Run = Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint.", show_default=False)]


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, a checkpoint, or an exported .onnx file.")],
    pictures: Annotated[list[str], typer.Argument(help="Files, folders, or - for standard input.")],
    many: Annotated[bool, typer.Option("--many", help="Read every digit of a picture, left to right.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the 28 × 28 that the network sees.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a list of {file, prediction, probability, top}.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print one row a digit.")] = False,
) -> None:
    """Read digits in pictures of your own: photos, scans, drawings, of any size and colour."""
    if json + csv + show > 1:
        raise UserError("--json, --csv, --show: only one of them at a time")
    from mnist_lit.digits import show as shown
    from mnist_lit.digits.networks import open_network
    from mnist_lit.digits.read import pictures_in, read_pictures

    network = open_network(run)
    files = pictures_in(pictures)
    readings, failed = read_pictures(network, files, many), 0
    if json or csv:
        kept = list(readings)
        typer.echo(shown.as_json(kept) if json else shown.as_csv(kept).rstrip())
        failed = sum(reading.digit is None for reading in kept)
    else:
        width = min(40, max(map(len, files)))
        for reading in readings:
            if reading.digit is None:
                failed += 1
                typer.echo(f"error: {reading.file}: {reading.error}", err=True)
                continue
            typer.echo(shown.line(reading, width))
            if show:
                typer.echo(shown.drawn(reading.digit.pixels))
    if failed:
        raise typer.Exit(1)
