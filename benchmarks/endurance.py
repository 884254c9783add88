"""Two hundred runs in one process: `python -m benchmarks.endurance`. Memory, open files and threads must not grow."""

import argparse
import contextlib
import gc
import io
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.product import config_of
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
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
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


if __name__ == "__main__":
    sys.exit(main())
