"""A network that is trained on something else than digits can be exported, but reads no digits."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.digits.trained_network import DIGITS, CheckpointNetwork, OnnxNetwork, open_network
from mnist_lit.errors import UserError
from tests.digits.conftest import CLOTHES

REASON = r"is trained on fashion_mnist \(T-shirt/top, Trouser, …\), so it reads no digits"


@pytest.mark.parametrize(
    "arguments",
    [["predict", "RUN", "x.png"], ["evaluate", "RUN", "--pictures", "FOLDER"], ["demo", "RUN", "--port", "0"]],
    ids=["predict", "evaluate", "demo"],
)
def test_a_network_trained_on_clothes_reads_no_digits(clothes_run: Path, tmp_path: Path, arguments: list[str]) -> None:
    paths = {"RUN": str(clothes_run), "FOLDER": str(tmp_path)}
    with pytest.raises(UserError, match=f"^{clothes_run}: {REASON}$"):
        CliRunner().invoke(app, [paths.get(word, word) for word in arguments], catch_exceptions=False)


@pytest.mark.slow
def test_an_exported_file_keeps_the_classes_and_reads_no_digits_either(clothes_run: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "model.pt2"):
        arguments = ["export", str(clothes_run), "--format", name.partition(".")[2], "--out", str(tmp_path / name)]
        assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert OnnxNetwork(tmp_path / "model.onnx").classes == tuple(CLOTHES)
    extra_files = {"metadata.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra_files)
    assert json.loads(extra_files["metadata.json"])["labels"] == CLOTHES
    with pytest.raises(UserError, match=f"^{tmp_path / 'model.onnx'}: {REASON}$"):
        open_network(tmp_path / "model.onnx")


def test_a_checkpoint_without_classes_or_with_the_ten_digits_reads_digits(clothes_run: Path, small_run: Path) -> None:
    path = clothes_run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["datamodule_hyper_parameters"]["classes"] = DIGITS
    torch.save(checkpoint, path)
    for run in (clothes_run, small_run):
        network = open_network(run)
        assert isinstance(network, CheckpointNetwork)
        assert network.classes == DIGITS


def test_the_accuracy_of_a_run_is_that_of_its_best_checkpoint_alone(small_copy: Path) -> None:
    best = small_copy / "checkpoints" / "best.ckpt"
    assert "digits's 360 test images" in open_network(best).about
    for other in (best.with_name("last.ckpt"), small_copy / "else" / "best.ckpt"):
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(best.read_bytes())
        assert open_network(other).about.endswith("its accuracy is not recorded")
