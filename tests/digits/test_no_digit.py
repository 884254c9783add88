"""What is no digit is marked as such by a network that is trained with `data.augment.others`; digits are not."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.digits.picture_predictions import NO_DIGIT
from mnist_lit.training.run import train
from tests.configs import compose_config
from tests.digits.other_pictures import OTHERS
from tests.digits.picture_styles import STYLES

pytestmark = [pytest.mark.slow, pytest.mark.mnist]


@pytest.fixture(scope="module")
def unsure_run(tmp_path_factory: pytest.TempPathFactory, mnist_root: str) -> Path:
    """Two epochs on the real MNIST with drawn digits and shapes that are no digit."""
    folder = tmp_path_factory.mktemp("unsure")
    options = ["experiment=robust", "trainer=cpu", "callbacks=none", "trainer.max_epochs=2", f"data.root={mnist_root}"]
    train(compose_config(*options), folder, {})
    return folder


def predict(run: Path, folder: Path) -> list[dict[str, object]]:
    done = CliRunner().invoke(app, ["predict", str(run), "--json", str(folder)])
    records: list[dict[str, object]] = json.loads(done.stdout)
    return records


def test_shapes_that_are_no_digit_are_marked_and_digits_are_not(unsure_run: Path, tmp_path: Path) -> None:
    others, digits = tmp_path / "others", tmp_path / "digits"
    others.mkdir()
    digits.mkdir()
    for number in range(60):
        rng = np.random.default_rng(number)
        kind = ("letter", "scribble", "thing")[number % 3]
        (others / f"{number}.png").write_bytes(OTHERS[kind](rng))
        (digits / f"{number}.png").write_bytes(STYLES["photo"](number % 10, rng))
    marked = [record for record in predict(unsure_run, others) if record["prediction"] is None]
    assert len(marked) >= 40
    assert all(record["reason"] == NO_DIGIT and "probability" in record for record in marked)
    assert sum(record["prediction"] is None for record in predict(unsure_run, digits)) <= 3
    shown = CliRunner().invoke(app, ["predict", str(unsure_run), str(others)])
    assert shown.exit_code == 0
    assert shown.stdout.count("probably no digit") == len(marked)
