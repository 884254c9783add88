"""`mnist-lit predict`, `export` and `demo`: what can be done with a finished run and pictures of one's own."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mnist_lit.errors import UserError
from mnist_lit.extras import needs

Run = Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint in one.")]


class Format(StrEnum):
    onnx = "onnx"
    pt2 = "pt2"


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, a checkpoint, or an exported .onnx file.")],
    pictures: Annotated[list[str], typer.Argument(help="Files, folders, or - for standard input.")],
    many: Annotated[bool, typer.Option("--many", help="Read every digit of a picture, line by line.")] = False,
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


def export(
    run: Run,
    format: Annotated[Format, typer.Option(help="onnx: onnxruntime and others; pt2: torch.export.")] = Format.onnx,
    out: Annotated[
        Path | None, typer.Option(help="The file; if not given, model.onnx or model.pt2 in the run.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Round weights and activations to bytes (onnx).")] = False,
) -> None:
    """Write the network as one file for other programs, and check it on the whole test set."""
    if int8 and format != Format.onnx:
        raise UserError(f"--int8 --format {format}: only onnx can be rounded to int8")
    path = out or (run if run.is_dir() else run.parent.parent) / f"model{'_int8' if int8 else ''}.{format}"
    if path.suffix != f".{format}":
        raise UserError(f"--out {path}: should end with .{format}")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}")
    if format == Format.onnx:
        for module in ("onnx", "onnxscript", "onnxruntime"):
            needs(module, "export")
    from mnist_lit.digits.export import export_run

    done = export_run(run, format, path, int8)
    typer.echo(f"{done.path}: {done.bytes:,} bytes")
    typer.echo(
        f"checked on {done.images:,} test images: {done.changed} answers differ from the checkpoint's, ", nl=False
    )
    typer.echo(f"probabilities by {done.difference:.1e} at most")
    rows = (
        ("test accuracy", *(f"{value:.2%}" for value in done.accuracy)),
        ("one picture", *(f"{value:.2f} ms" for value in done.milliseconds)),
        ("in batches of 1,000", *(f"{value:,.0f} a second" for value in done.images_per_second)),
    )
    typer.echo(f"{'':22}{'torch, eager':>20}{format:>20}")
    for name, before, after in rows:
        typer.echo(f"{name:22}{before:>20}{after:>20}")


def demo(
    run: Run,
    host: Annotated[str, typer.Option(help="Where to listen; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
) -> None:
    """A page to draw digits on, with the network's answer while drawing."""
    for module in ("fastapi", "uvicorn"):
        needs(module, "demo")
    import socket

    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason})") from error
    with listener:
        from mnist_lit.digits.checkpoint import CheckpointNetwork
        from mnist_lit.digits.server import build_app, serve

        network = CheckpointNetwork(run)
        loopback = host in ("127.0.0.1", "localhost")
        typer.echo(network.about)
        typer.echo(f"http://{host}:{listener.getsockname()[1]}/  (Ctrl-C ends it)")
        if not loopback:
            typer.echo("every machine that reaches this one can use it", err=True)
        serve(build_app(network, ["127.0.0.1", "localhost"] if loopback else ["*"]), listener)
