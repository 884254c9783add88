"""LightningModules: one base that knows losses, metrics and optimisation; the networks are architecture only."""

from mnist_lit.models import quiet  # noqa: F401
from mnist_lit.models.base import DigitClassifier
from mnist_lit.models.cnn import CNN
from mnist_lit.models.convnet import ConvNet
from mnist_lit.models.fast_cnn import FastCNN
from mnist_lit.models.mlp import MLP

__all__ = ["CNN", "MLP", "ConvNet", "DigitClassifier", "FastCNN"]
