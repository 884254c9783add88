"""What a whole process costs, in seconds and in memory: each is started afresh."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.product import PROJECT, environment
from benchmarks.rounds import Row, medians, ratio, spread, take_turns
from benchmarks.versus import mnist_root

# A child starts with its parent's peak memory on its account, so its parent has to be small.
LAUNCHER = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@dataclass(frozen=True)
class Finished:
    seconds: float
    peak_mib: float


def finish(arguments: list[str], folder: str, code: int = 0) -> Finished:
    """Run Python with these arguments, its output to a file; `folder` is its working directory, `code` the exit code
    that it should end with."""
    with (Path(folder) / "output").open("w+") as output:
        done = subprocess.run(
            [sys.executable, "-c", LAUNCHER, sys.executable, *arguments],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            check=False,
        )
        if done.returncode != code:
            raise RuntimeError(f"{arguments} ended with {done.returncode}:\n{output.seek(0) or output.read()}")
    seconds, peak = done.stdout.split()
    return Finished(float(seconds), float(peak) / (1024**2 if sys.platform == "darwin" else 1024))


def train_py(*overrides: str) -> tuple[Finished, float]:
    """A run's process, and its fit's seconds."""
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(mnist_root()).resolve())
        finished = finish(
            [str(PROJECT / "train.py"), "trainer=cpu", *overrides, f"data.root={root}", "hydra.run.dir=run"], folder
        )
        return finished, json.loads((Path(folder) / "run" / "result.json").read_text())["fit_seconds"]


def startup(rounds: int, quick: bool) -> list[Row]:
    def ours() -> float:
        finished, fit_seconds = train_py("model=mlp_4x64", "trainer.max_epochs=1", "data.batch_size=512")
        return finished.seconds - fit_seconds

    def import_lightning() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return finish(["-c", "import lightning"], folder).seconds

    def answer(argument: str, code: int) -> Callable[[], float]:
        def timed() -> float:
            with tempfile.TemporaryDirectory() as folder:
                return finish([str(PROJECT / "train.py"), argument], folder, code).seconds

        return timed

    answers = {argument: answer(argument, code) for argument, code in {"--cfg=job": 0, "optimizer.lr=-1": 1}.items()}
    seconds = take_turns({"import lightning": import_lightning, "train.py less fit": ours} | answers, rounds)
    return [
        *(
            Row(
                f"`python train.py {argument}` against `import lightning`",
                ratio(seconds[argument], seconds["import lightning"]),
                1 / 3,
                at_most=True,
                detail=spread(seconds[argument], seconds["import lightning"]),
                reason="",
            )
            for argument in answers
        ),
        Row(
            "whole process, `train.py` less fit, against `import lightning`",
            ratio(seconds["train.py less fit"], seconds["import lightning"]),
            1.3,
            at_most=True,
            detail=f"{spread(seconds['train.py less fit'], seconds['import lightning'])}; {medians(seconds)}",
            reason="besides Lightning: Hydra, TensorBoard, checksums of the files, the dashboards, the test",
        ),
    ]


def memory(rounds: int, quick: bool) -> list[Row]:
    def peak(*overrides: str) -> list[float]:
        return [train_py(*overrides, "trainer.max_epochs=1")[0].peak_mib for _ in range(rounds)]

    def peak_of(*arguments: str) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            return [finish([*arguments], folder).peak_mib for _ in range(rounds)]

    rows = []
    for article, experiment in (("A3", "mlp_128_64"), ("A1", "cnn"))[: 1 if quick else None]:
        theirs = peak_of("-m", "benchmarks.articles", article, str(Path(mnist_root()).resolve()))
        measured = {
            f"peak memory against article {article}'s script": peak(f"experiment={experiment}"),
            "the same without dashboards, `callbacks=none`": peak(f"experiment={experiment}", "callbacks=none"),
            "`import lightning`, and nothing else": peak_of("-c", "import lightning"),
        }
        rows += [
            Row(
                what,
                ratio(ours, theirs),
                1.2 if number == 0 else None,
                at_most=True,
                detail=f"{median(ours):.0f} MiB, {median(theirs):.0f} MiB",
                reason="most is what is imported, then the dashboards: see the next two rows",
            )
            for number, (what, ours) in enumerate(measured.items())
        ]
    return rows
