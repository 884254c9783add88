"""`mnist-lit predict`, `export` and `demo`: use a finished run."""

import os
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_lit import CONFIG, __version__
from mnist_lit.errors import UserError, check_installed

if TYPE_CHECKING:
    from mnist_lit.digits.trained_network import Network

RUN = "A run's folder, a unique part of its name, or latest; or a checkpoint"


def to_run(name: str) -> Path:
    """`run_folder.find_run`, without its imports for a path that exists: an exported network needs few packages."""
    if os.path.exists(name):
        return Path(name)
    from mnist_lit.run_folder import find_run

    return find_run(name)


def split_run(names: list[str]) -> tuple[Path | None, list[str]]:
    """(RUN, pictures). RUN is None if the first name is a picture or a folder of pictures.

    Raises:
        UserError: if the first name is neither.
    """
    from mnist_lit.digits.picture_predictions import STDIN

    first = Path(names[0]) if names[0] == STDIN else to_run(names[0])
    if first.suffix in (".onnx", ".ckpt") or (first / CONFIG).is_file():
        return first, names[1:]
    if names[0] != STDIN and not first.exists():
        raise UserError(f"{names[0]}: there is no such run, checkpoint or picture")
    return None, names


def describe_network(network: "Network", run: Path | None) -> str:
    owner = run or f"mnist-lit {__version__}"
    return f"network of {owner}: {network.about.partition('parameters, ')[2]}"


Run = Annotated[Path, typer.Argument(parser=to_run, metavar="RUN", help=f"{RUN}.")]

DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the run's data set on this machine. Default: where the run had it, or MNIST_LIT_DATA.",
        show_default=False,
    ),
]


class Format(StrEnum):
    onnx = "onnx"
    pt2 = "pt2"


def predict(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURES",
            help=f"Files, folders, or - for standard input. RUN: {RUN[0].lower()}{RUN[1:]}; or an exported .onnx file. "
            "Default: the network that comes with mnist-lit.",
        ),
    ],
    many: Annotated[bool, typer.Option("--many", help="Read every digit of a picture, line by line.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the 28 × 28 pixels that the network sees.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print a list of {file, prediction, probability, top, box}.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print one row for each digit.")] = False,
) -> None:
    """Read digits in your own pictures: photos, scans or drawings of any size and color."""
    if json + csv + show > 1:
        raise UserError("--json, --csv, --show: use only one of them")
    from mnist_lit.digits.picture_predictions import list_pictures, predict_pictures
    from mnist_lit.digits.prediction_output import format_csv, format_json, print_predictions
    from mnist_lit.digits.trained_network import open_network

    run, pictures = split_run(names)
    if not pictures:
        raise UserError(f"{names[0]}: name pictures after it, or a folder of pictures")
    network = open_network(run)
    if run is None or not Path(names[0]).exists():  # a name such as latest says too little
        typer.echo(describe_network(network, run), err=True)
    files = list_pictures(pictures)
    predictions = predict_pictures(network, files, many)
    if json or csv:
        collected = list(predictions)
        typer.echo(format_json(collected) if json else format_csv(collected).rstrip())
        failed = sum(prediction.digit is None for prediction in collected)
    else:
        failed = print_predictions(predictions, min(40, max(map(len, files))), many, show)
    if failed:
        raise typer.Exit(1)


def export(
    run: Run,
    format: Annotated[Format, typer.Option(help="onnx: for onnxruntime; pt2: for torch.export.")] = Format.onnx,
    out: Annotated[Path | None, typer.Option(help="The file. Default: a name like model.onnx in the run.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantize weights and activations to int8 (onnx).")] = False,
    data_root: DataRoot = None,
) -> None:
    """Write the network as one file for other programs, and check it on the whole test set."""
    if int8 and format != Format.onnx:
        raise UserError(f"--int8 --format {format}: only onnx can be quantized to int8")
    from mnist_lit.run_folder import CHECKPOINTS

    place = run if run.is_dir() else run.parent.parent if run.parent.name == CHECKPOINTS else run.parent
    path = out or place / f"model{'_int8' if int8 else ''}.{format}"
    if path.suffix != f".{format}":
        raise UserError(f"--out {path}: the name must end with .{format}")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}")
    if format == Format.onnx:
        for module in ("onnx", "onnxscript"):
            check_installed(module, "--format onnx", "export")
    from mnist_lit.digits.export import export_run

    done = export_run(run, format, path, int8, data_root)
    typer.echo(f"{done.path}: {done.bytes:,} bytes")
    typer.echo(
        f"checked on {done.images:,} test images: {done.changed} predictions differ from the checkpoint's, "
        f"probabilities by at most {done.difference:.1e}"
    )
    rows = (
        ("test accuracy", *(f"{value:.2%}" for value in done.accuracy)),
        ("one picture", *(f"{value:.2f} ms" for value in done.milliseconds)),
        ("in batches of 1,000", *(f"{value:,.0f} a second" for value in done.images_per_second)),
    )
    typer.echo(f"{'':22}{'torch, eager':>20}{format:>20}")
    for name, before, after in rows:
        typer.echo(f"{name:22}{before:>20}{after:>20}")


def demo(
    run: Annotated[
        Path | None,
        typer.Argument(
            parser=to_run,
            metavar="RUN",
            help=f"{RUN}, or an exported .onnx file. Default: the network that comes with mnist-lit.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. By default only this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
) -> None:
    """Serve a page to draw digits on. The network predicts while you draw."""
    import socket

    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason})") from error
    with listener:
        from mnist_lit.digits.server import build_app, serve
        from mnist_lit.digits.trained_network import open_network

        network = open_network(run)
        local = host in ("127.0.0.1", "localhost")
        typer.echo(network.about if run else describe_network(network, run))
        number = listener.getsockname()[1]
        for address in [host] if host != "0.0.0.0" else _own_addresses():
            typer.echo(f"http://{address}:{number}/  (Ctrl-C stops it)")
        if not local:
            typer.echo("every machine that reaches this address can use it", err=True)
        serve(build_app(network, ["127.0.0.1", "localhost"] if local else ["*"]), listener)


def _own_addresses() -> list[str]:
    """The addresses by which other machines of the network, such as a phone, reach this one."""
    import socket

    addresses = {"127.0.0.1"}
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; the system only chooses the address that it would send from
        addresses.add(probe.getsockname()[0])
    with suppress(OSError):
        addresses |= {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return sorted(addresses)
