"""Compares the training time of whole runs with loops that a user would write or copy."""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import mean
from typing import Any

from benchmarks.articles import ARTICLES
from benchmarks.baselines import find_precision, time_steps_only, train_bare, train_fast99
from benchmarks.measurement import Row, Seconds, compare, take_turns
from benchmarks.plain_lightning import train_one_epoch
from benchmarks.runner import (
    DEFAULTS,
    LIBGOMP_DEFAULT,
    compute_train_seconds,
    find_mnist_root,
    run_module,
    run_training,
)
from mnist_lit.data.datasets import load_idx
from mnist_lit.data.files import FileSet
from tests.configs import compose_config

LIMIT = "lower limit: the same optimizer steps on one batch, without other work, relative to"
NEXT_ROW = "the limit of the steps alone is below"
PER_60_000 = 60_000 / 55_000  # a run keeps 5,000 of the 60,000 for validation


def compare_fit(rounds: int, quick: bool) -> list[Row]:
    """Runs and bare loops with validation after each epoch: fit time and training time.

    *bare* is a loop in this process, with the settings of a run. *bare alone* is the same loop in a process of its own,
    with the defaults of torch and of the operating system. *bare bf16* uses autocast, as the run does with
    trainer.precision=auto.
    """
    rows: list[Row] = []
    for model, batch_size, epochs in (("mlp_4x64", 64, 3), ("mlp_500", 100, 3)):
        name = f"{model}, batch {batch_size}, {epochs} epochs"
        overrides = [*DEFAULTS, f"model={model}", f"data.batch_size={batch_size}", f"trainer.max_epochs={epochs}"]
        rows += compare_with_bare(name, overrides, 1 if quick else epochs, rounds, {"bare": 0.95, "bare alone": 0.95})
    overrides = [*DEFAULTS, "model=cnn", "data.batch_size=64", "trainer.max_epochs=2", "trainer.precision=auto"]
    goals = {"bare": 0.55, "bare alone": 0.55, "bare bf16": 0.80, "bare bf16 alone": 0.80}
    name = f"cnn, batch 64, 2 epochs, trainer.precision=auto (here {find_precision(*overrides)})"
    rows += compare_with_bare(name, overrides, 1 if quick else 2, rounds, goals)
    return rows


def compare_with_bare(
    name: str, overrides: list[str], epochs: int, rounds: int, goals: dict[str, float]
) -> Iterator[Row]:
    """`goals` maps the name of a bare loop to the largest fit time of the run, relative to this loop."""
    overrides = [*overrides, f"trainer.max_epochs={epochs}"]
    training: Seconds = {"run": [], "bare": []}

    def fit_run() -> float:
        result = run_training(*overrides)
        training["run"].append(compute_train_seconds(result, epochs))
        return float(result["fit_seconds"])

    def fit_bare() -> float:
        times = train_bare(*overrides, epochs=epochs)
        training["bare"].append(times.train)
        return times.fit

    loops: dict[str, Callable[[], float]] = {
        "bare": fit_bare,
        "bare alone": partial(fit_bare_alone, overrides, epochs),
        "bare bf16": lambda: train_bare(*overrides, epochs=epochs, bf16=True).fit,
        "bare bf16 alone": partial(fit_bare_alone, overrides, epochs, "--bf16"),
    }
    steps: dict[str, Callable[[], float]] = {
        "run": fit_run,
        "steps alone": lambda: epochs * time_steps_only(*overrides),
    }
    seconds = take_turns({loop: loops[loop] for loop in goals} | steps, rounds)
    reason = f"a run also draws histograms and saves checkpoints; {NEXT_ROW}"
    for loop, goal in goals.items():
        what = f"fit time relative to *{loop}*: {name}"
        yield compare(what, seconds["run"], seconds[loop], goal, seconds=seconds, reason=reason)
        limit = f"{LIMIT} *{loop}*: {name}"
        yield compare(limit, seconds["steps alone"], seconds[loop])
    yield compare(f"training time relative to *bare*: {name}", training["run"], training["bare"])


def fit_bare_alone(overrides: list[str], epochs: int, *options: str) -> float:
    arguments = ["benchmarks.baselines", *overrides, f"--epochs={epochs}", *options]
    return run_module(*arguments, GOMP_SPINCOUNT=LIBGOMP_DEFAULT)["fit"]


def compare_articles(rounds: int, quick: bool) -> list[Row]:
    """Presets and the training loops of the articles: time of an epoch."""
    rows = []
    for name, article in list(ARTICLES.items())[: 1 if quick else None]:
        ours = [f"experiment={article.experiment}", "trainer=cpu", "trainer.max_epochs=1"]
        seconds = take_turns(
            {
                name: partial(run_article_epoch, name),
                "run": lambda ours=ours: run_training(*ours)["fit_seconds"] * PER_60_000,  # type: ignore[misc]
                "steps alone": lambda ours=ours: time_steps_only(*ours) * PER_60_000,  # type: ignore[misc]
            },
            rounds,
        )
        rows += [
            compare(
                f"speed of an epoch relative to article {name}, batch {article.batch_size}",
                seconds[name],
                seconds["run"],
                article.goal,
                at_most=False,
                unit="× faster",
                seconds=seconds,
                reason="both programs do the same arithmetic (next row), and a run also does validation, checkpoints "
                "and histograms",
            ),
            compare(
                f"upper limit for article {name}: the same optimizer steps on one batch, without other work",
                seconds[name],
                seconds["steps alone"],
                at_most=False,
                unit="× faster",
            ),
        ]
    return rows


def run_article_epoch(name: str) -> float:
    """Run the article in its own process, as a user does, so the settings of this process have no effect."""
    return run_module("benchmarks.articles", name, find_mnist_root(), GOMP_SPINCOUNT=LIBGOMP_DEFAULT)["seconds"]


def compare_lightning(rounds: int, quick: bool) -> list[Row]:
    """A run and plain Lightning as in the well-known templates: time of an epoch."""
    ours = [*DEFAULTS, "model=mlp_128_64", "data.batch_size=128", "trainer.max_epochs=1"]
    seconds = take_turns(
        {
            "plain Lightning": partial(train_one_epoch, find_mnist_root(), 128, compose_config(*ours), "cpu"),
            "run": lambda: run_training(*ours)["fit_seconds"],
        },
        rounds,
    )
    return [
        compare(
            "speed of an epoch relative to *plain Lightning*: mlp_128_64, batch 128",
            seconds["plain Lightning"],
            seconds["run"],
            8,
            at_most=False,
            unit="× faster",
            seconds=seconds,
        )
    ]


def measure_speedrun(rounds: int, quick: bool) -> list[Row]:
    """experiment=speedrun: accuracy with ten seeds, and time relative to fast99."""
    splits = load_idx(FileSet(root=find_mnist_root()), 5000, 0)
    speedrun, seeds, results = ["experiment=speedrun", "trainer=cpu"], iter(range(100)), []

    def run_next_seed() -> float:
        results.append(run_training(*speedrun, f"seed={next(seeds)}"))
        return float(results[-1]["fit_seconds"])

    seconds = take_turns(
        {
            "fast99": partial(train_fast99, splits, 0, False),
            "fast99 channels_last": partial(train_fast99, splits, 0, True),
            "run": run_next_seed,
            "steps alone": partial(time_steps_only, *speedrun),
        },
        rounds,
    )
    while len(results) < (1 if quick else 10):
        run_next_seed()
    what = "fit time of experiment=speedrun, relative to *fast99*"
    reason = f"a run also validates, draws histograms and saves checkpoints; {NEXT_ROW}"
    return [
        compute_mean_accuracy(results[:10]),
        compare(what, seconds["run"], seconds["fast99"], 0.22, seconds=seconds, reason=reason),
        compare(f"{LIMIT} *fast99*", seconds["steps alone"], seconds["fast99"]),
        compare(f"{what} with channels_last", seconds["run"], seconds["fast99 channels_last"]),
    ]


def compute_mean_accuracy(results: list[dict[str, Any]]) -> Row:
    """Return the mean accuracy of `experiment=speedrun`, with one result per seed."""
    accuracies = [100 * result["test_acc"] for result in results]
    return Row(
        f"experiment=speedrun: mean test accuracy of seeds 0 to {len(accuracies) - 1}",
        mean(accuracies),
        99.0,
        at_most=False,
        unit="%",
        detail=f"{min(accuracies):.2f} to {max(accuracies):.2f} %",
    )
