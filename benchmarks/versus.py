"""Training time of whole runs against the loops a user would write or copy instead."""

import json
import subprocess
import sys
from functools import cache, partial
from statistics import mean
from typing import Any

from benchmarks import opponents, plain_lightning
from benchmarks.articles import ARTICLES
from benchmarks.product import DEFAULTS, config_of, environment, run, train_seconds
from benchmarks.rounds import Row, medians, ratio, spread, take_turns
from mnist_lit.config import MNISTData
from mnist_lit.data.datasets import load_mnist

PER_60_000 = 60_000 / 55_000  # a run keeps 5,000 of the 60,000 for validation


@cache
def mnist_root() -> str:
    data = config_of().data
    assert isinstance(data, MNISTData)
    return data.root


def fit(rounds: int, quick: bool) -> list[Row]:
    """Runs against bare loops that validate after each epoch as well, and training alone against training alone."""
    rows = []
    epochs = 1 if quick else 3
    for model, batch_size in (("mlp_4x64", 64), ("mlp_500", 100), ("cnn", 64)):
        overrides = [*DEFAULTS, f"model={model}", f"data.batch_size={batch_size}", f"trainer.max_epochs={epochs}"]
        ours_training: list[float] = []
        bare_training: list[float] = []

        def ours(overrides: list[str] = overrides, training: list[float] = ours_training) -> float:
            result = run(*overrides)
            training.append(train_seconds(result, epochs))
            return float(result["fit_seconds"])

        def bare(overrides: list[str] = overrides, training: list[float] = bare_training) -> float:
            times = opponents.bare(*overrides, epochs=epochs)
            training.append(times.train)
            return times.fit

        seconds = take_turns({"bare": bare, "run": ours}, rounds)
        name = f"{model}, batch {batch_size}, {epochs} epochs"
        rows += [
            Row(
                f"fit against *bare*: {name}",
                ratio(seconds["run"], seconds["bare"]),
                1.10,
                at_most=True,
                detail=f"{spread(seconds['run'], seconds['bare'])}; {medians(seconds)}",
                reason="cause not established; the next row leaves out validation and what a fit writes",
            ),
            Row(
                f"the same, training alone: {name}",
                ratio(ours_training, bare_training),
                None,
                at_most=True,
                detail=spread(ours_training, bare_training),
            ),
        ]
    return rows


def article_epoch(name: str) -> float:
    """In a process of its own, as someone would run it: what this project does to a process may not help it."""
    command = [sys.executable, "-m", "benchmarks.articles", name, mnist_root()]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout)["seconds"])


def articles(rounds: int, quick: bool) -> list[Row]:
    rows = []
    for name, article in list(ARTICLES.items())[: 1 if quick else None]:
        ours = [f"experiment={article.experiment}", "trainer=cpu", "trainer.max_epochs=1"]
        seconds = take_turns(
            {
                name: partial(article_epoch, name),
                "run": lambda ours=ours: run(*ours)["fit_seconds"] * PER_60_000,  # type: ignore[misc]
                "steps alone": lambda ours=ours: opponents.steps_alone(*ours) * PER_60_000,  # type: ignore[misc]
            },
            rounds,
        )
        rows += [
            Row(
                f"epoch against article {name}, batch {article.batch_size}",
                ratio(seconds[name], seconds["run"]),
                article.goal,
                at_most=False,
                unit="× faster",
                detail=f"{spread(seconds[name], seconds['run'])}; {medians(seconds)}",
                reason="the arithmetic that both share, next row, and what a run does besides: validation, "
                "checkpoints, histograms",
            ),
            Row(
                f"the most that article {name}'s arithmetic allows: the same steps on one batch, nothing else",
                ratio(seconds[name], seconds["steps alone"]),
                None,
                at_most=False,
                unit="× faster",
                detail=spread(seconds[name], seconds["steps alone"]),
            ),
        ]
    return rows


def lightning(rounds: int, quick: bool) -> list[Row]:
    ours = [*DEFAULTS, "model=mlp_128_64", "data.batch_size=128", "trainer.max_epochs=1"]
    seconds = take_turns(
        {
            "plain Lightning": partial(plain_lightning.train_one_epoch, mnist_root(), 128, config_of(*ours), "cpu"),
            "run": lambda: run(*ours)["fit_seconds"],
        },
        rounds,
    )
    return [
        Row(
            "epoch against *plain Lightning*, mlp_128_64, batch 128",
            ratio(seconds["plain Lightning"], seconds["run"]),
            8,
            at_most=False,
            unit="× faster",
            detail=f"{spread(seconds['plain Lightning'], seconds['run'])}; {medians(seconds)}",
        )
    ]


def speedrun(rounds: int, quick: bool) -> list[Row]:
    """Accuracy over ten seeds; time against fast99 as published, and with channels_last for good measure."""
    splits = load_mnist(mnist_root(), 5000, 0)
    seeds = iter(range(100))
    results = []

    def ours() -> float:
        results.append(run("experiment=speedrun", "trainer=cpu", f"seed={next(seeds)}"))
        return float(results[-1]["fit_seconds"])

    seconds = take_turns(
        {
            "fast99": partial(opponents.fast99, splits, 0, False),
            "fast99 channels_last": partial(opponents.fast99, splits, 0, True),
            "run": ours,
        },
        rounds,
    )
    while len(results) < (1 if quick else 10):
        ours()
    return [
        accuracy(results[:10]),
        Row(
            "its fit time against *fast99*",
            ratio(seconds["run"], seconds["fast99"]),
            0.5,
            at_most=True,
            detail=f"{spread(seconds['run'], seconds['fast99'])}; {medians(seconds)}",
        ),
        Row(
            "the same against *fast99* with channels_last",
            ratio(seconds["run"], seconds["fast99 channels_last"]),
            None,
            at_most=True,
            detail=spread(seconds["run"], seconds["fast99 channels_last"]),
        ),
    ]


def accuracy(results: list[dict[str, Any]]) -> Row:
    """Of `experiment=speedrun` with as many seeds as there are results."""
    accuracies = [100 * result["test_acc"] for result in results]
    return Row(
        f"experiment=speedrun, test accuracy, mean of seeds 0 to {len(accuracies) - 1}",
        mean(accuracies),
        99.0,
        at_most=False,
        unit="%",
        detail=f"{min(accuracies):.2f} to {max(accuracies):.2f} %",
    )
