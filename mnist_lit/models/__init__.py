"""LightningModules: one base that knows losses, metrics and optimisation; the networks are architecture only."""

from mnist_lit.models.classifier import DigitClassifier
from mnist_lit.models.cnn import CNN, FastCNN
from mnist_lit.models.convnet import ConvNet
from mnist_lit.models.mlp import MLP
from mnist_lit.process import silence_lightning

__all__ = ["CNN", "MLP", "ConvNet", "DigitClassifier", "FastCNN"]

silence_lightning()
