"""Compares the speed of this project with other programs: `python -m benchmarks [PART …]`.

Prints one table of ratios per part. Writes results.json, results.md and scaling.svg. Needs the real MNIST
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

from benchmarks import ablations, faults, gpu, parallel, processes, results, scaling, training_speed, training_steps
from benchmarks.measurement import Row
from mnist_lit.process import keep_freed_memory

PARTS: dict[str, Callable[..., list[Row]]] = {
    "fit": training_speed.compare_fit,
    "articles": training_speed.compare_articles,
    "lightning": training_speed.compare_lightning,
    "speedrun": training_speed.measure_speedrun,
    "startup": processes.measure_startup,
    "memory": processes.measure_memory,
    "flops": training_steps.measure_flops,
    "blocks": training_steps.measure_blocks,
    "tricks": ablations.measure_ablations,
    "report": processes.measure_report,
    "sweeps": parallel.measure_sweeps,
    "beside": parallel.measure_parallel_runs,
    "scaling": scaling.measure_scaling,
    "gpu": gpu.measure_gpu,
    "faults": faults.measure_faults,
}
NOT_BY_DEFAULT = ("gpu", "faults")  # needs a GPU; measures no speed and takes an hour


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=first_line(__doc__),
        epilog="\n".join(["parts:", *(f"  {name:10} {first_line(part.__doc__)}" for name, part in PARTS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="names from the list below; default: all except gpu and faults"
    )
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds; default: 5")
    parser.add_argument("--quick", action="store_true", help="one round with less work, as a test")
    parser.add_argument("--threads", type=int, help="torch threads in this process and its child processes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the results")
    arguments = parser.parse_args()
    selected = arguments.parts or [name for name in PARTS if name not in NOT_BY_DEFAULT]
    if unknown := set(selected) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: must be one of {', '.join(PARTS)}")
    if "gpu" in selected and not torch.cuda.is_available():
        parser.error(f"gpu: torch {torch.__version__} finds no GPU")
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # train.py does the same, and flushes denormals; the other programs in this process benefit
    torch.set_flush_denormal(True)
    warnings.filterwarnings("ignore")  # Lightning recommends more workers

    rounds = 1 if arguments.quick else arguments.rounds
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in selected:
        measure = partial(PARTS[name], folder=arguments.out) if name == "scaling" else PARTS[name]
        rows = measure(rounds, arguments.quick)
        Console().print(build_table(name, rows))
        results.save_results(arguments.out, name, rows, rounds)


def first_line(docstring: str | None) -> str:
    return (docstring or "").partition("\n")[0]


def build_table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in results.HEADER:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.format_cells())
    return table


if __name__ == "__main__":
    main()
