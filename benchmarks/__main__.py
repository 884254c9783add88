"""Speed, side by side with what a user would pick instead: `python -m benchmarks [PART …]`.

Prints a table of ratios a part; writes results.json, results.md and scaling.svg. Needs the real MNIST
(`mnist-lit data fetch`).
"""

import argparse
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import beside, blocks, flops, gpu, many_runs, processes, results, scaling, sweeps, tricks, versus
from benchmarks.rounds import Row
from mnist_lit.importing import keep_freed_memory


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
        "tricks": tricks.tricks,
        "report": many_runs.report,
        "sweeps": sweeps.sweeps,
        "beside": beside.beside,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join([*parts, 'scaling', 'gpu'])}; none: all but gpu"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of less work, to see that it runs")
    parser.add_argument("--threads", type=int, help="of torch, in this process and its children")
    parser.add_argument("--out", type=Path, default=here, help="folder of the results")
    arguments = parser.parse_args()
    parts["scaling"] = partial(scaling.scaling, folder=arguments.out)
    wanted = arguments.parts or list(parts)
    parts["gpu"] = gpu.gpu
    if unknown := set(wanted) - set(parts):
        parser.error(f"{', '.join(sorted(unknown))}: should be among {', '.join(parts)}")
    if "gpu" in wanted and not torch.cuda.is_available():
        parser.error(f"gpu: torch {torch.__version__} finds none")
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as train.py does; opponents within this process profit, too
    warnings.filterwarnings("ignore")  # of the opponents: Lightning advises them to use workers

    console = Console()
    rounds = 1 if arguments.quick else arguments.rounds
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        rows = parts[name](rounds, arguments.quick)
        console.print(as_table(name, rows))
        results.save(arguments.out, name, rows, rounds)


def as_table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in results.HEADER:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.cells())
    return table


if __name__ == "__main__":
    main()
