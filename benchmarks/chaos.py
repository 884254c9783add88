"""Kills runs at random moments and resumes them until they end: `python -m benchmarks.chaos`.

Each case runs once without kills. Then the same case starts again. The program kills it with `kill -9` and resumes it
as often as `--stops` says, and then lets it end. The weights, metrics and predictions of both runs must be identical,
bit for bit. One third of the kills occur while the run writes a checkpoint. One sixth occur during start-up. The others
occur during training. Some runs get SIGTERM or SIGINT instead of a kill. Then the exit code must be 143 or 130, and the
program measures the time until the process ends.
The figures go to docs/reliability.md.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.pages import replace_between
from mnist_lit.models.checkpoint_file import load_classifier, weights_digest
from mnist_lit.run_folder import BEST, CHECKPOINTS, CONFIG, LAST, METRICS, PREDICTIONS, read_result
from tests.configs import PROJECT

PAGE = PROJECT / "docs" / "reliability.md"
BEGIN, END = "<!-- figures of benchmarks.chaos -->\n", "<!-- end of figures -->\n"

COMMON = "trainer=cpu checkpoint.every_seconds=0.2"
DIGITS = f"{COMMON} data=digits"
MNIST = f"{COMMON} data=mnist data.fallback=null"
DROPOUT = "model._target_=tests.dropout_network.Dropout ~model.activation +model.width=64"
MOMENTUM = "optimizer=sgd optimizer.momentum=0.9"
STOPPING = "trainer.early_stopping_patience=40"
AUGMENT = "data.augment={rotation:10,shift:2,scale:0.1}"
CASES = {  # name → overrides
    "digits, mlp_128_64, adam, cosine": f"{DIGITS} model=mlp_128_64 trainer.max_epochs=150",
    "digits, mlp_4x64, sgd, onecycle": (
        f"{DIGITS} model=mlp_4x64 {MOMENTUM} scheduler=onecycle trainer.max_epochs=150"
    ),
    "digits, mlp_500, rmsprop, step": (
        f"{DIGITS} model=mlp_500 optimizer=rmsprop scheduler=step trainer.max_epochs=80"
    ),
    "digits, cnn, adamw, onecycle": f"{DIGITS} model=cnn optimizer=adamw scheduler=onecycle trainer.max_epochs=30",
    "digits, dropout and batch norm, adagrad, none, early stopping": (
        f"{DIGITS} {DROPOUT} optimizer=adagrad scheduler=none {STOPPING} trainer.max_epochs=150"
    ),
    "digits, convnet, augmented, adam, cosine": (
        f"{DIGITS} model=convnet model.channels=[4,8] {AUGMENT} trainer.max_epochs=40"
    ),
    "MNIST, dropout and batch norm, adam, cosine": f"{MNIST} {DROPOUT} trainer.max_epochs=5",
    "MNIST, cnn, adam, cosine": f"{MNIST} model=cnn trainer.max_epochs=2",
}
KINDS = ["training", "writing a checkpoint", "start-up", "signal"]


@dataclass
class Outcome:
    stops: Counter[str] = field(default_factory=Counter)  # number of kills in each state of the run, and of signals
    resumes: int = 0
    seconds_to_stop: float = 0.0  # the longest time after SIGTERM or SIGINT
    mismatches: list[str] = field(default_factory=list)

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.stops + other.stops,
            self.resumes + other.resumes,
            max(self.seconds_to_stop, other.seconds_to_stop),
            self.mismatches + other.mismatches,
        )

    def __str__(self) -> str:
        kills = self.stops.total() - self.stops["signal"]
        return (
            f"kills {kills}, signals {self.stops['signal']} (stopped within {self.seconds_to_stop:.1f} s), "
            f"resumes {self.resumes}, mismatches {len(self.mismatches)} {self.mismatches or ''}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--stops", type=int, default=11, help="number of kills and signals per run")
    parser.add_argument("--seed", type=int, default=0, help="seed for the random moments")
    parser.add_argument("--only", default="", help="run only the cases with this text in the name")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, overrides) in enumerate(CASES.items()):
            if arguments.only not in name:
                continue
            outcomes[name] = kill_and_compare(Path(folder) / str(number), overrides.split(), arguments.stops, rng)
            print(f"{name}: {outcomes[name]}", flush=True)
    total = sum(outcomes.values(), Outcome())
    print(total)
    if not arguments.only:
        write_figures(outcomes, total)
    return 1 if total.mismatches else 0


def kill_and_compare(folder: Path, overrides: list[str], stops: int, rng: random.Random) -> Outcome:
    reference, killed = folder / "reference", folder / "killed"
    folder.mkdir()
    start(reference, overrides).wait()
    outcome = Outcome()
    while True:
        has_config = (killed / CONFIG).exists()
        run = start_train_py(f"resume={killed}") if has_config else start(killed, overrides)
        outcome.resumes += has_config
        if outcome.stops.total() == stops or not stop(run, killed, rng, outcome):
            break
    run.wait()
    if read_result(killed).get("status") != "completed":
        outcome.mismatches.append(f"ended with exit code {run.returncode}")
    outcome.mismatches += find_differences(reference, killed)
    return outcome


def start(folder: Path, overrides: list[str]) -> "subprocess.Popen[bytes]":
    if folder.exists():  # the kill came before the run wrote its config
        folder.rename(folder.with_name(f"{folder.name}_{time.monotonic_ns()}"))
    return start_train_py(*overrides, f"hydra.run.dir={folder}")


def start_train_py(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, PROJECT / "train.py", *arguments], stdout=subprocess.DEVNULL)


def stop(run: "subprocess.Popen[bytes]", folder: Path, rng: random.Random, outcome: Outcome) -> bool:
    """Kill the run or send a signal at a random moment. Return False if the run has already ended."""
    kind = rng.choice(["start-up", "signal", *["writing a checkpoint"] * 2, *["training"] * 3])
    checkpoints = folder / CHECKPOINTS
    began = time.time()
    delay = rng.uniform(0, 4) if kind == "start-up" else rng.uniform(0, 1.5)
    if kind != "start-up":
        while run.poll() is None and newest_checkpoint_time(checkpoints) < began:
            time.sleep(0.005)
    until = time.monotonic() + delay
    while run.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    while kind == "writing a checkpoint" and run.poll() is None and not list(checkpoints.glob(".*.ckpt.*")):
        pass  # this moment lasts a few milliseconds
    if run.poll() is not None:
        return False
    if kind == "signal":
        return send_signal(run, folder, rng.choice([signal.SIGTERM, signal.SIGINT]), outcome)
    run.kill()
    run.wait()
    caught = bool(list(checkpoints.glob(".*.ckpt.*")))  # the temporary file still exists
    outcome.stops["writing a checkpoint" if caught else "start-up" if kind == "start-up" else "training"] += 1
    return True


def send_signal(run: "subprocess.Popen[bytes]", folder: Path, signum: signal.Signals, outcome: Outcome) -> bool:
    run.send_signal(signum)
    sent = time.monotonic()
    code = run.wait()
    if read_result(folder).get("status") == "completed":  # the run ended before the signal
        return False
    outcome.seconds_to_stop = max(outcome.seconds_to_stop, time.monotonic() - sent)
    outcome.stops["signal"] += 1
    if code != 128 + signum:
        outcome.mismatches.append(f"exit code {code} after {signum.name}")
    return True


def newest_checkpoint_time(folder: Path) -> float:
    """Return the time of the newest checkpoint in the folder, or 0 if there is no checkpoint."""
    times = []
    for path in folder.glob("*.ckpt"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:  # the run has just renamed it
            continue
    return max(times, default=0)


def find_differences(reference: Path, killed: Path) -> list[str]:
    found = []
    for name in (LAST, BEST):
        first, second = (weights_digest(load_classifier(folder / CHECKPOINTS / name)) for folder in (reference, killed))
        if first != second:
            found.append(f"weights of {name}")
    if (reference / METRICS).read_text(encoding="utf-8") != (killed / METRICS).read_text(encoding="utf-8"):
        found.append(METRICS)
    with np.load(reference / PREDICTIONS) as first, np.load(killed / PREDICTIONS) as second:
        if any(not np.array_equal(first[name], second[name]) for name in first.files):
            found.append("test predictions")
    return found


def write_figures(outcomes: dict[str, Outcome], total: Outcome) -> None:
    lines = [
        f"`python -m benchmarks.chaos`, {date.today()}:",
        "",
        f"| run | {' | '.join(KINDS)} | resumes | mismatches |",
        "| --- |" + " ---: |" * (len(KINDS) + 2),
    ]
    for name, outcome in {**outcomes, "**all**": total}.items():
        stops = [str(outcome.stops[kind]) for kind in KINDS]
        lines.append(f"| {name} | {' | '.join(stops)} | {outcome.resumes} | {len(outcome.mismatches)} |")
    lines += ["", "If a kill comes before a run writes its config, the run starts again. This is not a resume."]
    lines += ["", f"The longest time from a signal to the end of the process is {total.seconds_to_stop:.1f} s."]
    replace_between(PAGE, BEGIN, END, "\n" + "\n".join(lines) + "\n\n")


if __name__ == "__main__":
    sys.exit(main())
