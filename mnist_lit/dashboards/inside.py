"""What goes on inside: the graph, the weights' histograms, precision-recall curves."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from mnist_lit.dashboards.base import AfterTest, writers
from mnist_lit.models import DigitClassifier


class Graph(Callback):
    """The network as operations and tensors, once, when training starts."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for writer in writers(trainer):
            writer.add_graph(network_of(pl_module), torch.zeros(1, 1, 28, 28, device=pl_module.device))
        _forget_traces()


def _forget_traces() -> None:
    """torch.jit.trace keeps the types that it makes of a network for ever, half a megabyte a run (pytorch issue 35600).
    torch's own tests clear them so."""
    torch._C._jit_clear_class_registry()
    torch.jit._state._clear_class_state()


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


def network_of(model: LightningModule) -> nn.Module:
    assert isinstance(model, DigitClassifier)
    return model.network
