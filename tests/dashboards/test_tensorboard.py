"""What TensorBoard is given, read back from the event files."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.projector import ProjectorConfig

from mnist_lit.dashboards import galleries
from mnist_lit.dashboards.galleries import gallery
from mnist_lit.dashboards.logger import TensorBoard
from mnist_lit.dashboards.projector import penultimate
from mnist_lit.data.datasets import load_digits
from mnist_lit.models import CNN, MLP
from tests.conftest import Run

Start = Callable[..., Run]


def events(run: Run) -> EventAccumulator:
    read = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0, "histograms": 0})
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
    assert {"by_samples/val_acc", "by_samples/train_loss", "val_acc_of_digit/7"} <= scalars
    assert set(read.Tags()["images"]) == {"test/confusion_matrix", "test/worst_mistakes", "test/sample_predictions"}
    assert "weights/network.0.weight" in read.Tags()["histograms"]
    assert read.Tags()["graph"]
    assert {f"precision_recall/{digit}" for digit in range(10)} <= set(read.Tags()["tensors"])


def test_the_projector_has_a_line_and_a_picture_for_each_point(run: Start) -> None:
    done = run("callbacks=none", "callbacks.projector=true", "model=mlp_128_64")
    folder = done.folder / "tensorboard"
    (points,) = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings
    features = np.loadtxt(folder / points.tensor_path, delimiter="\t")
    header, *answers = (folder / points.metadata_path).read_text().splitlines()
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


def test_with_everything_off_only_scalars_are_written(run: Start) -> None:
    tags = events(run("callbacks=none")).Tags()
    assert not tags["images"]
    assert not tags["histograms"]
    assert not tags["graph"]
    assert tags["scalars"]


@pytest.mark.parametrize("switch", ["confusion_matrix", "worst_mistakes", "sample_predictions"])
def test_each_is_a_switch_of_its_own(run: Start, switch: str) -> None:
    assert events(run("callbacks=none", f"callbacks.{switch}=true")).Tags()["images"] == [f"test/{switch}"]


def test_hparams_tab_has_the_options_and_the_real_metrics(run: Start) -> None:
    done = run("optimizer.lr=0.002")
    read = events(done)
    told = list(hparams(read))
    (metrics,) = [
        [info.name.tag for info in data.experiment.metric_infos] for data in told if data.HasField("experiment")
    ]
    assert metrics == ["val_acc", "val_loss", "test_acc", "test_loss"]
    (options,) = [data.session_start_info.hparams for data in told if data.HasField("session_start_info")]
    assert options["optimizer.lr"].number_value == 0.002
    assert options["data.name"].string_value == "digits"
    for metric in metrics:
        assert read.Scalars(metric)[-1].value == pytest.approx(done.result[metric], abs=1e-5)
    assert "hp_metric" not in read.Tags()["scalars"]


def test_curves_over_samples_do_not_depend_on_the_batch_size(run: Start) -> None:
    small, large = (events(run(f"data.batch_size={size}", name=str(size))) for size in (20, 200))
    by_samples = [[event.step for event in read.Scalars("by_samples/val_acc")] for read in (small, large)]
    assert by_samples == [[1257, 2514]] * 2
    by_steps = [[event.step for event in read.Scalars("val_acc")] for read in (small, large)]
    assert by_steps == [[63, 126], [7, 14]]


def test_samples_seen_counts_the_smaller_last_batch_of_an_epoch(tmp_path: Path) -> None:
    logger = TensorBoard(tmp_path, batch_size=64, train_size=1257)
    assert [logger.samples_seen(step) for step in (0, 1, 19, 20, 21)] == [0, 64, 1216, 1257, 1321]


def test_worst_mistakes_are_mistakes_surest_first(run: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, np.ndarray] = {}

    def drawing(images: np.ndarray, captions: list[str], wrong: list[bool]) -> Image.Image:
        drawn.update(zip(captions, images, strict=True))
        return gallery(images, captions, wrong)

    monkeypatch.setattr(galleries, "gallery", drawing)
    done = run("callbacks=none", "callbacks.worst_mistakes=true")
    kept, images = np.load(done.folder / "test_predictions.npz"), load_digits(180, 0).test.images
    wrong = np.flatnonzero(kept["label"] != kept["prediction"])
    assert len(wrong) == round((1 - done.result["test_acc"]) * 360) > 24
    surest = wrong[np.argsort(-kept["confidence"][wrong], kind="stable")][:24]
    said = [f"{kept['label'][i]} not {kept['prediction'][i]} {kept['confidence'][i]:.0%}" for i in surest]
    assert list(drawn) == list(dict.fromkeys(said))
    for caption, index in zip(said, surest, strict=True):
        if said.count(caption) == 1:
            assert np.array_equal(drawn[caption], images[index][0])
    picture = Image.open(io.BytesIO(events(done).Images("test/worst_mistakes")[0].encoded_image_string))
    assert picture.height == 6 * (28 * 3 + 6 + 16)


def test_gallery_shows_ink_where_the_digit_has_it() -> None:
    digit = np.zeros((1, 28, 28), dtype=np.uint8)
    digit[0, 10:20, 10:20] = 255
    sheet = np.asarray(gallery(digit, ["7 99%"], [False]))
    below_caption = sheet[16:, 3:]
    assert below_caption[45, 45].tolist() == [0, 0, 0]
    assert below_caption[10, 10].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("model", "features"), [(CNN(), 500), (MLP(hidden=[64, 32]), 32), (MLP(hidden=[]), 784)])
def test_penultimate_layer_is_what_the_last_linear_layer_is_given(model: CNN | MLP, features: int) -> None:
    import torch

    images = torch.randn(3, 1, 28, 28)
    given = penultimate(model, images)
    assert given.shape == (3, features)
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert torch.allclose(last(given), model(images), atol=1e-6)


def test_dashboards_do_not_change_the_weights(run: Start) -> None:
    from mnist_lit.training.checkpoints import load_classifier, weights_digest

    digests = {
        weights_digest(load_classifier(run(f"callbacks={choice}", name=choice).folder / "checkpoints" / "last.ckpt"))
        for choice in ("all", "none")
    }
    assert len(digests) == 1
