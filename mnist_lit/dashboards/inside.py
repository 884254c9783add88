"""What goes on inside: the graph, the weights' histograms, precision-recall curves, the embedding projector."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from mnist_lit.dashboards.base import AfterTest, writers
from mnist_lit.data.loader import EvalLoader
from mnist_lit.models import DigitClassifier

EMBEDDED = 1000  # test digits in the projector


class Graph(Callback):
    """The network as operations and tensors, once, when training starts."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for writer in writers(trainer):
            writer.add_graph(network_of(pl_module), torch.zeros(1, 1, 28, 28, device=pl_module.device))


class WeightHistograms(Callback):
    """Each layer's weights and biases, after every epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for writer in writers(trainer):
            for name, parameter in pl_module.named_parameters():
                writer.add_histogram(f"weights/{name}", parameter.detach().cpu(), trainer.global_step)


class PRCurves(AfterTest):
    """One digit against the nine others, for every threshold."""

    def tested(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        for writer in writers(trainer):
            for digit in range(10):
                writer.add_pr_curve(
                    f"precision_recall/{digit}", labels == digit, probabilities[:, digit], trainer.global_step
                )


class Projector(AfterTest):
    """What the last layer is given for the first 1,000 test digits, as points to turn, with their pictures."""

    def tested(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        pictures = data.splits.test.images[:EMBEDDED]
        images = data.normalize(pictures).to(model.device)
        features = torch.cat([penultimate(model, part) for part in images.split(EvalLoader.BATCH_SIZE)]).cpu()
        predictions = probabilities[:EMBEDDED].argmax(1)
        metadata = [
            [str(truth), str(guess)] for truth, guess in zip(labels.tolist(), predictions.tolist(), strict=False)
        ]
        for writer in writers(trainer):
            writer.add_embedding(
                features,
                metadata=metadata,
                metadata_header=["truth", "prediction"],
                label_img=1 - pictures.float() / 255,
                global_step=trainer.global_step,
                tag="penultimate_layer",
            )


def network_of(model: LightningModule) -> nn.Module:
    assert isinstance(model, DigitClassifier)
    return model.network


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
