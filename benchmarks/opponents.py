"""The hand-written loops: what a user would write or copy instead. Written here from descriptions of the technique."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.product import config_of
from mnist_lit.data.datasets import Splits
from mnist_lit.models.updates import fast_update
from mnist_lit.training.build import build_data, build_model

UpdateOf = Callable[[Optimizer], Callable[[], object]]  # such as fast_update


@dataclass(frozen=True)
class Times:
    """`fit`: training and a validation after each epoch; `train`: the training alone."""

    fit: float
    train: float


def bare(*overrides: str, epochs: int) -> Times:
    """Tensors in memory, already normalised; the same network, fused optimiser and batches; nothing is logged."""
    config = config_of(*overrides)
    data = build_data(config)
    torch.manual_seed(config.seed)
    model = build_model(config, data.steps_per_epoch)
    network, optimizer = model.network, model.configure_optimizers()
    train_images, val_images = data.normalize(data.splits.train.images), data.normalize(data.splits.val.images)
    train_labels, val_labels = data.splits.train.labels, data.splits.val.labels
    started, training = time.perf_counter(), 0.0
    for _ in range(epochs):
        epoch_started = time.perf_counter()
        for index in torch.randperm(len(train_labels)).split(config.data.batch_size):
            loss = F.cross_entropy(network(train_images[index]), train_labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        training += time.perf_counter() - epoch_started
        with torch.no_grad():
            pairs = zip(val_images.split(1000), val_labels.split(1000), strict=True)
            sum(float((network(images).argmax(1) == labels).sum()) for images, labels in pairs)
    return Times(time.perf_counter() - started, training)


def steps_alone(*overrides: str) -> float:
    """An epoch's optimiser steps as a run makes them, all on one and the same batch: what is left when data, validation
    and logging are free, and so the least that the same arithmetic can take here."""
    config = config_of(*overrides)
    data = build_data(config)
    model = build_model(config, data.steps_per_epoch)
    network, optimizer = model.network, model.configure_optimizers()
    images = data.normalize(data.splits.train.images[: config.data.batch_size])
    labels = data.splits.train.labels[: config.data.batch_size]
    first = repeat_step(network, optimizer, images, labels, 1)
    return first + repeat_step(network, optimizer, images, labels, data.steps_per_epoch - 1)


def repeat_step(
    network: Callable[[Tensor], Tensor],
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    steps: int,
    update_of: UpdateOf = fast_update,
) -> float:
    """Seconds of so many optimiser steps on one batch."""
    update, started = update_of(optimizer), time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        update()
    return time.perf_counter() - started


def fast99(splits: Splits, seed: int, channels_last: bool) -> float:
    """The recipe published as 99.04 % after one epoch: batches of 256 in the files' order, no validation.

    It trains on 60,000 images; this project keeps some of them for validation, which are put back here.
    """
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    images = torch.cat((splits.train.images, splits.val.images)).float().div_(255).sub_(0.1307).div_(0.3081)
    labels = torch.cat((splits.train.labels, splits.val.labels))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.7, 0.9))
    schedule = OneCycleLR(optimizer, max_lr=0.01, total_steps=-(-len(labels) // 256), cycle_momentum=False)
    started = time.perf_counter()
    for batch, target in zip(images.split(256), labels.split(256), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(network(batch), target).backward()
        optimizer.step()
        schedule.step()
    return time.perf_counter() - started
