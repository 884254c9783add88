"""What `mnist-lit evaluate` says of a network's probabilities."""

import re
from collections.abc import Callable

import numpy as np
import pytest
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.training.calibration import at_temperature, expected_calibration_error, fitted_temperature
from tests.conftest import Run


def believable(samples: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from random probabilities, and what a network too sure by `temperature` makes of these."""
    random = np.random.default_rng(0)
    honest = at_temperature(random.dirichlet(np.full(10, 0.3), samples), 1.0)
    labels = (honest.cumsum(1) > random.random((samples, 1))).argmax(1)
    return at_temperature(honest, 1 / temperature), labels


def test_error_is_0_for_the_believable_and_the_gap_for_the_boaster() -> None:
    assert expected_calibration_error(*believable(50_000, 1.0)) < 0.01
    sure = np.eye(10)[np.zeros(1000, dtype=int)]
    assert expected_calibration_error(sure, np.arange(1000) % 4) == pytest.approx(0.75)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_and_mends_the_error(temperature: float) -> None:
    probabilities, labels = believable(50_000, temperature)
    found = fitted_temperature(probabilities, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    assert expected_calibration_error(at_temperature(probabilities, found), labels) < 0.01


def test_evaluate_tells_each_digits_figures_and_the_calibration(run: Callable[..., Run]) -> None:
    finished = run("callbacks=none")
    printed = CliRunner().invoke(app, ["evaluate", str(finished.folder)]).stdout
    rows = re.findall(r"^ +(\d) +(\d+) +([\d.]+)% +[\d.]+% +[\d.]+%$", printed, re.MULTILINE)
    assert [int(digit) for digit, _, _ in rows] == list(range(10))
    assert sum(int(images) for _, images, _ in rows) == 360
    right = sum(int(images) * float(recall) / 100 for _, images, recall in rows)
    assert right / 360 == pytest.approx(finished.result["test_acc"], abs=1e-3)
    assert re.search(r"calibration error  0\.\d+; 0\.\d+ at temperature \d", printed)
    assert re.search(r"latency +[\d.]+ ms for one image, [\d,]+ a second", printed)
