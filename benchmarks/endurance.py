"""Two hundred runs in one process, whose memory, open files and threads must not grow, and twenty processes at once on
one data folder that is empty at first: `python -m benchmarks.endurance`."""

import argparse
import contextlib
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mirror import Mirror
from benchmarks.product import PROJECT, config_of, environment
from mnist_lit.data.files import raw_folder
from mnist_lit.training.run import train

OVERRIDES = ["data=digits", "model=mlp_128_64", "trainer=cpu", "trainer.max_epochs=1"]
SETTLED = 10  # runs after which everything is imported and allocated that will ever be
GROWTH = 1.05


@dataclass(frozen=True)
class Use:
    megabytes: float
    files: int
    threads: int

    @classmethod
    def now(cls) -> "Use":
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files, threads = os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(files), len(threads))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="in one process")
    parser.add_argument("--processes", type=int, default=20, help="at once")
    arguments = parser.parse_args()
    return one_after_the_other(arguments.runs) | all_at_once(arguments.processes)


def one_after_the_other(runs: int) -> int:
    config = config_of(*OVERRIDES)
    settled = now = Use.now()
    for run in range(1, runs + 1):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            train(config, Path(folder), {})
        now = Use.now()
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


def all_at_once(processes: int) -> int:
    """Where they download from is counted by a server on loopback, which hands out this machine's MNIST."""
    raw = raw_folder(os.environ.get("MNIST_LIT_DATA", "data"))
    with tempfile.TemporaryDirectory() as folder, Mirror(raw) as mirror:
        command: list[str | Path] = [
            *(sys.executable, PROJECT / "train.py", "model=mlp_128_64", "data=mnist", "data.fallback=null"),
            *(f"data.root={folder}/data", f"data.mirrors=[{mirror.url}]", "data.val_size=50000", "trainer=cpu"),
            "trainer.max_epochs=1",
        ]
        one_thread = environment() | {"OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen([*command, f"hydra.run.dir={folder}/{number}"], env=one_thread, stdout=subprocess.DEVNULL)
            for number in range(processes)
        ]
        codes = [process.wait() for process in started]
        accuracies = {json.loads(Path(folder, f"{n}/result.json").read_text())["test_acc"] for n in range(processes)}
    good = codes == [0] * processes and len(accuracies) == 1 and len(mirror.requests) == 4
    print(
        f"{processes} processes at once: {codes.count(0)} ended well, with {len(accuracies)} test accuracy; "
        f"{len(mirror.requests)} downloads of 4 files: {'ok' if good else 'WRONG'}"
    )
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
