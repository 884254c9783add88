"""Test images with what the network says of them: the worst mistakes, and a few samples as they come."""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mnist_lit.dashboards.base import AfterTest, writers

SCALE = 3  # screen pixels a digit's pixel
GAP, CAPTION = 6, 16  # screen pixels
COLUMNS = 4  # as wide as TensorBoard shows a picture, so that it does not shrink the captions
MISTAKES, SAMPLES = 24, 12


class WorstMistakes(AfterTest):
    """The wrong answers that the network was surest of, surest first."""

    def tested(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        confidence, prediction = probabilities.max(1)
        wrong = (prediction != labels).nonzero().squeeze(1)
        worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:MISTAKES]
        captions = [f"{labels[i]} not {prediction[i]} {confidence[i]:.0%}" for i in worst]
        if len(worst):
            _show(trainer, "test/worst_mistakes", worst, captions, wrong=[True] * len(worst))


class SamplePredictions(AfterTest):
    """The first test images, each with its prediction as its title."""

    def tested(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        first = torch.arange(SAMPLES)
        confidence, prediction = probabilities[first].max(1)
        captions = [
            f"{digit} {share:.0%}" for digit, share in zip(prediction.tolist(), confidence.tolist(), strict=True)
        ]
        _show(trainer, "test/sample_predictions", first, captions, (prediction != labels[first]).tolist())


def gallery(images: np.ndarray, captions: list[str], wrong: list[bool]) -> Image.Image:
    """Images [n, 28, 28] uint8 in rows of four, each under its caption, which is red where the answer is wrong."""
    tile = 28 * SCALE + GAP
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (min(COLUMNS, len(images)) * tile, rows * (tile + CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for number, (pixels, caption, is_wrong) in enumerate(zip(images, captions, wrong, strict=True)):
        left, top = number % COLUMNS * tile + 3, number // COLUMNS * (tile + CAPTION)
        draw.text((left + 1, top), caption, fill="#c0392b" if is_wrong else "#222222", font=font)
        digit = Image.fromarray(255 - pixels).resize((28 * SCALE, 28 * SCALE), Image.Resampling.NEAREST)
        sheet.paste(digit, (left, top + CAPTION))
        draw.rectangle((left, top + CAPTION, left + 28 * SCALE - 1, top + CAPTION + 28 * SCALE - 1), outline="#bbbbbb")
    return sheet


def _show(trainer: Trainer, tag: str, indices: Tensor, captions: list[str], wrong: list[bool]) -> None:
    test = trainer.datamodule.splits.test  # type: ignore[attr-defined]
    sheet = gallery(test.images[indices].squeeze(1).numpy(), captions, wrong)
    for writer in writers(trainer):
        writer.add_image(tag, np.asarray(sheet), trainer.global_step, dataformats="HWC")
