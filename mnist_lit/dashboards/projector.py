"""TensorBoard's embedding projector: what the last layer is given for the first 1,000 test digits, with their pictures.

Written through TensorBoard's own interface: SummaryWriter.add_embedding takes 70 MB to put the pictures together.
"""

from math import ceil, sqrt
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig, visualize_embeddings
from torch import Tensor, nn

from mnist_lit.dashboards.base import AfterTest, writers
from mnist_lit.dashboards.inside import network_of
from mnist_lit.data.loader import EvalLoader

EMBEDDED = 1000  # test digits in the projector
NAME = "penultimate_layer"


class Projector(AfterTest):
    """Points to turn, coloured by truth or prediction."""

    def tested(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        pictures = data.splits.test.images[:EMBEDDED]
        images = data.normalize(pictures).to(model.device)
        features = torch.cat([penultimate(model, part) for part in images.split(EvalLoader.BATCH_SIZE)])
        answers = torch.stack((labels[:EMBEDDED], probabilities[:EMBEDDED].argmax(1)), 1)
        for writer in writers(trainer):
            write(Path(writer.log_dir), features.cpu().numpy(), answers.numpy(), pictures.squeeze(1).cpu().numpy())


def write(folder: Path, features: np.ndarray, answers: np.ndarray, pictures: np.ndarray) -> None:
    """Features [n, f], truth and prediction [n, 2], pictures [n, h, w] as bytes, white on black."""
    place = folder / NAME
    place.mkdir(exist_ok=True)
    np.savetxt(place / "tensors.tsv", features, fmt="%.7g", delimiter="\t")
    np.savetxt(place / "metadata.tsv", answers, fmt="%d", delimiter="\t", header="truth\tprediction", comments="")
    Image.fromarray(255 - mosaic(pictures)).save(place / "sprite.png")
    config = ProjectorConfig()
    points = config.embeddings.add()
    points.tensor_name = NAME
    points.tensor_path = f"{NAME}/tensors.tsv"
    points.metadata_path = f"{NAME}/metadata.tsv"
    points.sprite.image_path = f"{NAME}/sprite.png"
    points.sprite.single_image_dim.extend(pictures.shape[:0:-1])  # width, height
    visualize_embeddings(str(folder), config)


def mosaic(pictures: np.ndarray) -> np.ndarray:
    """Row by row in a square of as many rows as columns, which is how the projector counts."""
    count, height, width = pictures.shape
    side = ceil(sqrt(count))
    cells = np.zeros((side * side, height, width), np.uint8)
    cells[:count] = pictures
    return cells.reshape(side, side, height, width).swapaxes(1, 2).reshape(side * height, side * width)


def penultimate(model: LightningModule, images: Tensor) -> Tensor:
    """What the network's last linear layer is given, [n, features]; its scores where it has no linear layer."""
    network = network_of(model)
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    seen: list[Tensor] = []
    handles = [layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0])) for layer in linear[-1:]]
    with torch.no_grad():
        scores = network(images)
    for handle in handles:
        handle.remove()
    return (seen[0] if seen else scores).flatten(1)
