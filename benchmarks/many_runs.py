"""How long `mnist-lit report` takes over a thousand runs, their curves, predictions and all."""

import shutil
import tempfile
from pathlib import Path
from statistics import median

import yaml

from benchmarks.processes import finish
from benchmarks.product import config_of
from benchmarks.rounds import Row, medians, take_turns
from mnist_lit.training.run import train

RUNS, SEEDS = 1000, 5
OVERRIDES = ["data=digits", "model=mlp_128_64", "trainer=cpu", "trainer.max_epochs=5", "logger.tensorboard=false"]


def report(rounds: int, quick: bool) -> list[Row]:
    """Copies of one run, five seeds to a configuration; a process each, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        first, outputs = Path(folder) / "first", Path(folder) / "outputs"
        first.mkdir()
        train(config_of(*OVERRIDES), first, {})
        for number in range(RUNS):
            copy = outputs / str(number)
            shutil.copytree(first, copy, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
            config = yaml.safe_load((copy / "config.yaml").read_text())
            config |= {"seed": number % SEEDS}
            config["optimizer"]["lr"] *= 1 + number // SEEDS
            (copy / "config.yaml").write_text(yaml.safe_dump(config))
        command = ["-c", "from mnist_lit.cli import main; main()", "report", str(outputs)]
        seconds = take_turns(
            {
                "table": lambda: finish(command, folder).seconds,
                "page": lambda: finish([*command, "--html", f"{folder}/page.html"], folder).seconds,
            },
            rounds,
        )
    return [
        Row(
            f"`mnist-lit report` over {RUNS:,} runs, with the HTML page",
            median(seconds["page"]),
            10,
            at_most=True,
            unit="s",
            detail=medians(seconds),
            reason="",
        )
    ]
