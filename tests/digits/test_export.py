"""An exported network is one file with the checkpoint's predictions. An .onnx file works without torch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.digits.trained_network import CheckpointNetwork, OnnxNetwork, open_network
from mnist_lit.errors import UserError
from tests.configs import PROJECT
from tests.conftest import TINY, Outcome
from tests.digits.picture_styles import STYLES

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
MAIN_WITHOUT = """
import sys

sys.modules.update(dict.fromkeys({missing}))
sys.argv = ['mnist-lit', *{arguments}]
from mnist_lit.cli import main
main()
"""


DEPENDS_ON_VALUES = """
from torch import nn

from mnist_lit.models import DigitClassifier


class Layers(nn.Linear):
    def forward(self, images):
        images = images.flatten(1)
        return super().forward(images) if images.mean() > 0 else super().forward(-images)


class Depends(DigitClassifier):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.network = Layers(784, 10)
"""


def run_without(missing: set[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `mnist-lit` as if these packages were not installed."""
    code = MAIN_WITHOUT.format(missing=missing, arguments=[str(argument) for argument in arguments])
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture(scope="module")
def model(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    done = CliRunner().invoke(app, ["export", str(small_run), "--out", str(path)], catch_exceptions=False)
    assert "checked on 360 test images: 0 predictions differ" in done.stdout
    return path


@pytest.mark.slow
def test_onnx_is_one_file_and_takes_any_number_of_pictures(model: Path, small_run: Path) -> None:
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]
    exported, checkpoint = OnnxNetwork(model), CheckpointNetwork(small_run)
    for pixels in (PIXELS[:1], PIXELS):
        assert np.abs(exported(pixels) - checkpoint(pixels)).max() < 1e-5
        assert np.allclose(exported(pixels).sum(1), 1, atol=1e-5)
    assert exported.about == checkpoint.about
    metadata = exported.session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == list("0123456789")
    assert "28 x 28" in metadata["preparation"]
    assert str(PROJECT).encode() not in model.read_bytes()
    assert b"site-packages" not in model.read_bytes()


@pytest.mark.slow
def test_pt2_is_loaded_with_torch_alone(small_run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(small_run), "--format", "pt2", "--out", str(tmp_path / "model.pt2")])
    assert "0 predictions differ" in done.stdout, done.output
    extra_files = {"metadata.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra_files).module()
    assert (
        np.abs(program(torch.from_numpy(PIXELS)).detach().numpy() - CheckpointNetwork(small_run)(PIXELS)).max() < 1e-5
    )
    assert "preparation" in json.loads(extra_files["metadata.json"])


@pytest.mark.slow
@pytest.mark.mnist
def test_int8_is_smaller_and_almost_as_accurate(good_run: Path, tmp_path: Path) -> None:
    sizes = []
    for options in ([], ["--int8"]):
        path = tmp_path / f"model{len(options)}.onnx"
        done = CliRunner().invoke(app, ["export", str(good_run), "--out", str(path), *options], catch_exceptions=False)
        assert "checked on 10,000 test images" in done.stdout
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0] / 2
    accuracies = done.stdout.split("test accuracy")[1].split()[:2]
    assert float(accuracies[1][:-1]) > float(accuracies[0][:-1]) - 1


@pytest.mark.slow
def test_int8_works_with_few_training_images(small_run: Path, tmp_path: Path) -> None:
    """scikit-learn's data set has fewer than 2,000 digits."""
    arguments = ["export", str(small_run), "--out", str(tmp_path / "small.onnx"), "--int8"]
    assert "checked on 360 test images" in CliRunner().invoke(app, arguments, catch_exceptions=False).stdout


@pytest.mark.slow
def test_predict_with_onnx_needs_no_heavy_package(model: Path, small_run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "3.jpg"
    picture.write_bytes(STYLES["photo"](3, np.random.default_rng(0)))
    heavy = {
        "torch",
        "torchvision",
        "lightning",
        "pandas",
        "sklearn",
        "matplotlib",
        "hydra",
        "yaml",
        "filelock",
    }
    done = run_without(heavy, "predict", model, "--json", picture)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    printed = CliRunner().invoke(app, ["predict", str(small_run), "--json", str(picture)]).stdout
    assert record["probability"] == pytest.approx(json.loads(printed)[0]["probability"], abs=1e-5)
    refused = run_without(heavy, "predict", small_run, picture)
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        "error: torch is not installed, and a checkpoint needs it; an exported .onnx does not"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_extra_gives_one_line(small_run: Path, missing: str) -> None:
    done = run_without({missing}, "export", small_run)
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1] == f"error: --format onnx: {missing} is not installed; pip install -e '.[export]'"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "model.txt"], "must end with .onnx"),
        (["--out", "nowhere/model.onnx"], "there is no folder nowhere"),
        (["--format", "pt2", "--int8"], "only onnx"),
    ],
)
def test_wrong_export_options_are_refused(small_run: Path, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, ["export", str(small_run), *options], catch_exceptions=False)


def test_an_export_that_cannot_be_written_is_one_clear_error(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt2").mkdir()
    with pytest.raises(UserError, match=r"model\.pt2: cannot be written: Is a directory"):
        CliRunner().invoke(
            app, ["export", str(small_run), "--format=pt2", f"--out={tmp_path / 'model.pt2'}"], catch_exceptions=False
        )


@pytest.mark.slow
def test_an_export_with_other_predictions_is_not_written(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnist_lit.digits import export

    original = export.save_onnx

    def save_wrong(*arguments: object) -> export.Classify:
        classify = original(*arguments)  # type: ignore[arg-type]
        return lambda pixels: classify(pixels) + np.float32(2e-5)

    monkeypatch.setattr(export, "save_onnx", save_wrong)
    with pytest.raises(UserError, match="is not written"):
        export.export_run(small_run, "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_file_of_another_program_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])  # fmt: skip
    onnx.save(helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(UserError, match="not a model that mnist-lit has exported"):
        open_network(tmp_path / "other.onnx")


def test_a_network_that_torch_cannot_export_is_one_clear_error(
    train_py: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_network.py").write_text(DEPENDS_ON_VALUES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    own = ["model._target_=bad_network.Depends", "~model.hidden", "~model.activation"]
    done = train_py(*TINY, *own, PYTHONPATH=str(tmp_path))
    assert done.code == 0, done.output
    for form in ("onnx", "pt2"):
        path = tmp_path / f"x.{form}"
        exported = CliRunner().invoke(app, ["export", str(done.folder), "--format", form, "--out", str(path)])
        assert isinstance(exported.exception, UserError), exported.output
        assert "cannot export this network" in str(exported.exception)
        assert not path.exists()
