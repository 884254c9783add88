"""The network that comes with the package reads pictures right after the installation."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mnist_lit
from mnist_lit.cli import app
from mnist_lit.data.datasets import load_idx
from mnist_lit.data.files import FileSet
from mnist_lit.digits.server import read_digits
from mnist_lit.digits.trained_network import SHIPPED, OnnxNetwork, open_network
from tests.configs import PROJECT
from tests.digits.picture_styles import STYLES
from tests.digits.test_export import run_without


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a photo of each digit. Its name could be that of a run."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    for digit in range(10):
        (folder / f"{digit}.jpg").write_bytes(STYLES["photo"](digit, np.random.default_rng(digit)))
    return folder


@pytest.mark.mnist
def test_its_accuracy_is_what_the_file_and_the_docs_say(mnist_root: str) -> None:
    network = OnnxNetwork(SHIPPED)
    test = load_idx(FileSet(root=mnist_root), 5000, 0).test
    accuracy = float((network(test.images[:, 0].numpy()).argmax(1) == test.labels.numpy()).mean())
    known = {name: json.loads(text) for name, text in network.session.get_modelmeta().custom_metadata_map.items()}
    assert accuracy == pytest.approx(known["test_acc"], abs=1e-6)
    assert f"{accuracy:.2%} on mnist's 10,000 test images" in network.about
    assert "experiment=robust" in known["command"]
    assert {"mnist-lit", "torch"} <= known["versions"].keys()
    assert isinstance(known["seed"], int)
    assert SHIPPED.stat().st_size <= 400_000
    page = (PROJECT / "docs" / "own-digits.md").read_text(encoding="utf-8")
    (figures,) = re.findall(r"The network that comes with the package.*?\n\n", page, re.DOTALL)
    for said in (f"{accuracy:.2%}", *(re.sub(" / ", " of ", count) for count in known["pictures"].values())):
        assert said in figures


def test_pictures_are_read_without_a_run(pictures: Path) -> None:
    done = CliRunner().invoke(app, ["predict", "--json", str(pictures)], catch_exceptions=False)
    assert [record["prediction"] for record in json.loads(done.stdout)] == list(range(10))
    assert re.fullmatch(r"network of mnist-lit [\d.]+: [\d.]+% on mnist's 10,000 test images\n", done.stderr)
    assert len(done.stderr) < 80
    one = CliRunner().invoke(app, ["predict", str(pictures / "7.jpg"), str(pictures / "3.jpg")])
    assert [line.split()[1] for line in one.stdout.splitlines()] == ["7", "3"]
    evaluated = CliRunner().invoke(app, ["evaluate", "--pictures", str(pictures)]).stdout
    assert "10 pictures" in evaluated


def test_python_loads_it_without_a_run(pictures: Path) -> None:
    assert mnist_lit.load().predict([pictures / "7.jpg", pictures / "3.jpg"]).labels.tolist() == [7, 3]


def test_the_demo_reads_with_it(pictures: Path) -> None:
    (digit,) = read_digits(open_network(None), (pictures / "7.jpg").read_bytes()).digits
    assert digit.prediction == 7
    assert max(digit.saliency) == 100


@pytest.mark.slow
def test_it_needs_no_torch(pictures: Path) -> None:
    done = run_without({"torch", "lightning", "hydra", "yaml", "sklearn"}, "predict", pictures / "4.jpg")
    assert done.returncode == 0, done.stderr
    assert "4" in done.stdout.split()
