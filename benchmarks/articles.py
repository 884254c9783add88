"""The training loops of the articles. They read the torchvision data set image by image through transforms.

A process trains one epoch:

python -m benchmarks.articles A3 data
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST


def build_a0() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 10))


def build_a1() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(10, 20, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(2000, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def build_a2() -> nn.Module:
    hidden = [layer for sizes in ((784, 64), (64, 64), (64, 64)) for layer in (nn.Linear(*sizes), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10), nn.LogSoftmax(1))


def build_a3() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


@dataclass(frozen=True)
class Article:
    """One article.

    `experiment` is the preset of this project with the same network, batch size and optimizer. `goal` is the factor by
    which an epoch of the preset must be faster.
    """

    build: Callable[[], nn.Module]
    optimizer: str
    lr: float
    batch_size: int
    normalized: bool
    experiment: str
    goal: float


ARTICLES = {
    "A2": Article(build_a2, "Adam", 0.001, 15, False, "mlp_4x64", 3.5),
    "A3": Article(build_a3, "SGD", 0.01, 64, True, "mlp_128_64", 7),
    "A0": Article(build_a0, "Adam", 0.001, 100, False, "feedforward_500", 4.5),
    "A1": Article(build_a1, "Adam", 0.001, 64, True, "cnn", 3.2),  # with logits as output, as in the corrected preset
}


def train_one_epoch(article: Article, root: str) -> float:
    """Return the seconds for one epoch of 60,000 images."""
    steps: list[object] = [transforms.ToTensor()]
    if article.normalized:
        steps.append(transforms.Normalize((0.1307,), (0.3081,)))
    data = MNIST(root, train=True, transform=transforms.Compose(steps))
    loader = DataLoader(data, batch_size=article.batch_size, shuffle=True)
    network = article.build()
    optimizer = getattr(torch.optim, article.optimizer)(network.parameters(), lr=article.lr)
    loss_function = F.nll_loss if isinstance(network[-1], nn.LogSoftmax) else F.cross_entropy  # type: ignore[index]
    started = time.perf_counter()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = loss_function(network(images), labels)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.articles", description="Time one epoch of an article.")
    parser.add_argument("article", choices=ARTICLES)
    parser.add_argument("root", help="folder of torchvision's MNIST")
    given = parser.parse_args()
    print(json.dumps({"seconds": train_one_epoch(ARTICLES[given.article], given.root)}))
