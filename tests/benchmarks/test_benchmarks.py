"""The benchmarks compare equal work, and their arithmetic is right. These tests measure no time."""

import runpy
import subprocess
import sys

import pytest
import torch

from benchmarks.articles import ARTICLES
from benchmarks.baselines import time_steps_only
from benchmarks.measurement import Row, compare, compute_ratio, take_turns
from benchmarks.training_steps import count_flops_per_sample
from mnist_lit.build import build_model
from tests.configs import PROJECT, compose_config


@pytest.mark.parametrize("name", list(ARTICLES))
def test_an_article_and_its_preset_train_the_same_network_in_the_same_way(name: str) -> None:
    article = ARTICLES[name]
    config = compose_config(f"experiment={article.experiment}")
    preset = build_model(config, steps_per_epoch=1)
    theirs = article.build()
    shapes = [parameter.shape for parameter in theirs.parameters()]
    assert [parameter.shape for parameter in preset.parameters()] == shapes
    assert config.data.batch_size == article.batch_size
    assert config.optimizer.target == f"torch.optim.{article.optimizer}"
    assert config.optimizer.options["lr"] == article.lr
    assert (config.data.mean != 0) == article.normalized
    theirs.load_state_dict(dict(zip(theirs.state_dict(), preset.state_dict().values(), strict=True)))
    images = torch.rand(3, 1, 28, 28)
    assert torch.allclose(theirs(images), preset(images), atol=1e-5)


def test_a_ratio_compares_seconds_of_the_same_round() -> None:
    assert compute_ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == 2.0


def test_a_comparison_shows_the_range_of_the_rounds_and_the_medians() -> None:
    seconds = {"a": [2.0, 6.0], "b": [2.0, 2.0]}
    row = compare("a to b", seconds["a"], seconds["b"], 1.5, seconds=seconds, reason="noise")
    detail = "rounds 1.00 to 3.00; a 4.00 s, b 2.00 s"
    assert row == Row("a to b", measured=2.0, goal=1.5, at_most=True, unit="×", detail=detail, reason="noise")


def test_programs_take_turns_and_every_second_round_is_in_reverse_order() -> None:
    calls: list[str] = []

    def call(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    seconds = take_turns({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=3)
    assert "".join(calls) == "abbaab"
    assert seconds == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_a_missed_goal_is_shown_with_its_reason() -> None:
    missed = Row("fit", measured=1.5, goal=1.1, at_most=True, reason="noise")
    assert missed.format_cells() == ["fit", "≤ 1.1 ×", "1.5 ×", "**not met**", "noise"]
    met = Row("epoch", measured=9.0, goal=8, at_most=False, unit="× faster", reason="noise")
    assert met.format_cells() == ["epoch", "≥ 8 × faster", "9 × faster", "met", ""]


def test_the_flops_of_the_cnn_are_the_sum_over_its_layers() -> None:
    """The forward pass, and the backward pass to the weights and (except in the first layer) to the inputs."""
    first, rest = 24 * 24 * 10 * 25, 10 * 10 * 20 * 90 + 2000 * 500 + 500 * 10
    assert count_flops_per_sample() == 2 * (2 * first + 3 * rest)


@pytest.mark.parametrize("experiment", ["cnn", "speedrun"])
def test_the_steps_alone_work_with_and_without_a_schedule(experiment: str) -> None:
    assert time_steps_only(f"experiment={experiment}", "data=digits", "trainer=cpu") > 0


@pytest.mark.slow
def test_an_unknown_part_is_an_error_that_lists_the_parts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "warp"], cwd=PROJECT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 2
    assert "warp" in done.stderr
    assert "speedrun" in done.stderr


PROGRAMS = [path.stem for path in (PROJECT / "benchmarks").glob("*.py") if "\nif __name__" in path.read_text("utf-8")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_says_what_a_program_does_and_starts_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(PROJECT / "benchmarks" / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr()
    assert (stop.value.code, printed.err) == (0, "")
    assert printed.out.startswith("usage: ")
