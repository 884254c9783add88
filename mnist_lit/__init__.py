"""Train, compare and understand digit classifiers with PyTorch Lightning and Hydra."""

__version__ = "0.1.0"
