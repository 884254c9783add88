"""Grids: what four runs cost in one process, and whether jobs side by side get their fair share of the machine."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from hydra.core.utils import env_override
from joblib import cpu_count

from benchmarks.processes import finish
from benchmarks.product import DEFAULTS, PROJECT, environment
from benchmarks.rounds import Row, medians, ratio, spread, take_turns
from benchmarks.versus import mnist_root

TEMPLATE_SECONDS = 50  # of the same four runs in the best known Lightning and Hydra template, on two slow cores
JOB = ["model=mlp_128_64", "data.batch_size=128", "trainer.max_epochs=1"]


def train_py(*arguments: str) -> tuple[float, list[float]]:
    """Seconds of the whole command, and of each of its runs' fits."""
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(mnist_root()).resolve())
        command = [str(PROJECT / "train.py"), "-m", *DEFAULTS, *JOB, *arguments, f"data.root={root}"]
        seconds = finish([*command, "hydra.sweep.dir=sweep"], folder).seconds
        results = [json.loads(path.read_text()) for path in Path(folder).glob("sweep/*/result.json")]
        return seconds, [result["fit_seconds"] for result in results]


def sweeps(rounds: int, quick: bool) -> list[Row]:
    four = [train_py("optimizer=adam,sgd", "seed=0,1")[0] for _ in range(rounds)]
    return [
        Row(
            "four one-epoch runs of mlp_128_64, batch 128, one command",
            median(four),
            TEMPLATE_SECONDS / 5,
            at_most=True,
            unit="s",
            detail=f"{min(four):.1f} to {max(four):.1f} s",
            reason="the goal is a fifth of 50 s that the template took on another machine",
        ),
        *fair_share(rounds, quick),
    ]


def fair_share(rounds: int, quick: bool) -> list[Row]:
    """As many jobs as cores, side by side, against one of them alone; each has one thread."""
    cores = cpu_count()
    epochs = "trainer.max_epochs=1" if quick else "trainer.max_epochs=5"
    together = [f"seed=range(0,{cores})", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={cores}"]
    fits: dict[str, list[float]] = {"one job alone": [], f"{cores} jobs": []}

    def timed(name: str, *arguments: str) -> float:
        with env_override({"OMP_NUM_THREADS": "1"}):
            seconds, fit_seconds = train_py(*arguments, epochs)
        fits[name].append(max(fit_seconds))
        return seconds

    alone = ["seed=0", *together[1:]]
    seconds = take_turns(
        {
            "one job alone": lambda: timed("one job alone", *alone),
            f"{cores} jobs": lambda: timed(f"{cores} jobs", *together),
        },
        rounds,
    )
    return [
        Row(
            f"{cores} jobs on {cores} cores against one job on one: {what}",
            ratio(measured[f"{cores} jobs"], measured["one job alone"]),
            goal,
            at_most=True,
            detail=f"{spread(measured[f'{cores} jobs'], measured['one job alone'])}; {medians(measured)}",
            reason="so much the cores slow each other down: see the last row",
        )
        for what, measured, goal in (("fit", fits, 1.15), ("the whole command", seconds, None))
    ] + [machine(rounds, cores)]


def machine(rounds: int, cores: int) -> Row:
    """What the machine itself gives: hand-written loops in processes side by side against one of them alone."""
    loop = f"from benchmarks.opponents import bare; print(bare(*{[*DEFAULTS, *JOB]}, epochs=5).train)"

    def slowest_of(processes: int) -> float:
        one_thread = environment() | {"OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen([sys.executable, "-c", loop], env=one_thread, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        return max(float(process.communicate()[0]) for process in started)

    seconds = take_turns({"one loop": lambda: slowest_of(1), f"{cores} loops": lambda: slowest_of(cores)}, rounds)
    return Row(
        f"{cores} hand-written loops on {cores} cores against one on one",
        ratio(seconds[f"{cores} loops"], seconds["one loop"]),
        None,
        at_most=True,
        detail=f"{spread(seconds[f'{cores} loops'], seconds['one loop'])}; {medians(seconds)}",
    )
