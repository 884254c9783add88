"""Speed, side by side with what a user would pick instead: `python -m benchmarks [PART …]`.

Prints a table of ratios and writes results.md and scaling.svg. Needs the real MNIST (`mnist-lit data fetch`).
"""

import argparse
import os
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import mnist_lit
from benchmarks import blocks, flops, processes, scaling, versus
from benchmarks.rounds import Row
from mnist_lit.training.devices import device_name

HEADER = ["what", "goal", "measured", "", "rounds, medians, and the reason where a goal is not met"]
NOTES = """\
Written by `{command}` on {date}: {device}, torch {torch}, load average {load} at the end, {rounds} rounds.

Opponents take turns within a round; a ratio is the median of the rounds' ratios. Seconds are of this machine at this
hour, and worth nothing elsewhere.

- *run* is a whole run as `train.py` makes it (TensorBoard with the default dashboards, CSV, progress bar, checkpoints,
  validation), in this process; its time is `fit_seconds` of its result.json: from the first batch to the end of the
  last epoch, validations, checkpoints and histograms included. Start-up and the test are measured by `startup`.
- *bare* is a hand-written loop over normalised tensors in memory with the same network and fused optimiser. It
  validates after each epoch too, writes nothing, and indexes with `[]`. "Training alone" leaves out both validations.
- The *articles*' loops train on 60,000 images, a run on 55,000: the run's seconds are scaled by 60/55. Its validation
  and checkpoints count.
- *fast99* trains once over all 60,000 images, without validation; the run trains on 55,000, validates and saves.
"""


def main() -> None:
    here = Path(__file__).parent
    parts: dict[str, Callable[[int, bool], list[Row]]] = {
        "fit": versus.fit,
        "articles": versus.articles,
        "lightning": versus.lightning,
        "speedrun": versus.speedrun,
        "startup": processes.startup,
        "memory": processes.memory,
        "flops": flops.flops,
        "blocks": blocks.blocks,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join([*parts, 'scaling'])}; none: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of less work, to see that it runs")
    parser.add_argument("--threads", type=int, help="of torch, in this process and its children")
    parser.add_argument("--out", type=Path, default=here, help="folder of results.md and scaling.svg")
    arguments = parser.parse_args()
    parts["scaling"] = partial(scaling.scaling, folder=arguments.out)
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"{', '.join(sorted(unknown))}: should be among {', '.join(parts)}")
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
        torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")  # of the opponents: Lightning advises them to use workers

    console = Console()
    rows: list[Row] = []
    for name in arguments.parts or parts:
        measured = parts[name](1 if arguments.quick else arguments.rounds, arguments.quick)
        rows += measured
        console.print(as_table(name, measured))
        write(arguments, rows)


def as_table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in HEADER:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.cells())
    return table


def write(arguments: argparse.Namespace, rows: list[Row]) -> None:
    """After every part, so that what is measured is not lost if the next one fails."""
    rounds = 1 if arguments.quick else arguments.rounds
    threads = f" --threads {arguments.threads}" if arguments.threads else ""
    notes = NOTES.format(
        command=" ".join(["python -m benchmarks", *arguments.parts]) + threads,
        date=datetime.now(UTC).date(),
        device=device_name(torch.device("cpu")),
        torch=torch.__version__,
        load=" ".join(f"{load:.1f}" for load in os.getloadavg()),
        rounds=rounds,
    )
    lines = [f"# Speed of mnist-lit {mnist_lit.__version__}", "", notes]
    lines += [f"| {' | '.join(cells)} |" for cells in (HEADER, ["---"] * len(HEADER), *(row.cells() for row in rows))]
    if any("linear" in row.what for row in rows):
        lines += ["", f"![cost against work]({scaling.PLOT})"]
    (arguments.out / "results.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
