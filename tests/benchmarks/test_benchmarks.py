"""The benchmarks compare like with like, and their arithmetic is right. No timings here."""

import subprocess
import sys

import pytest
import torch

from benchmarks.articles import ARTICLES
from benchmarks.flops import flops_per_sample
from benchmarks.rounds import Row, ratio, take_turns
from mnist_lit.training.build import build_model
from tests.conftest import PROJECT, compose_config


@pytest.mark.parametrize("name", list(ARTICLES))
def test_an_article_and_its_preset_train_the_same_network_alike(name: str) -> None:
    article = ARTICLES[name]
    config = compose_config(f"experiment={article.experiment}")
    preset = build_model(config, steps_per_epoch=1)
    shapes = [parameter.shape for parameter in article.network().parameters()]
    assert [parameter.shape for parameter in preset.parameters()] == shapes
    assert config.data.batch_size == article.batch_size
    assert (config.optimizer.name, config.optimizer.lr) == (article.optimizer.lower(), article.lr)
    assert (config.data.mean != 0) == article.normalized
    theirs = article.network()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), preset.state_dict().values(), strict=True)))
    images = torch.rand(3, 1, 28, 28)
    assert torch.allclose(theirs(images), preset(images), atol=1e-5)


def test_a_ratio_is_taken_within_a_round_so_drift_falls_out() -> None:
    assert ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == 2.0


def test_opponents_take_turns_and_the_order_turns_round() -> None:
    calls: list[str] = []

    def called(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    seconds = take_turns({"a": lambda: called("a"), "b": lambda: called("b")}, rounds=3)
    assert "".join(calls) == "abbaab"
    assert seconds == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_a_goal_missed_is_said_with_its_reason() -> None:
    missed = Row("fit", measured=1.5, goal=1.1, at_most=True, reason="noise")
    assert missed.cells() == ["fit", "≤ 1.1 ×", "1.5 ×", "**not met**", "noise"]
    met = Row("epoch", measured=9.0, goal=8, at_most=False, unit="× faster", reason="noise")
    assert met.cells() == ["epoch", "≥ 8 × faster", "9 × faster", "met", ""]


def test_flops_of_the_cnn_are_those_of_its_layers() -> None:
    """Forward, and backward to the weights and, but for the first layer, to the inputs."""
    first, rest = 24 * 24 * 10 * 25, 10 * 10 * 20 * 90 + 2000 * 500 + 500 * 10
    assert flops_per_sample() == 2 * (2 * first + 3 * rest)


def test_an_unknown_part_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "warp"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "warp" in done.stderr
    assert "speedrun" in done.stderr
