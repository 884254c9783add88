"""Work with finished runs, with data, and with this installation."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mnist_lit import CONFIG_FOLDER, __version__, process
from mnist_lit.console import plural, print_line
from mnist_lit.digits import cli_commands
from mnist_lit.errors import UserError
from mnist_lit.process import importing

if TYPE_CHECKING:
    from mnist_lit.data.files import FileSet

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="The files of a data set in MNIST's format.")
app.add_typer(data_app, name="data")


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mnist-lit {__version__}")
        raise typer.Exit


@app.callback()
def common_options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


DataSet = Annotated[str, typer.Argument(help="mnist, fashion_mnist, kmnist: a file in conf/data/.")]
Root = Annotated[Path, typer.Option(envvar="MNIST_LIT_DATA", help="Folder that holds the data sets.")]
Mirrors = Annotated[
    str | None, typer.Option(help="URLs to download from, comma-separated. For MNIST also MNIST_LIT_MIRRORS.")
]


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    options_metavar="[OPTION=VALUE]…",
)
def train() -> None:
    """Train one network, or many with -m: mnist-lit train model=cnn. Its options: mnist-lit train --help."""
    process.set_signal_handler(process.exit_on_signal)
    from mnist_lit.hydra_app import run_app

    del sys.argv[1]
    run_app()


app.command(options_metavar="[OPTIONS] [RUN]")(cli_commands.predict)
app.command()(cli_commands.export)
app.command()(cli_commands.demo)


@app.command()
def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=cli_commands.to_run,
            metavar="RUN…",
            help=f"One or more of: {cli_commands.RUN}. Own pictures can also be read without a run.",
            show_default=False,
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="A folder of your own pictures, labeled by the folder's name or the file name's first character."
        ),
    ] = None,
    data_root: cli_commands.DataRoot = None,
) -> None:
    """Test the best checkpoint of a run again, on its test set or on your own pictures; or several runs together."""
    if pictures is not None:
        if runs and len(runs) > 1:
            raise UserError("--pictures: takes one run")
        if data_root:
            raise UserError(f"--data-root {data_root}: has no use with --pictures; leave it out")
        run = runs[0] if runs else None
        from mnist_lit.digits.picture_predictions import evaluate_pictures
        from mnist_lit.digits.prediction_output import format_picture_evaluation
        from mnist_lit.digits.trained_network import open_network

        network = open_network(run)
        if run is None:
            typer.echo(cli_commands.describe_network(network, run), err=True)
        evaluation = evaluate_pictures(network, pictures)
        typer.echo(format_picture_evaluation(evaluation, pictures))
        if evaluation.skipped or any(prediction.error for prediction in evaluation.predictions):
            raise typer.Exit(1)
        return
    if not runs:
        raise UserError("name a run, for example latest; or a folder of your own pictures with --pictures FOLDER")
    with importing():
        from mnist_lit.evaluation import run_evaluation

    if len(runs) > 1:
        typer.echo(run_evaluation.format_ensemble(run_evaluation.evaluate_ensemble(runs, data_root)))
    else:
        typer.echo(run_evaluation.format_evaluation(run_evaluation.evaluate_run(runs[0], data_root)))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="The folder to search for runs.")] = Path("outputs"),
    top: Annotated[int, typer.Option(min=1, help="Rows of each table. CSV has all rows.")] = 20,
    sort: Annotated[
        str | None, typer.Option(help="Order the rows by a result or an option: test_acc, params, lr.")
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--filter", help="Only these runs: model=cnn, lr<0.1, val_acc>=0.98, tags=lecture. Repeatable."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs that started since: 3d, 12h, 2026-11-20, 2026-11-20T14:30.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV. Numbers are not rounded.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write one HTML file with plots. It works offline.")] = None,
) -> None:
    """Rank all runs below a folder: a table for each sweep, for presets and for single runs, mean ± standard deviation
    over the seeds."""
    from mnist_lit.reports import tables
    from mnist_lit.reports.leaderboard import build_leaderboards, sort_rows
    from mnist_lit.reports.run_reader import filter_runs, find_runs, parse_since

    if markdown and csv:
        raise UserError("--markdown --csv: choose one of them")
    start = parse_since(since) if since else 0.0
    found, problems = find_runs(folder)
    if not (found or problems):
        raise UserError(f"there are no runs below {folder}")
    runs = filter_runs([run for run in found if run.started >= start], conditions or ())
    if found and not runs:
        raise UserError(f"none of the {plural(len(found), 'run')} below {folder} meets --filter and --since")
    boards = build_leaderboards(runs)
    if sort:
        boards = sort_rows(boards, sort)
    if html:
        from mnist_lit.atomic_io import write_text
        from mnist_lit.reports.html_page import render_page

        content = render_page(boards, problems, html, top)
        try:
            write_text(html, content)
        except OSError as error:
            raise UserError(f"--html {html}: cannot be written: {error.strerror or error}") from error
        typer.echo(f"{html}: {plural(sum(len(board.rows) for board in boards), 'configuration')}", err=True)
    if markdown:
        typer.echo(tables.format_markdown(boards, problems, top), nl=False)
    elif csv:
        typer.echo(tables.format_csv(boards), nl=False)
        for problem in problems:
            typer.echo(f"not readable: {problem}", err=True)
    else:
        tables.print_boards(boards, problems, top)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            parser=cli_commands.to_run,
            metavar="RUN RUN…",
            help="Two or more run folders, or parts of their names.",
        ),
    ],
) -> None:
    """Show what differs between runs, and whether one is significantly better."""
    from mnist_lit.reports.comparison import compare_runs
    from mnist_lit.reports.run_reader import find_runs, read_run
    from mnist_lit.reports.tables import build_comparison

    if len(runs) < 2:
        raise UserError("name at least two runs: mnist-lit compare RUN RUN")
    compared = [read_run(run) for run in runs]
    others = [run for parent in {run.parent for run in runs} for run in find_runs(parent)[0]]
    Console().print(build_comparison(compare_runs(compared, others)))


@data_app.command()
def fetch(name: DataSet = "mnist", root: Root = Path("data"), mirrors: Mirrors = None) -> None:
    """Download what is missing or damaged, and verify all of it."""
    from mnist_lit.data.files import count_images, ensure_files

    files = read_file_set(name, root, mirrors)
    ensure_files(files)
    count_images(files)
    typer.echo(f"{files.path}: all four files are correct")


@data_app.command()
def verify(name: DataSet = "mnist", root: Root = Path("data")) -> None:
    """Check the four files; exit code 1 if one cannot be trained on."""
    from mnist_lit.commands import fetch_command
    from mnist_lit.data.files import count_images, find_faults

    files = read_file_set(name, root)
    faults = find_faults(files)
    if not faults:
        count_images(files)
    for file in files.files.values():
        typer.echo(f"{files.path / file.name}: {faults.get(file.name, 'correct')}")
    if faults:
        raise UserError(f"repair them with: {fetch_command(name, root)}")


def read_file_set(name: str, root: Path, mirrors: str | None = None) -> "FileSet":
    """The files that conf/data/NAME.yaml describes."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from mnist_lit.config import IDXData
    from mnist_lit.data.files import FileSet

    path = CONFIG_FOLDER / "data" / f"{name}.yaml"
    given = {"root": str(root)} | ({"mirrors": mirrors} if mirrors else {})
    try:
        described = OmegaConf.load(path) if path.exists() else OmegaConf.create()
        if "files" not in described:
            raise UserError(f"{name}: is no data set of files in conf/data/")
        options = OmegaConf.to_container(OmegaConf.merge(described, given), resolve=True)
        return FileSet.from_options(IDXData.model_validate(options).options)
    except (ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path}: {error}") from error


@app.command()
def doctor(root: Root = Path("data")) -> None:
    """Check versions, devices and data, and say how to repair what is wrong."""
    from mnist_lit.doctor import check_installation

    table = Table("", "what", Column("found", overflow="fold"), box=None, pad_edge=False)
    findings = check_installation(root)
    for finding in findings:
        table.add_row("ok" if finding.remedy is None else "!!", finding.what, Text(finding.found))
    Console().print(table)
    wrong = [finding for finding in findings if finding.remedy]
    for finding in wrong:
        print_line(f"\nrepair {finding.what}:\n  {finding.remedy}")
    if wrong:
        raise typer.Exit(1)


def main() -> None:
    process.set_up_program()
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")
    except SystemExit as end:
        if not end.code:
            process.exit_quickly()
        raise
