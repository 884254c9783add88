"""Test images with the network's predictions: the worst mistakes and the first images, in TensorBoard and as a file."""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mnist_lit.atomic_io import atomic_file
from mnist_lit.dashboards.prediction_callbacks import AfterTest, drawn_names, writers

SCALE = 5  # screen pixels for one pixel of the image
GAP, CAPTION, FONT_SIZE = 8, 24, 17  # screen pixels
WIDTH = 4 * (28 * SCALE + GAP)  # of a picture with short captions
MISTAKES, SAMPLES = 24, 20


class WorstMistakes(AfterTest):
    """The wrong predictions with the highest confidence, the highest first."""

    def handle_results(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        if (worst := find_worst_mistakes(probabilities, labels)) is not None:
            _log_gallery(trainer, "test/worst_mistakes", draw_predictions(trainer, worst, probabilities, labels))


class SamplePredictions(AfterTest):
    """The first test images. Each caption is the prediction and its confidence."""

    def handle_results(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        first = torch.arange(min(SAMPLES, len(labels)))
        _log_gallery(trainer, "test/sample_predictions", draw_predictions(trainer, first, probabilities, labels))


class PredictionPictures(AfterTest):
    """A PNG file with the first test images and, below them, the worst mistakes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def handle_results(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        if not trainer.is_global_zero:
            return
        parts = {"The first test images": torch.arange(min(SAMPLES, len(labels)))}
        if (worst := find_worst_mistakes(probabilities, labels)) is not None:
            parts["The most confident mistakes"] = worst
        sheets = {title: draw_predictions(trainer, part, probabilities, labels) for title, part in parts.items()}
        with atomic_file(self.path) as stream:
            stack_sheets(sheets).save(stream, "PNG")


def find_worst_mistakes(probabilities: Tensor, labels: Tensor) -> Tensor | None:
    """The indices of the wrong predictions with the highest confidence, the highest first; None without mistakes."""
    confidence, prediction = probabilities.max(1)
    wrong = (prediction != labels).nonzero().squeeze(1)
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:MISTAKES]
    return worst if len(worst) else None


def draw_predictions(trainer: Trainer, indices: Tensor, probabilities: Tensor, labels: Tensor) -> Image.Image:
    """A gallery of these test images. Captions say `5` for a right prediction, `5 read as 6` for a wrong one, and the
    confidence."""
    names, (confidence, prediction) = drawn_names(trainer), probabilities[indices].max(1)
    wrong = (prediction != labels[indices]).tolist()
    read_as = [
        f"{names[truth]} read as {names[answer]}" if is_wrong else names[answer]
        for truth, answer, is_wrong in zip(labels[indices].tolist(), prediction.tolist(), wrong, strict=True)
    ]
    captions = [f"{text} ({value:.0%})" for text, value in zip(read_as, confidence.tolist(), strict=True)]
    images = trainer.datamodule.splits.test.images[indices].squeeze(1).numpy()  # type: ignore[attr-defined]
    return draw_gallery(images, captions, wrong)


def stack_sheets(sheets: dict[str, Image.Image]) -> Image.Image:
    """One picture under the other, each below its title."""
    font, height = ImageFont.load_default(size=FONT_SIZE + 4), CAPTION + 16
    whole = Image.new(
        "RGB",
        (max(sheet.width for sheet in sheets.values()), sum(sheet.height + height for sheet in sheets.values())),
        "white",
    )
    top = 0
    for title, sheet in sheets.items():
        ImageDraw.Draw(whole).text((4, top + 8), title, fill="#222222", font=font)
        whole.paste(sheet, (0, top + height))
        top += height + sheet.height
    return whole


def draw_gallery(images: np.ndarray, captions: list[str], wrong: list[bool]) -> Image.Image:
    """Images [n, 28, 28] uint8 in rows, four in a row if the captions are short. The caption of a wrong prediction is
    red."""
    font = ImageFont.load_default(size=FONT_SIZE)
    width = GAP + max(28 * SCALE, *(round(font.getlength(caption)) for caption in captions))
    height, columns = 28 * SCALE + GAP + CAPTION, max(1, WIDTH // width)
    sheet = Image.new("RGB", (min(columns, len(images)) * width, -(-len(images) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (pixels, caption, is_wrong) in enumerate(zip(images, captions, wrong, strict=True)):
        left, top = number % columns * width + 3, number // columns * height
        draw.text((left + 1, top), caption, fill="#c0392b" if is_wrong else "#222222", font=font)
        image = Image.fromarray(255 - pixels).resize((28 * SCALE, 28 * SCALE), Image.Resampling.NEAREST)
        sheet.paste(image, (left, top + CAPTION))
        draw.rectangle((left, top + CAPTION, left + 28 * SCALE - 1, top + CAPTION + 28 * SCALE - 1), outline="#bbbbbb")
    return sheet


def _log_gallery(trainer: Trainer, tag: str, sheet: Image.Image) -> None:
    for writer in writers(trainer):
        writer.add_image(tag, np.asarray(sheet), trainer.global_step, dataformats="HWC")
