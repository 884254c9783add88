"""The network that comes with the package is trained with `data.augment.others`. It marks what is no digit."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.digits.picture_predictions import NO_DIGIT
from tests.digits.other_pictures import OTHERS
from tests.digits.picture_styles import STYLES


def predict(folder: Path) -> list[dict[str, object]]:
    done = CliRunner().invoke(app, ["predict", "--json", str(folder)])
    records: list[dict[str, object]] = json.loads(done.stdout)
    return records


@pytest.mark.slow
def test_shapes_that_are_no_digit_are_marked_and_digits_are_not(tmp_path: Path) -> None:
    others, digits = tmp_path / "others", tmp_path / "digits"
    others.mkdir()
    digits.mkdir()
    for number in range(60):
        rng = np.random.default_rng(number)
        kind = ("letter", "scribble", "thing")[number % 3]
        (others / f"{number}.png").write_bytes(OTHERS[kind](rng))
        (digits / f"{number}.png").write_bytes(STYLES["photo"](number % 10, rng))
    marked = [record for record in predict(others) if record["prediction"] is None]
    assert len(marked) >= 40
    assert all(record["reason"] == NO_DIGIT and "probability" in record for record in marked)
    assert sum(record["prediction"] is None for record in predict(digits)) <= 3
    shown = CliRunner().invoke(app, ["predict", str(others)])
    assert shown.exit_code == 0
    assert shown.stdout.count("probably no digit") == len(marked)
