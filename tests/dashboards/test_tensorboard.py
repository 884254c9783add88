"""The content of TensorBoard, read back from the event files."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.projector import ProjectorConfig
from torch.utils.tensorboard import SummaryWriter

from mnist_lit.dashboards import class_metrics, galleries, network_views, prediction_callbacks
from mnist_lit.dashboards.galleries import CAPTION, GAP, SCALE, draw_gallery
from mnist_lit.dashboards.network_views import penultimate_features
from mnist_lit.dashboards.prediction_callbacks import drawn_names
from mnist_lit.dashboards.tensorboard_logger import TensorBoard
from mnist_lit.data.datasets import load_digits
from mnist_lit.models import CNN, MLP
from tests.conftest import Run

Start = Callable[..., Run]
ROW = 28 * SCALE + GAP + CAPTION  # of a gallery


def events(run: Run) -> EventAccumulator:
    read = EventAccumulator(str(run.folder), size_guidance={"images": 0, "tensors": 0, "histograms": 0})
    read.Reload()
    return read


def hparams(read: EventAccumulator) -> Iterator[HParamsPluginData]:
    for content in read._plugin_to_tag_to_content["hparams"].values():
        yield HParamsPluginData.FromString(content)


def test_all_tabs_are_filled(run: Start) -> None:
    done = run("callbacks=all", "model=cnn", "trainer.log_every_n_steps=10")
    read = events(done)
    scalars = set(read.Tags()["scalars"])
    assert {"train_loss", "train_acc", "lr", "val_loss", "val_acc", "test_loss", "test_acc"} <= scalars
    assert {"vs_samples/val_acc", "vs_samples/train_loss", "val_acc_of_digit/7"} <= scalars
    assert set(read.Tags()["images"]) == {"test/confusion_matrix", "test/worst_mistakes", "test/sample_predictions"}
    assert "weights/network.0.weight" in read.Tags()["histograms"]
    assert read.Tags()["graph"]
    assert {f"precision_recall/{digit}" for digit in range(10)} <= set(read.Tags()["tensors"])


def test_the_projector_has_labels_and_a_picture_for_each_point(run: Start) -> None:
    done = run("callbacks=none", "callbacks.projector=true", "model=mlp_128_64")
    folder = done.folder
    (points,) = text_format.Parse(
        (folder / "projector_config.pbtxt").read_text(encoding="utf-8"), ProjectorConfig()
    ).embeddings
    features = np.loadtxt(folder / points.tensor_path, delimiter="\t")
    header, *answers = (folder / points.metadata_path).read_text(encoding="utf-8").splitlines()
    digits, truth = load_digits(180, 0).test.images, load_digits(180, 0).test.labels
    assert features.shape == (360, 64)
    assert header == "truth\tprediction"
    assert [int(line.split("\t")[0]) for line in answers] == truth.tolist()
    right = np.mean([len(set(line.split("\t"))) == 1 for line in answers])
    assert right == pytest.approx(done.result["test_acc"], abs=1e-6)
    width, height = points.sprite.single_image_dim
    sprite = Image.open(folder / points.sprite.image_path)
    a_row = sprite.width // width
    for point in (0, 1, a_row, 359):
        left, top = point % a_row * width, point // a_row * height
        assert np.array_equal(255 - np.array(sprite.crop((left, top, left + width, top + height))), digits[point][0])


def test_other_classes_are_shown_by_name(run: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("T-shirt/top", *(f"class {index}" for index in range(1, 9)), "Ankle boot")
    for module in (class_metrics, prediction_callbacks, network_views):
        monkeypatch.setattr(module, "class_names", lambda trainer: names)
    done = run("callbacks=all")
    tags = events(done).Tags()
    assert {f"val_acc_of_class/{name}" for name in names} <= set(tags["scalars"])
    assert not [tag for tag in tags["scalars"] if tag.startswith("val_acc_of_digit")]
    assert {f"precision_recall/{name}" for name in names} <= set(tags["tensors"])
    _, *lines = (done.folder / "penultimate_layer" / "metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert {name for line in lines for name in line.split("\t")} == set(names)


def test_with_everything_off_only_scalars_are_written(run: Start) -> None:
    tags = events(run("callbacks=none")).Tags()
    assert not tags["images"]
    assert not tags["histograms"]
    assert not tags["graph"]
    assert tags["scalars"]


@pytest.mark.parametrize("switch", ["confusion_matrix", "worst_mistakes", "sample_predictions"])
def test_each_picture_has_its_own_switch(run: Start, switch: str) -> None:
    assert events(run("callbacks=none", f"callbacks.{switch}=true")).Tags()["images"] == [f"test/{switch}"]


def test_the_hparams_tab_has_the_options_and_the_real_metrics(run: Start) -> None:
    done = run("optimizer.lr=0.002")
    read = events(done)
    records = list(hparams(read))
    (metrics,) = [
        [info.name.tag for info in data.experiment.metric_infos] for data in records if data.HasField("experiment")
    ]
    assert metrics == ["val_acc", "val_loss", "test_acc", "fit_seconds", "params"]
    (options,) = [data.session_start_info.hparams for data in records if data.HasField("session_start_info")]
    assert (options["lr"].number_value, options["epochs"].number_value) == (0.002, 2)
    assert (options["model"].string_value, options["tags"].string_value) == ("MLP", "none")
    for metric in metrics:
        rounding = 1e-3 if metric == "fit_seconds" else 1e-5
        assert read.Scalars(metric)[-1].value == pytest.approx(done.result[metric], abs=rounding)
    assert "hp_metric" not in read.Tags()["scalars"]


def test_curves_over_samples_do_not_depend_on_the_batch_size(run: Start) -> None:
    small, large = (events(run(f"data.batch_size={size}", name=str(size))) for size in (20, 200))
    by_samples = [[event.step for event in read.Scalars("vs_samples/val_acc")] for read in (small, large)]
    assert by_samples == [[1257, 2514]] * 2
    by_steps = [[event.step for event in read.Scalars("val_acc")] for read in (small, large)]
    assert by_steps == [[63, 126], [7, 14]]


def test_samples_seen_counts_the_smaller_last_batch_of_an_epoch(tmp_path: Path) -> None:
    logger = TensorBoard(tmp_path, samples_per_step=64, samples_per_epoch=1257)
    assert [logger.samples_seen(step) for step in (0, 1, 19, 20, 21)] == [0, 64, 1216, 1257, 1321]


def test_worst_mistakes_are_mistakes_the_most_confident_first(run: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures: dict[str, np.ndarray] = {}

    def draw_and_record(images: np.ndarray, captions: list[str], wrong: list[bool]) -> Image.Image:
        pictures.update(zip(captions, images, strict=True))
        return draw_gallery(images, captions, wrong)

    monkeypatch.setattr(galleries, "draw_gallery", draw_and_record)
    done = run("callbacks=none", "callbacks.worst_mistakes=true")
    kept, images = np.load(done.folder / "test_predictions.npz"), load_digits(180, 0).test.images
    wrong = np.flatnonzero(kept["label"] != kept["prediction"])
    assert len(wrong) == round((1 - done.result["test_acc"]) * 360) > 24
    worst = wrong[np.argsort(-kept["confidence"][wrong], kind="stable")][:24]
    captions = [f"{kept['label'][i]} read as {kept['prediction'][i]} ({kept['confidence'][i]:.0%})" for i in worst]
    assert [caption for caption in pictures if caption in captions] == list(dict.fromkeys(captions))
    for caption, index in zip(captions, worst, strict=True):
        if captions.count(caption) == 1:
            assert np.array_equal(pictures[caption], images[index][0])
    picture = Image.open(io.BytesIO(events(done).Images("test/worst_mistakes")[0].encoded_image_string))
    assert picture.height == 6 * ROW
    assert picture.width >= 560
    both = Image.open(done.folder / "predictions.png")
    assert both.width == picture.width
    assert both.height > (5 + 6) * ROW, "twenty images and the mistakes"


def test_the_gallery_draws_the_digit_black_on_white() -> None:
    digit = np.zeros((1, 28, 28), dtype=np.uint8)
    digit[0, 10:20, 10:20] = 255
    sheet = np.asarray(draw_gallery(digit, ["7 99%"], [False]))
    below_caption = sheet[CAPTION:, 3:]
    assert below_caption[14 * SCALE, 14 * SCALE].tolist() == [0, 0, 0]
    assert below_caption[10, 10].tolist() == [255, 255, 255]


def test_the_gallery_has_wider_columns_for_longer_captions() -> None:
    images = np.zeros((8, 28, 28), dtype=np.uint8)
    four_columns = draw_gallery(images, ["7 read as 2 (99%)"] * 8, [True] * 8)
    assert four_columns.size == (4 * (28 * SCALE + GAP), 2 * ROW)
    two_columns = draw_gallery(images, ["Sneaker read as Ankle boot (99%)"] * 8, [True] * 8)
    assert two_columns.width <= four_columns.width
    assert two_columns.height == 4 * ROW


@pytest.mark.parametrize(("model", "features"), [(CNN(), 500), (MLP(hidden=[64, 32]), 32), (MLP(hidden=[]), 784)])
def test_penultimate_features_are_the_input_of_the_last_linear_layer(model: CNN | MLP, features: int) -> None:
    import torch

    images = torch.randn(3, 1, 28, 28)
    found = penultimate_features(model, images)
    assert found.shape == (3, features)
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert torch.allclose(last(found), model(images), atol=1e-6)


def test_dashboards_do_not_change_the_weights(run: Start) -> None:
    from mnist_lit.models.checkpoint_file import load_classifier, weights_digest

    digests = {
        weights_digest(load_classifier(run(f"callbacks={choice}", name=choice).folder / "checkpoints" / "last.ckpt"))
        for choice in ("all", "none")
    }
    assert len(digests) == 1


def test_a_network_that_cannot_be_traced_has_no_graph_and_the_run_goes_on(
    run: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("torch.jit.trace a dynamo-optimized function")

    monkeypatch.setattr(SummaryWriter, "add_graph", fail)
    assert run("callbacks.graph=true", "trainer.max_epochs=1").result["status"] == "completed"
    assert "callbacks.graph: this network cannot be traced" in caplog.text


def test_pictures_name_classes_that_their_font_lacks_by_number() -> None:
    trainer = SimpleNamespace(datamodule=SimpleNamespace(classes=("衣服", "bag", *"23456789")))
    assert drawn_names(trainer) == ["0", "bag", *"23456789"]  # type: ignore[arg-type]
