"""Measures the time and the memory of whole processes. Each measurement starts a new process."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import yaml

from benchmarks.measurement import Row, compare, compute_ratio, format_medians, take_turns
from benchmarks.runner import build_environment, find_mnist_root
from mnist_lit.run_folder import CHECKPOINTS, CONFIG, RESULT, read_result, write_result
from mnist_lit.training.run import train
from tests.configs import PROJECT, compose_config

# The peak memory of a child process includes that of its parent at the start, so the parent must be small.
LAUNCHER = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
IMPORT_LIGHTNING = ["-c", "import lightning"]
IMPORT_RUN = """
import os
from mnist_lit.process import importing
with importing():
    import mnist_lit.training.job
os._exit(0)
"""
NO_DASHBOARDS = ["callbacks=none", "logger.tensorboard=false"]
REPORT = ["-c", "from mnist_lit.cli import main; main()", "report"]
REPORTED_RUNS, SEEDS = 1000, 5
REPORTED_RUN = ["model=mlp_128_64", "trainer=cpu", "trainer.max_epochs=5", "logger.tensorboard=false"]


@dataclass(frozen=True)
class Process:
    seconds: float
    peak_mib: float


def run_python(arguments: list[str], folder: str, code: int = 0) -> Process:
    """Run Python with these arguments and write its output to a file.

    `folder` is the working directory. `code` is the expected exit code.
    """
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *arguments]
    with (Path(folder) / "output").open("w+", encoding="utf-8") as output:
        done = subprocess.run(
            command,
            cwd=folder,
            env=build_environment(),
            stdout=subprocess.PIPE,
            stderr=output,
            encoding="utf-8",
            check=False,
        )
        if done.returncode != code:
            raise RuntimeError(f"{arguments} ended with {done.returncode}:\n{output.seek(0) or output.read()}")
    seconds, peak = done.stdout.split()
    return Process(float(seconds), float(peak) / (1024**2 if sys.platform == "darwin" else 1024))


def time_python(arguments: list[str], code: int = 0) -> float:
    """Return the seconds of a new Python process with these arguments."""
    with tempfile.TemporaryDirectory() as folder:
        return run_python(arguments, folder, code).seconds


def import_lightning() -> float:
    return time_python(IMPORT_LIGHTNING)


def run_train_py(*overrides: str, program: Sequence[str] = (str(PROJECT / "train.py"),)) -> tuple[Process, float]:
    """Run train.py, or a changed `program`, in a new process. Return the process and the fit seconds."""
    command = [*program, "trainer=cpu", *overrides, f"data.root={find_mnist_root()}"]
    with tempfile.TemporaryDirectory() as folder:
        process = run_python([*command, "hydra.run.dir=run"], folder)
        return process, json.loads((Path(folder) / "run" / RESULT).read_text(encoding="utf-8"))["fit_seconds"]


def measure_startup(rounds: int, quick: bool) -> list[Row]:
    """`train.py` without fit, with `--cfg=job` and with a wrong option: time relative to `import lightning`."""

    def run_without_fit(*overrides: str) -> float:
        one_epoch = ["model=mlp_4x64", "trainer.max_epochs=1", "data.batch_size=512"]
        process, fit_seconds = run_train_py(*one_epoch, *overrides)
        return process.seconds - fit_seconds

    answers = {"--cfg=job": 0, "optimizer.lr=-1": 1}  # argument → exit code
    train_py = str(PROJECT / "train.py")
    starts = {argument: partial(time_python, [train_py, argument], code) for argument, code in answers.items()}
    programs: dict[str, Callable[[], float]] = {
        "import lightning": import_lightning,
        "train.py without fit": run_without_fit,
        "without fit and dashboards": partial(run_without_fit, *NO_DASHBOARDS),
        "imports of a run": partial(time_python, ["-c", IMPORT_RUN]),
    }
    seconds = take_turns(programs | starts, rounds)
    importing = seconds["import lightning"]
    what = "time of the whole process `train.py` without fit"
    return [
        *(
            compare(
                f"time of `python train.py {argument}` relative to `import lightning`",
                seconds[argument],
                importing,
                1 / 3,
            )
            for argument in answers
        ),
        compare(
            f"{what}, relative to `import lightning`",
            seconds["train.py without fit"],
            importing,
            0.85,
            seconds=seconds,
            reason="in addition to the imports: Hydra, checksums of the files, the test, TensorBoard, the dashboards",
        ),
        compare(
            f"{what}, with `{' '.join(NO_DASHBOARDS)}`, relative to `import lightning`",
            seconds["without fit and dashboards"],
            importing,
        ),
        compare(
            "lower limit: the imports of a run alone, relative to `import lightning`",
            seconds["imports of a run"],
            importing,
        ),
    ]


def measure_memory(rounds: int, quick: bool) -> list[Row]:
    """A whole run: peak memory relative to the articles."""

    def measure_train_py(*overrides: str) -> list[float]:
        return [run_train_py(*overrides, "trainer.max_epochs=1")[0].peak_mib for _ in range(rounds)]

    def measure_python(*arguments: str) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            return [run_python([*arguments], folder).peak_mib for _ in range(rounds)]

    rows = []
    for article, experiment in (("A3", "mlp_128_64"), ("A1", "cnn"))[: 1 if quick else None]:
        theirs = measure_python("-m", "benchmarks.articles", article, find_mnist_root())
        ours = f"experiment={experiment}"
        measured = {
            f"peak memory relative to the script of article {article}": measure_train_py(ours),
            "peak memory without dashboards (`callbacks=none`), relative to the same script": measure_train_py(
                ours, "callbacks=none"
            ),
            "peak memory of `import lightning` only, relative to the same script": measure_python(*IMPORT_LIGHTNING),
        }
        rows += [
            Row(
                what,
                compute_ratio(peaks, theirs),
                1.2 if number == 0 else None,
                detail=f"{median(peaks):.0f} MiB, {median(theirs):.0f} MiB",
                reason="the imports need most of the memory, then the dashboards: see the next two rows",
            )
            for number, (what, peaks) in enumerate(measured.items())
        ]
    return rows


def measure_report(rounds: int, quick: bool) -> list[Row]:
    """`mnist-lit report` on copies of one run with curves and predictions: time with start-up."""
    with tempfile.TemporaryDirectory() as folder:
        first, outputs = Path(folder) / "first", Path(folder) / "outputs"
        first.mkdir()
        train(compose_config(*REPORTED_RUN, f"data.root={find_mnist_root()}"), first, {})
        for number in range(REPORTED_RUNS):
            copy = outputs / str(number)
            shutil.copytree(first, copy, ignore=shutil.ignore_patterns(CHECKPOINTS, "events.*"))
            config = yaml.safe_load((copy / CONFIG).read_text(encoding="utf-8"))
            config["seed"] = number % SEEDS
            config["optimizer"]["lr"] *= 1 + number // SEEDS
            (copy / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
            write_result(copy, read_result(copy) | {"seed": config["seed"]})
        command = [*REPORT, str(outputs)]
        programs = {
            "table": lambda: run_python(command, folder).seconds,
            "page": lambda: run_python([*command, "--html", f"{folder}/page.html"], folder).seconds,
        }
        seconds = take_turns(programs, rounds)
    what = f"`mnist-lit report` on {REPORTED_RUNS:,} runs, with the HTML page"
    reason = "most of it is the plots, the curves and the tables of 200 rows"
    return [Row(what, median(seconds["page"]), 10, unit="s", detail=format_medians(seconds), reason=reason)]
