"""Lets each file operation below the folder of a run fail once: `python -m benchmarks faults`.

A run of two epochs, and a grid of two jobs and a search of two trials with one epoch each, run in child processes. In
each child one operation (open, write, fsync, replace, mkdir, delete) fails once, as on a broken disk (EIO) or on a full
one (ENOSPC). Afterwards the command has completed, or it has ended with one clear error and the command that it printed
brings the same weights bit for bit, or nothing that looks like a run is left. The figures go to docs/reliability.md.
"""

import builtins
import errno
import importlib
import io
import json
import multiprocessing
import os
import re
import runpy
import shlex
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.measurement import Row
from benchmarks.pages import replace_between
from mnist_lit.models.checkpoint_file import read_checkpoint
from mnist_lit.run_folder import BEST, CHECKPOINTS, CONFIG, LAST, METRICS, RESULT, SWEEP, read_result
from tests.configs import PROJECT

PAGE = PROJECT / "docs" / "reliability.md"
BEGIN, END = "<!-- figures of benchmarks faults -->\n", "<!-- end of faults -->\n"
TINY = ["data=digits", "model=mlp_500", "model.hidden=[8]", "trainer=cpu", "callbacks=none"]
TWO = ["trainer.max_epochs=1", "seed=0,1", "hydra.sweep.dir=work"]
COMMANDS = {
    "run of two epochs": [*TINY, "trainer.max_epochs=2", "hydra.run.dir=work"],
    "grid of two jobs": ["-m", *TINY, *TWO],
    "search of two trials": ["-m", *TINY, *TWO, "hydra/sweeper=optuna", "sweep.sampler=grid"],
}
ERRORS = ("EIO", "ENOSPC")
PARALLEL = 2  # children at the same time
RUN_FILES = (CONFIG, RESULT, METRICS, CHECKPOINTS, SWEEP)  # a folder with one of them looks like a run
LOADED = (
    "sklearn.datasets",
    "mnist_lit.training.job",
    "mnist_lit.class_checks",
    "mnist_lit.sweeps.search",
    "tensorboard",
)
OUTCOMES = ("completed", "continued", "not begun")


def measure_faults(rounds: int, quick: bool) -> list[Row]:
    """Each file operation of a run, a grid and a search fails once: is a run lost, or not the same afterwards?"""
    for module in LOADED:  # once, for all children
        importlib.import_module(module)
    sys.path.insert(0, str(PROJECT))
    counts, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, command) in enumerate(COMMANDS.items()):
            place = Path(folder) / str(number)
            outcomes = try_all(place, command, quick)
            counts[name] = Counter(outcome.kind for outcome in outcomes)
            wrong = [outcome for outcome in outcomes if outcome.kind not in OUTCOMES]
            for outcome in wrong:
                print(f"{name}: {outcome.operation} with {outcome.error}: {outcome.kind}\n{outcome.output}", flush=True)
            detail = ", ".join(f"{counts[name][kind]} {kind}" for kind in OUTCOMES)
            rows.append(
                Row(f"{len(outcomes)} faults in a {name}: wrong afterwards", len(wrong), 0, unit="", detail=detail)
            )
    if not quick:
        write_figures(counts)
    return rows


# ---- a child process -----------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """Counts the operations below `root` and lets number `failing` fail once."""

    root: Path
    failing: int = 0
    error: str = "EIO"
    operations: list[str] = field(default_factory=list)

    def check(self, operation: str, path: Any) -> None:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if not self.contains(path):
            return
        self.operations.append(f"{operation} {os.path.relpath(os.fsdecode(path), self.root.parent)}")
        if len(self.operations) == self.failing:
            code = getattr(errno, self.error)
            raise OSError(code, os.strerror(code), path)

    def contains(self, path: Any) -> bool:
        return Path(os.path.abspath(os.fsdecode(path))).is_relative_to(self.root)

    def install(self) -> None:
        """Replace the functions of this process that change files."""
        for name, position in {"fsync": 0, "replace": 1, "rename": 1, "mkdir": 0, "unlink": 0, "remove": 0}.items():
            setattr(os, name, partial(self._call, getattr(os, name), name, position))
        real_open, real_os_open = io.open, os.open

        def open_descriptor(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            self.check("open", path)
            return real_os_open(path, flags, *arguments, **options)

        def open_file(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            is_path = isinstance(file, str | bytes | os.PathLike) and opener is None
            if not is_path or not set(mode) & set("wax+") or not self.contains(file):
                return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
            self.check("open", file)
            raw = _File(self, os.fspath(file), mode.replace("b", "").replace("t", ""))
            stream = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return (
                stream if "b" in mode else io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline=newline)
            )

        os.open, io.open, builtins.open = open_descriptor, open_file, open_file

    def _call(self, real: Callable[..., Any], name: str, position: int, *arguments: Any, **options: Any) -> Any:
        self.check(name, arguments[position])
        return real(*arguments, **options)


class _File(io.FileIO):
    def __init__(self, disk: Disk, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.disk = disk

    def write(self, content: Any) -> int:
        self.disk.check("write", self.name)
        return super().write(content)


def run_train_py(place: Path, arguments: list[str], failing: int = 0, error: str = "EIO") -> tuple[int, str, list[str]]:
    """Run train.py in a child process, in the folder `place`. Returns its exit code, its output and its operations."""
    output, operations = place / "output", place / "operations"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(place)
            with output.open("w", encoding="utf-8") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            disk = Disk(place / "work", failing, error)
            disk.install()
            sys.argv = [str(PROJECT / "train.py"), *arguments]
            code = _run_as_main()
            sys.stdout.flush()
            operations.write_text(json.dumps(disk.operations), encoding="utf-8")
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    found = json.loads(operations.read_text(encoding="utf-8")) if operations.exists() else []
    return os.waitstatus_to_exitcode(status), output.read_text(encoding="utf-8"), found


def _run_as_main() -> int:
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


# ---- the checks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    operation: str
    error: str
    kind: str  # one of OUTCOMES, or what is wrong
    output: str = ""


def try_all(place: Path, command: list[str], quick: bool) -> list[Outcome]:
    reference = place / "reference"
    reference.mkdir(parents=True)
    code, output, operations = run_train_py(reference, command)
    assert code == 0, output
    weights = read_weights(reference / "work")
    faults = list(product(range(1, len(operations) + 1), ERRORS))[:: 151 if quick else 1]
    with ProcessPoolExecutor(PARALLEL, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(partial(try_fault, place, command, weights), *zip(*faults, strict=True)))


def try_fault(place: Path, command: list[str], expected: dict[str, Any], failing: int, error: str) -> Outcome:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        here = Path(folder)
        code, output, operations = run_train_py(here, command, failing, error)
        operation = operations[failing - 1] if len(operations) >= failing else "an operation that did not come"
        return Outcome(operation, error, judge(here, code, output, expected), output)


def judge(here: Path, code: int, output: str, expected: dict[str, Any]) -> str:
    """One of OUTCOMES, or what is wrong."""
    if "Traceback" in output:
        return "a traceback"
    if code == 0:
        return "completed" if read_weights(here / "work") == expected else "it says that it completed, but differs"
    if not re.search("cannot be (read or )?written", output):
        return "no clear error"
    if not any((here / "work" / name).exists() for name in RUN_FILES):
        return "not begun" if "resume=" not in output else "a command to resume what had not begun"
    printed = re.findall(r"(?:python|env) .*train\.py .*resume=.*", output)
    if not printed:
        return "no command to continue with"
    again, text, _ = run_train_py(here, shlex.split(printed[-1].partition("train.py ")[2]))
    if again != 0:
        return f"the printed command ended with {again}: {text}"
    return "continued" if read_weights(here / "work") == expected else "continued, but it differs"


def read_weights(folder: Path) -> dict[str, Any]:
    """Run → status and weights of its checkpoints."""
    return {
        str(result.parent.relative_to(folder)): [
            read_result(result.parent)["status"],
            *(
                {name: tensor.numpy().tobytes() for name, tensor in read_checkpoint(path)["state_dict"].items()}
                for path in (result.parent / CHECKPOINTS / BEST, result.parent / CHECKPOINTS / LAST)
                if path.exists()
            ),
        ]
        for result in sorted(folder.rglob(RESULT))
    }


def write_figures(counts: dict[str, Counter[str]]) -> None:
    lines = [
        f"`python -m benchmarks faults`, {date.today()}:",
        "",
        f"| command | faults | {' | '.join(OUTCOMES)} | wrong |",
        "| --- |" + " ---: |" * (len(OUTCOMES) + 2),
    ]
    for name, count in counts.items():
        figures = [count.total(), *(count[kind] for kind in OUTCOMES)]
        lines.append(f"| {name} | {' | '.join(map(str, figures))} | {figures[0] - sum(figures[1:])} |")
    replace_between(PAGE, BEGIN, END, "\n" + "\n".join(lines) + "\n\n")
