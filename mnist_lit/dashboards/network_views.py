"""The network in TensorBoard: its graph, the histograms of its weights, its features in the embedding projector."""

import logging
from math import ceil, sqrt
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig, visualize_embeddings
from torch import Tensor, nn

from mnist_lit.dashboards.prediction_callbacks import AfterTest, class_names, writers
from mnist_lit.data.loader import EvalLoader
from mnist_lit.models import DigitClassifier
from mnist_lit.models.layers import keeping_modes
from mnist_lit.private_apis import forget_traces

EMBEDDED = 1000  # test images in the projector
EMBEDDING = "penultimate_layer"
log = logging.getLogger(__name__)


class Graph(Callback):
    """The network as a graph of operations, written once when training starts."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network = cast(DigitClassifier, pl_module).network
        try:
            with keeping_modes(network):
                for writer in writers(trainer):
                    writer.add_graph(network, torch.zeros(1, 1, 28, 28, device=pl_module.device))
        except RuntimeError as error:  # a compiled network, for example, cannot be traced
            log.warning(f"callbacks.graph: this network cannot be traced, so there is no graph ({str(error)[:200]})")
        forget_traces()


class WeightHistograms(Callback):
    """Histograms of the weights and biases of each layer, before the training and after every epoch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for writer in writers(trainer):
            for name, parameter in pl_module.named_parameters():
                writer.add_histogram(f"weights/{name}", parameter.detach().cpu(), trainer.global_step)


class Projector(AfterTest):
    """The input of the last layer for the first 1,000 test images, as points with the images and both labels."""

    def handle_results(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        pictures = data.splits.test.images[:EMBEDDED]
        images = data.normalize(pictures).to(model.device)
        features = torch.cat([penultimate_features(model, part) for part in images.split(EvalLoader.BATCH_SIZE)])
        answers = torch.stack((labels, probabilities.argmax(1)), 1)[:EMBEDDED]
        names = np.array(class_names(trainer))[answers.numpy()]
        for writer in writers(trainer):
            write_embedding(Path(writer.log_dir), features.cpu().numpy(), names, pictures.squeeze(1).cpu().numpy())


def write_embedding(folder: Path, features: np.ndarray, names: np.ndarray, pictures: np.ndarray) -> None:
    """Features [n, f], names of the true and the predicted class [n, 2], pictures [n, h, w] uint8, white on black.

    SummaryWriter.add_embedding would need 70 MB of memory to build the mosaic of the pictures.
    """
    target = folder / EMBEDDING
    target.mkdir(exist_ok=True)
    np.savetxt(target / "tensors.tsv", features, fmt="%.7g", delimiter="\t")
    header = "truth\tprediction"
    np.savetxt(target / "metadata.tsv", names, "%s", "\t", header=header, comments="", encoding="utf-8")
    Image.fromarray(255 - build_mosaic(pictures)).save(target / "sprite.png")
    config = ProjectorConfig()
    points = config.embeddings.add()
    points.tensor_name = EMBEDDING
    points.tensor_path = f"{EMBEDDING}/tensors.tsv"
    points.metadata_path = f"{EMBEDDING}/metadata.tsv"
    points.sprite.image_path = f"{EMBEDDING}/sprite.png"
    points.sprite.single_image_dim.extend(pictures.shape[:0:-1])  # width, height
    visualize_embeddings(str(folder), config)


def build_mosaic(pictures: np.ndarray) -> np.ndarray:
    """Pictures [n, h, w] row by row in one square image, as the projector expects them."""
    count, height, width = pictures.shape
    side = ceil(sqrt(count))
    cells = np.zeros((side * side, height, width), np.uint8)
    cells[:count] = pictures
    return cells.reshape(side, side, height, width).swapaxes(1, 2).reshape(side * height, side * width)


def penultimate_features(model: LightningModule, images: Tensor) -> Tensor:
    """The input of the network's last linear layer, [n, features]. Without a linear layer: the network's output."""
    network = cast(DigitClassifier, model).network
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    seen: list[Tensor] = []
    handles = [layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0])) for layer in linear[-1:]]
    with torch.no_grad():
        scores = network(images)
    for handle in handles:
        handle.remove()
    return (seen[0] if seen else scores).flatten(1)
