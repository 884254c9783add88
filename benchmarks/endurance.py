"""Tests long and parallel use: `python -m benchmarks.endurance`.

First, 200 runs in one process: the memory, the open files and the threads must not grow. Then 20 processes at the same
time with one data folder, which is empty at the start.
"""

import argparse
import contextlib
import gc
import io
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.runner import build_environment
from mnist_lit.data.files import FileSet
from mnist_lit.run_folder import read_result
from mnist_lit.training.run import train
from tests.configs import PROJECT, compose_config
from tests.mirror import Mirror

OVERRIDES = ["data=digits", "model=mlp_128_64", "trainer=cpu", "trainer.max_epochs=1"]
SETTLED = 10  # after this number of runs, all imports and allocations are done
GROWTH = 1.05


@dataclass(frozen=True)
class Use:
    megabytes: float
    files: int
    threads: int

    @classmethod
    def measure(cls) -> "Use":
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        files, threads = os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(files), len(threads))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help=f"runs in one process, more than {SETTLED}")
    parser.add_argument("--processes", type=int, default=20, help="processes at the same time")
    arguments = parser.parse_args()
    return run_one_by_one(arguments.runs) | run_in_parallel(arguments.processes)


def run_one_by_one(runs: int) -> int:
    config = compose_config(*OVERRIDES)
    settled = now = Use.measure()
    for run in range(1, runs + 1):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            train(config, Path(folder), {})
        now = Use.measure()
        if run == SETTLED:
            settled = now
        if run in (1, SETTLED) or run % 20 == 0:
            print(
                f"after {run:3} runs: {now.megabytes:.0f} MB, {now.files} open files, {now.threads} threads", flush=True
            )
    grown = now.megabytes > settled.megabytes * GROWTH or now.files > settled.files or now.threads > settled.threads
    verdict = "TOO MUCH" if grown else "ok"
    print(f"memory grew by {now.megabytes / settled.megabytes - 1:+.1%} since run {SETTLED}: {verdict}")
    return int(grown)


def run_in_parallel(processes: int) -> int:
    """A server on localhost serves the MNIST files of this machine and counts the downloads."""
    raw = FileSet(root=os.environ.get("MNIST_LIT_DATA", "data")).path
    with tempfile.TemporaryDirectory() as folder, Mirror(raw) as mirror:
        command: list[str | Path] = [
            *(sys.executable, PROJECT / "train.py", "model=mlp_128_64", "data=mnist", "data.fallback=null"),
            *(f"data.root={folder}/data", f"data.mirrors=[{mirror.url}]", "data.val_size=50000", "trainer=cpu"),
            "trainer.max_epochs=1",
        ]
        one_thread = build_environment(OMP_NUM_THREADS="1")
        started = [
            subprocess.Popen([*command, f"hydra.run.dir={folder}/{number}"], env=one_thread, stdout=subprocess.DEVNULL)
            for number in range(processes)
        ]
        codes = [process.wait() for process in started]
        accuracies = {read_result(Path(folder, str(n)))["test_acc"] for n in range(processes)}
    good = codes == [0] * processes and len(accuracies) == 1 and len(mirror.requests) == 4
    print(
        f"{processes} processes at the same time: {codes.count(0)} without error, "
        f"different test accuracies: {len(accuracies)} (expected 1), "
        f"downloads: {len(mirror.requests)} (expected 4): {'ok' if good else 'WRONG'}"
    )
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
